"""Keys -> actions: which key does what in an environment that a person plays.

In: an environment. Out: `Keys`, which turn the set of keys held down into an action. An environment may say itself
which keys it wants, by Gymnasium's `get_keys_to_action()`; Gymnasium's own, which do not, are listed here; any other
has its actions on the digits, or for a Box the arrows.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np
from gymnasium import Env, spaces

from rllab.errors import UsageError

ARROWS = {"up": "w", "left": "a", "down": "s", "right": "d"}
"""The arrows, and the letters that mean the same."""
RESTART, QUIT = frozenset({"r"}), frozenset({"q", "escape"})
_SIGNS = {"up": "↑", "left": "←", "down": "↓", "right": "→", " ": "space"}
_ARROW_CODES = {1073741903: "right", 1073741904: "left", 1073741905: "down", 1073741906: "up"}
"""SDL's codes of the arrows, which environments made for pygame may use."""
_ENOUGH = [*"0123456789", *(letter for letter in "abcdefghijklmnopstuvwxyz" if {letter} not in (RESTART, QUIT))]
"""Keys of numbered actions, in their order."""


@dataclass(frozen=True)
class Known:
    """Keys of an environment that does not say them itself.

    Attributes:
        keys: an action for each key, or for several held together ("up left").
        idle: what happens while no key is held: an action, or several in turn; None: the game waits.
        fps: steps per second at which a person can play; None: the environment's.
        words: what keys do that do not point somewhere.
    """

    keys: Mapping[str, Any]
    idle: tuple[Any, ...] | None = None
    fps: float | None = None
    words: Mapping[str, str] = field(default_factory=dict)


_KNOWN = {
    "CartPole": Known({"left": 0, "right": 1}, idle=(0, 1), fps=20),
    "MountainCar": Known({"left": 0, "right": 2}, idle=(1,)),
    "Acrobot": Known({"left": 0, "right": 2}, idle=(1,)),
    "LunarLander": Known({"left": 1, "up": 2, "right": 3}, idle=(0,), fps=30),
    "LunarLanderContinuous": Known(
        {"up": (1, 0), "left": (0, -1), "right": (0, 1), "up left": (1, -1), "up right": (1, 1)}, idle=((0, 0),), fps=30
    ),
    "CarRacing": Known(
        {
            **{"up": (0, 1, 0), "down": (0, 0, 0.8), "left": (-1, 0, 0), "right": (1, 0, 0)},
            **{"up left": (-1, 1, 0), "up right": (1, 1, 0), "down left": (-1, 0, 0.8), "down right": (1, 0, 0.8)},
        },
        idle=((0, 0, 0),),
    ),
    "FrozenLake": Known({"left": 0, "down": 1, "right": 2, "up": 3}),
    "CliffWalking": Known({"up": 0, "right": 1, "down": 2, "left": 3}),
    "Taxi": Known({"down": 0, "up": 1, "right": 2, "left": 3, "p": 4, "o": 5}, words={"p": "pick up", "o": "drop off"}),
    "Blackjack": Known({"s": 0, "h": 1}, words={"s": "stick", "h": "hit"}),
}
"""Gymnasium's environments for a person; in each the key goes where it points."""


class Keys(ABC):
    """The keys of an environment.

    Attributes:
        waits: whether the environment stands still until a key is pressed.
        fps: steps per second at which a person can play, or None.
    """

    waits: bool
    fps: float | None = None

    @abstractmethod
    def names(self) -> set[str]:
        """Return the keys that mean something: "left", "a", " ", "0"."""

    @abstractmethod
    def action(self, held: Collection[str]) -> Any:
        """Return the action for the keys held down; None if they mean nothing and the environment waits."""

    @abstractmethod
    def help(self) -> str:
        """Return what the keys do, in a line."""


class Chords(Keys):
    """An action for each key, or for several held together.

    Args:
        actions: by the keys.
        idle: what happens while none is held, in turn; None: the environment waits.
        fps: steps per second at which a person can play.
        words: what keys do, beside their number.
    """

    def __init__(
        self,
        actions: Mapping[frozenset[str], Any],
        idle: Iterable[Any] | None = None,
        fps: float | None = None,
        words: Mapping[str, str] | None = None,
    ) -> None:
        self.fps = fps
        self._words = dict(words or {})
        self.waits = idle is None
        self._actions = dict(actions)
        self._idle = cycle(idle) if idle is not None else None

    def names(self) -> set[str]:  # noqa: D102
        own = {key for chord in self._actions for key in chord}
        return own | {letter for arrow, letter in ARROWS.items() if arrow in own}

    def action(self, held: Collection[str]) -> Any:  # noqa: D102
        own = {key for chord in self._actions for key in chord}
        letters = {letter: arrow for arrow, letter in ARROWS.items() if arrow in own and letter not in own}
        pressed = frozenset(letters.get(key, key) for key in held) & own
        fitting = [chord for chord in self._actions if chord and chord <= pressed]
        if fitting:
            return self._actions[max(fitting, key=len)]
        return next(self._idle) if self._idle is not None else None

    def help(self) -> str:  # noqa: D102
        single = [(next(iter(chord)), action) for chord, action in self._actions.items() if len(chord) == 1]
        arrows = "".join(_SIGNS[key] for key in ARROWS if any(key == name for name, _ in single))
        others = [
            f"{_SIGNS.get(key, key.upper())}: {self._words.get(key) or _short(action)}"
            for key, action in single
            if key not in ARROWS
        ]
        if len(others) > 3 and not self._words and all(key in _ENOUGH for key, _ in single):
            others = [f"{single[0][0].upper()} to {single[-1][0].upper()}: actions {_short(single[0][1])} to "]
            others[0] += _short(single[-1][1])
        return " · ".join([*([f"{arrows} or {_letters(arrows)}"] if arrows else []), *others])


class Levers(Keys):
    """A Box of one or two numbers: keys push them to their bounds, and they are in the middle while none is held.

    Args:
        space: the action space.
    """

    _PAIRS = (("left", "right"), ("down", "up"))

    def __init__(self, space: spaces.Box) -> None:
        self.waits = False
        self._space = space
        self._low = np.where(np.isfinite(space.low), space.low, -1.0).reshape(-1)
        self._high = np.where(np.isfinite(space.high), space.high, 1.0).reshape(-1)

    def names(self) -> set[str]:  # noqa: D102
        own = {key for pair in self._PAIRS[: len(self._low)] for key in pair}
        return own | {ARROWS[key] for key in own}

    def action(self, held: Collection[str]) -> Any:  # noqa: D102
        rest = np.clip(0.0, self._low, self._high)
        for number, pair in enumerate(self._PAIRS[: len(self._low)]):
            down, up = ({key, ARROWS[key]} & set(held) for key in pair)
            if bool(down) != bool(up):
                rest[number] = self._low[number] if down else self._high[number]
        return rest.reshape(self._space.shape).astype(self._space.dtype)

    def help(self) -> str:  # noqa: D102
        arrows = "".join(_SIGNS[key] for pair in self._PAIRS[: len(self._low)] for key in pair)
        return f"{arrows} or {_letters(arrows)}: from {_short(self._low)} to {_short(self._high)}"


class Switches(Keys):
    """A MultiBinary space: a digit for each switch, on while it is held."""

    def __init__(self, space: spaces.MultiBinary) -> None:
        self.waits = False
        self._space = space
        self._number = int(np.prod(space.shape))

    def names(self) -> set[str]:  # noqa: D102
        return set(_ENOUGH[: self._number])

    def action(self, held: Collection[str]) -> Any:  # noqa: D102
        on = np.array([key in held for key in _ENOUGH[: self._number]])
        return on.astype(self._space.dtype).reshape(self._space.shape)

    def help(self) -> str:  # noqa: D102
        return f"{_ENOUGH[0]} to {_ENOUGH[self._number - 1]}: switches, on while held"


def keys_of(env: Env[Any, Any], name: str) -> Keys:
    """Return the keys of an environment.

    Args:
        env: with all its wrappers.
        name: what the user called it.

    Raises:
        UsageError: for actions that a keyboard has no keys for.
    """
    space = env.action_space
    board = isinstance(env.unwrapped.observation_space, spaces.Discrete | spaces.Tuple)
    if (said := _said(env)) is not None:
        return Chords(said, None if board else (_idle(said, space),))
    known = _KNOWN.get(_base(env, name))
    if known is not None:
        continuous = isinstance(space, spaces.Box)
        if continuous and _base(env, name) == "LunarLander":
            known = _KNOWN["LunarLanderContinuous"]
        actions = {
            frozenset(keys.split()): np.array(action, space.dtype) if continuous else action
            for keys, action in known.keys.items()
        }
        idle = [np.array(action, space.dtype) if continuous else action for action in known.idle or ()] or None
        if all(action in space for action in [*actions.values(), *(idle or [])]):
            return Chords(actions, idle, known.fps, known.words)
    if isinstance(space, spaces.Discrete) and space.n <= len(_ENOUGH):
        numbered = {frozenset({key}): int(space.start) + i for i, key in enumerate(_ENOUGH[: int(space.n)])}
        return Chords(numbered)  # nothing tells which of them does nothing
    if isinstance(space, spaces.Box) and np.prod(space.shape) in (1, 2) and space.dtype.kind == "f":
        return Levers(space)
    if isinstance(space, spaces.MultiBinary) and np.prod(space.shape) <= 10:
        return Switches(space)
    raise UsageError(
        f"{name} cannot be played with a keyboard: its actions are {space}",
        "Discrete actions have keys, a Box of one or two numbers has, and MultiBinary; or the environment says "
        "which by get_keys_to_action().",
    )


def _base(env: Env[Any, Any], name: str) -> str:
    """Return the id of an environment without namespace and version."""
    identity = env.spec.id if env.spec is not None else name
    return re.sub(r"-v\d+$", "", identity.rpartition("/")[2])


def _said(env: Env[Any, Any]) -> dict[frozenset[str], Any] | None:
    """Return what an environment says of its keys, None if it says nothing or nothing that can be used."""
    ask: Any = getattr(env.unwrapped, "get_keys_to_action", None)
    given = ask() if ask is not None else None
    if not isinstance(given, Mapping):
        return None
    chords: dict[frozenset[str], Any] = {}
    for keys, action in given.items():
        parts = list(keys) if isinstance(keys, tuple | str) and keys not in ARROWS else [keys]
        chords[frozenset(name for name in map(_key_name, parts) if name)] = action
    if not chords or not all(action in env.action_space for action in chords.values()):
        return None
    own = {key for chord in chords for key in chord}
    back = {letter: arrow for arrow, letter in ARROWS.items()}
    if own & set(ARROWS) or not set(back) & own:
        return chords
    return {frozenset(back.get(key, key) for key in chord): action for chord, action in chords.items()}


def _key_name(key: Any) -> str:
    """Return the name of a key from a letter, a name, or a code of SDL."""
    if isinstance(key, int | np.integer):
        code = int(key)
        return _ARROW_CODES.get(code) or (chr(code).lower() if 0 < code < 0x110000 else "")
    return str(key).lower() if key is not None else ""


def _idle(chords: Mapping[frozenset[str], Any], space: Any) -> Any:
    """Return the action of no key: what is said to be, else the one that no key is for, else the first."""
    if frozenset() in chords:
        return chords[frozenset()]
    if isinstance(space, spaces.Discrete):
        taken = {int(action) for action in chords.values()}
        free = [action for action in range(int(space.start), int(space.start + space.n)) if action not in taken]
        return free[0] if free else int(space.start)
    return np.zeros(space.shape, space.dtype)


def _letters(arrows: str) -> str:
    signs = {_SIGNS[key]: letter.upper() for key, letter in ARROWS.items()}
    return "".join(signs[sign] for sign in arrows)


def _short(action: Any) -> str:
    array = np.asarray(action)
    return f"{array.item():g}" if array.size == 1 else "(" + ", ".join(f"{x:g}" for x in array.ravel()) + ")"
