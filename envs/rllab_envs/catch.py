"""Catch-v0: a fruit falls, and a basket should be below it."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rllab_envs.base import Environment, discrete, number
from rllab_envs.rendering import BLUE, GREEN, LINE, ORANGE, PAPER, RED, Canvas, Frame
from rllab_envs.vector import Moved, NativeVectorEnv

Pixels: TypeAlias = npt.NDArray[np.float32]

SIZE = 10
BOTTOM = SIZE - 1
COLUMNS = 9
"""A fruit begins in one of the first nine columns."""
FIRST, LAST = 1, SIZE - 2
"""Where the middle of the basket can be."""
_THREE = np.arange(3)


class Catch(Environment):
    """A fruit falls from the top of 10 x 10 pixels, and a basket 3 pixels wide should be below it.

    After Eder Santana, "Keras plays catch, a single file Reinforcement Learning example" (2016), with a basket that
    is never out of sight.

    **Observation**: `Box(0, 1, (10, 10), float32)`: 1 where the fruit is and at the three pixels of the basket, else 0.
    It begins with the fruit in row 0 and one of the columns 0 to 8, and the basket anywhere in row 9, each as likely.

    **Actions**: `Discrete(3)`: the basket goes 0 left, 1 nowhere, 2 right, as far as the walls. Then the fruit falls by
    a row; with the probability `drift` it also goes a column to the left or, as often, to the right, if there is one.

    **Reward**: 0 for eight steps; in the ninth, when the fruit is in the bottom row, 1 if the basket is there, -1 if
    not. **End**: terminated then.

    **Known**: every fruit can be caught, also when it drifts; `heuristic` does. Without drift, random actions catch
    31.9 % of them, for a mean return of -0.36. An observation is all that can be known of what comes next: drift has
    no direction to remember.

    Args:
        drift: probability that the fruit goes sideways in a step, from 0 to 1.
        render_mode: "ansi", "rgb_array" or None.

    Raises:
        ValueError: for other options.
    """

    metadata: dict[str, Any] = {**Environment.metadata, "ends_by_itself": True}
    changing: ClassVar[tuple[str, ...]] = ("row", "column", "basket")
    vector_entry_point = "rllab_envs.catch:CatchVector"

    def __init__(self, drift: float = 0.0, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.drift = number("drift", drift, 0, 1)
        self.observation_space = Box(0, 1, (SIZE, SIZE), np.float32)
        self.action_space = Discrete(3)
        self.actions = ("left", "stay", "right")
        self.row, self.column, self.basket = 0, 0, FIRST

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Pixels, dict[str, Any]]:
        """Begin with a fruit at the top."""
        super().reset(seed=seed, options=options)
        self.row = 0
        self.column = int(self.np_random.random() * COLUMNS)
        self.basket = FIRST + int(self.np_random.random() * (LAST - FIRST + 1))
        return self._pixels(), {}

    def step(self, action: int) -> tuple[Pixels, float, bool, bool, dict[str, Any]]:
        """Move the basket, then the fruit.

        Raises:
            ResetNeeded: if the fruit is down already.
            ValueError: for an action that there is not.
        """
        if self.row == BOTTOM:
            raise gymnasium.error.ResetNeeded("the fruit is down: call reset() before the next step()")
        self.basket = min(max(self.basket + discrete("Catch", action, 3) - 1, FIRST), LAST)
        self.row += 1
        if self.drift:
            drawn = self.np_random.random()
            aside = -1 if drawn < self.drift / 2 else 1 if drawn < self.drift else 0
            self.column = min(max(self.column + aside, 0), SIZE - 1)
        if self.row < BOTTOM:
            return self._pixels(), 0.0, False, False, {}
        return self._pixels(), 1.0 if self.caught else -1.0, True, False, {}

    @property
    def caught(self) -> bool:
        """Whether the fruit is above the basket or in it."""
        return abs(self.column - self.basket) <= 1

    def heuristic(self, observation: npt.ArrayLike) -> int:
        """Return the action that brings the middle of the basket nearer to the fruit's column; no rule does better."""
        pixels = np.asarray(observation)
        column = int(pixels[:BOTTOM].any(0).argmax())
        middle = int(pixels[BOTTOM].argmax()) + 1
        return 1 + (column > middle) - (column < middle)

    def get_keys_to_action(self) -> dict[str, int]:
        """Return the keys to play with; no key: the basket stays."""
        return {"a": 0, "d": 2}

    def _pixels(self) -> Pixels:
        pixels = np.zeros((SIZE, SIZE), np.float32)
        pixels[BOTTOM, self.basket - 1 : self.basket + 2] = 1
        pixels[self.row, self.column] = 1
        return pixels

    # --- looking

    def text(self) -> str:
        """Return the pixels as text: o is the fruit, = the basket, @ the fruit in it."""
        signs = [["."] * SIZE for _ in range(SIZE)]
        signs[BOTTOM][self.basket - 1 : self.basket + 2] = "==="
        signs[self.row][self.column] = "@" if self.row == BOTTOM and self.caught else "o"
        return "\n".join("".join(row) for row in signs)

    def picture(self) -> Frame:
        """Return the pixels as a picture; at the end the basket is green if it has caught the fruit, else red."""
        size = 32
        canvas = Canvas(SIZE * size, SIZE * size, LINE)
        for row in range(SIZE):
            for column in range(SIZE):
                canvas.box(column * size + 0.5, row * size + 0.5, size - 1, size - 1, PAPER)
        colour = BLUE if self.row < BOTTOM else GREEN if self.caught else RED
        x, y = (self.basket - 1) * size, BOTTOM * size
        canvas.polygon(
            [(x + 2, y + 4), (x + 3 * size - 2, y + 4), (x + 3 * size - 10, y + size - 2), (x + 10, y + size - 2)],
            colour,
        )
        canvas.disc((self.column + 0.5) * size, (self.row + 0.5) * size, size * 0.34, ORANGE)
        return canvas.frame()


class CatchVector(NativeVectorEnv):
    """Many games of `Catch` at once.

    Args:
        num_envs: how many.
        max_episode_steps: steps after which an episode is cut off; None: no limit.
        options: those of `Catch`.
    """

    changing: ClassVar[tuple[str, ...]] = ("rows", "columns", "baskets")

    def __init__(self, num_envs: int = 1, max_episode_steps: int | None = None, **options: Any) -> None:
        self._game = Catch(**options)
        super().__init__(self._game, num_envs, max_episode_steps)
        self.rows = np.zeros(num_envs, np.int64)
        self.columns = np.zeros(num_envs, np.int64)
        self.baskets = np.full(num_envs, FIRST, np.int64)

    def _begin(self, rows: npt.NDArray[np.int64]) -> None:
        drawn = self.np_random.random((len(rows), 2)) * (COLUMNS, LAST - FIRST + 1)
        self.rows[rows] = 0
        self.columns[rows], self.baskets[rows] = drawn.astype(np.int64).T
        self.baskets[rows] += FIRST

    def _move(self, actions: npt.NDArray[Any]) -> Moved:
        self.baskets = np.clip(self.baskets + actions - 1, FIRST, LAST)
        self.rows = self.rows + 1
        if drift := self._game.drift:
            drawn = self.np_random.random(self.num_envs)
            aside = (drawn < drift).astype(np.int64) - 2 * (drawn < drift / 2)
            self.columns = np.clip(self.columns + aside, 0, SIZE - 1)
        terminated = self.rows == BOTTOM
        caught = np.abs(self.columns - self.baskets) <= 1
        return np.where(terminated, np.where(caught, 1.0, -1.0), 0.0), terminated

    def _look(self, rows: npt.NDArray[np.int64]) -> Pixels:
        pixels = np.zeros((len(rows), SIZE * SIZE), np.float32)
        numbers = self._all[: len(rows), None]
        pixels[numbers, (BOTTOM * SIZE - 1 + self.baskets[rows])[:, None] + _THREE] = 1
        pixels[numbers[:, 0], self.rows[rows] * SIZE + self.columns[rows]] = 1
        return pixels.reshape(len(rows), SIZE, SIZE)

    def _show(self, row: int) -> None:
        game = self._game
        game.row, game.column, game.basket = int(self.rows[row]), int(self.columns[row]), int(self.baskets[row])
