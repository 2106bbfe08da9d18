"""Bandits: which arm pays best, found out by pulling them. Three rules for what to pull next.

Sutton & Barto, "Reinforcement Learning: An Introduction", 2nd edition (2018), chapter 2; UCB1: Auer, Cesa-Bianchi &
Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem", Machine Learning 47 (2002).

After t pulls, n(a) of them of arm a, which paid Q(a) on average:

    epsilon-greedy   pull argmax_a Q(a), but with the probability epsilon any arm
    ucb1             pull each arm once, then argmax_a Q(a) + c * sqrt(ln t / n(a))            (c = sqrt(2): UCB1)
    gradient         pull a with the probability pi(a) = softmax(H)(a), then for all a
                     H(a) <- H(a) + alpha * (R - mean of all rewards before) * ([a was pulled] - pi(a))

The estimate moves by Q(a) <- Q(a) + alpha * (R - Q(a)), with alpha = 1 / n(a) for the mean, or a constant one where
arms drift. The regret is what was lost by not pulling the best arm: the sum of (best mean - mean of the arm pulled).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from rllab.agent import Agent, AgentConfig, episode_metrics
from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab_agents.tables import Table, any_best

PULLS_PER_CALL = 10
"""Pulls in one call of `step`: each is so quick that the trainer's work between two would count."""


class BanditConfig(AgentConfig):
    """Hyperparameters of the bandit rules (Sutton & Barto, 2018, chapter 2)."""

    timesteps: PositiveInt = 2_000
    """Pulls."""

    num_envs: PositiveInt = Field(default=1, le=1)
    """Environments: one arm is pulled after the other."""

    rule: Literal["epsilon-greedy", "ucb1", "gradient"] = "epsilon-greedy"
    """How the next arm is chosen."""

    epsilon: float = Field(default=0.1, ge=0, le=1)
    """Share of random pulls (epsilon-greedy)."""

    confidence: NonNegativeFloat = math.sqrt(2)
    """The factor c before the uncertainty of an estimate (ucb1)."""

    lr: PositiveFloat | None = None
    """Step size alpha; none: the mean of all rewards of an arm, and 0.1 for the gradient rule."""

    initial: float = 0.0
    """Estimate of every arm before its first pull; a high one has all of them tried (optimism), if --lr is given."""

    baseline: bool = True
    """Compare a reward with the mean of those before (gradient)."""


class Bandit(Agent):
    """A rule for pulling the arms of a bandit: epsilon-greedy, UCB1 or gradient."""

    Config = BanditConfig
    config: BanditConfig
    reductions = {"train/regret": "last"}

    @classmethod
    def refusal(cls, config: BanditConfig, task: EnvironmentTask) -> str | None:
        """Return why `task` is no bandit: it has to have discrete actions, and nothing to see."""
        space = task.observation_space
        if not isinstance(task.action_space, spaces.Discrete):
            return f"it takes Discrete actions, not {task.action_space}"
        alike = isinstance(space, spaces.Box) and bool((space.low == space.high).all())
        if not alike and not (isinstance(space, spaces.Discrete) and space.n == 1):
            return (
                f"it takes an environment of one state, where all observations are alike, not {space}; try q-learning"
            )
        return None

    @classmethod
    def alternatives(cls, config: BanditConfig) -> list[str]:
        """Return the bandit of our own."""
        return ["Bandit-v0"]

    @classmethod
    def work(cls, config: BanditConfig, task: EnvironmentTask) -> float:
        """Return the multiply-adds of an update: one for each arm."""
        return float(spaces.flatdim(task.action_space))

    def __init__(self, config: BanditConfig, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        assert isinstance(task.action_space, spaces.Discrete)
        self.first_action = int(task.action_space.start)
        self.num_actions = int(task.action_space.n)
        self.table = Table(1, self.num_actions, config.initial)
        self.mean_reward = 0.0
        self.regret = 0.0
        self.known: Any = None

    def setup(self) -> None:
        """Make the bandit, and another one beside it that tells what each pull costs, if it can."""
        super().setup()
        self.rng = self.streams.numpy("exploration")
        known: Any = self.task.make_one().unwrapped
        if callable(getattr(known, "regret", None)):
            known.reset(seed=0)
            known.action_space.seed(0)
            self.known = known

    # --- pulling

    def act(
        self, observations: np.ndarray, memory: Any = None, starts: np.ndarray | None = None, *, deterministic: bool
    ) -> tuple[np.ndarray, None]:
        """Pull the arm of the highest estimate; if not deterministic, one that the rule would pull next."""
        n = len(observations)
        draws = np.zeros((n, 2)) if deterministic else torch.rand(n, 2, dtype=torch.float64).numpy()
        arms = [self.best() if deterministic else self.choose(*pair) for pair in draws.tolist()]
        return np.array(arms) + self.first_action, None

    def best(self) -> int:
        """Return the arm of the highest estimate."""
        return int(self.table.q[0].argmax())

    def choose(self, chance: float, which: float) -> int:
        """Return the arm to pull next, by the rule and two random numbers from 0 to 1."""
        q, n = self.table.q[0], self.table.n[0]  # (arms,)
        match self.config.rule:
            case "epsilon-greedy":
                return any_best(q, which) if chance >= self.config.epsilon else int(which * len(q))
            case "ucb1":
                return any_best(upper_bounds(q, n, self.config.confidence), which)
            case "gradient":
                return min(int(np.searchsorted(softmax(q).cumsum(), which, "right")), len(q) - 1)

    # --- learning

    def step(self) -> Metrics:
        """Pull arms, and learn from each pull: many in one call."""
        episodes, optimal, pulls = [], 0, min(PULLS_PER_CALL, self.budget - self.count)
        for _ in range(pulls):
            arm = self.choose(*self.rng.random(2))
            moved = self.envs.step([arm + self.first_action])
            self.count += 1
            self.learn(arm, float(moved.rewards[0]))
            episodes += moved.episodes
            if self.known is not None:
                lost = self.known.regret(arm)
                self.regret += lost
                optimal += lost == 0
                self.known.step(arm + self.first_action)  # arms that drift do so by the pull
        known = {} if self.known is None else {"train/regret": self.regret, "train/optimal_share": optimal / pulls}
        return {**known, **episode_metrics(episodes)}

    def learn(self, arm: int, reward: float) -> None:
        """Update the estimates, or the preferences, by what an arm paid."""
        q, n, config = self.table.q[0], self.table.n[0], self.config  # (arms,)
        n[arm] += 1
        if config.rule == "gradient":
            if n.sum() == 1:
                self.mean_reward = reward  # there is none before the first
            compared = reward - self.mean_reward if config.baseline else reward
            q += (config.lr or 0.1) * compared * (np.eye(len(q))[arm] - softmax(q))
            self.mean_reward += (reward - self.mean_reward) / float(n.sum())
        else:
            q[arm] += (config.lr or 1 / n[arm]) * (reward - q[arm])

    def pictures(self, *, final: bool = True) -> Mapping[str, Any]:
        """Return the estimates beside the true means, and how often each arm was pulled."""
        from rllab.parts.drawing import render
        from rllab_agents.table_pictures import draw_arms

        q, n = self.table.q[0], self.table.n[0]
        shown, label = (softmax(q), "probability") if self.config.rule == "gradient" else (q, "estimate")
        title = f"Arms of {self.task.name} after {self.count:,} pulls by {self.config.rule}"
        means = getattr(self.known, "means", None)
        if self.known is not None:
            title += f": regret {self.regret:.4g}"
        return {"arms": render(draw_arms(shown, n, means, label, title))}


def upper_bounds(q: np.ndarray, n: np.ndarray, confidence: float) -> np.ndarray:
    """Return what each arm may be worth at best (arms,): Q(a) + c * sqrt(ln t / n(a)), infinite before its first pull.

    Args:
        q: mean reward of each arm (arms,).
        n: pulls of each (arms,); t is their sum.
        confidence: c; UCB1 has sqrt(2).
    """
    if not n.all():
        return np.where(n == 0, np.inf, -np.inf)
    bounds: np.ndarray = q + confidence * np.sqrt(np.log(n.sum()) / n)
    return bounds


def softmax(preferences: np.ndarray) -> np.ndarray:
    """Return probabilities (arms,) by preferences."""
    weights = np.exp(preferences - preferences.max())
    probabilities: np.ndarray = weights / weights.sum()
    return probabilities
