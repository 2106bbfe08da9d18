"""The logger: metrics of every step become lines at intervals, and writers put the lines somewhere.

In: `record(count, metrics)`, cheap, at every step. Out: `write(step, seconds)`, at intervals: one line of
averages to every writer. What was recorded and not yet written is part of a checkpoint.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from importlib import import_module
from itertools import chain
from operator import add, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import torch
from torch import Tensor

from rllab.algorithm import Metrics, Reduction
from rllab.config import to_text
from rllab.errors import RunFailed

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from rllab.runfolder import RunFolder

_FOLD_AT = 256
"""Recorded steps that are kept before they are folded into sums."""
_HAND_ON = 1.0
"""Seconds between two times at which TensorBoard's thread is woken."""


class NonFinite(RunFailed):
    """A loss that became NaN or infinite."""


class Writer(ABC):
    """Where lines of metrics go; a plugin of the group `rllab.loggers`.

    A writer is made without arguments and opened on a run folder.
    """

    def open(self, folder: RunFolder, *, resumed_at: int | None) -> None:
        """Begin to write; `resumed_at` is the step a resumed run goes on from, None for a new run."""

    @abstractmethod
    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one line; steps rise strictly."""

    def media(self, step: int, name: str, item: object) -> None:
        """Write a picture (an array (height, width, 3) of uint8, or a PIL image) or a text (a string)."""

    def flush(self) -> None:
        """Make everything written so far survive the death of the process."""

    def close(self, status: str) -> None:
        """End; `status` is "finished", "stopped" or "failed"."""

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to take back what is written after this moment."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Called before `open` when a run is resumed."""


class Logger:
    """Collects metrics and hands lines of averages to writers.

    Args:
        writers: where lines go.
        reductions: how a metric's values become one; the mean unless listed.
    """

    def __init__(self, writers: Mapping[str, Writer], reductions: Mapping[str, Reduction] | None = None) -> None:
        self.writers = dict(writers)
        self.latest: dict[str, float] = {}
        self._reductions = dict(reductions or {})
        self._recorded: list[tuple[int, Metrics]] = []
        self._folded: dict[str, list[float]] = {}  # name -> [sum or last value, how many]
        self._broken: tuple[int, str] | None = None  # where a loss was first not finite
        self._last_step = -1
        self._last_speed = (0, 0.0)

    def open(self, folder: RunFolder, *, resumed_at: int | None = None) -> None:
        """Open the writers on a run folder."""
        for writer in self.writers.values():
            writer.open(folder, resumed_at=resumed_at)

    def record(self, count: int, metrics: Metrics) -> None:
        """Keep the metrics of a step until the next line; tensors stay where they are."""
        self._recorded.append((count, metrics))
        if len(self._recorded) >= _FOLD_AT:
            self._fold()
            self._check()

    def write(self, step: int, seconds: float, *, last: bool = False) -> dict[str, float] | None:
        """Write one line of what was recorded since the last one.

        Args:
            step: the units trained; nothing is written twice for one step.
            seconds: the training time so far.
            last: whether the run ends here; the speed is then that of the whole run.

        Returns:
            The line, None if there was one for this step already.

        Raises:
            NonFinite: if a loss was NaN or infinite; the line is written, with null in its place.
        """
        if step <= self._last_step:
            return None
        line = self.averages()
        self._folded = {}
        since_step, since_seconds = (0, 0.0) if last else self._last_speed
        if seconds > since_seconds:
            line["time/steps_per_second"] = (step - since_step) / (seconds - since_seconds)
        self._last_step, self._last_speed = step, (step, seconds)
        self.latest.update(line)
        line = {"time": round(seconds, 3), **line}
        for writer in self.writers.values():
            writer.write(step, line)
        self._check()
        return line

    def averages(self) -> dict[str, float]:
        """Return what was recorded since the last line, as that line will have it."""
        self._fold()
        return {
            name: value if self._reductions.get(name, "mean") != "mean" else value / number
            for name, (value, number) in sorted(self._folded.items())
        }

    def media(self, step: int, name: str, item: object) -> None:
        """Hand a picture or a text to every writer."""
        for writer in self.writers.values():
            writer.media(step, name, item)

    def flush(self) -> None:
        """Flush every writer."""
        for writer in self.writers.values():
            writer.flush()

    def close(self, status: str) -> None:
        """Close every writer, also if one fails; the first error is raised at the end."""
        errors: list[Exception] = []
        for writer in self.writers.values():
            try:
                writer.close(status)
            except Exception as error:  # noqa: BLE001
                errors.append(error)
        if errors:
            raise errors[0]

    # --- averages

    def _fold(self) -> None:
        """Add what was recorded to the sums, in order, so that the sums do not depend on when they are made."""
        recorded, self._recorded = self._recorded, []
        for name, values in _columns([metrics for _, metrics in recorded]):
            total = self._fold_column(name, values)
            if "loss" in name and not math.isfinite(total):
                counts = (count for count, metrics in recorded if name in metrics)
                for count, number in zip(counts, _to_floats(values), strict=True):
                    if not math.isfinite(number) and (self._broken is None or count < self._broken[0]):
                        self._broken = count, f"{name} became {number} at step {count}"

    def _check(self) -> None:
        if self._broken is not None:
            raise NonFinite(self._broken[1])

    def _fold_column(self, name: str, values: Sequence[float | Tensor]) -> float:
        """Add values of a metric to its sum, one after the other: `sum` may round differently; return their own sum."""
        before, number = self._folded.get(name, (0.0, 0.0))
        numbers = cast(Sequence[float], values) if type(values[0]) is float else _to_floats(values)
        total = reduce(add, numbers, before)
        if type(total) is not float:  # there was something else among them
            numbers = _to_floats(values)
            total = reduce(add, numbers, before)
        last = self._reductions.get(name) == "last"
        self._folded[name] = [numbers[-1] if last else total, number + len(numbers)]
        return total

    def state_dict(self) -> dict[str, Any]:
        """Return unwritten sums, and where the writers are.

        Raises:
            NonFinite: if a loss was NaN or infinite since the last line.
        """
        self._fold()
        self._check()
        return {
            "folded": {name: list(pair) for name, pair in self._folded.items()},
            "latest": dict(self.latest),
            "last_step": self._last_step,
            "last_speed": list(self._last_speed),
            "writers": {name: writer.state_dict() for name, writer in self.writers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; to be called before `open`."""
        self._folded = {name: list(pair) for name, pair in state["folded"].items()}
        self.latest = dict(state["latest"])
        self._last_step = state["last_step"]
        self._last_speed = (state["last_speed"][0], state["last_speed"][1])
        for name, writer in self.writers.items():
            writer.load_state_dict(state["writers"].get(name, {}))


def _columns(rows: list[Metrics]) -> Iterator[tuple[str, Sequence[float | Tensor]]]:
    """Yield the values of each metric, in the order of the rows; not every row need have it."""
    names = tuple(rows[0]) if rows else ()
    if len(names) > 1 and set(map(len, rows)) == {len(names)}:  # as a rule: and several times as fast
        with suppress(KeyError):
            yield from zip(names, list(zip(*map(itemgetter(*names), rows), strict=True)), strict=True)
            return
    for name in dict.fromkeys(chain.from_iterable(rows)):
        yield name, [row[name] for row in rows if name in row]


def _to_floats(values: Sequence[float | Tensor]) -> Sequence[float]:
    """Return numbers and 0-d tensors as floats; tensors of another device cross to the host all at once."""
    kinds = set(map(type, values))
    if kinds == {float}:
        return cast(Sequence[float], values)
    if kinds == {Tensor}:
        tensors = cast(Sequence[Tensor], values)
        if tensors[0].is_cpu:
            return list(map(Tensor.item, tensors))
        moved: list[float] = torch.stack([tensor.detach().double() for tensor in tensors]).tolist()
        return moved
    return [float(value.item() if isinstance(value, Tensor) else value) for value in values]


# --- writers --------------------------------------------------------------------------------------


class JsonLinesWriter(Writer):
    """Writes metrics.jsonl: one object a line, NaN and infinities as null."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._length = 0

    def open(self, folder: RunFolder, *, resumed_at: int | None) -> None:  # noqa: D102
        path: Path = folder.metrics_file
        self._file = path.open("r+b" if path.exists() else "w+b")
        # whatever was written after the checkpoint will be written again
        self._file.truncate(min(self._length, self._file.seek(0, os.SEEK_END)))
        self._file.seek(0, os.SEEK_END)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: D102
        assert self._file is not None
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **values}).encode() + b"\n")
        self._file.flush()

    def flush(self) -> None:  # noqa: D102
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self, status: str) -> None:  # noqa: D102
        if self._file is not None:
            self._file.close()

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {"length": self._file.tell() if self._file is not None else 0}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: D102
        self._length = state.get("length", 0)


class MediaWriter(Writer):
    """Writes pictures and texts into the run folder: media/<name>-<step>.png and .txt."""

    def __init__(self) -> None:
        self._folder: RunFolder | None = None

    def open(self, folder: RunFolder, *, resumed_at: int | None) -> None:  # noqa: D102
        self._folder = folder
        for _, step, path in list(folder.media_files()):
            if step > (-1 if resumed_at is None else resumed_at):  # it will be drawn again
                path.unlink()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Do nothing: these are no pictures."""

    def media(self, step: int, name: str, item: object) -> None:  # noqa: D102
        assert self._folder is not None
        suffix, content = (".txt", item) if isinstance(item, str) else (".png", _png(item))
        self._folder.write(self._folder.media_file(name, step, suffix), content)


def _png(item: object) -> bytes:
    """Return a picture (a PIL image, or an array (height, width, 3) of uint8) as a PNG file."""
    import numpy as np
    from PIL import Image

    image = item if isinstance(item, Image.Image) else Image.fromarray(np.asarray(item))
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


class TensorBoardWriter(Writer):
    """Writes TensorBoard's event files: scalars, pictures, texts, and hyperparameters for the HPARAMS tab.

    Lines are handed on once a second: TensorBoard writes in a thread, and each time it wakes training waits.
    """

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None
        self._last_step: int | None = None
        self._lines: list[tuple[int, float, Mapping[str, float]]] = []  # step, time of day, metrics
        self._captions: dict[str, str] = {}  # those not yet written
        self._handed_on = 0.0

    def open(self, folder: RunFolder, *, resumed_at: int | None) -> None:  # noqa: D102
        from torch.utils.tensorboard import SummaryWriter

        # hide what a killed process wrote after its last checkpoint, or before its first
        earlier = any(folder.path.glob("events.out.tfevents.*"))
        if self._last_step is None:  # this writer was not there at the checkpoint
            self._last_step = -1 if resumed_at is None else resumed_at
        purge = self._last_step + 1 if earlier else None
        self._writer = SummaryWriter(str(folder.path), purge_step=purge, flush_secs=10)
        self._captions = dict(folder.info.get("captions") or {})
        self._add_hyperparameters(folder)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: D102
        assert self._writer is not None
        self._last_step = step
        now = time.time()
        self._lines.append((step, now, metrics))
        if not 0 <= now - self._handed_on < _HAND_ON:
            self._hand_on(now)

    def _hand_on(self, now: float) -> None:
        """Hand the lines on, each as one event; `add_scalar` would make one of each metric."""
        lines, self._lines, self._handed_on = self._lines, [], now
        summary = _protocol().Summary
        for step, at, metrics in lines:
            values: list[dict[str, Any]]
            values = [{"tag": name, "simple_value": value} for name, value in metrics.items() if name != "time"]
            for value in values if self._captions else ():
                if (caption := self._captions.pop(value["tag"], None)) is not None:
                    value["metadata"] = {"summary_description": caption}
            self._add_summary(summary(value=values), step, at)

    def media(self, step: int, name: str, item: object) -> None:  # noqa: D102
        assert self._writer is not None
        self._last_step = step
        self._hand_on(time.time())
        if isinstance(item, str):
            self._writer.add_text(name, item, step)
        else:
            import numpy as np

            array = np.asarray(item)
            self._writer.add_image(name, array, step, dataformats="HW" if array.ndim == 2 else "HWC")

    def flush(self) -> None:  # noqa: D102
        assert self._writer is not None
        self._hand_on(time.time())
        self._writer.flush()

    def close(self, status: str) -> None:  # noqa: D102
        if self._writer is None:
            return
        self._hand_on(time.time())
        self._add_summary(_session_end(status))
        self._writer.close()

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {"last_step": self._last_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: D102
        self._last_step = state.get("last_step")

    def _add_hyperparameters(self, folder: RunFolder) -> None:
        """Write the HPARAMS summaries into the run's own file; `SummaryWriter.add_hparams` makes a run of its own."""
        from torch.utils.tensorboard.summary import hparams

        values = {
            name: value if isinstance(value, bool | int | float | str) else to_text(value)
            for name, value in folder.identity().items()
        }
        experiment, start, _ = hparams(  # type: ignore[no-untyped-call]
            values, {folder.info["objective"]["metric"]: 0.0}
        )
        self._add_summary(experiment)
        self._add_summary(start)

    def _add_summary(self, summary: Any, step: int | None = None, at: float | None = None) -> None:
        assert self._writer is not None
        assert self._writer.file_writer is not None
        self._writer.file_writer.add_summary(summary, step, at)


def _protocol() -> Any:
    """Return the module of TensorBoard's summaries, whose members are made where no type checker sees them."""
    return import_module("tensorboard.compat.proto.summary_pb2")


def _session_end(status: str) -> Any:
    """Return the summary that tells the HPARAMS tab how a run ended."""
    # the members of these generated modules are made at import, where no type checker sees them
    api: Any = import_module("tensorboard.plugins.hparams.api_pb2")
    data: Any = import_module("tensorboard.plugins.hparams.plugin_data_pb2")
    protocol = _protocol()
    metadata: Any = import_module("tensorboard.plugins.hparams.metadata")
    codes = {"finished": api.STATUS_SUCCESS, "failed": api.STATUS_FAILURE}
    end = data.SessionEndInfo(status=codes.get(status, api.STATUS_UNKNOWN), end_time_secs=time.time())
    plugin_data = metadata.create_summary_metadata(data.HParamsPluginData(session_end_info=end))
    value = protocol.Summary.Value(tag="_hparams_/session_end_info", metadata=plugin_data)
    return protocol.Summary(value=[value])


class ConsoleWriter(Writer):
    """Writes each line of metrics to the log "rllab" (`--logger console`); the progress display is not this."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: D102
        values = "  ".join(f"{name} {value:.5g}" for name, value in metrics.items())
        logging.getLogger("rllab.metrics").info("step %d  %s", step, values)
