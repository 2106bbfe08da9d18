"""Random actions: the baseline. Any other return means something only beside it.

Every action of every environment is drawn uniformly from its space, whatever is observed; nothing is learned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt

from rllab.agent import Agent, AgentConfig, episode_metrics
from rllab.algorithm import Metrics
from rllab.baselines import random_actions, rows, seeded
from rllab.environments import EnvironmentTask


class RandomConfig(AgentConfig):
    """Random actions have nothing to choose."""

    timesteps: PositiveInt = 10_000
    """Environment steps to play, over all parallel environments."""


class RandomPolicy(Agent):
    """Draws every action from its space."""

    Config = RandomConfig

    @classmethod
    def work(cls, config: RandomConfig, task: EnvironmentTask) -> float:
        """Return that an update is nothing."""
        return 1.0

    def setup(self) -> None:
        """Make the environments, and the space that actions are drawn from."""
        super().setup()
        self.space = seeded(self.action_space, self.streams.sequence("exploration"))

    def act(
        self, observations: Any, memory: Any = None, starts: np.ndarray | None = None, *, deterministic: bool
    ) -> tuple[Any, tuple[int, int]]:
        """Draw actions; `memory` says where the random numbers come from, and how often was drawn.

        If deterministic, they come from the run's seed: the same random actions one after the other, each time.
        """
        seed, drawn = memory or (self.streams.seed if deterministic else int(torch.randint(2**31, ())), 0)
        space = seeded(self.action_space, np.random.SeedSequence(seed, spawn_key=(drawn,)))
        return random_actions(space, len(rows(observations))), (seed, drawn + 1)

    def step(self) -> Metrics:
        """Take one step in every environment."""
        moved = self.envs.step(random_actions(self.space, self.envs.num_envs))
        self.count += self.envs.num_envs
        return episode_metrics(moved.episodes)
