"""What methods with a replay buffer share: options, and how sac, td3 and ddpg come by their experience.

A method page (dqn.py, ddpg.py, sac.py) says how it acts, and what it makes of a batch: its losses and its loop.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from rllab.agent import Agent, GradientConfig, crossings, episode_metrics
from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.parts.arrays import Numbers, alike
from rllab.parts.experience import check_room
from rllab.parts.networks import Observations
from rllab.parts.normalise import RunningNormalizer
from rllab.parts.optim import GradientSteps
from rllab.parts.replay import Batch, ReplayBuffer
from rllab.parts.squashed import ActionBounds


class ReplayConfig(GradientConfig):
    """Hyperparameters of methods with a replay buffer."""

    normalize_observations: bool = False
    """Shift and scale observations by running statistics, which are saved with the weights."""

    batch_size: PositiveInt = 256
    """Transitions in a gradient step."""

    buffer_size: PositiveInt = 1_000_000
    """Transitions the replay buffer holds."""

    learning_starts: NonNegativeInt = 100
    """Env steps before the first gradient step."""

    train_every: PositiveInt = 1
    """Env steps, over all environments, between two rounds of gradient steps."""

    gradient_steps: PositiveInt = 1
    """Gradient steps in a round, each on a batch of its own."""

    @model_validator(mode="after")
    def _updates_happen(self) -> Self:
        if self.learning_starts >= self.timesteps:
            raise ValueError(
                f"--learning-starts {self.learning_starts} is not below --timesteps {self.timesteps}: "
                "no update would ever happen"
            )
        # a round comes after each multiple of train_every that is above learning_starts and at most timesteps
        if self.timesteps // self.train_every <= self.learning_starts // self.train_every:
            raise ValueError(
                f"--train-every {self.train_every} has no multiple above --learning-starts {self.learning_starts} "
                f"and up to --timesteps {self.timesteps}: no update would ever happen; make --train-every smaller"
            )
        return self

    @model_validator(mode="after")
    def _a_batch_fits(self) -> Self:
        if self.batch_size > self.buffer_size:
            raise ValueError(
                f"--batch-size {self.batch_size} is larger than the replay buffer: --buffer-size {self.buffer_size}"
            )
        return self


class OffPolicyConfig(ReplayConfig):
    """Hyperparameters of actor-critic methods with a replay buffer."""

    hidden: tuple[PositiveInt, ...] = (256, 256)
    """Units of the hidden layers, of policy and critics alike."""

    learning_starts: NonNegativeInt = 100
    """Env steps with random actions before the first gradient step."""

    tau: float = Field(default=0.005, gt=0, le=1)
    """How far the target networks move towards the online ones at an update."""


class OffPolicyAgent(Agent):
    """An agent with a policy over box actions, which learns from a replay buffer.

    Actions are those in [-1, 1] everywhere but in the environments, to whose bounds they are scaled. What learns
    takes arrays as well as tensors, and `batch` gives those that are faster.

    Attributes:
        vectors: turns observations into vectors.
        normalizer: of these vectors; None without --normalize-observations.
        bounds: scales actions.
        replay: the last transitions.
        actor_steps: trains the policy, and critic_steps the critics.
    """

    config: Any
    reductions = {"train/lr": "last"}
    actor_steps: GradientSteps
    critic_steps: GradientSteps
    transient: ClassVar[frozenset[str]] = Agent.transient | {"bounds"}

    @classmethod
    def refusal(cls, config: OffPolicyConfig, task: EnvironmentTask) -> str | None:
        """Return why it cannot act in `task`: it takes box actions with bounds, and vectors to look at."""
        space = task.observation_space
        if (reason := ActionBounds.refusal(task.action_space) or Observations.refusal(space)) is not None:
            return reason
        if Observations(space).is_image:
            return f"it takes vectors, and the observations are images of {space.shape}; a2c and ppo take images"
        check_room(space, config.buffer_size, action_bytes=4 * spaces.flatdim(task.action_space))
        return None

    def __init__(self, config: Any, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.vectors = Observations(task.observation_space).to(device)
        self.normalizer = RunningNormalizer(self.vectors.size, device=device) if config.normalize_observations else None
        self.bounds = ActionBounds(task.action_space)

    def setup(self) -> None:
        """Make the environments and the replay buffer."""
        super().setup()
        config, space = self.config, self.observation_space
        assert space.shape is not None
        self.rng = self.streams.numpy("exploration")
        self.replay_rng = self.streams.numpy("replay")
        self.noise_rng = self.streams.torch("noise", self.device)  # in gradient steps
        self.replay = ReplayBuffer(
            config.buffer_size, space.shape, space.dtype, (self.bounds.size,), np.float32, device=self.device
        )

    def inputs(self, observations: Numbers) -> Numbers:
        """Return observations as the networks take them, (batch, size) float32."""
        vectors = self.vectors(observations)
        return self.normalizer(vectors) if self.normalizer is not None else vectors

    def random_actions(self) -> np.ndarray:
        """Return actions for all environments, drawn uniformly from [-1, 1], (n, actions)."""
        return self.rng.uniform(-1, 1, (self.envs.num_envs, self.bounds.size)).astype(np.float32)

    def take(self, actions: np.ndarray) -> tuple[Metrics, int]:
        """Take one step in every environment, and keep what came of it.

        Args:
            actions: (n, actions) in [-1, 1].

        Returns:
            What is known of episodes that ended, and how many gradient steps are due.
        """
        config, envs = self.config, self.envs
        observations = envs.observations
        moved = envs.step(self.bounds.from_unit(actions))
        self.replay.add(observations, actions, moved.rewards, moved.next_observations, moved.terminated)
        if self.normalizer is not None:
            self.normalizer.update(self.vectors(observations))
        before, self.count = self.count, self.count + envs.num_envs
        rounds = crossings(before, self.count, config.train_every) if self.count > config.learning_starts else 0
        return episode_metrics(moved.episodes), rounds * config.gradient_steps

    def batch(self) -> Batch:
        """Return transitions drawn anew: arrays where both networks take them."""
        drawn = self.replay.sample(self.config.batch_size, self.replay_rng)
        return drawn.numpy() if self.actor_steps.takes_arrays and self.critic_steps.takes_arrays else drawn

    def normal(self, like: Numbers) -> Numbers:
        """Return standard normal noise for the actions of a batch, (B, actions): an array if `like` is one."""
        return alike(torch.randn(len(like), self.bounds.size, generator=self.noise_rng, device=self.device), like)


def connections(config: OffPolicyConfig, task: EnvironmentTask, *, critic: bool, outputs: int = 1) -> float:
    """Return the weights of a critic, or of a policy with so many outputs for each dimension of an action."""
    vector, action = spaces.flatdim(task.observation_space), spaces.flatdim(task.action_space)
    ends = (vector + action, 1) if critic else (vector, outputs * action)
    return float(sum(a * b for a, b in pairwise([ends[0], *config.hidden, ends[1]])))


def averaged(rounds: list[Metrics]) -> Metrics:
    """Return the mean of each metric over gradient steps, of which not all have all metrics."""
    if len(rounds) == 1:
        return rounds[0]
    found: dict[str, list[torch.Tensor]] = {}
    for metrics in rounds:
        for name, value in metrics.items():
            found.setdefault(name, []).append(torch.as_tensor(value))
    return {name: torch.stack(values).mean() for name, values in found.items()}
