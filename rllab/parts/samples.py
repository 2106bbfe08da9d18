"""Pictures of a dataset: what its items look like, and what a small convolution kernel makes of one.

`samples` and `kernel` return images; `rllab data show` writes them into a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from rllab.errors import UsageError, did_you_mean
from rllab.parts import drawing
from rllab.parts.drawing import COLOURS, DIVERGING, INK, MAP, shorten, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from rllab.data import DatasetTask, Part

_CLASSES = 20
"""Classes of which items are shown."""

# --- items ----------------------------------------------------------------------------------------


def samples(task: DatasetTask) -> Image:
    """Return a picture of a dataset's training part.

    Images are shown as a grid, a row a class; two inputs as a scatter plot; tables as a histogram of each column;
    sequences and long rows of numbers as lines, a panel a class.
    """
    return drawing.render(draw_samples(task))


@styled
def draw_samples(task: DatasetTask) -> Figure:
    """Return what `samples` shows as a figure."""
    match task.shape:
        case (_, _, _):
            return _grid(task)
        case (2,):
            return _scatter(task)
        case (columns,) if columns <= 12 or len(task.data.features) == columns:
            return _histograms(task)
        case _:
            return _lines(task)


def _heading(task: DatasetTask) -> str:
    return f"{task.name}: {len(task.data.train):,} items of the training part"


def _grid(task: DatasetTask) -> Figure:
    part = task.data.train
    columns = 10
    chosen, captions = [], []
    if task.classes:
        for number in range(min(len(task.classes), _CLASSES)):
            rows = _of_class(part, number, columns)
            chosen.append([drawing.pixels(item) for item in part.inputs[rows].numpy()])
            captions.append(shorten(task.classes[number], 18))
    else:
        rows = _spread(part, columns * 6)
        items = [drawing.pixels(item) for item in part.inputs[rows].numpy()]
        chosen = [items[start : start + columns] for start in range(0, len(items), columns)]
    height, width = task.shape[1:]
    room = 0.085 * max(map(len, captions), default=0) + 0.3
    figure = drawing.sheet(0.6 * columns + room, 0.6 * len(chosen) * min(height / width, 2) + 0.5, _heading(task))
    axes = figure.subplots()
    for number, items in enumerate(chosen):
        for column, item in enumerate(items):
            tall = height / width
            place = (column + 0.03, column + 0.97, (number + 0.97) * tall, (number + 0.03) * tall)
            axes.imshow(item, extent=place, cmap="gray", vmin=0, vmax=255 if item.dtype == np.uint8 else 1)
        if captions:
            axes.text(-0.15, (number + 0.5) * height / width, captions[number], ha="right", va="center")
    axes.set(xlim=(0, columns), ylim=(len(chosen) * height / width, 0), aspect="equal")
    axes.set_axis_off()
    return figure


def _scatter(task: DatasetTask) -> Figure:
    figure = drawing.sheet(6.4, 4.8, _heading(task))
    axes = figure.subplots()
    names = task.data.features or ("x", "y")
    axes.set(xlabel=names[0], ylabel=names[1], box_aspect=1)
    axes.grid(visible=True)
    part = task.data.train[_spread(task.data.train, 3000)]
    points, targets = part.inputs.numpy(), part.targets.numpy()
    size = 14 if len(points) < 500 else 7
    if not task.classes:
        drawn = axes.scatter(points[:, 0], points[:, 1], c=targets, s=size, cmap=MAP, linewidths=0)
        figure.colorbar(drawn, ax=axes).set_label(task.data.target)
        return figure
    palette = drawing.colours(task.classes)
    for number, name in enumerate(task.classes):
        rows = targets == number
        axes.scatter(
            points[rows, 0],
            points[rows, 1],
            s=size,
            color=palette[number],
            marker=drawing.marker(number),
            linewidths=0,
            label=shorten(name, 18),
        )
    if len(task.classes) <= _CLASSES:
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), title=task.data.target)
    return figure


def _histograms(task: DatasetTask) -> Figure:
    part = task.data.train
    inputs, targets = part.inputs.numpy(), part.targets.numpy()
    names = list(task.data.features) or [f"input {i + 1}" for i in range(inputs.shape[1])]
    shown: list[tuple[str, NDArray[np.float32]]] = [(n, inputs[:, i]) for i, n in enumerate(names)][:15]
    if not task.classes:
        shown.append((task.data.target, targets))
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = drawing.sheet(2.3 * columns + 0.3, 1.8 * rows + 0.6, _heading(task))
    grid = figure.subplots(rows, columns, squeeze=False)
    few = 0 < len(task.classes) <= len(COLOURS)
    for axes, (name, values) in zip(grid.flat, shown, strict=False):
        bins = np.linspace(values.min(), values.max() if values.max() > values.min() else values.min() + 1, 31)
        groups = [values[targets == number] for number in range(len(task.classes))] if few else [values]
        is_target = not task.classes and name == shown[-1][0] and values is shown[-1][1]
        palette = [COLOURS[5]] if is_target else drawing.colours(task.classes) if few else [COLOURS[0]]
        axes.hist(groups, bins=bins.tolist(), stacked=True, color=palette)
        axes.set_title(shorten(name, 26) + (" (target)" if is_target else ""), fontweight="normal")
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    if few:
        handles = [axes_bar[0] for axes_bar in grid.flat[0].containers]
        names = [shorten(name, 18) for name in task.classes]
        figure.legend(handles, names, loc="outside right upper", title=task.data.target)
    figure.supxlabel("value", fontsize=9)
    figure.supylabel("number of items", fontsize=9)
    return figure


def _lines(task: DatasetTask) -> Figure:
    part = task.data.train
    names = list(task.classes[:12]) or [task.data.target]
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = drawing.sheet(max(2.4 * columns, 4.5), 1.8 * rows + 0.6, _heading(task))
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for number, name in enumerate(names):
        chosen = part[_of_class(part, number, 5) if task.classes else _spread(part, 8)].inputs.numpy()
        for item, colour in zip(chosen, COLOURS, strict=False):
            dots = "." if len(item) <= 30 else ""
            grid.flat[number].plot(item.reshape(len(item), -1), color=colour, linewidth=1, marker=dots, markersize=3)
        grid.flat[number].set_title(shorten(name, 26), fontweight="normal")
        grid.flat[number].xaxis.get_major_locator().set_params(integer=True)
        grid.flat[number].tick_params(labelbottom=number + columns >= len(names))
    for axes in list(grid.flat)[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("position", fontsize=9)
    figure.supylabel("value", fontsize=9)
    return figure


def _spread(part: Part, number: int) -> torch.Tensor:
    """Return the numbers of at most so many rows, spread over all."""
    return torch.linspace(0, len(part) - 1, min(number, len(part))).long()


def _of_class(part: Part, number: int, limit: int) -> torch.Tensor:
    """Return the numbers of the first rows of a class."""
    return torch.nonzero(part.targets == number).flatten()[:limit]


# --- kernels --------------------------------------------------------------------------------------

KERNELS: dict[str, Sequence[Sequence[float]]] = {
    "edge": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    "blur": [[1 / 9] * 3] * 3,
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
}
"""Kernels of 3 x 3, as image editors have them."""


def convolve(image: NDArray[np.uint8], weights: Sequence[Sequence[float]]) -> NDArray[np.uint8]:
    """Return an image (channels, height, width) after a kernel, as a convolutional layer computes it.

    Each channel by itself; pixels beyond the border are those at the border; results are cut to 0 to 255.
    """
    window = np.array(weights)
    padded = np.pad(image.astype(float), ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = image.shape[1:]
    result = np.zeros(image.shape)
    for row, column in np.ndindex(3, 3):
        result += window[row, column] * padded[:, row : row + height, column : column + width]
    return np.clip(np.round(result), 0, 255).astype(np.uint8)


def kernel(task: DatasetTask, name: str) -> Image:
    """Return a picture of a convolution kernel, and of an image of the dataset before and after it.

    Raises:
        UsageError: for another kernel than those in `KERNELS`, and for a dataset without images.
    """
    if name not in KERNELS:
        known = f"There are: {', '.join(KERNELS)}."
        raise UsageError(f"there is no kernel {name!r}", did_you_mean(name, KERNELS) or known)
    if len(task.shape) != 3:
        raise UsageError(f"{task.name} has no images that a kernel could go over", "`rllab data list` says which have.")
    return drawing.render(draw_kernel(task, name))


@styled
def draw_kernel(task: DatasetTask, name: str) -> Figure:
    """Return what `kernel` shows as a figure."""
    weights = KERNELS[name]
    item = task.data.parts.get("test", task.data.train).inputs[0].numpy()
    if item.dtype != np.uint8:
        item = np.round(255 * (item - item.min()) / max(float(item.max() - item.min()), 1e-12)).astype(np.uint8)
    figure = drawing.sheet(8.2, 3.2, f"The kernel {name!r} on an image of {task.name}")
    first, before, after = figure.subplots(1, 3)
    bound = float(np.abs(weights).max())
    first.imshow(weights, cmap=DIVERGING, vmin=-bound, vmax=bound)
    for row, column in np.ndindex(3, 3):
        value = weights[row][column]
        strong = abs(value) > 0.7 * bound
        text = f"{value:g}" if value == int(value) else f"1/{round(1 / value)}"
        first.text(column, row, text, ha="center", va="center", fontsize=12, color="white" if strong else INK)
    first.set_title("kernel: weights of 3x3 pixels")
    for axes, title, image in ((before, "before", item), (after, "after, cut to 0-255", convolve(item, weights))):
        axes.imshow(drawing.pixels(image), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title)
    for axes in (first, before, after):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
    return figure
