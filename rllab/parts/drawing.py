"""The house style of all pictures: fonts, lines, colours, and from a figure to an image.

In: a function that draws on a `Figure`, decorated with `styled`. Out: the figure; `render` makes a PIL image of it.
The colours are those of Okabe and Ito, "Color Universal Design" (2008), which people with any colour vision can tell
apart; maps are viridis, and diverging ones orange and violet. Matplotlib is imported when something is drawn, and
pyplot never: no window, and no figure that outlives its use.
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

P = ParamSpec("P")
R = TypeVar("R")

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#555555")
"""Okabe and Ito's eight, the best to tell apart first; grey for their black, which is text's."""
_TEN = (*COLOURS, "#332288", "#882255")
"""With Paul Tol's indigo and wine: as many as there are digits."""
_NAMED: dict[str, str] = dict(
    zip(("blue", "orange", "green", "pink", "red", "yellow"), (*COLOURS[:4], *COLOURS[5:7]), strict=True)
)
MARKERS = "os^Dv<>p"
"""Beside the colours, for who sees or prints none."""
MAP = "viridis"
DIVERGING = "PuOr_r"
"""For numbers around 0: violet below, white, orange above."""
INK = "#222222"
SOFT = "#777777"
DPI = 150

STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $$
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 6),
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.titlesize": 10.0,
    "figure.titleweight": "bold",
    "image.cmap": MAP,
    "image.interpolation": "nearest",
    "image.origin": "upper",
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Have a function draw in the house style, whatever the user's own matplotlibrc says."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        from matplotlib import style

        with style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return drawn


def sheet(width: float, height: float, title: str = "") -> Figure:
    """Return an empty figure of a size in inches, which lays itself out."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    if title:
        figure.suptitle(textwrap.fill(title, int(12 * width)), x=0.01, ha="left")
    return figure


@styled
def render(figure: Figure) -> Image:
    """Return a figure as an RGB image, 150 pixels an inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas: Any = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # of a class's name: nothing one could do
        canvas.draw()
    return Image.fromarray(np.array(canvas.buffer_rgba())[..., :3].copy())


def film(files: Sequence[Path]) -> bytes:
    """Return an animated GIF of PNG files, in their order; those of another size than the last are left out.

    All frames have one palette. It lasts about ten seconds, and rests on the last frame.
    """
    import PIL.Image

    def read(file: Path) -> Image:
        with PIL.Image.open(file) as opened:
            return opened.convert("RGB")

    def size(file: Path) -> tuple[int, int]:
        with PIL.Image.open(file) as opened:
            return opened.size

    width, height = size(files[-1])
    shown = [file for file in files if size(file) == (width, height)]
    few = [shown[i] for i in sorted({0, len(shown) // 2, len(shown) - 1})]
    strip = PIL.Image.new("RGB", (width, height * len(few)))
    for number, file in enumerate(few):
        strip.paste(read(file), (0, number * height))
    palette = strip.quantize(256, PIL.Image.Quantize.MEDIANCUT)
    frames = [read(file).quantize(palette=palette, dither=PIL.Image.Dither.NONE) for file in shown]
    each = min(500, max(80, 10_000 // len(frames)))
    written = io.BytesIO()
    durations = [each] * (len(frames) - 1) + [2000]
    frames[0].save(written, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return written.getvalue()


def colours(classes: Sequence[str]) -> list[str]:
    """Return a colour for each class: of ten, and for more classes as many steps of a map.

    Classes that are called by colours get these.
    """
    number = len(classes)
    if set(classes) <= set(_NAMED):
        return [_NAMED[name] for name in classes]
    if number <= len(_TEN):
        return list(_TEN[:number])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps[MAP](place)) for place in np.linspace(0, 1, number)]


def marker(number: int) -> str:
    """Return the marker of a class."""
    return MARKERS[number % len(MARKERS)]


def blend(shares: ArrayLike, palette: Sequence[str], strength: float) -> NDArray[np.float64]:
    """Return colours (..., 3), mixed from a palette by shares (..., k) and thinned with white."""
    from matplotlib.colors import to_rgb

    mixed: NDArray[np.float64] = np.asarray(shares, float) @ np.array([to_rgb(colour) for colour in palette])
    return np.clip(1 - strength * (1 - mixed), 0, 1)


def shorten(text: str, length: int) -> str:
    """Return a text that is at most so long."""
    return text if len(text) <= length else text[: length - 1] + "…"


def out_of(shown: int, total: int) -> str:
    """Return how many are shown, and of how many if that is not all."""
    return f"{total}" if shown == total else f"{shown} of {total}"


def pixels(item: ArrayLike) -> NDArray[Any]:
    """Return an image (channels, height, width) or (height, width) as matplotlib takes it: grey, or with colours last.

    Of other numbers of channels than 1 and 3 the mean is returned. What is not uint8 is stretched to [0, 1].
    """
    array = np.asarray(item)
    if array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
        if array.shape[-1] != 3:
            array = array[..., 0] if array.shape[-1] == 1 else array.mean(-1)
    if array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        array = (array - low) / (high - low) if high > low else np.zeros_like(array, float)
    return array


def tile(
    axes: Axes,
    images: Sequence[ArrayLike],
    captions: Sequence[str] = (),
    *,
    columns: int,
    cmap: str = "gray",
    limits: tuple[float, float] | None = None,
    size: float = 7.0,
) -> None:
    """Draw images in a grid on one `axes`, each in a cell of 1 x 1 with its caption below.

    Args:
        axes: where; it shows nothing else.
        images: each (height, width), or (height, width, 3).
        captions: one for each image, of one or two lines.
        columns: how many in a row.
        cmap: of images without colours.
        limits: the numbers at both ends of the map; None: 0 to 255 for uint8, else 0 to 1.
        size: of the captions, in points.
    """
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    cell = cell_height(lines)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        shown = np.asarray(image)
        low, high = limits or ((0, 255) if shown.dtype == np.uint8 else (0, 1))
        tall, wide = shown.shape[0] / max(shown.shape[:2]), shown.shape[1] / max(shown.shape[:2])
        left, top = column + (1 - 0.94 * wide) / 2, row * cell + (1 - 0.94 * tall) / 2
        place = (left, left + 0.94 * wide, top + 0.94 * tall, top)
        axes.imshow(shown, extent=place, cmap=cmap, vmin=low, vmax=high)
        if captions:
            axes.text(column + 0.5, row * cell + 1.0, captions[number], ha="center", va="top", fontsize=size)
    rows = math.ceil(len(images) / columns)
    axes.set(xlim=(0, columns), ylim=(rows * cell, 0), aspect="equal", anchor="W")
    axes.set_axis_off()


def cell_height(lines: int) -> float:
    """Return how tall a cell of `tile` is with so many lines of caption, in widths."""
    return 1.0 + 0.17 * lines + (0.05 if lines else 0)
