"""Pictures of a table of values: what each state is worth, and which action is the best there.

In: an environment, its states, and the table. Out: an image by name. A world of cells is drawn as such, with arrows;
states that two numbers make up as maps over both; others as a map of states and actions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium import spaces

from rllab.environments import EnvironmentTask
from rllab.parts import drawing
from rllab.parts.drawing import COLOURS, INK, MAP, SOFT, render, styled
from rllab_agents.tables import Cells, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELLS = 2_500
"""Cells of a world that is drawn cell by cell."""
_PANELS = 3
"""Values of a third part of an observation of which each gets a map of its own."""
_STATES = 2_000
"""States of which each is a column of a map."""


def of_table(task: EnvironmentTask, cells: Cells, table: Table, when: str) -> dict[str, Any]:
    """Return the picture that suits the states, as {"values": image}; {} if none does.

    Args:
        task: the environment, of which one is made and asked how it looks.
        cells: what its states are.
        table: their values; states that were never updated are left blank.
        when: how far training is, to end the title with.
    """
    q = np.where(table.n > 0, table.q, np.nan)  # (states, actions)
    title = f"Values and best actions on {task.name} {when}"
    if isinstance(task.observation_space, spaces.Discrete):
        env = task.make_one()
        world = World.of(env.unwrapped, task.observation_space, task.action_space)
        env.close()
        if world is not None:
            return {"values": render(draw_world(world, q, title))}
    several = [part for part, size in enumerate(cells.sizes) if size > 1]
    if len(several) == 2 or (len(several) == 3 and cells.sizes[several[2]] <= _PANELS):
        return {"values": render(draw_planes(cells, several, q, title))}
    return {"values": render(draw_map(q, title))} if cells.n <= _STATES else {}


# --- worlds of cells ----------------------------------------------------------------------------------


class World(NamedTuple):
    """States that are the cells of a rectangle, row by row.

    Attributes:
        shape: rows and columns.
        letters: what is written in each cell (rows, columns), "" for nothing.
        walls: (rows, columns) bool, cells where nobody can be.
        ends: (rows, columns) bool, other cells where the episode terminates.
        moves: where each action leads, (rows down, columns right); None if the environment has no table P[s][a].
    """

    shape: tuple[int, int]
    letters: np.ndarray
    walls: np.ndarray
    ends: np.ndarray
    moves: list[tuple[int, int]] | None

    @classmethod
    def of(cls, env: Any, states: spaces.Discrete, actions: Any) -> World | None:
        """Return the world of an environment that says how it looks: by `desc` or `shape`, `walls` and P[s][a]."""
        desc, shape, n = getattr(env, "desc", None), getattr(env, "shape", None), int(states.n)
        signs = desc if desc is not None else getattr(env, "letters", None)
        if signs is not None and np.ndim(signs) == 2 and np.size(signs) == n:
            letters = np.asarray(signs).astype(str)
            letters = np.where(np.isin(letters, ("F", ".", "#")), "", letters)  # free ground, and walls
        elif isinstance(shape, tuple) and 1 <= len(shape) <= 2 and np.prod(shape) == n:
            letters = np.full((1, *shape)[-2:], "")
        else:
            return None
        if n > _CELLS:
            return None
        rows, columns = letters.shape
        ends, walls = np.zeros((rows, columns), bool), np.zeros((rows, columns), bool)
        found = getattr(env, "walls", ())
        if np.shape(found) == walls.shape:
            walls |= np.asarray(found, bool)
        table = getattr(env, "P", None)
        if table is None:
            return cls((rows, columns), letters, walls, ends, None)
        first = int(states.start)
        steps = np.zeros((int(actions.n), 2))
        for s in range(n):
            for a in range(int(actions.n)):
                for probability, s_next, _, terminated in table[s + first][a + int(actions.start)]:
                    ends.flat[s_next - first] |= bool(terminated)
                    step = np.subtract(divmod(s_next - first, columns), divmod(s, columns))
                    if np.abs(step).sum() == 1:  # no step is one back to the start
                        steps[a] += probability * step
        return cls((rows, columns), letters, walls, ends & ~walls, [_direction(step) for step in steps])


def _direction(step: np.ndarray) -> tuple[int, int]:
    """Return the direction of a mean step: on ice one slips to both sides alike."""
    if np.abs(step).max() < 1e-9:
        return 0, 0
    axis = int(np.abs(step).argmax())
    sign = int(np.sign(step[axis]))
    return (sign, 0) if axis == 0 else (0, sign)


@styled
def draw_world(world: World, q: np.ndarray, title: str = "") -> Figure:
    """Draw a world of cells: the value of each as its colour, an arrow for each of the best actions.

    Args:
        world: the cells.
        q: (states, actions), NaN for what was never updated.
        title: above it.
    """
    rows, columns = world.shape
    cell = float(np.clip(9 / columns, 0.25, 0.85))
    figure = drawing.sheet(max(cell * columns + 1.3, 4.5), max(cell * rows, 0.7) + 0.8, title)
    axes = figure.subplots()
    hidden = (world.walls | world.ends).ravel()
    best = np.where(hidden, np.nan, _best(q))
    limits = _limits(best)
    image = axes.imshow(best.reshape(rows, columns), cmap=MAP, vmin=limits[0], vmax=limits[1])
    for row, column in np.ndindex(rows, columns):
        state, letter = row * columns + column, str(world.letters[row, column])
        if hidden[state]:
            colour = "#444444" if world.walls[row, column] else "#F2F2F2"
            axes.fill(
                [column - 0.5, column + 0.5, column + 0.5, column - 0.5], [row - 0.5] * 2 + [row + 0.5] * 2, colour
            )
        if world.ends[row, column]:
            axes.text(column, row, letter or "end", ha="center", va="center", color=SOFT, fontsize=8)
        if np.isnan(best[state]):
            continue
        ink = _ink(float(best[state]), limits)
        if cell >= 0.5:
            text = f"{best[state]:.3g}"
            axes.text(column, row + 0.44, text, ha="center", va="bottom", color=ink, fontsize=6 if cell < 0.7 else 7)
            axes.text(column - 0.45, row - 0.45, letter, ha="left", va="top", color=ink, fontsize=7)
        _arrows(axes, row - (0.08 if cell >= 0.5 else 0), column, q[state], world.moves, ink)
    axes.set_xticks(np.arange(columns + 1) - 0.5, [""] * (columns + 1))
    axes.set_yticks(np.arange(rows + 1) - 0.5, [""] * (rows + 1))
    axes.tick_params(length=0)
    axes.grid(visible=True, color="white", linewidth=1)
    axes.set_axisbelow(False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("value of the best action" if rows > 3 else "value")
    bar.outline.set_visible(False)
    return figure


def _arrows(axes: Axes, row: float, column: int, q: np.ndarray, moves: list[tuple[int, int]] | None, ink: str) -> None:
    """Draw an arrow for each of the best actions in a cell; their numbers where it is unknown whither they lead."""
    ties = np.flatnonzero(q >= np.nanmax(q) - 1e-9 * max(1.0, float(np.nanmax(np.abs(q)))))
    if moves is None:
        axes.text(column, row, ",".join(map(str, ties)), ha="center", va="center", color=ink, fontsize=8)
        return
    for action in ties:
        down, right = moves[action]
        if (down, right) == (0, 0):
            axes.plot(column, row, "o", color=ink, markersize=2)
            continue
        start, end = (column, row), (column + 0.32 * right, row + 0.32 * down)
        shape = {"arrowstyle": "-|>", "mutation_scale": 7, "color": ink, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", end, start, arrowprops=shape)


# --- maps ---------------------------------------------------------------------------------------------


@styled
def draw_planes(cells: Cells, parts: list[int], q: np.ndarray, title: str = "") -> Figure:
    """Draw values and best actions over the parts of an observation that have more than one interval.

    Args:
        cells: what the states are.
        parts: two or three of them; the first one goes to the right, the second one upwards, and each value of the
            third one has maps of its own.
        q: (states, actions), NaN for what was never updated.
        title: above it.
    """
    from matplotlib.colors import ListedColormap

    shape = *(cells.sizes[part] for part in parts[:2]), (cells.sizes[parts[2]] if len(parts) > 2 else 1)
    best = _best(q).reshape(shape).T  # (panels, up, right)
    actions = np.where(np.isnan(q), -np.inf, q).argmax(1).reshape(shape).T
    if isinstance(cells.space, spaces.Box):
        ends = [(float(cells.low[part]), float(cells.high[part])) for part in parts[:2]]
    else:
        ends = [(-0.5, size - 0.5) for size in shape[:2]]
    shared: dict[str, Any] = {"origin": "lower", "extent": (*ends[0], *ends[1]), "aspect": "auto"}
    number, limits = q.shape[1], _limits(best)
    palette = ListedColormap(drawing.colours([f"action {a}" for a in range(number)]))
    figure = drawing.sheet(9.2, 3.4 * len(best) + 0.6, title)
    grid = figure.subplots(len(best), 2, sharex=True, sharey=True, squeeze=False)
    for row, ((left, right), values, chosen) in enumerate(zip(grid, best, actions, strict=True)):
        image = left.imshow(values, cmap=MAP, vmin=limits[0], vmax=limits[1], **shared)
        bar = figure.colorbar(image, ax=left, pad=0.02)
        bar.set_label("value of the best action")
        image = right.imshow(
            np.where(np.isnan(values), np.nan, chosen), cmap=palette, vmin=-0.5, vmax=number - 0.5, **shared
        )
        named = figure.colorbar(image, ax=right, pad=0.02, ticks=range(number))
        named.set_label("best action")
        for each in (bar, named):
            each.outline.set_visible(False)
        left.set_ylabel(f"observation[{parts[1]}]")
        if len(best) > 1:
            left.set_title(f"observation[{parts[2]}] = {row}")
    for axes, (low, high), size in zip(("x", "y"), ends, shape[:2], strict=True):
        known = np.flatnonzero(~np.isnan(best).all((0, 1) if axes == "x" else (0, 2)))
        if known.size and not isinstance(cells.space, spaces.Box):  # nothing of the numbers that never occur
            width = (high - low) / size
            bounds = low + width * known[0], low + width * (known[-1] + 1)
            grid[0, 0].set(**{f"{axes}lim": bounds})
    for axes in grid[-1]:
        axes.set_xlabel(f"observation[{parts[0]}]")
    return figure


@styled
def draw_map(q: np.ndarray, title: str = "") -> Figure:
    """Draw values (states, actions), a column for each state, with a mark at the best action of each."""
    figure = drawing.sheet(9.0, 0.3 * q.shape[1] + 1.6, title)
    axes = figure.subplots()
    limits = _limits(q)
    image = axes.imshow(q.T, cmap=MAP, vmin=limits[0], vmax=limits[1], aspect="auto")
    if len(q) <= 64:
        known = np.flatnonzero(~np.isnan(q).all(1))
        best = np.where(np.isnan(q[known]), -np.inf, q[known]).argmax(1)
        axes.plot(known, best, "o", color="white", markeredgecolor=INK, markersize=4, label="best")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    axes.set_yticks(range(q.shape[1]))
    axes.set(xlabel="state", ylabel="action")
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("value")
    bar.outline.set_visible(False)
    return figure


# --- bandits ------------------------------------------------------------------------------------------


@styled
def draw_arms(
    estimates: np.ndarray, pulls: np.ndarray, means: np.ndarray | None, label: str, title: str = ""
) -> Figure:
    """Draw the estimates (arms,) of a bandit beside its true means, and how often each arm was pulled.

    Args:
        estimates: what was learned of each arm.
        pulls: how often each was pulled.
        means: the true means, if they are known.
        label: what the estimates are.
        title: above it.
    """
    arms = np.arange(len(pulls))
    figure = drawing.sheet(float(np.clip(0.45 * len(arms) + 1.2, 5.5, 12)), 4.8, title)
    top, bottom = figure.subplots(2, 1, sharex=True)
    above: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 2, "borderaxespad": 0.2}
    if means is not None:
        top.plot(arms, means, "_", color=INK, markersize=16, markeredgewidth=1.8, label="true mean")
    # what is no estimate of a reward has a scale of its own, at the right
    own = top if label == "estimate" else top.twinx()
    own.plot(arms, estimates, "o", color=COLOURS[5], markersize=6, label=label)
    own.set_ylabel(label)
    top.set_ylabel("reward")
    top.legend(handles=[*top.lines, *(own.lines if own is not top else ())], **above)
    best = -1 if means is None else int(means.argmax())
    bars = bottom.bar(arms, pulls, color=[COLOURS[2] if arm == best else COLOURS[0] for arm in arms])
    if best >= 0:
        bars[best].set_label("best arm")
        bottom.legend(handles=[bars[best]], **above)
    bottom.set(xlabel="arm", ylabel="pulls")
    if len(arms) <= 40:
        bottom.set_xticks(arms)
    for axes in (top, bottom):
        axes.grid(visible=True, axis="y")
    return figure


# --- numbers ------------------------------------------------------------------------------------------


def _best(q: np.ndarray) -> np.ndarray:
    """Return the highest value of each state (states,), NaN where none is known."""
    known = ~np.isnan(q)
    return np.where(known.any(1), np.where(known, q, -np.inf).max(1), np.nan)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Return the lowest and highest of the values that are known."""
    known = values[~np.isnan(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ink(value: float, limits: tuple[float, float]) -> str:
    """Return what can be read on the colour of a value."""
    return INK if (value - limits[0]) / (limits[1] - limits[0]) > 0.6 else "white"
