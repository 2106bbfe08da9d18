"""Corridor-v0: cells in a row, and a reward in the last one."""

from __future__ import annotations

from typing import Any

from rllab_envs.base import number, whole
from rllab_envs.rendering import BLUE, GREEN, LINE, PAPER, WALL, Canvas, Frame, flag
from rllab_envs.tabular import Table, TableEnv, TableVectorEnv, merged

LEFT, RIGHT = 0, 1
_IN_A_ROW = 20


class Corridor(TableEnv):
    """Cells in a row: an episode begins in the first one and ends in the last one, which alone gives a reward.

    **Observation**: `Discrete(length)`, the number of the cell, from 0.

    **Actions**: `Discrete(2)`: 0 goes left, 1 goes right. At the left wall, going left stays there. With the
    probability `slip` a step goes the other way.

    **Reward**: 1 for reaching the last cell, else 0. **End**: terminated there; cut off after 200 steps.

    **Known**: without slipping, the optimal value of cell s is gamma ** (length - 2 - s), as the reward comes at the
    end of that many further steps after the next; `optimal_values(gamma)` has them with slipping, too. Random actions
    need length * (length - 1) steps on average. `P[s][a]` lists (probability, next state, reward, terminated).

    Args:
        length: cells, from 2 to 100.
        slip: probability that a step goes the other way, from 0 to 0.5.
        render_mode: "ansi", "rgb_array" or None.

    Raises:
        ValueError: for other options.
    """

    max_episode_steps = 200
    vector_entry_point = "rllab_envs.corridor:CorridorVector"

    def __init__(self, length: int = 8, slip: float = 0.0, render_mode: str | None = None) -> None:
        self.length = whole("length", length, 2, 100)
        self.slip = number("slip", slip, 0, 0.5)
        table = corridor_table(self.length, self.slip)
        shape = (1, self.length)
        super().__init__(table, [0], actions=("left", "right"), arrows="←→", shape=shape, render_mode=render_mode)

    def get_keys_to_action(self) -> dict[str, int]:
        """Return the keys to play with."""
        return {"a": LEFT, "d": RIGHT}

    def text(self) -> str:
        """Return the cells as one line: @ is where we are, G the last cell, X if we are there."""
        cells = ["."] * (self.length - 1) + ["G"]
        cells[self.state] = "@" if self.state < self.length - 1 else "X"
        return "".join(cells) + ("" if self.last_action is None else f"  {self.actions[self.last_action]}")

    def picture(self) -> Frame:
        """Return the cells as a picture, at most 20 in a row: a longer corridor goes on below."""
        columns = min(self.length, _IN_A_ROW)
        rows = -(-self.length // columns)
        size = 64 if self.length <= 10 else 32
        canvas = Canvas(size * columns, size * (1.5 * rows + 0.5), WALL)
        for cell in range(self.length):
            row, column = divmod(cell, columns)
            x, y = column * size, (1.5 * row + 0.5) * size
            canvas.box(x, y, size, size, LINE)
            canvas.box(x + 0.5, y + 0.5, size - 1, size - 1, PAPER if cell < self.length - 1 else "#DDF1E8")
            if cell == self.length - 1:
                flag(canvas, x + size / 2, y + size / 2, size * 0.7, GREEN)
            if cell == self.state:
                canvas.disc(x + size / 2, y + size / 2, size * 0.28, BLUE)
        return canvas.frame()


def corridor_table(length: int, slip: float) -> Table:
    """Return `P` of a corridor."""
    goal = length - 1

    def outcome(probability: float, state: int, move: int) -> tuple[float, int, float, bool]:
        reached = max(state + move, 0)
        return probability, reached, float(reached == goal), reached == goal

    table: Table = {
        state: {
            action: merged([outcome(1 - slip, state, move), outcome(slip, state, -move)])
            for action, move in ((LEFT, -1), (RIGHT, 1))
        }
        for state in range(goal)
    }
    table[goal] = {action: [(1.0, goal, 0.0, True)] for action in (LEFT, RIGHT)}
    return table


class CorridorVector(TableVectorEnv):
    """Many corridors at once.

    Args:
        num_envs: how many.
        max_episode_steps: steps after which an episode is cut off; None: no limit.
        options: those of `Corridor`.
    """

    def __init__(self, num_envs: int = 1, max_episode_steps: int | None = None, **options: Any) -> None:
        super().__init__(Corridor(**options), num_envs, max_episode_steps)
