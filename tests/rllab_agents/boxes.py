"""Environments of box actions whose every step is known, and agents of sac, td3 and ddpg on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rllab import experiment, planning


class Clock(gymnasium.Env):
    """Shows how many steps the episode has had; `end` says after how many it terminates; it pays the action."""

    observation_space: Any = spaces.Box(0, 100, (1,), np.float32)
    action_space: Any = spaces.Box(-2, 6, (1,), np.float32)

    def __init__(self, end: int = 1000) -> None:
        self.end = end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.look(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action)), action
        self.at += 1
        return self.look(), float(np.sum(action)), self.at == self.end, False, {}

    def look(self):
        return np.full(self.observation_space.shape, self.at, self.observation_space.dtype)


class Unit(Clock):
    action_space = spaces.Box(-1, 1, (1,), np.float32)


class Unbounded(Clock):
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Number(Clock):
    observation_space = spaces.Box(0, 100, (), np.float32)
    action_space = spaces.Box(0, 1, (), np.float64)


class Looking(Clock):
    observation_space = spaces.Box(0, 255, (96, 96, 3), np.uint8)


class Target(gymnasium.Env):
    """One step: the reward is highest, 0, for the action 3 times what is seen, between -2 and 6."""

    observation_space = spaces.Box(-1, 2, (1,), np.float32)
    action_space = spaces.Box(-2, 6, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-0.6, 1.9, 1).astype(np.float32)
        return self.at, {}

    def step(self, action):
        return self.at, -float((action[0] - 3 * self.at[0]) ** 2), True, False, {}


KINDS = (Clock, Unit, Unbounded, Number, Looking, Target)


@contextmanager
def registered() -> Iterator[None]:
    """Let environments be made by the name `boxes/Clock-v0`."""
    for kind in KINDS:
        gymnasium.register(f"boxes/{kind.__name__}-v0", kind)
    try:
        yield
    finally:
        for kind in KINDS:
            del gymnasium.registry[f"boxes/{kind.__name__}-v0"]


_made: list[Any] = []


def agent_for(method: str, environment: str = "Clock", **options: Any) -> Any:
    """Return an agent that is set up; it learns from the first step on unless told otherwise."""
    values = {
        **{"preset": "none", "device": "cpu", "timesteps": 100, "learning_starts": 0, "hidden": "8"},
        **{"batch_size": 4, "buffer_size": 500, **options},
    }
    agent, _ = experiment.build(planning.plan(method, f"boxes/{environment}-v0", values))
    agent.setup()
    _made.append(agent)
    return agent


def close() -> None:
    """Close all that were made."""
    while _made:
        _made.pop().close()
