"""Films: pictures one after the other into a file, mp4, GIF or text, which is there whole or not at all.

with films.opened(Path("episode.gif"), fps=30) as film:
    film.add(image)
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rllab.errors import PluginError, RunFailed, UsageError, one_line
from rllab.parts.screen import plain_text

if TYPE_CHECKING:
    from PIL.Image import Image

_ENCODER = 'pip install "rllab[video]"'
_PALETTE_FROM = 32
"""Frames whose colours decide the palette of a GIF."""
_GIF_SIDE = 800
"""Pixels of a GIF's longer side at most."""


class Film(ABC):
    """A film that is being written.

    Args:
        path: the file, which this class may write at once.
        fps: frames per second of what is filmed.

    Attributes:
        every: of so many frames one has to be added: no player shows more, or the file would be large.
    """

    fastest: ClassVar[float]
    """Frames per second at most."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.every = max(1, -int(-fps // self.fastest))
        self.fps = fps / self.every

    @abstractmethod
    def add(self, image: Image, text: str = "", *, seconds: float = 0.0) -> None:
        """Add a picture, or in a film of text that text.

        Args:
            image: what is shown; all are brought to the size of the first.
            text: what a film of text has of it.
            seconds: how much longer it stays than others.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""

    def abandon(self) -> None:
        """Free what is held; the file is not wanted."""


class Gif(Film):
    """An animated GIF; all frames have one palette, chosen at the end. Until then they are kept packed."""

    fastest = 25.0

    def __init__(self, path: Path, fps: float) -> None:
        super().__init__(path, fps)
        self._size = (0, 0)
        self._frames: list[tuple[bytes, float]] = []

    def add(self, image: Image, text: str = "", *, seconds: float = 0.0) -> None:  # noqa: D102
        if not self._frames:
            share = min(1.0, _GIF_SIDE / max(image.size))
            self._size = (round(image.width * share), round(image.height * share))
        self._frames.append((zlib.compress(fitted(image, self._size).tobytes(), 1), 1 / self.fps + seconds))

    def close(self) -> None:  # noqa: D102
        from PIL import Image

        palette = self._palette()
        frames = (
            self._frame(number).quantize(palette=palette, dither=Image.Dither.NONE)
            for number in range(len(self._frames))
        )
        # in whole hundredths of a second, whose sum stays true
        ends, durations = 0.0, []
        for _, seconds in self._frames:
            durations.append(round(100 * (ends + seconds)) - round(100 * ends))
            ends += seconds
        durations = [10 * duration for duration in durations]
        next(frames).save(
            self.path, "GIF", save_all=True, append_images=frames, duration=durations, loop=0, optimize=False
        )

    def _frame(self, number: int) -> Image:
        from PIL import Image

        return Image.frombytes("RGB", self._size, zlib.decompress(self._frames[number][0]))

    def _palette(self) -> Image:
        """Return an image with the palette of the film: every colour if there are few, else the best 256."""
        from PIL import Image

        count = min(_PALETTE_FROM, len(self._frames))
        width, height = self._size
        strip = Image.new("RGB", (width, height * count))
        for place in range(count):
            number = place * (len(self._frames) - 1) // max(1, count - 1)
            strip.paste(self._frame(number), (0, place * height))
        if (found := strip.getcolors(256)) is not None:
            exact = Image.new("P", (1, 1))
            colours = [colour for _, colour in found if isinstance(colour, tuple)]
            exact.putpalette([part for colour in colours for part in colour])
            return exact
        return strip.quantize(256, Image.Quantize.MEDIANCUT)


class Mp4(Film):
    """H.264 in an mp4 file, encoded while it is played."""

    fastest = 60.0

    def __init__(self, path: Path, fps: float) -> None:
        super().__init__(path, fps)
        if (missing := encoder_missing()) is not None:
            raise PluginError(f"no mp4 can be written: {missing}", f"Install it: {_ENCODER}; or write a .gif.")
        self._size = (0, 0)
        self._encoder: Any = None

    def add(self, image: Image, text: str = "", *, seconds: float = 0.0) -> None:  # noqa: D102
        if self._encoder is None:
            self._size = (image.width + image.width % 2, image.height + image.height % 2)
            self._encoder = _imageio().write_frames(
                str(self.path),
                self._size,
                fps=self.fps,
                quality=7,
                macro_block_size=2,
                ffmpeg_log_level="error",
                output_params=["-movflags", "+faststart"],
            )
            self._encoder.send(None)
        data = fitted(image, self._size).tobytes()
        for _ in range(1 + round(seconds * self.fps)):
            self._encoder.send(data)

    def close(self) -> None:  # noqa: D102
        if self._encoder is not None:
            self._encoder.close()
        if not self.path.exists() or not self.path.stat().st_size:
            raise RunFailed(f"the encoder wrote no {self.path.suffix} file", "Write a .gif instead.")

    def abandon(self) -> None:  # noqa: D102
        if self._encoder is not None:
            with suppress(Exception):
                self._encoder.close()


class TextFile(Film):
    """A text file: what each frame says, one after the other."""

    fastest = 1e9

    def __init__(self, path: Path, fps: float) -> None:
        super().__init__(path, fps)
        self._file = path.open("w", encoding="utf-8")

    def add(self, image: Image | None, text: str = "", *, seconds: float = 0.0) -> None:  # noqa: D102
        self._file.write(plain_text(text).strip("\n") + "\n\n")

    def close(self) -> None:  # noqa: D102
        self._file.close()

    def abandon(self) -> None:  # noqa: D102
        self._file.close()


KINDS: dict[str, type[Film]] = {".mp4": Mp4, ".gif": Gif, ".txt": TextFile}
"""The endings of files, and what is written into them."""


def check(path: Path) -> None:
    """Raise what would keep a film from being written into a file, as far as can be told before.

    Raises:
        UsageError: for an ending that no film has.
        PluginError: if a package is missing.
    """
    if path.suffix.lower() not in KINDS:
        known = ", ".join(KINDS)
        what = f"no film has the ending {path.suffix}" if path.suffix else "the name has no ending"
        raise UsageError(f"-o {path}: {what}", f"Known are {known}, such as {path.stem or 'episode'}.gif.")
    if KINDS[path.suffix.lower()] is Mp4 and (missing := encoder_missing()) is not None:
        raise PluginError(f"-o {path}: no mp4 can be written: {missing}", f"Install it: {_ENCODER}; or write a .gif.")


def best_suffix() -> tuple[str, str | None]:
    """Return the ending of the best film that can be written here, and if that is no mp4, why."""
    missing = encoder_missing()
    return (".mp4", None) if missing is None else (".gif", f"{missing}; for mp4: {_ENCODER}")


def encoder_missing() -> str | None:
    """Return why no mp4 can be written, None if one can be."""
    try:
        _imageio().get_ffmpeg_exe()
    except ImportError:
        return "the package imageio-ffmpeg is missing"
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, there is no encoder
        return f"imageio-ffmpeg has no encoder: {one_line(error)}"
    return None


def _imageio() -> Any:
    return import_module("imageio_ffmpeg")


@contextmanager
def opened(path: Path, fps: float) -> Iterator[Film]:
    """Open a film; the file appears when the block ends, and not at all if it raises.

    Args:
        path: the file; its ending says what is written. Its folder is made.
        fps: frames per second of what is filmed.

    Raises:
        UsageError: for an ending that no film has.
        PluginError: if a package is missing.
        RunFailed: if the file cannot be written.
    """
    check(path)
    # with the ending at the end, which tells the encoder what to write
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        film = KINDS[path.suffix.lower()](temporary, fps)
        try:
            yield film
            film.close()
        except BaseException:
            film.abandon()
            raise
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise RunFailed(f"cannot write {path}: {reason}", "Say where with -o FILE.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def fitted(image: Image, size: tuple[int, int]) -> Image:
    """Return an image as it is, or if its size is another one, as large as fits, in the middle of a black one."""
    from PIL import Image, ImageOps

    return image if image.size == size else ImageOps.pad(image, size, Image.Resampling.LANCZOS)
