"""Pictures of training and of predictions, in one style: from arrays to a matplotlib figure.

Those of a model of two inputs are in `planes`, those of a dataset in `samples`; they can be had from here, too.
`drawing.render` makes an image of a figure. Whoever draws the same picture several times during a run gets the same
axes and colours each time, so that the images can follow one another as a film.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from rllab.parts import drawing
from rllab.parts.drawing import COLOURS, DIVERGING, INK, MAP, SOFT, shorten, styled
from rllab.parts.planes import Plane, Points, activations, regions, surface
from rllab.parts.samples import KERNELS, kernel, samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "KERNELS",
    "Plane",
    "Points",
    "activations",
    "bars",
    "confusion",
    "curves",
    "feature_maps",
    "heat",
    "kernel",
    "predictions",
    "regions",
    "samples",
    "surface",
    "tiles",
    "wrong_images",
    "wrong_lines",
    "wrong_rows",
]

# --- learning curves ------------------------------------------------------------------------------

_KINDS = {"train": (COLOURS[0], "-", "."), "validation": (COLOURS[1], "--", "o"), "eval": (COLOURS[5], "-", "D")}
_WORDS = {"train": "training", "validation": "validation", "eval": "evaluation"}
_MEASURES = {
    "accuracy": "accuracy (share right)",
    "regret": "regret so far",
    "return": "return of an episode",
    "rmse": "root mean squared error",
}
_BASELINES = {"accuracy": ("majority_accuracy", "most frequent class"), "rmse": ("mean_rmse", "mean of the targets")}


@styled
def curves(
    lines: Sequence[Mapping[str, float | None]], *, unit: str, objective: str, epoch: int | None = None, title: str = ""
) -> Figure | None:
    """Draw loss and score against the units trained, and against epochs where there are any.

    Args:
        lines: those of metrics.jsonl, each with its "step".
        unit: what steps are counted in.
        objective: the metric that decides.
        epoch: units of one pass over the data.
        title: above all.

    Returns:
        The figure; None if nothing was measured twice.
    """
    measures = _measures(lines, objective)
    if not measures:
        return None
    columns = 2 if len(measures) in {2, 4} else len(measures)
    rows = math.ceil(len(measures) / columns)
    figure = drawing.sheet(4.5 * columns + (1.2 if columns == 1 else 0), 3.3 * rows + 0.3, title)
    for axes, measure in zip(figure.subplots(rows, columns, squeeze=False).flat, measures, strict=True):
        _curve(axes, lines, measure)
        axes.set(xlabel=unit, ylabel=_MEASURES.get(measure, measure))
        if epoch:
            top = axes.secondary_xaxis("top", functions=(lambda x: x / epoch, lambda x: x * epoch))
            top.set_xlabel("epochs")
    return figure


def _measures(lines: Sequence[Mapping[str, float | None]], objective: str) -> list[str]:
    """Return what is worth a curve: losses and scores that were measured at least twice, the loss first."""
    counts: dict[str, int] = {}
    for line in lines:
        for name, value in line.items():
            kind = name.partition("/")[0]
            if kind in _KINDS and value is not None:
                counts[name] = counts.get(name, 0) + 1
    often = dict.fromkeys(name.partition("/")[2] for name, number in counts.items() if number > 1)
    decides = objective.partition("/")[2]
    wanted = [measure for measure in often if "loss" in measure or measure in {decides, *_MEASURES}]
    return sorted(wanted, key=lambda measure: (measure != decides, measure != "loss"))[:4]


def _curve(axes: Axes, lines: Sequence[Mapping[str, float | None]], measure: str) -> None:
    from matplotlib.ticker import EngFormatter

    seen: list[float] = []
    for kind, (colour, dash, mark) in _KINDS.items():
        pairs = [(line["step"], line[name]) for line in lines if line.get(name := f"{kind}/{measure}") is not None]
        if not pairs:
            continue
        steps, values = np.array(pairs, float).T
        dots = mark if len(pairs) <= 30 else ""
        axes.plot(steps, values, dash, color=colour, marker=dots, label=_WORDS[kind], zorder=2.5)
        seen += values.tolist()
    if measure in _BASELINES:
        name, words = _BASELINES[measure]
        found = [line[f"eval/{name}"] for line in lines if line.get(f"eval/{name}") is not None]
        if found:
            axes.axhline(float(found[-1] or 0), color=SOFT, linestyle=":", linewidth=1.2, label=words)
    if "loss" in measure and min(seen) > 0 and max(seen) > 50 * min(seen):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(visible=True)
    axes.legend()


# --- classes --------------------------------------------------------------------------------------


@styled
def confusion(matrix: ArrayLike, classes: Sequence[str], title: str = "") -> Figure:
    """Draw a confusion matrix (k, k): counts, and shares of each true class (row) as shades.

    Up to 12 classes have count and share in each cell, up to 40 the counts; beyond that shades speak, and small shares
    get more of them.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    counts = np.asarray(matrix)
    k = len(counts)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    names = [shorten(name, 16) for name in classes]
    letters = max(map(len, names))
    cell = 0.62 if k <= 12 else 0.36 if k <= 40 else 0.115
    margin = 0.075 * letters + 0.6
    side = max(cell * k, 1.6)
    figure = drawing.sheet(max(side + margin + 1.3, 4.2), side + (margin if letters > 3 else 0.5) + 0.7, title)
    figure.set_layout_engine("compressed")
    axes = figure.subplots()
    shades = LinearSegmentedColormap.from_list("shares", ["#FFFFFF", COLOURS[0], "#00324F"])
    few = k <= 12
    image = axes.imshow(100 * shares, cmap=shades, norm=PowerNorm(1 if few else 0.5, 0, 100))
    size = 8 if k <= 40 else 5
    axes.set_xticks(range(k), names, fontsize=size, rotation=90 if (letters > 3 and k > 2) or k > 40 else 0)
    axes.set_yticks(range(k), names, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
    if k <= 40:
        for row, column in np.ndindex(k, k):
            number = int(counts[row, column])
            colour = "white" if shares[row, column] > (0.45 if few else 0.2) else INK if number else "#BBBBBB"
            text = f"{number}\n{shares[row, column]:.0%}".replace("%", " %") if few and number else f"{number}"
            if number or few:
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7.5)
    bar = figure.colorbar(image, ax=axes, pad=0.02, ticks=[0, 20, 40, 60, 80, 100] if few else [0, 1, 5, 20, 50, 100])
    bar.set_label("share of the true class (%)")
    bar.outline.set_visible(False)
    return figure


@styled
def wrong_images(images: Sequence[ArrayLike], captions: Sequence[str], title: str = "") -> Figure:
    """Draw up to 24 images that were predicted wrong, each with what it is and what it was taken for."""
    columns = 6
    lines = max(caption.count("\n") + 1 for caption in captions)
    rows = math.ceil(len(images) / columns)
    figure = drawing.sheet(7.2, 1.2 * drawing.cell_height(lines) * rows + 0.45, title)
    shown = [drawing.pixels(image) for image in images]
    drawing.tile(figure.subplots(), shown, captions, columns=columns)
    return figure


@styled
def wrong_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> Figure:
    """Draw items that were predicted wrong as a table of texts, a row each."""
    widths = [max(map(len, [name, *(row[i] for row in rows)])) + 2 for i, name in enumerate(columns)]
    ends = np.cumsum(widths)
    figure = drawing.sheet(max(0.085 * float(ends[-1]) + 0.2, 4.5), 0.22 * (len(rows) + 1) + 0.45, title)
    axes = figure.subplots()
    axes.set(xlim=(0, ends[-1]), ylim=(len(rows) + 0.6, -0.6))
    axes.set_axis_off()
    axes.axhline(0.5, color=SOFT, linewidth=0.8)
    for number, row in enumerate([columns, *rows]):
        for end, text in zip(ends, row, strict=True):
            weight = "bold" if number == 0 else "normal"
            axes.text(end - 0.5, number, text, ha="right", va="center", fontsize=8, fontweight=weight)
    return figure


@styled
def wrong_lines(items: Sequence[ArrayLike], captions: Sequence[str], title: str = "") -> Figure:
    """Draw sequences or long rows of numbers (length,) or (length, channels) that were predicted wrong as lines."""
    columns = min(4, len(items))
    rows = math.ceil(len(items) / columns)
    figure = drawing.sheet(max(2.1 * columns, 4.5), 1.5 * rows + 0.5, title)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for number, axes in enumerate(grid.flat):
        if number >= len(items):
            axes.set_visible(False)
            continue
        axes.tick_params(labelbottom=number + columns >= len(items))
        axes.plot(np.asarray(items[number]), linewidth=1)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(captions[number], fontsize=7.5, fontweight="normal")
    figure.supxlabel("position", fontsize=9)
    figure.supylabel("value", fontsize=9)
    return figure


# --- numbers --------------------------------------------------------------------------------------


@styled
def predictions(predicted: ArrayLike, true: ArrayLike, target: str, title: str = "") -> Figure:
    """Draw predicted against true numbers (n,), and how the errors are spread; the axes follow the true ones alone."""
    guesses, facts = np.asarray(predicted, float), np.asarray(true, float)
    chosen = np.linspace(0, len(facts) - 1, min(3000, len(facts))).astype(int)
    low, high = float(facts.min()), float(facts.max())
    margin = 0.08 * (high - low) or 1.0
    figure = drawing.sheet(9, 4.1, title)
    left, right = figure.subplots(1, 2)
    inside = np.clip(guesses, low - margin, high + margin)
    limits = (low - margin, high + margin)
    left.plot(limits, limits, color=SOFT, linestyle="--", linewidth=1, label="predicted = true")
    size = 14 if len(chosen) < 500 else 6
    left.scatter(
        facts[chosen], inside[chosen], s=size, color=COLOURS[0], alpha=0.6, linewidths=0, label="items", clip_on=False
    )
    left.set(xlim=limits, ylim=limits, xlabel=f"true {target}", ylabel=f"predicted {target}", box_aspect=1)
    left.grid(visible=True)
    left.legend(loc="upper left")
    errors = guesses - facts
    bound = float(np.quantile(np.abs(errors), 0.995)) or 1.0
    right.hist(np.clip(errors, -bound, bound), bins=41, range=(-bound, bound), color=COLOURS[0], edgecolor="white")
    right.axvline(0, color=INK, linewidth=1)
    right.set(xlabel=f"error: predicted - true {target}", ylabel="number of items")
    right.yaxis.get_major_locator().set_params(integer=True)
    right.grid(visible=True, axis="y")
    return figure


@styled
def bars(names: Sequence[str], values: ArrayLike, label: str, title: str = "") -> Figure:
    """Draw one number for each feature (n,), the twenty furthest from 0; negative ones in another colour."""
    numbers = np.asarray(values, float)
    order = np.argsort(-np.abs(numbers), kind="stable")[:20]
    figure = drawing.sheet(6, 0.24 * len(order) + 1.0, title)
    axes = figure.subplots()
    shown = numbers[order]
    axes.barh(range(len(order)), shown, color=[COLOURS[0] if value >= 0 else COLOURS[5] for value in shown])
    axes.set_yticks(range(len(order)), [shorten(names[int(i)], 24) for i in order])
    axes.invert_yaxis()
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(label)
    axes.grid(visible=True, axis="x")
    return figure


# --- what a network looks like inside ---------------------------------------------------------------


@styled
def tiles(filters: ArrayLike, title: str = "", label: str = "weight", names: Sequence[str] = ()) -> Figure:
    """Draw filters (n, channels, height, width), or weights of images, as images: at most 64, with their names.

    One channel: violet is negative, orange positive. Three: red, green and blue around grey. Others: their mean.
    """
    weights = np.asarray(filters, float)[:64]
    if weights.shape[1] not in {1, 3}:
        weights, label = weights.mean(1, keepdims=True), f"{label} (mean of the channels)"
    columns = min(8, len(weights))
    rows = math.ceil(len(weights) / columns)
    cell = 0.95 * drawing.cell_height(1 if names else 0)
    figure = drawing.sheet(max(0.95 * columns + 1.0, 4.5), max(cell * rows, 1.2) + 0.5, title)
    axes = figure.subplots()
    bound = float(np.abs(weights).max()) or 1.0
    captions = [shorten(name, 12) for name in names[:64]]
    if weights.shape[1] == 3:
        drawing.tile(axes, list(np.moveaxis(0.5 + weights / (2 * bound), 1, -1)), captions, columns=columns)
        return figure
    drawing.tile(axes, list(weights[:, 0]), captions, columns=columns, cmap=DIVERGING, limits=(-bound, bound))
    bar = figure.colorbar(axes.images[0], ax=axes, pad=0.02)
    bar.set_label(label)
    axes.set_anchor("W")
    return figure


@styled
def heat(weights: ArrayLike, rows: Sequence[str], columns: Sequence[str], title: str = "") -> Figure:
    """Draw weights (units, features) as a map, at most 64 of the former; the fewer of both are rows."""
    shown = np.asarray(weights, float)[:64]
    units, features, words = list(rows), list(columns), ("unit", "feature")
    if len(shown) > shown.shape[1]:
        shown, words = shown.T, ("feature", "unit")
        units, features = features, units
    n, m = shown.shape
    figure = drawing.sheet(min(max(0.3 * m + 2.2, 4.5), 12), max(0.24 * n + 1.3, 2.2), title)
    axes = figure.subplots()
    every = math.ceil(m / 36)  # named columns, so that the names do not run into one another
    bound = float(np.abs(shown).max()) or 1.0
    image = axes.imshow(shown, cmap=DIVERGING, vmin=-bound, vmax=bound, aspect="auto")
    axes.set_yticks(range(n), [shorten(name, 16) for name in units[:n]], fontsize=7)
    letters = max((len(name) for name in features[:m]), default=0)
    names = [shorten(name, 16) for name in features[:m:every]]
    axes.set_xticks(range(0, m, every), names, fontsize=7, rotation=90 * (letters > 3))
    axes.set(xlabel=words[1], ylabel=words[0])
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("weight")
    return figure


@styled
def feature_maps(item: ArrayLike, layers: Mapping[str, ArrayLike], title: str = "") -> Figure:
    """Draw an image, and what each layer makes of it: at most 16 maps a layer, of six layers.

    Args:
        item: (channels, height, width).
        layers: for each layer its activations (channels, height, width) or (units,).
        title: above it.
    """
    shown = {name: np.asarray(values, float) for name, values in list(layers.items())[:6]}
    maps = {name: values[:16] for name, values in shown.items() if values.ndim == 3}
    strips = {name: values for name, values in shown.items() if values.ndim == 1}
    lines = [1.2] + [math.ceil(len(values) / 8) + 0.3 for values in maps.values()] + [0.45] * len(strips)
    figure = drawing.sheet(8.6, 0.9 * sum(lines) + 0.5 + 0.2 * len(strips), title)
    grid = list(figure.subplots(len(lines), 1, squeeze=False, gridspec_kw={"height_ratios": lines}).flat)
    drawing.tile(grid[0], [drawing.pixels(item)], columns=8)
    grid[0].set_title("the image", fontweight="normal")
    for axes, (name, values) in zip(grid[1:], maps.items(), strict=False):
        low, high = float(values.min()), float(values.max())
        drawing.tile(axes, list(values), columns=8, cmap=MAP, limits=(low, high if high > low else low + 1))
        size = "x".join(map(str, values.shape[1:]))
        axes.set_title(f"{name}: {drawing.out_of(len(values), len(shown[name]))} maps of {size}", fontweight="normal")
        figure.colorbar(axes.images[0], ax=axes, pad=0.02, shrink=0.9)
        axes.set_anchor("W")
    for axes, (name, values) in zip(grid[1 + len(maps) :], strips.items(), strict=True):
        axes.imshow(values[None], cmap=MAP, aspect="auto")
        axes.set_title(f"{name}: {len(values)} units", fontweight="normal")
        axes.set_yticks([])
        figure.colorbar(axes.images[0], ax=axes, pad=0.02)
    return figure
