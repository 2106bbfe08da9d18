"""What all environments here share: rendering, a state that can be kept, and checks of their options.

In: a subclass that says which of its attributes change and how it is drawn. Out: `state_dict`, `load_state_dict` and
`render`, as Gymnasium and `rllab.envstate` want them.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, ClassVar

import gymnasium
import numpy as np

from rllab_envs.rendering import Frame


class Environment(gymnasium.Env[Any, Any]):
    """An environment that can be drawn, and whose state can be kept.

    Args:
        render_mode: "ansi" for text, "rgb_array" for pixels, None for neither.

    Attributes:
        changing: names of the attributes that a step or a reset changes, the generators apart.
        max_episode_steps: after how many steps an episode is cut off, where a wrapper does it; None: no limit.
        vector_entry_point: `module:Class` of the native vector version, or None.

    Raises:
        ValueError: for another `render_mode`.
    """

    # "ends_by_itself": every episode does, so that rllab does not warn of evaluations that never end
    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}
    changing: ClassVar[tuple[str, ...]] = ()
    max_episode_steps: ClassVar[int | None] = None
    vector_entry_point: ClassVar[str | None] = None

    def __init__(self, render_mode: str | None = None) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            modes = " or ".join(map(repr, self.metadata["render_modes"]))
            raise ValueError(f"render_mode is {modes}, or None for no pictures, not {render_mode!r}")
        self.render_mode = render_mode

    # --- looking

    def render(self) -> Any:
        """Return the text (`render_mode` "ansi") or the picture, (height, width, 3) uint8 ("rgb_array")."""
        if self.render_mode == "ansi":
            return self.text()
        if self.render_mode == "rgb_array":
            return self.picture()
        gymnasium.logger.warn('render() shows nothing without a render_mode, such as render_mode="rgb_array"')
        return None

    @abstractmethod
    def text(self) -> str:
        """Return the situation as text."""

    @abstractmethod
    def picture(self) -> Frame:
        """Return the situation as a picture, (height, width, 3) uint8."""

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes, as plain data that shares nothing with the environment."""
        return {
            "attributes": {name: copy.deepcopy(getattr(self, name)) for name in self.changing},
            "generator": None if self._np_random is None else generator_state(self._np_random),
            "seed": self._np_random_seed,
            "action_space": generator_state(self.action_space.np_random),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        for name in self.changing:
            setattr(self, name, copy.deepcopy(state["attributes"][name]))
        self._np_random = None if state["generator"] is None else generator(state["generator"])
        self._np_random_seed = state["seed"]
        self.action_space.np_random.bit_generator.state = copy.deepcopy(state["action_space"])


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """Return the state of a random generator as plain data."""
    return copy.deepcopy(dict(rng.bit_generator.state))


def generator(state: dict[str, Any]) -> np.random.Generator:
    """Return a random generator in a state that `generator_state` returned."""
    bits: np.random.BitGenerator = getattr(np.random, state["bit_generator"])()
    bits.state = copy.deepcopy(state)
    return np.random.Generator(bits)


# --- options --------------------------------------------------------------------------------------


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return an option that is a whole number from `low` to `high`.

    Raises:
        ValueError: if it is not; the message says what would be.
    """
    valid = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not valid or value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} is a whole number {bounds}, not {value!r}")
    return int(value)


def number(name: str, value: Any, low: float | None = None, high: float | None = None) -> float:
    """Return an option that is a finite number from `low` to `high`.

    Raises:
        ValueError: if it is not; the message says what would be.
    """
    valid = isinstance(value, int | float | np.number) and not isinstance(value, bool) and np.isfinite(value)
    if not valid or (low is not None and value < low) or (high is not None and value > high):
        bounds = "" if low is None else f" of at least {low:g}" if high is None else f" from {low:g} to {high:g}"
        raise ValueError(f"{name} is a number{bounds}, not {value!r}")
    return float(value)


def switch(name: str, value: Any) -> bool:
    """Return an option that is true or false.

    Raises:
        ValueError: if it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} is true or false, not {value!r}")
    return value


def discrete(name: str, action: Any, n: int) -> int:
    """Return an action as Python's own integer.

    Raises:
        ValueError: if it is none of 0 to n - 1.
    """
    chosen = int(action)
    if not 0 <= chosen < n:
        raise ValueError(f"{name} has the actions 0 to {n - 1}, not {action!r}")
    return chosen
