"""A2C of stable-baselines3: the twin of `a2c`.

Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", ICML (2016), without the asynchrony.
"""

from __future__ import annotations

from gymnasium import spaces
from pydantic import Field, PositiveFloat, PositiveInt
from stable_baselines3 import A2C

from rllab_agents.sb3.arguments import SPELLING
from rllab_agents.sb3.base import SB3Agent
from rllab_agents.sb3.config import OnPolicyConfig


class SB3A2CConfig(OnPolicyConfig):
    """Hyperparameters of stable-baselines3's A2C, with its defaults."""

    lr: PositiveFloat = 7e-4
    rollout_steps: PositiveInt = 5
    gae_lambda: float = Field(default=1.0, ge=0, le=1)
    normalize_advantages: bool = False

    use_rms_prop: bool = True
    """The optimiser is RMSprop; Adam without."""

    rms_prop_eps: PositiveFloat = 1e-5
    """What RMSprop adds to the root of the mean square gradient."""


class SB3A2C(SB3Agent):
    """Advantage actor-critic by stable-baselines3."""

    Config = SB3A2CConfig
    library = A2C
    spelling = {**SPELLING, "n_steps": "rollout_steps"}
    actions = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    default_hidden = (64, 64)
