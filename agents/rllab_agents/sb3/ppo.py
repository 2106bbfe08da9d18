"""PPO of stable-baselines3: the twin of `ppo`.

Schulman et al., "Proximal Policy Optimization Algorithms", arXiv:1707.06347 (2017).
"""

from __future__ import annotations

from typing import Self

from gymnasium import spaces
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from stable_baselines3 import PPO

from rllab.parts.schedules import Schedule
from rllab_agents.sb3.arguments import SPELLING
from rllab_agents.sb3.base import SB3Agent
from rllab_agents.sb3.config import OnPolicyConfig


class SB3PPOConfig(OnPolicyConfig):
    """Hyperparameters of stable-baselines3's PPO, with its defaults."""

    batch_size: PositiveInt = 64
    """Steps in a minibatch; the rollout of all environments is divided into them."""

    update_epochs: PositiveInt = 10
    """Passes over each rollout."""

    clip_range: PositiveFloat = 0.2
    """Epsilon: beyond 1 - epsilon and 1 + epsilon, a ratio of probabilities earns nothing more."""

    clip_schedule: Schedule = "constant"
    """How epsilon goes on, as --schedule does for the step size."""

    value_clip_range: NonNegativeFloat = 0.0
    """How far from its old value V(s) may move with profit, in units of (normalised) returns; 0: any distance."""

    target_kl: NonNegativeFloat = 0.0
    """Leave a rollout before the step after which the policy would be 1.5 times this far from the old one; 0: never."""

    @model_validator(mode="after")
    def _minibatches_fit(self) -> Self:
        rollout = self.num_envs * self.rollout_steps
        if rollout % self.batch_size:
            fits = max(size for size in range(1, min(self.batch_size, rollout) + 1) if rollout % size == 0)
            raise ValueError(
                f"--batch-size {self.batch_size} does not divide the rollout of {rollout} steps, --num-envs "
                f"{self.num_envs} times --rollout-steps {self.rollout_steps}: take --batch-size {fits}, for example"
            )
        if self.normalize_advantages and self.batch_size == 1:
            raise ValueError("--batch-size 1 has no advantages to normalise: say --no-normalize-advantages")
        return self


class SB3PPO(SB3Agent):
    """Proximal policy optimisation by stable-baselines3."""

    Config = SB3PPOConfig
    library = PPO
    spelling = {**SPELLING, "n_steps": "rollout_steps"}
    actions = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    default_hidden = (64, 64)
