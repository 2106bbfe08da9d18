"""What an environment renders, as a picture to look at: small frames enlarged, texts set, a caption below.

In: a frame (pixels, or text as terminals take it) and what the caption says. Out: a PIL image.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

Frame: TypeAlias = NDArray[Any] | str
"""Pixels (height, width, 3), (height, width, 4), (height, width, 1) or (height, width); or a text."""

SMALLEST = 320
"""Pixels of the longer side at least: what is smaller is enlarged by a whole number."""
_COLUMNS = 28
"""Characters that a picture of a text is wide at least."""
_ROW = 26
_PAPER, _INK, _SOFT = (34, 34, 34), (255, 255, 255), (170, 170, 170)
_ENDED = (0, 114, 178)
"""Behind the caption when an episode has ended."""

_SGR = re.compile(r"\x1b\[([\d;]*)m")
_GROUND = re.compile(r"\x1b\[(?:[\d;]*;)?(?:4[0-7]|7)m([^\x1b\n]*)\x1b\[[\d;]*m")
_OTHER_ESCAPES = re.compile(r"\x1b\[[\d;?]*[A-Za-ln-z]|\r")
_COLOURS = (
    *((0, 0, 0), (213, 60, 60), (0, 140, 100), (200, 160, 30)),
    *((40, 110, 190), (180, 90, 160), (60, 150, 180), (235, 235, 235)),
)
"""Black, red, green, yellow, blue, magenta, cyan and white, in the order of terminals."""


class Cell(NamedTuple):
    """A place in a caption: what it is, in grey, and its value."""

    label: str
    value: str


def picture(frame: Frame, smallest: int = SMALLEST) -> Image:
    """Return a frame as an RGB image; a small one is enlarged by a whole number.

    Args:
        frame: pixels or text.
        smallest: pixels that the longer side has at least.

    Raises:
        ValueError: if it is neither pixels nor a text.
    """
    from PIL import Image

    if isinstance(frame, str):
        return text_picture(frame)
    array = np.asarray(frame)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise ValueError(f"an array of shape {array.shape} is no picture")
    if array.dtype != np.uint8:
        if array.dtype.kind == "f" and array.size and float(array.max()) <= 1.0:
            array = array * 255
        array = np.clip(array, 0, 255).astype(np.uint8)
    image = Image.fromarray(array).convert("RGB")
    factor = math.ceil(smallest / max(image.size))
    return (
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST) if factor > 1 else image
    )


def captioned(image: Image, cells: Sequence[Cell], *, ended: bool = False, note: str = "") -> Image:
    """Return an image with a bar below: the cells side by side, or two in a row where there is less room.

    Both sides of the result are even, as video wants them, and it is at least `SMALLEST` wide.

    Args:
        image: what is shown.
        cells: what the bar says.
        ended: whether the bar is blue, as at the end of an episode.
        note: one more line, smaller.
    """
    from PIL import Image, ImageDraw

    width = max(image.width, SMALLEST)
    width += width % 2
    columns = len(cells) if width >= 125 * len(cells) else 2
    rows = math.ceil(len(cells) / columns)
    notes = _wrapped(note, width - 16)
    height = image.height + rows * _ROW + 8 + 18 * len(notes)
    height += height % 2
    paper = _ENDED if ended else _PAPER
    canvas = Image.new("RGB", (width, height), paper)
    if image.width < width:
        canvas.paste((0, 0, 0), (0, 0, width, image.height))
    canvas.paste(image, ((width - image.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    label_font, value_font = _font("DejaVuSans", 14), _font("DejaVuSans-Bold", 15)
    soft = (225, 225, 225) if ended else _SOFT
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        x, y = 10 + column * (width - 10) // columns, image.height + 4 + row * _ROW + _ROW // 2
        if cell.label:
            draw.text((x, y), cell.label, soft, label_font, anchor="lm")
            x += round(label_font.getlength(cell.label + " ")) + 2
        draw.text((x, y), cell.value, _INK, value_font, anchor="lm")
    for number, line in enumerate(notes):
        y = image.height + 4 + rows * _ROW + 18 * number + 8
        draw.text((10, y), line, soft, _font("DejaVuSans", 12), anchor="lm")
    return canvas


def number(value: float) -> str:
    """Return a reward or a return as a caption has it: whole numbers as such, others with two digits or more."""
    if not math.isfinite(value) or (float(value).is_integer() and abs(value) < 1e9):
        return f"{value + 0.0:.0f}"  # which is 0 for -0.0
    return f"{value:.2f}" if 0.1 <= abs(value) < 1e6 else f"{value:.3g}"


# --- texts ----------------------------------------------------------------------------------------


def plain_text(text: str) -> str:
    """Return a text without the escapes by which terminals colour it; what has a coloured ground gets brackets."""
    marked = _GROUND.sub(r"[\1]", _OTHER_ESCAPES.sub("", text))
    return _SGR.sub("", marked)


def text_picture(text: str) -> Image:
    """Return a text in a monospaced font, with the colours that it asks a terminal for."""
    from PIL import Image, ImageDraw

    font = _font("DejaVuSansMono", 18)
    wide, tall = font.getlength("M"), 24
    lines = _OTHER_ESCAPES.sub("", text).expandtabs(8).removesuffix("\n").split("\n")
    columns = max(_COLUMNS, *(len(_SGR.sub("", line)) for line in lines))
    image = Image.new("RGB", (math.ceil(columns * wide) + 24, len(lines) * tall + 24), (250, 250, 248))
    draw = ImageDraw.Draw(image)
    ink: tuple[int, int, int] | None = None
    paper: tuple[int, int, int] | None = None
    for row, line in enumerate(lines):
        column, y = 0, 12 + row * tall
        for part, piece in enumerate(_SGR.split(line)):
            if part % 2:
                ink, paper = _after(piece, ink, paper)
                continue
            x, end = 12 + column * wide, 12 + (column + len(piece)) * wide
            if paper is not None and piece:
                draw.rectangle((x, y, end, y + tall - 1), paper)
            colour = ink or ((255, 255, 255) if paper is not None and sum(paper) < 450 else _PAPER)
            draw.text((x, y + tall // 2), piece, colour, font, anchor="lm")
            column += len(piece)
    return image


def _after(codes: str, ink: Any, paper: Any) -> tuple[Any, Any]:
    """Return the colours of letters and paper after an escape such as 41 or 1;31; None: the usual one."""
    for code in [int(code) for code in codes.split(";") if code] or [0]:
        match code:
            case 0:
                ink, paper = None, None
            case 7:
                ink, paper = paper or (250, 250, 248), ink or _PAPER
            case _ if 30 <= code % 60 <= 37:  # 90 to 97 are the bright ones
                ink = _COLOURS[code % 60 - 30]
            case 39:
                ink = None
            case _ if 40 <= code % 60 <= 47:
                paper = _COLOURS[code % 60 - 40]
            case 49:
                paper = None
    return ink, paper


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a note, broken between words so that each fits."""
    font, lines = _font("DejaVuSans", 12), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines if text else []


@cache
def _font(name: str, size: int) -> FreeTypeFont:
    """Return a font that comes with matplotlib, which need not be imported for that."""
    from PIL import ImageFont

    spec = find_spec("matplotlib")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{name}.ttf"), size)
