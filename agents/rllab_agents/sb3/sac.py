"""SAC of stable-baselines3: the twin of `sac`.

Haarnoja et al., "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with a Stochastic Actor",
ICML (2018), and "Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905 (2018), for the temperature.
"""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from pydantic import Field, PositiveFloat, PositiveInt
from stable_baselines3 import SAC

from rllab_agents.sb3.arguments import SPELLING
from rllab_agents.sb3.base import SB3Agent
from rllab_agents.sb3.config import ActionNoiseConfig


class SB3SACConfig(ActionNoiseConfig):
    """Hyperparameters of stable-baselines3's SAC, with its defaults."""

    alpha: float | None = Field(default=None, ge=0)
    """Temperature: what a nat of entropy is worth in reward; none: learned, to keep the target entropy."""

    initial_alpha: PositiveFloat = 1.0
    """Temperature at the start, where it is learned."""

    target_entropy: float | None = None
    """Entropy of the policy to keep, in nats, of actions scaled to [-1, 1]; none: -1 for each dimension."""

    target_every: PositiveInt = 1
    """Gradient steps (not env steps) of a round between two updates of the target networks."""

    use_sde: bool = False
    """Explore by noise that is a function of the state (gSDE; Raffin et al., 2021)."""

    sde_sample_freq: int = Field(default=-1, ge=-1)
    """Steps between two draws of that function; -1: one for each round."""

    use_sde_at_warmup: bool = False
    """Before learning starts, explore by gSDE too, instead of random actions."""


class SB3SAC(SB3Agent):
    """Soft actor-critic by stable-baselines3."""

    Config = SB3SACConfig
    library = SAC
    spelling = {**SPELLING, "n_steps": "n_step", "ent_coef": "alpha"}
    actions = (spaces.Box,)
    default_hidden = (256, 256)

    def argument(self, name: str) -> Any:
        """Return one argument of the library's constructor, by its name there."""
        config = self.config
        match name:
            case "ent_coef" if config.alpha is None:
                return f"auto_{config.initial_alpha}"
            case "target_entropy" if config.target_entropy is None:
                return "auto"
        return super().argument(name)
