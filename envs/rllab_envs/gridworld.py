"""GridWorld-v0: a map with walls, a goal and pits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from rllab_envs.base import number
from rllab_envs.rendering import BLUE, GREEN, LINE, PAPER, RED, SKY, WALL, Canvas, Frame, flag
from rllab_envs.tabular import Outcome, Table, TableEnv, TableVectorEnv, merged

MAPS = {
    "default": """
        S......G
        .##PP##.
        .##..##.
        ........
    """,
    "russell-norvig": """
        ...G
        .#.P
        S...
    """,
    "four-rooms": """
        S....#.....
        .....#.....
        ...........
        .....#.....
        .....#.....
        #.####.....
        .....###.##
        .....#.....
        .....#.....
        ...........
        .....#....G
    """,
}
"""Maps by name. The second is figure 17.1 of Russell & Norvig (2010); the third has the rooms of Sutton, Precup & Singh
(1999), "Between MDPs and semi-MDPs"."""

START, FREE, WALL_SIGN, GOAL, PIT = "S.#GP"
LIMIT = 200
"""Steps after which an episode is cut off."""
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))
"""Rows and columns that an action goes: left, down, right, up, in the order of Gymnasium's FrozenLake."""


class GridWorld(TableEnv):
    """A map of cells to walk on, from a start to a goal and around pits.

    **Observation**: `Discrete(rows * columns)`: row * columns + column of the cell, from 0 in the upper left corner.
    The walls have numbers, too, which never occur.

    **Actions**: `Discrete(4)`: 0 left, 1 down, 2 right, 3 up. Who walks against a wall or the edge stays. With the
    probability `slip` a step goes to one of the two sides instead, to each as often.

    **Reward**: `step_reward` for each step, and `goal_reward` or `pit_reward` besides for one that ends there.
    **End**: terminated in a goal or a pit; cut off after 200 steps.

    **Known**: `optimal_values(gamma)` and `optimal_policy(gamma)`, from `P[s][a]`, a list of (probability, next state,
    reward, terminated). On the default map the short way takes 7 steps along two pits, for a return of 0.72; with
    `slip=0.2` the long way of 13 steps is the better one. With `map=russell-norvig` and `slip=0.2` the values with
    gamma 1 are those printed in Russell & Norvig, "Artificial Intelligence: A Modern Approach" (3rd edition, 2010),
    figure 17.3: 0.705 at the start.

    Args:
        map: the name of one of `MAPS`, or a map: rows one below the other, or in one line with / between them, or as
            a list. S is a start, of which one is drawn if there are several, G a goal, P a pit, # a wall, . free.
        slip: probability that a step goes to one of the sides, from 0 to 1; two thirds are FrozenLake's ice.
        step_reward: of each step.
        goal_reward: of reaching a goal.
        pit_reward: of falling into a pit.
        render_mode: "ansi", "rgb_array" or None.

    Attributes:
        shape: rows and columns; values (states,) become a map by `values.reshape(env.shape)`.
        walls: (rows, columns) bool.
        letters: the map, (rows, columns) of single letters.

    Raises:
        ValueError: for other options, a map without start or goal, or one with a cell from which no way leads to a
            goal.
    """

    max_episode_steps = LIMIT
    vector_entry_point = "rllab_envs.gridworld:GridWorldVector"

    def __init__(
        self,
        map: str | Iterable[str] = "default",
        slip: float = 0.0,
        step_reward: float = -0.04,
        goal_reward: float = 1.0,
        pit_reward: float = -1.0,
        render_mode: str | None = None,
    ) -> None:
        self.letters = read_map(map)
        self.walls = self.letters == WALL_SIGN
        self.slip = number("slip", slip, 0, 1)
        extra = {GOAL: number("goal_reward", goal_reward), PIT: number("pit_reward", pit_reward)}
        table = grid_table(self.letters, self.slip, number("step_reward", step_reward), extra)
        starts = np.flatnonzero(self.letters == START).tolist()
        rows, columns = self.letters.shape
        names = ("left", "down", "right", "up")
        super().__init__(table, starts, actions=names, arrows="←↓→↑", shape=(rows, columns), render_mode=render_mode)
        if (steps := longest_way(self.letters)) > LIMIT:
            gymnasium.logger.warn(
                f"from a start it takes {steps} steps to a goal, and episodes are cut off after "
                f"{LIMIT} unless --max-episode-steps says otherwise"
            )

    def get_keys_to_action(self) -> dict[str, int]:
        """Return the keys to play with."""
        return {"a": 0, "s": 1, "d": 2, "w": 3}

    def text(self) -> str:
        """Return the map; @ is where we are, and X if that is a goal or a pit."""
        letters = self.letters.copy()
        here = self.cell(self.state)
        letters[here] = "X" if letters[here] in (GOAL, PIT) else "@"
        lines = ["".join(row) for row in letters]
        return "\n".join([*lines, *([] if self.last_action is None else [self.actions[self.last_action]])])

    def picture(self) -> Frame:
        """Return the map as a picture."""
        rows, columns = self.shape
        size = max(6, min(64, 640 // max(rows, columns)))
        canvas = Canvas(size * columns, size * rows)
        ground = {WALL_SIGN: WALL, GOAL: "#DDF1E8", PIT: "#F9E3D8", START: "#E6F1F8"}
        for (row, column), letter in np.ndenumerate(self.letters):
            x, y = column * size, row * size
            canvas.box(x, y, size, size, LINE if letter != WALL_SIGN else WALL)
            canvas.box(x + 0.5, y + 0.5, size - 1, size - 1, ground.get(letter, PAPER))
            if letter == GOAL:
                flag(canvas, x + size / 2, y + size / 2, size * 0.7, GREEN)
            elif letter == PIT:
                canvas.disc(x + size / 2, y + size / 2, size * 0.34, RED)
                canvas.disc(x + size / 2, y + size / 2, size * 0.26, "#3A1500")
            elif letter == START:
                canvas.disc(x + size / 2, y + size / 2, size * 0.30, SKY)
                canvas.disc(x + size / 2, y + size / 2, size * 0.27, ground[START])
        row, column = self.cell(self.state)
        canvas.disc((column + 0.5) * size, (row + 0.5) * size, size * 0.22, BLUE)
        return canvas.frame()


# --- maps -----------------------------------------------------------------------------------------


def read_map(given: str | Iterable[str]) -> npt.NDArray[np.str_]:
    """Return a map as (rows, columns) of single letters.

    Raises:
        ValueError: if it is none, has no start or goal, or a cell from which no way leads to a goal.
    """
    if not isinstance(given, str | Iterable):
        raise ValueError(f"map is the name of one ({', '.join(MAPS)}), or its rows with / between them, not {given!r}")
    text = MAPS.get(given, given) if isinstance(given, str) else "/".join(map(str, given))
    lines = [line.strip() for line in text.strip().replace("/", "\n").splitlines()]
    letters = sorted(set("".join(lines)) - set("S.#GP"))
    if letters or not lines:
        known = ", ".join(MAPS)
        wrong = f"{letters[0]!r} is no sign of a map" if letters else "the map is empty"
        raise ValueError(
            f"{wrong}: S start, G goal, P pit, # wall, . free, with / between the rows; or the name of one: {known}"
        )
    if len({len(line) for line in lines}) > 1:
        raise ValueError(f"the rows of a map are equally long, and these have {', '.join(str(len(x)) for x in lines)}")
    grid = np.array([list(line) for line in lines])
    for sign, what in ((START, "start"), (GOAL, "goal")):
        if not (grid == sign).any():
            raise ValueError(f"the map has no {what}: put {sign} into one of its cells")
    lost = np.argwhere((ways(grid) < 0) & np.isin(grid, (START, FREE)))
    if len(lost):
        row, column = lost[0] + 1
        raise ValueError(f"from row {row}, column {column} of the map no way leads to a goal: open one, or put # there")
    return grid


def ways(letters: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """Return how far each cell is from the nearest goal, around pits: (rows, columns) steps, -1 where no way is."""
    distance = np.where(letters == GOAL, 0, -1)
    edge = [(row, column) for row, column in np.argwhere(letters == GOAL).tolist()]
    while edge:
        reached = []
        for row, column in edge:
            for down, right in MOVES:
                cell = row - down, column - right
                inside = all(0 <= at < size for at, size in zip(cell, letters.shape, strict=True))
                if inside and distance[cell] < 0 and letters[cell] in (START, FREE):
                    distance[cell] = distance[row, column] + 1
                    reached.append(cell)
        edge = reached
    return distance


def longest_way(letters: npt.NDArray[np.str_]) -> int:
    """Return how many steps the start that is farthest from a goal is away from it."""
    return int(ways(letters)[letters == START].max())


def grid_table(letters: npt.NDArray[np.str_], slip: float, step_reward: float, extra: dict[str, float]) -> Table:
    """Return `P` of a map.

    Args:
        letters: the map.
        slip: probability that a step goes to one of the sides.
        step_reward: of each step.
        extra: what comes on top of it, by the letter of the cell reached; an episode ends in these cells.
    """
    rows, columns = letters.shape

    def outcome(probability: float, row: int, column: int, action: int) -> Outcome:
        down, right = MOVES[action % 4]
        reached = row + down, column + right
        if not (0 <= reached[0] < rows and 0 <= reached[1] < columns) or letters[reached] == WALL_SIGN:
            reached = row, column
        letter = str(letters[reached])
        return probability, reached[0] * columns + reached[1], step_reward + extra.get(letter, 0.0), letter in extra

    table: Table = {}
    for (row, column), letter in np.ndenumerate(letters):
        state = row * columns + column
        if letter in (START, FREE):
            table[state] = {
                a: merged(
                    [outcome(p, row, column, a + turn) for p, turn in ((1 - slip, 0), (slip / 2, -1), (slip / 2, 1))]
                )
                for a in range(4)
            }
        else:
            table[state] = {a: [(1.0, state, 0.0, True)] for a in range(4)}
    return table


class GridWorldVector(TableVectorEnv):
    """Many grid worlds at once.

    Args:
        num_envs: how many.
        max_episode_steps: steps after which an episode is cut off; None: no limit.
        options: those of `GridWorld`.
    """

    def __init__(self, num_envs: int = 1, max_episode_steps: int | None = None, **options: Any) -> None:
        super().__init__(GridWorld(**options), num_envs, max_episode_steps)
