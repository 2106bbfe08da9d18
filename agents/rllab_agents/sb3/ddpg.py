"""DDPG of stable-baselines3: the twin of `ddpg`.

Lillicrap et al., "Continuous control with deep reinforcement learning", ICLR (2016). The library's version is its TD3
with one critic, and neither delay nor noise on the targets.
"""

from __future__ import annotations

from gymnasium import spaces
from pydantic import PositiveFloat
from stable_baselines3 import DDPG

from rllab_agents.sb3.arguments import SPELLING
from rllab_agents.sb3.base import SB3Agent
from rllab_agents.sb3.config import ActionNoiseConfig


class SB3DDPGConfig(ActionNoiseConfig):
    """Hyperparameters of stable-baselines3's DDPG, with its defaults."""

    lr: PositiveFloat = 1e-3


class SB3DDPG(SB3Agent):
    """Deep deterministic policy gradient by stable-baselines3."""

    Config = SB3DDPGConfig
    library = DDPG
    spelling = {**SPELLING, "n_steps": "n_step"}
    actions = (spaces.Box,)
    default_hidden = (400, 300)
