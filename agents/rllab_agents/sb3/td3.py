"""TD3 of stable-baselines3: the twin of `td3`.

Fujimoto et al., "Addressing Function Approximation Error in Actor-Critic Methods", ICML (2018).
"""

from __future__ import annotations

from gymnasium import spaces
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from stable_baselines3 import TD3

from rllab_agents.sb3.arguments import SPELLING
from rllab_agents.sb3.base import SB3Agent
from rllab_agents.sb3.config import ActionNoiseConfig


class SB3TD3Config(ActionNoiseConfig):
    """Hyperparameters of stable-baselines3's TD3, with its defaults."""

    lr: PositiveFloat = 1e-3

    policy_delay: PositiveInt = 2
    """Gradient steps of the critics between two of the policy, with which the target networks move."""

    target_noise: NonNegativeFloat = 0.2
    """Standard deviation of the noise that smooths the targets, of actions scaled to [-1, 1]."""

    target_noise_clip: NonNegativeFloat = 0.5
    """Where that noise is cut."""


class SB3TD3(SB3Agent):
    """Twin delayed DDPG by stable-baselines3."""

    Config = SB3TD3Config
    library = TD3
    spelling = {**SPELLING, "n_steps": "n_step"}
    actions = (spaces.Box,)
    default_hidden = (400, 300)
