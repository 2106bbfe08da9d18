"""DQN of stable-baselines3: the twin of `dqn`.

Mnih et al., "Human-level control through deep reinforcement learning", Nature 518 (2015). The library's version has
Huber's loss, and neither double Q-learning nor dueling networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from stable_baselines3 import DQN

from rllab_agents.sb3.arguments import SPELLING
from rllab_agents.sb3.base import SB3Agent
from rllab_agents.sb3.config import OffPolicyConfig


class SB3DQNConfig(OffPolicyConfig):
    """Hyperparameters of stable-baselines3's DQN, with its defaults."""

    lr: PositiveFloat = 1e-4
    batch_size: PositiveInt = 32
    tau: float = Field(default=1.0, ge=0, le=1)
    train_every: PositiveInt = 4

    target_every: PositiveInt = 10_000
    """Env steps, over all environments, between two updates of the target network."""

    exploration_fraction: float = Field(default=0.1, ge=0, le=1)
    """Share of training over which epsilon falls from --initial-epsilon to --final-epsilon."""

    initial_epsilon: float = Field(default=1.0, ge=0, le=1)
    """Share of random actions at the start."""

    final_epsilon: float = Field(default=0.05, ge=0, le=1)
    """Share of random actions after that."""

    max_grad_norm: NonNegativeFloat = 10.0
    """The gradient is clipped to this norm; 0: no clipping."""


class SB3DQN(SB3Agent):
    """Deep Q-learning by stable-baselines3."""

    Config = SB3DQNConfig
    library = DQN
    spelling = {**SPELLING, "n_steps": "n_step"}
    actions = (spaces.Discrete,)
    default_hidden = (64, 64)

    def act(
        self,
        observations: np.ndarray,
        memory: Any = None,
        starts: np.ndarray | None = None,
        *,
        deterministic: bool,
    ) -> tuple[np.ndarray, Any]:
        """Take the action of highest value; if not deterministic, a random one now and then, as at training's end."""
        actions, memory = super().act(observations, memory, starts, deterministic=True)
        if not deterministic:
            assert isinstance(self.adapter.action_space, spaces.Discrete)
            n = len(actions)
            random = torch.rand(n).numpy() < self.config.final_epsilon
            drawn = torch.randint(int(self.adapter.action_space.n), (n,)).numpy() + self.adapter.first_action
            actions = np.where(random, drawn, actions)
        return actions, memory
