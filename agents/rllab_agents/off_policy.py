"""What sac, td3 and ddpg have in common: the hyperparameters of learning box actions from a replay buffer."""

from __future__ import annotations

from itertools import pairwise
from typing import Self

import torch
from gymnasium import spaces
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from rllab.agent import AgentConfig
from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.parts.networks import Activation, Observations
from rllab.parts.optim import OptimizerName
from rllab.parts.schedules import Schedule
from rllab.parts.squashed import ActionBounds


class OffPolicyConfig(AgentConfig):
    """Hyperparameters of actor-critic methods with a replay buffer."""

    hidden: tuple[PositiveInt, ...] = (256, 256)
    """Units of the hidden layers, of policy and critics alike."""

    activation: Activation = "relu"
    """What follows each hidden layer."""

    normalize_observations: bool = False
    """Shift and scale observations by running statistics, which are saved with the weights."""

    optimizer: OptimizerName = "adam"
    """The rule for gradient steps."""

    lr: PositiveFloat = 3e-4
    """Step size of the optimisers."""

    schedule: Schedule = "constant"
    """How the step size goes on: constant, linear or cosine to 0 at the end, or onecycle, up and then down."""

    batch_size: PositiveInt = 256
    """Transitions in a gradient step."""

    buffer_size: PositiveInt = 1_000_000
    """Transitions the replay buffer holds."""

    learning_starts: NonNegativeInt = 100
    """Env steps with random actions before the first gradient step."""

    train_every: PositiveInt = 1
    """Env steps, over all environments, between two rounds of gradient steps."""

    gradient_steps: PositiveInt = 1
    """Gradient steps in a round, each on a batch of its own."""

    tau: float = Field(default=0.005, gt=0, le=1)
    """How far the target networks move towards the online ones at an update."""

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount of a reward one step later."""

    max_grad_norm: NonNegativeFloat = 0.0
    """The gradients of policy and critics are clipped to this norm; 0: no clipping."""

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


def refusal(task: EnvironmentTask) -> str | None:
    """Return why `task` does not fit: actions have to be a bounded box, observations vectors."""
    space = task.observation_space
    if (reason := ActionBounds.refusal(task.action_space) or Observations.refusal(space)) is not None:
        return reason
    if Observations(space).is_image:
        return f"it takes vectors, and the observations are images of {space.shape}; a2c and ppo take images"
    return None


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
