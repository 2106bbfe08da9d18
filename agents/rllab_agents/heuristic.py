"""The heuristic of an environment: a rule made by hand, the other baseline beside random actions.

An environment may bring such a rule for itself; `rllab.baselines` says where it is looked for. Nothing is learned.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import PositiveInt

from rllab.agent import Agent, AgentConfig, episode_metrics
from rllab.algorithm import Metrics
from rllab.baselines import heuristic_of, rows, with_heuristic
from rllab.environments import EnvironmentTask


class HeuristicConfig(AgentConfig):
    """A heuristic has nothing to choose."""

    timesteps: PositiveInt = 10_000
    """Environment steps to play, over all parallel environments."""


class Heuristic(Agent):
    """Acts by the rule that the environment brings for itself."""

    Config = HeuristicConfig
    transient: ClassVar[frozenset[str]] = Agent.transient | {"rule"}

    @classmethod
    def refusal(cls, config: HeuristicConfig, task: EnvironmentTask) -> str | None:
        """Return that `task` has no heuristic."""
        return "it has no heuristic" if heuristic_of(task) is None else None

    @classmethod
    def alternatives(cls, config: HeuristicConfig) -> list[str]:
        """Return the installed environments that have one."""
        return with_heuristic()

    @classmethod
    def work(cls, config: HeuristicConfig, task: EnvironmentTask) -> float:
        """Return that an update is nothing."""
        return 1.0

    def __init__(self, config: HeuristicConfig, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        rule = heuristic_of(task)
        assert rule is not None
        self.rule = rule

    def act(
        self, observations: Any, memory: Any = None, starts: np.ndarray | None = None, *, deterministic: bool
    ) -> tuple[Any, None]:
        """Ask the rule about each observation."""
        actions = [self.rule(observation) for observation in rows(observations)]
        dtype = self.action_space.dtype
        return (actions if dtype is None else np.array(actions, dtype)), None

    def step(self) -> Metrics:
        """Take one step in every environment."""
        actions, _ = self.act(self.envs.observations, deterministic=True)
        moved = self.envs.step(actions)
        self.count += self.envs.num_envs
        return episode_metrics(moved.episodes)
