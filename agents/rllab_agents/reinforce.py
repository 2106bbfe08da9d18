"""REINFORCE: the policy gradient by whole episodes.

Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", Machine Learning
8 (1992). The rewards before an action are left out of its return, as it has no part in them; a baseline does not change
the mean of the gradient, only its variance (Sutton et al., "Policy gradient methods", NeurIPS 1999).

    repeat
        play whole episodes by pi(a|s)
        G_t = r_t + gamma G_(t+1), and 0 after the last step
        take a gradient step on   - mean (G_t - b_t) log pi(a_t|s_t)  -  c_e mean H(pi(.|s_t))
        with b_t = V(s_t):  some gradient steps on   mean (G_t - V(s_t))^2
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from rllab.agent import Agent, GradientConfig, episode_metrics
from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.parts import distributions
from rllab.parts.distributions import distribution_for
from rllab.parts.encoders import multiply_adds, network_for
from rllab.parts.losses import squared
from rllab.parts.networks import Activation, NetworkName, Observations, infer
from rllab.parts.optim import GradientSteps
from rllab.parts.policy_losses import normalised, policy_gradient
from rllab.parts.returns import rewards_to_go
from rllab.parts.schedules import scheduled
from rllab.vectorenv import Episode
from rllab_agents.policies import Actor


class ReinforceConfig(GradientConfig):
    """Hyperparameters of REINFORCE (Williams, 1992)."""

    num_envs: PositiveInt = 4

    rollout_episodes: PositiveInt = 1
    """Whole episodes of each environment between two updates."""

    baseline: Literal["none", "mean", "value"] = "value"
    """What is taken from the returns: nothing, their mean over the update, or the value of the state, by a network."""

    normalize_advantages: bool = True
    """Shift and scale what is left of an update's returns to mean 0 and variance 1."""

    network: NetworkName = "auto"
    """What looks at observations: mlp, cnn, or auto, by the space."""

    hidden: tuple[PositiveInt, ...] = (64, 64)
    """Units of the hidden layers, policy and value network have their own; for images, of those after the CNN."""

    activation: Activation = "tanh"

    initial_std: PositiveFloat = 1.0
    """Standard deviation of Box actions at the start, in their units; it is learned, one number for each dimension."""

    lr: PositiveFloat = 3e-3
    """Step size of the policy's optimiser."""

    value_lr: PositiveFloat = 3e-3
    """Step size of the value network's optimiser, always Adam."""

    value_steps: PositiveInt = 10
    """Gradient steps of the value network in an update, each on all of its states."""

    max_grad_norm: NonNegativeFloat = 0.5
    """The policy's gradient is clipped to this norm; 0: no clipping."""

    entropy_coef: NonNegativeFloat = 0.0
    """Weight of the policy's entropy, which is to be high."""


class Played(NamedTuple):
    """Whole episodes: `T` steps of `n` environments, of which only those count that were taken: `B` altogether."""

    observations: np.ndarray
    """(B, *observation)"""
    actions: np.ndarray
    """(B, *action)"""
    rewards: np.ndarray
    """(T, n), and gamma V(s) more where an episode was cut off in s and there is a value network"""
    ended: np.ndarray
    """(T, n) whether the episode ends with that step"""
    taken: np.ndarray
    """(T, n) whether there was that step"""
    episodes: list[Episode]


class Reinforce(Agent):
    """REINFORCE with reward-to-go."""

    Config = ReinforceConfig
    config: ReinforceConfig
    steps_partly = True
    reductions = {"train/lr": "last"}

    @classmethod
    def refusal(cls, config: ReinforceConfig, task: EnvironmentTask) -> str | None:
        """Return why it cannot act in `task`, or None if it can."""
        return distributions.refusal(task.action_space) or Observations.refusal(task.observation_space, config.network)

    @classmethod
    def work(cls, config: ReinforceConfig, task: EnvironmentTask) -> float:
        """Return the multiply-adds of a gradient step: forward and twice as many backward, of some hundred steps."""
        observations = Observations(task.observation_space, config.network)
        outputs = distribution_for(task.action_space).outputs
        return 300.0 * config.num_envs * config.rollout_episodes * multiply_adds(observations, config.hidden, outputs)

    def __init__(self, config: ReinforceConfig, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.distribution = distribution_for(task.action_space)
        self.vectors = Observations(task.observation_space, config.network).to(device)
        means = self.distribution.outputs - self.distribution.constants
        body = network_for(self.vectors, config.hidden, means, config.activation)
        self.policy = Actor(body, self.distribution.constants, config.initial_std).to(device)
        self.value = None
        if config.baseline == "value":
            self.value = network_for(self.vectors, config.hidden, 1, config.activation).to(device)

    def setup(self) -> None:
        """Make the environments and the optimisers."""
        super().setup()
        config = self.config
        self.rng = self.streams.numpy("exploration")
        self.optimizer = GradientSteps(
            self.policy,
            optimizer=config.optimizer,
            lr=config.lr,
            max_grad_norm=config.max_grad_norm,
            fast=config.fast,
        )
        if self.value is not None:
            self.value_optimizer = GradientSteps(self.value, lr=config.value_lr, fast=config.fast)

    # --- acting

    def inputs(self, observations: np.ndarray) -> Tensor:
        """Return observations (B, *observation) as the networks take them."""
        vectors: Tensor = self.vectors(torch.from_numpy(observations).to(self.device))
        return vectors

    def act(
        self,
        observations: np.ndarray,
        memory: Any = None,
        starts: np.ndarray | None = None,
        *,
        deterministic: bool,
    ) -> tuple[np.ndarray, None]:
        """Take the most probable action, or one drawn from the policy."""
        outputs = self.policy.infer(self.inputs(observations))  # (n, outputs)
        if deterministic:
            return self.distribution.to_environment(self.distribution.mode(outputs)), None
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        return self.distribution.to_environment(self.distribution.sample(outputs, rng)), None

    def play(self) -> Played:
        """Play the same number of whole episodes in each environment, so that short ones are not favoured."""
        envs, distribution = self.envs, self.distribution
        left = [self.config.rollout_episodes] * envs.num_envs
        active = list(range(envs.num_envs))
        steps, episodes = [], []
        while active:
            observations = envs.observations
            actions = distribution.sample(self.policy.infer(self.inputs(observations)), self.rng)
            moved = envs.step(distribution.to_environment(actions), active)
            rewards: np.ndarray = moved.rewards
            ended = moved.terminated | moved.truncated
            if moved.truncated.any() and self.value is not None:
                final = infer(self.value, self.inputs(moved.next_observations))[:, 0]  # (len(active),)
                rewards = rewards + self.config.gamma * final * moved.truncated
            steps.append((active, observations[active], actions[active], rewards, ended))
            episodes += moved.episodes
            self.count += len(active)
            for row in np.flatnonzero(ended):
                left[active[row]] -= 1
            active = [i for i in active if left[i]]
        shape = (len(steps), envs.num_envs)
        played = Played(
            np.concatenate([observations for _, observations, *_ in steps]),
            np.concatenate([actions for _, _, actions, *_ in steps]),
            np.zeros(shape, np.float32),
            np.zeros(shape, bool),
            np.zeros(shape, bool),
            episodes,
        )
        for t, (rows, _, _, rewards, ended) in enumerate(steps):
            played.rewards[t, rows], played.ended[t, rows], played.taken[t, rows] = rewards, ended, True
        return played

    # --- learning

    def step(self) -> Metrics:
        """Play whole episodes and learn from them."""
        lr = scheduled(self.config.lr, self.config.schedule, self.progress)
        played = self.play()
        returns = rewards_to_go(played.rewards, played.ended, self.config.gamma)[played.taken]  # (B,)
        inputs = self.inputs(played.observations)  # (B, ...)
        actions, returns = (torch.from_numpy(x).to(self.device) for x in (played.actions, returns))
        return episode_metrics(played.episodes) | self.learn(inputs, actions, returns, lr)

    @torch.no_grad()
    def learn(self, inputs: Tensor, actions: Tensor, returns: Tensor, lr: float) -> Metrics:
        """Take a gradient step of the policy, and those of the value network."""
        config, distribution = self.config, self.distribution
        advantages = returns - self.baseline(inputs, returns)  # (B,)
        if config.normalize_advantages:
            advantages = normalised(advantages)

        outputs = self.optimizer.forward(inputs)  # (B, outputs)
        log_probs, entropy = distribution.evaluate(outputs, actions)  # (B,) both
        policy_loss, slope = policy_gradient(log_probs, advantages)
        loss = policy_loss - config.entropy_coef * entropy.mean()
        gradient = distribution.gradient(outputs, actions, slope, -config.entropy_coef / len(slope))
        self.optimizer.descend(loss, gradient, lr=lr)
        metrics: Metrics = {"train/policy_loss": policy_loss, "train/entropy": entropy.mean(), "train/lr": lr}
        return metrics | self.learn_values(inputs, returns)

    def baseline(self, inputs: Tensor, returns: Tensor) -> Tensor:
        """Return what is taken from the returns: b_t, (B,), or one number for all."""
        if self.value is not None:
            values: Tensor = self.value(inputs).squeeze(1)
            return values
        return returns.mean() if self.config.baseline == "mean" else torch.zeros(())

    def learn_values(self, inputs: Tensor, returns: Tensor) -> Metrics:
        """Take gradient steps of the value network towards the returns; return the loss before them."""
        if self.value is None:
            return {}
        losses = []
        for _ in range(self.config.value_steps):
            values = self.value_optimizer.forward(inputs).squeeze(1)  # (B,)
            loss, slope = squared(values - returns)
            self.value_optimizer.descend(loss, slope[:, None])
            losses.append(loss)
        return {"train/value_loss": losses[0]}
