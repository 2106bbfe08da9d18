"""MNIST and Fashion-MNIST, read from the IDX files they are published as, gzipped or not.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998).
Xiao, Rasul and Vollgraf, "Fashion-MNIST", arXiv:1708.07747 (2017), with files of the same names and sizes.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rllab import fetching
from rllab.data import Data, DataMissing, DatasetConfig, Part, Scaling, Source, classification
from rllab.errors import UsageError

_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_CHUNK = 1 << 20


class MNISTConfig(DatasetConfig):
    """Options of MNIST and Fashion-MNIST."""

    scale: Scaling = "minmax"


class MNIST(Source):
    """Handwritten digits: 70,000 grey images of 1 x 28 x 28 pixels, ten classes; 60,000 to learn, 10,000 to test."""

    Config = MNISTConfig
    example = ((1, 28, 28), 10)

    name: ClassVar[str] = "mnist"
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    target: ClassVar[str] = "digit"
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    sha256: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
    """Of the bytes as they are without gzip, which packs them differently from mirror to mirror."""

    @classmethod
    def load(cls, target: str, config: Any, rng: np.random.Generator) -> Data:
        """Return the images as they are published, in their order."""
        files = cls._find()
        if files is None:
            raise DataMissing(
                f"{cls.name} is not on this machine; looked in {', '.join(map(str, fetching.places(cls.name)))}",
                f"`rllab data fetch {cls.name}` downloads it; or set RLLAB_DATA to the folder "
                f"with {cls.name}/{_FILES[0]}.gz.",
            )
        train, test = cls._part(files[0], files[1]), cls._part(files[2], files[3])
        return Data(train, classes=cls.classes, test=test, target=cls.target, notes={"from": str(files[0].parent)})

    @classmethod
    def missing(cls) -> str | None:
        """Return the first place where the files should be, if they are nowhere."""
        return None if cls._find() else f"not in {fetching.places(cls.name)[0]}"

    @classmethod
    def fetch(cls, folder: Path, mirrors: Sequence[str] = (), progress: fetching.Progress | None = None) -> list[Path]:
        """Download the four files, gzipped."""
        return [
            fetching.fetch(f"{name}.gz", mirrors or cls.mirrors, folder, cls._check, progress=progress)
            for name in _FILES
        ]

    @classmethod
    def _find(cls) -> list[Path] | None:
        """Return the four files from the first place that has them all."""
        for folder in fetching.places(cls.name):
            names = [
                [name, f"{name}.gz", name.replace("-idx", ".idx"), name.replace("-idx", ".idx") + ".gz"]
                for name in _FILES
            ]
            found = [next((folder / n for n in spellings if (folder / n).is_file()), None) for spellings in names]
            whole = [file for file in found if file is not None]
            if len(whole) == len(_FILES):
                return whole
        return None

    @classmethod
    def _part(cls, images_file: Path, labels_file: Path) -> Part:
        images, labels = cls._read(images_file, 3), cls._read(labels_file, 1)
        if len(images) != len(labels):
            raise UsageError(f"{images_file} has {len(images)} images, {labels_file} {len(labels)} labels")
        if len(labels) and labels.max() >= len(cls.classes):
            raise UsageError(f"{labels_file} has the label {labels.max()}; there are {len(cls.classes)} classes")
        return classification(images[:, None], labels)

    @classmethod
    def _read(cls, path: Path, dimensions: int) -> NDArray[np.uint8]:
        """Return the array in a file whose bytes are those that were published."""
        mend = f"Move it away; `rllab data fetch {cls.name}` brings the right one."
        try:
            array, digest = read_idx(path)
        except UsageError as error:
            raise UsageError(error.message, mend) from None
        if array.ndim != dimensions:
            raise UsageError(f"{path} has {array.ndim} dimensions, not {dimensions}", mend)
        if digest != cls.sha256.get(_plain(path), digest):
            what = f"{path} is not the published file: its bytes have another SHA-256 ({digest[:12]}...)"
            raise UsageError(what, mend)
        return array

    @classmethod
    def _check(cls, path: Path) -> str | None:
        """Return what is wrong with a file that was downloaded."""
        try:
            _, digest = read_idx(path)
        except UsageError as error:
            return error.message.removeprefix(f"{path} ")
        expected = cls.sha256.get(_plain(path), digest)
        return None if digest == expected else f"has SHA-256 {digest[:12]}..., should have {expected[:12]}..."


class FashionMNIST(MNIST):
    """Clothes: 70,000 grey images of 1 x 28 x 28 pixels, ten classes; 60,000 to learn, 10,000 to test."""

    name = "fashion-mnist"
    classes = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    target = "piece of clothing"
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    )
    sha256 = {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }


# --- the format -----------------------------------------------------------------------------------


def read_idx(path: Path) -> tuple[NDArray[np.uint8], str]:
    """Read an IDX file of bytes: two zeros, 8 for bytes, the number of dimensions, each as 4 bytes, the items.

    It is unpacked straight into the array, so that nothing larger than the array is ever held.

    Returns:
        The array, and the SHA-256 of all unpacked bytes.

    Raises:
        UsageError: if it is no such file, damaged, too short or too long.
    """
    try:
        pieces = _unpacked(path)
        head = b""
        while len(head) < 4 or len(head) < 4 + 4 * head[3]:
            piece = next(pieces, b"")
            if not piece:
                raise UsageError(f"{path} ends within its head: it is no IDX file")
            head += piece
            if head[:3] != b"\0\0\x08"[: len(head)] or (len(head) > 3 and not 1 <= head[3] <= 4):
                raise UsageError(f"{path} is no IDX file of bytes: it begins with {head[:4].hex(' ')}")
        start = 4 + 4 * head[3]
        shape = struct.unpack(f">{head[3]}I", head[4:start])
        size = math.prod(shape)
        if size > 1100 * path.stat().st_size:  # deflate packs 1032 bytes into one at most
            raise UsageError(f"{path} says it has {'x'.join(map(str, shape))} bytes, and is too short for that")
        array = np.empty(size, np.uint8)
        digest = hashlib.sha256(head[:start])
        filled, piece = 0, head[start:]
        while piece:
            if filled + len(piece) > size:
                raise UsageError(f"{path} is longer than the {'x'.join(map(str, shape))} bytes it says it has")
            array[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            digest.update(piece)
            filled += len(piece)
            piece = next(pieces, b"")
    except zlib.error:
        raise UsageError(f"{path} is damaged: it cannot be unpacked") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if filled < size:
        raise UsageError(f"{path} is too short: {filled} of {size} bytes")
    return array.reshape(shape), digest.hexdigest()


def _unpacked(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file piece by piece, without gzip if it has that; its checksum is verified."""
    with path.open("rb") as file:
        piece = file.read(_CHUNK)
        if piece[:2] != b"\x1f\x8b":
            while piece:
                yield piece
                piece = file.read(_CHUNK)
            return
        unpack = zlib.decompressobj(wbits=31)
        while piece and not unpack.eof:
            found = unpack.decompress(piece, _CHUNK)
            if found:
                yield found
            piece = unpack.unconsumed_tail or file.read(_CHUNK)
        if not unpack.eof:
            raise UsageError(f"{path} is damaged: it ends before it is complete")


def _plain(path: Path) -> str:
    """Return the published name of a file: without .gz and .part, with a hyphen before idx."""
    return path.name.removesuffix(".part").removesuffix(".gz").replace(".idx", "-idx")
