"""Pictures of a model of two inputs: what it says to each place of a plane.

In: a `Plane`, what was predicted at its places, and the items of the dataset. Out: a matplotlib figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rllab.parts import drawing
from rllab.parts.drawing import DIVERGING, INK, MAP, shorten, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Place: TypeAlias = Literal["outside right upper", "outside lower center"]


class Plane(NamedTuple):
    """The rectangle around points of two inputs, and its places where a model is asked."""

    extent: tuple[float, float, float, float]
    """Left, right, bottom, top."""
    number: int
    """Places along each side."""

    @classmethod
    def around(cls, points: ArrayLike, number: int = 160) -> Plane:
        """Return the rectangle around points (n, 2), with a margin of 6 %."""
        found = np.asarray(points, float)
        low, high = found.min(0), found.max(0)
        margin = np.where(high > low, 0.06 * (high - low), 1.0)
        (left, bottom), (right, top) = low - margin, high + margin
        return cls((float(left), float(right), float(bottom), float(top)), number)

    def places(self) -> NDArray[np.float32]:
        """Return the places (number * number, 2), the middles of its cells, row by row from the bottom left."""
        left, right, bottom, top = self.extent
        middles = (np.arange(self.number) + 0.5) / self.number
        x, y = np.meshgrid(left + (right - left) * middles, bottom + (top - bottom) * middles)
        return np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)

    def image(self, values: ArrayLike) -> NDArray[Any]:
        """Return what belongs to the places (number * number, ...) as an image, its first row at the bottom."""
        array = np.asarray(values)
        return array.reshape(self.number, self.number, *array.shape[1:])


class Points(NamedTuple):
    """Items of two inputs, with their targets."""

    name: str
    inputs: NDArray[Any]
    targets: NDArray[Any]

    def thinned(self, limit: int) -> Points:
        """Return at most `limit` of them, spread over all."""
        chosen = np.linspace(0, len(self.targets) - 1, min(limit, len(self.targets))).astype(int)
        return Points(self.name, self.inputs[chosen], self.targets[chosen])


@styled
def regions(
    plane: Plane,
    shares: ArrayLike,
    points: Sequence[Points],
    classes: Sequence[str],
    axes_names: Sequence[str] = ("x", "y"),
    title: str = "",
) -> Figure:
    """Draw where a model of two inputs predicts which class: the surer it is, the fuller the colour.

    Args:
        plane: the rectangle that was looked at.
        shares: (places, k) probabilities; or zeros and a one, of a model that gives none.
        points: the items; those of the last part stand out.
        classes: k names.
        axes_names: of the two inputs.
        title: above it.
    """
    k = len(classes)
    palette = drawing.colours(classes)
    image = plane.image(shares)
    figure, axes = _square(plane, axes_names, title)
    axes.imshow(drawing.blend(image, palette, 0.5), extent=plane.extent, origin="lower", aspect="auto")
    for number in range(k):
        lead = image[..., number] - np.delete(image, number, -1).max(-1)
        if lead.min() < 0 < lead.max():
            axes.contour(lead, [0.0], extent=plane.extent, origin="lower", colors=INK, linewidths=0.7, alpha=0.6)
    for part, size, edge, width in _looks(points):
        for number in range(k):
            rows = part.targets == number
            label = shorten(str(classes[number]), 18) if part is points[0] else None
            axes.scatter(
                part.inputs[rows, 0],
                part.inputs[rows, 1],
                s=size,
                color=palette[number],
                marker=drawing.marker(number),
                edgecolors=edge,
                linewidths=width,
                label=label if k <= 16 else None,
            )
    _legend(figure, axes, points, "outside right upper")
    return figure


@styled
def surface(
    plane: Plane,
    values: ArrayLike,
    points: Sequence[Points],
    target: str,
    axes_names: Sequence[str] = ("x", "y"),
    title: str = "",
) -> Figure:
    """Draw the number that a model of two inputs predicts as a map; points have the colour of their true number."""
    low = float(min(part.targets.min() for part in points))
    high = float(max(part.targets.max() for part in points))
    figure, axes = _square(plane, axes_names, title)
    image = axes.imshow(
        plane.image(values), extent=plane.extent, origin="lower", aspect="auto", cmap=MAP, vmin=low, vmax=high
    )
    for part, size, edge, width in _looks(points):
        axes.scatter(
            part.inputs[:, 0],
            part.inputs[:, 1],
            c=part.targets,
            s=size,
            cmap=MAP,
            vmin=low,
            vmax=high,
            edgecolors=edge,
            linewidths=width,
        )
    bar = figure.colorbar(image, ax=axes, extend="both", pad=0.02)
    bar.set_label(target)
    _legend(figure, axes, points, "outside lower center")
    return figure


@styled
def activations(
    plane: Plane, layers: Mapping[str, ArrayLike], axes_names: Sequence[str] = ("x", "y"), title: str = ""
) -> Figure:
    """Draw what each hidden neuron (at most 16 a layer, of four layers) says to each place of two inputs.

    Args:
        plane: the rectangle that was looked at.
        layers: for each layer the activations (places, neurons).
        axes_names: of the two inputs.
        title: above it.
    """
    shown = {name: np.asarray(values)[:, :16] for name, values in list(layers.items())[:4]}
    columns = min(8, max(values.shape[1] for values in shown.values()))
    lines = [math.ceil(values.shape[1] / columns) for values in shown.values()]
    width = max(0.95 * columns + 1.2, 4.5)
    figure = drawing.sheet(width, sum(0.95 * number + 0.45 for number in lines) + 0.6, title)
    ratios = [number + 0.3 for number in lines]
    grid = figure.subplots(len(shown), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})
    for axes, (name, values) in zip(grid.flat, shown.items(), strict=True):
        bound = float(np.abs(values).max()) or 1.0
        images = [plane.image(column)[::-1] for column in values.T]
        drawing.tile(axes, images, columns=columns, cmap=DIVERGING, limits=(-bound, bound))
        total = np.asarray(layers[name]).shape[1]
        axes.set_title(f"{name}: {drawing.out_of(len(images), total)} neurons", fontweight="normal")
        bar = figure.colorbar(axes.images[0], ax=axes, pad=0.02, shrink=0.9)
        bar.set_label("activation")
        axes.set_anchor("W")
    figure.supxlabel(f"in each: {axes_names[0]} to the right, {axes_names[1]} upwards", fontsize=8)
    return figure


def _square(plane: Plane, names: Sequence[str], title: str) -> tuple[Figure, Axes]:
    figure = drawing.sheet(6.4, 4.8, title)
    axes = figure.subplots()
    left, right, bottom, top = plane.extent
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=names[0], ylabel=names[1], box_aspect=1)
    return figure, axes


def _looks(points: Sequence[Points]) -> list[tuple[Points, float, str, float]]:
    """Return each part with its points' size and edge: the first small and pale, the last large and dark."""
    looks = []
    for number, part in enumerate(points):
        last = number == len(points) - 1 and number > 0
        dense = len(part.targets) > 400
        looks.append((part, (22.0 if last else 13.0) * (0.6 if dense else 1), INK if last else "white", 0.5))
    return looks


def _legend(figure: Figure, axes: Axes, points: Sequence[Points], place: Place) -> None:
    for part, size, edge, width in _looks(points):
        axes.scatter([], [], s=size, color="#BBBBBB", edgecolors=edge, linewidths=width, label=f"{part.name} part")
    figure.legend(loc=place, ncols=1 if place == "outside right upper" else 2)
