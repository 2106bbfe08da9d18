"""Which spaces an agent takes: each method is asked about small environments that stand for a kind of space each.

In: a method's class. Out: the kinds of actions and observations for which its `refusal` has nothing to say. No table
says so by hand, so that what is listed is what a run would do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rllab.algorithm import Algorithm
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.errors import one_line

ACTIONS: Mapping[str, gymnasium.Space[Any]] = {
    "Discrete": spaces.Discrete(3),
    "Box": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "MultiDiscrete": spaces.MultiDiscrete([3, 2]),
    "MultiBinary": spaces.MultiBinary(3),
}
OBSERVATIONS: Mapping[str, Sequence[gymnasium.Space[Any]]] = {
    "vector": (spaces.Box(-1.0, 1.0, (4,), np.float32),),
    "image": (spaces.Box(0, 255, (84, 84, 3), np.uint8), spaces.Box(0, 255, (4, 84, 84), np.uint8)),
    "discrete": (spaces.Discrete(5),),
    "one state": (spaces.Discrete(1),),
}
"""Each kind by one space or several, of which one is enough; the last is told of what takes no other."""
_KINDS = re.compile(r"\b(Discrete|Box|MultiDiscrete|MultiBinary)\(")


class Taken(NamedTuple):
    """The kinds of spaces that a method takes, and what it says where it wants more than them."""

    actions: list[str]
    observations: list[str]
    refusal: str | None


class _Nothing(gymnasium.Env[Any, Any]):
    """An environment that has spaces, and in which nothing happens."""

    def __init__(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin."""
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go on; it ends at once."""
        return self.observation_space.sample(), 0.0, True, False, {}


class StandIn(EnvironmentTask):
    """A task that stands for all with its kinds of spaces; environments can be made of it.

    Args:
        observation_space: of one environment.
        action_space: of one environment.
    """

    def __init__(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
        self.name = "stand-in"
        self.config = EnvironmentConfig()
        self.spec = EnvSpec(self.name, entry_point=lambda **_: _Nothing(observation_space, action_space))
        self.observation_space, self.action_space = observation_space, action_space
        self.metadata = {}
        self.max_episode_steps = None


def taken_by(method: type[Algorithm]) -> Taken:
    """Return which spaces a method takes as it is, without any options; a broken one costs a line.

    Args:
        method: a class of the group `rllab.agents`.
    """
    try:
        config = method.Config()
        answers = list(_ask(method, config))
    except Exception as error:  # noqa: BLE001 - a plugin's own code may raise anything
        return Taken([], [], f"it cannot be asked: {type(error).__name__}: {one_line(error)}")
    taken = [answer for answer in answers if answer[2] is None]
    refusal = None
    if not taken:  # it wants more than spaces; where they fit, it says what
        further = [answer for answer in answers if not _KINDS.search(str(answer[2]))]
        refusal = str((further or answers)[0][2])
        taken = further if len(further) < len(answers) else []
    actions = [name for name in ACTIONS if any(name == kind for kind, _, _ in taken)]
    observations = [name for name in OBSERVATIONS if any(name == kind for _, kind, _ in taken)]
    if len(observations) > 1 and "one state" in observations:
        observations.remove("one state")
    return Taken(actions, observations, refusal)


def _ask(method: type[Algorithm], config: Any) -> Iterator[tuple[str, str, str | None]]:
    """Yield kinds of actions and observations, and why a method does not take them, None if it does."""
    for actions, action_space in ACTIONS.items():
        for observations, candidates in OBSERVATIONS.items():
            reasons = [method.refusal(config, StandIn(space, action_space)) for space in candidates]
            yield actions, observations, None if None in reasons else reasons[0]
