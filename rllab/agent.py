"""Agent: what every reinforcement-learning method adds to an Algorithm."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from rllab import stopping
from rllab.algorithm import Algorithm, Metrics, Objective
from rllab.baselines import baseline_returns
from rllab.config import Config
from rllab.environments import EnvironmentTask
from rllab.errors import RllabError, UsageError
from rllab.parts.networks import Activation
from rllab.parts.optim import OptimizerName
from rllab.parts.schedules import Schedule
from rllab.vectorenv import Episode, VectorEnv, evaluate_episodes

MAX_EVALUATION_ENVS = 10
"""Parallel environments of an evaluation, at most; each plays its share of the episodes."""

_BASELINE_STEPS = 4_000
"""Environment steps that a baseline may take."""


class AgentConfig(Config):
    """Hyperparameters that every agent has."""

    timesteps: PositiveInt = 100_000
    """Environment steps to train for, over all parallel environments."""

    num_envs: PositiveInt = 1
    """Environments that are stepped in parallel."""


class GradientConfig(AgentConfig):
    """Hyperparameters of agents whose networks learn by gradient steps."""

    activation: Activation = "relu"
    """What follows each hidden layer."""

    optimizer: OptimizerName = "adam"
    """The rule for gradient steps."""

    lr: PositiveFloat = 3e-4
    """Step size of the optimiser."""

    schedule: Schedule = "constant"
    """How the step size goes on: constant, linear or cosine to 0 at the end, or onecycle, up and then down."""

    max_grad_norm: NonNegativeFloat = 0.0
    """The gradient is clipped to this norm; 0: no clipping."""

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount of a reward one step later."""

    fast: bool = True
    """Differentiate small networks on the CPU in NumPy; --no-fast leaves it to torch, which is slower."""


class Agent(Algorithm):
    """A method that acts in an environment.

    A subclass says how to `act`, and in `step` how to learn: it steps `self.envs`, which `setup` makes, and
    counts the steps in `self.count`.

    Attributes:
        observation_space: of one environment.
        action_space: of one environment.
        envs: the training environments, from `setup` on.
    """

    Task = EnvironmentTask
    unit = "env steps"
    budget_option = "timesteps"
    transient: ClassVar[frozenset[str]] = frozenset(
        {"evaluation_episodes", "observation_space", "action_space", "_baselines"}
    )

    steps_partly: ClassVar[bool] = False
    """Whether `step` lets some environments wait while it steps others, which a native vector cannot do."""

    evaluation_episodes: int = 20
    """Episodes of an evaluation; `--eval-episodes`."""

    config: Any
    envs: VectorEnv

    def __init__(self, config: Any, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.observation_space = task.observation_space
        self.action_space = task.action_space
        self._baselines: dict[str, float] | None = None

    @classmethod
    def objective(cls, task: EnvironmentTask) -> Objective:
        """Return the mean return of the evaluation's episodes, the higher the better."""
        return Objective("eval/return", maximize=True)

    @property
    def budget(self) -> int:
        """Environment steps asked for."""
        return int(self.config.timesteps)

    @property
    def progress(self) -> float:
        """Return the share of the budget that is used up, for schedules."""
        return self.count / self.budget

    @property
    def captions(self) -> Mapping[str, str]:
        """Return what random actions, and a heuristic of the environment's own, reach: it stands beside the return.

        The same episodes for every method and seed, and not so many that one would wait for them.
        """
        if self._baselines is None:
            try:
                self._baselines = baseline_returns(self.task, np.random.SeedSequence(0), max_steps=_BASELINE_STEPS)
            except RllabError:  # an environment that fails will say so in training
                self._baselines = {}
        return {"eval/return": _listed(self._baselines)} if self._baselines else {}

    def setup(self) -> None:
        """Make the training environments and reset them."""
        seeds = self.streams.sequence("environments")
        self.envs = self.task.make(self.config.num_envs, seeds, partly=self.steps_partly)
        self.envs.reset()

    def close(self) -> None:
        """Close the training environments."""
        if hasattr(self, "envs"):
            self.envs.close()

    @abstractmethod
    def act(
        self,
        observations: np.ndarray,
        memory: Any = None,
        starts: np.ndarray | None = None,
        *,
        deterministic: bool,
    ) -> tuple[np.ndarray, Any]:
        """Choose actions.

        Args:
            observations: (n, *observation), as the environment gives them.
            memory: what the last call returned, for recurrent policies.
            starts: (n,) whether an episode starts here; the memory of such a row counts as empty.
            deterministic: take the best action rather than a sample.

        Returns:
            Actions (n, *action), as the environment takes them, and the memory for the next call.
        """

    def evaluate(
        self,
        episodes: int | None = None,
        *,
        deterministic: bool = True,
        seeds: np.random.SeedSequence | None = None,
    ) -> Metrics:
        """Play whole episodes in environments of its own, and change nothing.

        Args:
            episodes: how many; `evaluation_episodes` by default.
            deterministic: take the best action rather than a sample.
            seeds: of environments and sampling; by default they follow from the run's seed and `count`.

        Returns:
            Mean and standard deviation (over episodes) of raw returns, mean length, and how it was measured.
        """
        episodes = self.evaluation_episodes if episodes is None else episodes
        if episodes < 1:
            raise UsageError(f"{episodes} episodes: an evaluation takes at least 1")
        seeds = seeds or self.streams.sequence("evaluation", self.count)
        memory: Any = None

        def act(observations: np.ndarray, starts: np.ndarray) -> np.ndarray:
            nonlocal memory
            actions, memory = self.act(observations, memory, starts, deterministic=deterministic)
            return actions

        with self.undisturbed():
            torch.manual_seed(int(seeds.generate_state(1)[0]))
            envs = self.task.make(min(episodes, MAX_EVALUATION_ENVS), seeds, keep_state=False)
            try:
                returns, lengths = evaluate_episodes(envs, act, episodes, stopping.check)
            finally:
                envs.close()
        return {
            "eval/return": float(returns.mean()),
            "eval/return_std": float(returns.std()),
            "eval/length": float(lengths.mean()),
            "eval/episodes": float(episodes),
            "eval/deterministic": float(deterministic),
        }


def _listed(returns: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in returns.items())


def episode_metrics(episodes: list[Episode]) -> Metrics:
    """Return the mean raw return and length of episodes that ended at a step; {} if none did."""
    if not episodes:
        return {}
    return {
        "train/return": sum(episode.return_ for episode in episodes) / len(episodes),
        "train/length": sum(episode.length for episode in episodes) / len(episodes),
    }


def crossings(before: int, after: int, every: int) -> int:
    """Return how many multiples of `every` were passed on the way from `before` to `after` steps; 0 if it is 0.

    It makes an interval mean the same for any number of parallel environments: with 3 environments and an
    interval of 4 the passes come after 6, 9, 12, 18, ... steps, and there is one for every 4 steps.
    """
    return after // every - before // every if every else 0
