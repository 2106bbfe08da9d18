"""A folder with one subfolder a class -> images, or texts as numbers.

FOLDER/cat/*.png   FOLDER/dog/*.png                   one set, which is split
FOLDER/train/cat/*.png   FOLDER/test/cat/*.png        parts of their own, perhaps `validation`, too
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from rllab import stopping
from rllab.data import Data, Part, classification
from rllab.errors import UsageError
from rllab.textfiles import read_text

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
_TEXTS = frozenset({".txt", ".md"})
_PARTS = ("train", "validation", "test")

Represent: TypeAlias = Literal["onehot", "counts", "ngrams"]


@dataclass(frozen=True)
class Listing:
    """The files of a folder by part, each with the number of its class; only `train` if there are no parts."""

    path: Path
    kind: Literal["images", "texts"]
    classes: tuple[str, ...]
    parts: dict[str, list[tuple[Path, int]]]

    def pooled(self) -> Listing:
        """Return the files of all parts as one."""
        return replace(self, parts={"train": [item for items in self.parts.values() for item in items]})


def find(path: Path) -> Listing:
    """List the files of a folder.

    Raises:
        UsageError: if there are no subfolders, one alone, an empty one, or images beside texts.
    """
    inside = _subfolders(path)
    roots = {folder.name: folder for folder in inside if folder.name in _PARTS}
    if not {"train", "test"} <= set(roots) or len(roots) < len(inside):
        roots = {"train": path}
    classes = tuple(sorted({folder.name for root in roots.values() for folder in _subfolders(root)}))
    if not classes:
        raise UsageError(f"{path} has no subfolders", "Each class has a subfolder of its own, which has its name.")
    if len(classes) == 1:
        raise UsageError(f"{path} has one class only: {classes[0]!r}")
    parts = {
        part: [(file, classes.index(folder.name)) for folder in _subfolders(root) for file in _files(folder)]
        for part, root in roots.items()
    }
    kinds = {file.suffix.lower() in _IMAGES: file for items in parts.values() for file, _ in items}
    if len(kinds) > 1:
        raise UsageError(f"{path} has images ({kinds[True].name}) and texts ({kinds[False].name})")
    return Listing(path, "images" if True in kinds else "texts", classes, {n: parts[n] for n in _PARTS if n in parts})


def size(text: str) -> tuple[int, int]:
    """Return height and width of a size such as 28x28.

    Raises:
        ValueError: if it is none.
    """
    found = re.fullmatch(r"(\d+)\s*[xX×]\s*(\d+)", text.strip())
    if found is None or not (0 < int(found[1]) <= 4096 and 0 < int(found[2]) <= 4096):
        raise ValueError("write height x width, such as 28x28")
    return int(found[1]), int(found[2])


def _subfolders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    files = [entry for entry in sorted(folder.iterdir()) if entry.is_file() and not entry.name.startswith(".")]
    known = [file for file in files if file.suffix.lower() in _IMAGES | _TEXTS]
    if not known:
        what = f"{len(files)} files, and none is an image or a text" if files else "no files"
        raise UsageError(f"{folder} has {what}", f"It takes {', '.join(sorted(_IMAGES | _TEXTS))}.")
    return known


# --- images ---------------------------------------------------------------------------------------


def images(listing: Listing, *, resize: tuple[int, int] | None, grey: bool) -> Data:
    """Read the images (N, 1 or 3, height, width): grey if all are, or if asked for.

    Raises:
        UsageError: if one cannot be read, or they are not of one size and no size is asked for.
    """
    every = [file for items in listing.parts.values() for file, _ in items]
    read = [_image(file, resize, grey) for file in every]
    for file, pixels in zip(every, read, strict=True):
        if pixels.shape[:2] != read[0].shape[:2]:
            one, other = (f"{p.shape[0]}x{p.shape[1]}" for p in (read[0], pixels))
            raise UsageError(
                f"images of two sizes: {every[0]} is {one}, {file} is {other}", f"--resize {one} brings all to one."
            )
    channels = max(pixels.shape[2] for pixels in read)
    stacked = np.empty((len(read), channels, *read[0].shape[:2]), np.uint8)
    for number, pixels in enumerate(read):
        stacked[number] = np.moveaxis(pixels, 2, 0)  # one channel fills all three
    return _data(listing, torch.from_numpy(stacked), target="class", notes={"images": f"{len(every)} files"})


def _image(file: Path, resize: tuple[int, int] | None, grey: bool) -> NDArray[np.uint8]:
    """Return the pixels (height, width, 1 or 3) of an image, turned as its camera was held."""
    stopping.check()
    try:
        with Image.open(file) as opened:
            if opened.mode.startswith(("I", "F")):
                raise UsageError(f"{file} has {opened.mode} pixels; it takes images of 8 bits a channel")
            plain = opened.mode in {"1", "L", "LA"}
            image = ImageOps.exif_transpose(opened).convert("L" if grey or plain else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{file} cannot be read as an image: {error}") from None
    if resize is not None:
        image = image.resize((resize[1], resize[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


# --- texts ----------------------------------------------------------------------------------------


def texts(listing: Listing, *, represent: Represent, ngram: int, vocabulary: int) -> Data:
    """Read the texts, and represent each by numbers (N, words): what counts is chosen by the training part.

    Raises:
        UsageError: if one is not UTF-8, or there is no word in the training part.
    """
    every = [file for items in listing.parts.values() for file, _ in items]
    units = _words if represent != "ngrams" else _runs(ngram)
    counts = [Counter(units(_text(file))) for file in every]

    def finish(data: Data) -> Data:
        """Replace the number of each text by what is in it."""
        seen: Counter[str] = Counter()
        for number in data.train.inputs[:, 0].tolist():
            seen.update(counts[int(number)])
        if not seen:
            raise UsageError(f"the texts in {listing.path} that are there to learn from are empty")
        chosen = [unit for unit, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:vocabulary]]
        index = {unit: column for column, unit in enumerate(chosen)}

        def row(counted: Counter[str]) -> torch.Tensor:
            numbers = torch.zeros(len(chosen))
            for unit, times in counted.items():
                if unit in index:
                    numbers[index[unit]] = 1 if represent == "onehot" else times
            return numbers

        def represented(part: Part) -> Part:
            return Part(torch.stack([row(counts[int(number)]) for number in part.inputs[:, 0]]), part.targets)

        parts = {name: represented(part) for name, part in data.parts.items()}
        encode = lambda text: row(Counter(units(text)))  # noqa: E731 - one line says it best
        return replace(data, features=tuple(chosen), encode=encode, **parts)  # type: ignore[arg-type]

    numbers = torch.arange(len(every), dtype=torch.float64)[:, None]
    notes = {"texts": f"{len(every)} files", "represented by": _called(represent, ngram)}
    return replace(_data(listing, numbers, target="class", notes=notes), finish=finish)


def _called(represent: Represent, ngram: int) -> str:
    if represent == "ngrams":
        return f"how often each run of {ngram} characters is in it"
    return "which words are in it" if represent == "onehot" else "how often each word is in it"


def _words(text: str) -> Iterable[str]:
    return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def _runs(length: int) -> Callable[[str], Iterable[str]]:
    def runs(text: str) -> Iterable[str]:
        joined = " ".join(text.lower().split())
        return (joined[start : start + length] for start in range(len(joined) - length + 1))

    return runs


def _text(file: Path) -> str:
    stopping.check()
    return read_text(file)


# --- both -----------------------------------------------------------------------------------------


def _data(listing: Listing, inputs: torch.Tensor, *, target: str, notes: dict[str, str]) -> Data:
    """Return the items in the parts that the folder has; `inputs` has those of all parts in their order."""
    parts, start = {}, 0
    for name, items in listing.parts.items():
        labels = classification(np.zeros(len(items)), [label for _, label in items]).targets
        parts[name] = Part(inputs[start : start + len(items)], labels)
        start += len(items)
    return Data(
        parts["train"],
        listing.classes,
        validation=parts.get("validation"),
        test=parts.get("test"),
        target=target,
        notes=notes,
    )
