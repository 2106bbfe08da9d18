"""What the judge says of drawn images, and of images of which one knows how good they are.

A number like `judge_frechet` means little by itself. So each table of models has reference rows below it, of as many
images, made from the training part: as they are (as good as it gets, and copied, which `copied` shows), blurred,
noisy, without one class, only a few of them again and again, and plain noise.

All is compared with the test part. Of density and coverage, which depend on how many there are on both sides, each
side has as many as the smaller one, chosen at random.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rllab.data import DatasetTask, Part
from rllab.errors import UsageError
from rllab.minibatches import epoch_order
from rllab_generative.judge import FEATURES, Judge, cache_folder, content_key, fit, keep
from rllab_generative.quality import (
    check_enough,
    class_shares,
    classes_covered,
    closeness,
    copied,
    density_coverage,
    frechet,
)

DRAWN = 2000
"""Images in a row, if the dataset has as many for the reference rows."""
FEW = 20
"""How often each image is there in the reference row of a few copied images."""
_SEED = 21
_VERSION = 2
"""To be raised with any change of what the rows are or how they are measured."""
_NOISE = 0.2
_LISTED = 20

COLUMNS = {
    "judge_frechet": "Frechet distance to the test part in the judge's features (not FID); lower is better",
    "density": "how many real neighbourhoods a drawn image lies in; 1 for new real images; outliers can raise it",
    "coverage": "share of the real neighbourhoods with a drawn image in them; .969 for new real images",
    "classes_covered": "classes drawn at least a tenth as often as they occur",
    "copied": "share that is a training image, or nearly; .01 for new real images",
    "nearest": "distance to the nearest training image; 1 for new real images, less for blurred ones",
    "trained_on_samples": "accuracy on the test part of a classifier trained on these images alone",
    "labels_by_judge": "whether its labels are the judge's opinion of the images, or the classes that were asked for",
}
"""What a row is made of."""


class Drawn(NamedTuple):
    """Images to be judged.

    Attributes:
        images: (n, *shape) in [0, 1].
        labels: (n,), the classes they were asked for; None where nobody asked, and the judge says.
    """

    images: Tensor
    labels: Tensor | None = None


def judged(judge: Judge, drawn: Tensor, labels: Tensor | None = None, *, training: bool = True) -> dict[str, float]:
    """Return what the judge says of drawn images, by name: `COLUMNS`, and the share of each of up to 20 classes.

    Args:
        judge: of the dataset that the model learned from.
        drawn: (n, *shape) in [0, 1].
        labels: (n,), the classes they were asked for, which `trained_on_samples` uses; None: the judge's opinion.
        training: whether to measure `trained_on_samples`, which takes longest.

    Raises:
        UsageError: if there are too few images, they have another shape, or are not finite.
        StopRequested: after a signal.
    """
    _check(judge, drawn)
    features = judge.features(drawn)  # (n, 64)
    classes = judge.classify_features(features)
    number = min(len(features), len(judge.test_features))
    real, some = (side[_chosen(len(side), number, _SEED)] for side in (judge.test_features, features))
    density, coverage = density_coverage(real, some)
    shares = class_shares(classes, len(judge.task.classes))
    distances = judge.nearest(drawn)
    found = {
        "judge_frechet": frechet(features, judge.test_features),
        "density": density,
        "coverage": coverage,
        "classes_covered": float(classes_covered(shares, judge.shares)),
        "copied": copied(distances, judge.test_nearest),
        "nearest": closeness(distances, judge.test_nearest),
    }
    if training:
        found["trained_on_samples"] = train_on_samples(judge, drawn, classes if labels is None else labels)
        found["labels_by_judge"] = float(labels is None)
    if len(judge.task.classes) <= _LISTED:
        named = zip(judge.task.classes, shares.tolist(), strict=True)
        found |= {f"share_{name}": share for name, share in named}
    return found


def measured_names(task: DatasetTask) -> list[str]:
    """Return the names of what `judged` measures of images like those of a dataset."""
    shares = task.classes if len(task.classes) <= _LISTED else ()
    return [*COLUMNS, *(f"share_{name}" for name in shares)]


def train_on_samples(judge: Judge, drawn: Tensor, labels: Tensor) -> float:
    """Return the accuracy on the test part of a classifier that learned from drawn images alone.

    It is a network like the judge, trained from scratch in the same way. Labels that are the judge's opinion carry
    what the judge knows: from enough of them a network learns to agree with it, even on noise. Such a number is to be
    held against that of uniform noise, and not against that of labels which were asked for.

    Args:
        judge: of the dataset.
        drawn: (n, *shape) in [0, 1].
        labels: (n,), the classes that the images were asked for; where there are none, the judge's opinion of them.
    """
    part = Part(drawn.float(), labels).to(judge.device)
    network = fit(part, nn.Identity(), len(judge.task.classes), seed=_SEED)
    return Judge(network, judge.task, judge.device).accuracy


def _check(judge: Judge, drawn: Tensor) -> None:
    if tuple(drawn.shape[1:]) != judge.task.shape:
        raise UsageError(
            f"the judge of {judge.task.name} takes images of {judge.task.shape}, and not of {tuple(drawn.shape[1:])}"
        )
    check_enough(len(drawn), FEATURES, "drawn images")
    if not bool(torch.isfinite(drawn).all()):
        raise UsageError("there are drawn images with pixels that are NaN or infinite")


def _chosen(number: int, size: int, seed: int) -> Tensor:
    """Return `size` of so many rows, in a random order that follows from the seed."""
    return epoch_order(number, np.random.SeedSequence(seed))[:size]


# --- reference rows -------------------------------------------------------------------------------


def most(task: DatasetTask) -> int:
    """Return how many images the reference rows can have: all of the training part but those of the first class."""
    return int((task.data.train.targets != 0).sum())


def check_number(task: DatasetTask, n: int) -> None:
    """Refuse to judge rows of n images, if those are too few to measure, or more than the reference rows can have.

    Raises:
        UsageError: that says how many it can be.
    """
    check_enough(n, FEATURES, "drawn images")
    if n > most(task):
        raise UsageError(
            f"{n} images: the reference rows have {most(task)} different ones at most, as the training part of"
            f" {task.name} has no more without its first class",
            f"Write -n {most(task)} or less.",
        )


def reference_images(judge: Judge, n: int, seed: int = 0) -> dict[str, Drawn]:
    """Return n images for each of the reference rows, with their labels.

    Raises:
        UsageError: if n is too small, or the training part has not as many.
    """
    check_number(judge.task, n)
    train = judge.task.data.train
    order = _chosen(len(train), len(train), seed)

    def real(rows: Tensor) -> Drawn:
        return Drawn(judge.pixels(train.inputs[rows]), train.targets[rows])

    images, labels = real(order[:n])
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=generator) * _NOISE
    width = min(judge.task.shape[1:]) ** 0.5 / 7  # pixels: .4 for a side of 8, .76 for one of 28
    missing = order[train.targets[order] != 0][:n]
    few = order[: max(n // FEW, 1)]
    return {
        "training images": Drawn(images, labels),
        "blurred a little": Drawn(blurred(images, width), labels),
        "blurred": Drawn(blurred(images, 2 * width), labels),
        "noisy": Drawn((images + noise).clamp(0, 1), labels),
        f"no class {judge.task.classes[0]}": real(missing),
        f"{len(few)} images copied": real(few[torch.arange(n) % len(few)]),
        "uniform noise": Drawn(torch.rand(images.shape, generator=generator)),
    }


def reference_rows(
    judge: Judge, n: int, seed: int = 0, *, training: bool = True, tell: Callable[[str], object] = len
) -> dict[str, dict[str, float]]:
    """Return what the judge says of n images in each of the reference rows; see `judged`.

    They follow from the dataset and the judge, and are kept in the cache as well.

    Args:
        judge: of the dataset.
        n: images in a row.
        seed: of the choice of images, and of the noise.
        training: whether to measure `trained_on_samples`.
        tell: is told the name of each row before it is measured.

    Raises:
        UsageError: if the training part has not as many images.
    """
    name = f"{content_key(judge.task, 'test')}-{judge.hash}-v{_VERSION}-{n}-{seed}{'-trained' * training}.json"
    path = cache_folder() / "judges" / name
    rows = _kept(path)
    if rows is None:
        rows = {}
        for name, drawn in reference_images(judge, n, seed).items():
            tell(name)
            rows[name] = judged(judge, *drawn, training=training)
        text = json.dumps(rows, indent=1)
        keep(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return rows


def _kept(path: Path) -> dict[str, dict[str, float]] | None:
    """Return rows from the cache; None if they are not there, or not whole."""
    try:
        rows: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
        whole = all(isinstance(value, float) for row in rows.values() for value in row.values())
    except (OSError, ValueError, AttributeError):
        return None
    return rows if rows and whole else None


def blurred(images: Tensor, width: float) -> Tensor:
    """Return images (n, channels, height, width) smoothed by a Gaussian of a standard deviation of so many pixels."""
    reach = min(int(3 * width) + 1, min(images.shape[2:]) - 1)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width) ** 2)
    weights /= weights.sum()
    channels = images.shape[1]
    padded = nn.functional.pad(images, (reach,) * 4, mode="replicate")
    across = nn.functional.conv2d(padded, weights.repeat(channels, 1, 1, 1), groups=channels)
    return nn.functional.conv2d(across, weights[:, None].repeat(channels, 1, 1, 1), groups=channels).clamp_(0, 1)


# --- as a table -----------------------------------------------------------------------------------


def judge_table(judge: Judge, samples: Mapping[str, Drawn], *, seed: int = 0, training: bool = True) -> str:
    """Return a text of what the judge says of models' samples, and below them of as many images in reference rows.

    Args:
        judge: of the dataset that the models learned from.
        samples: the models' images by the name of their row, all equally many.
        seed: of the reference rows.
        training: whether to measure `trained_on_samples`, which takes longest.

    Raises:
        UsageError: if there are too few images, or too many for the reference rows, or not equally many.
    """
    sizes = {len(drawn.images) for drawn in samples.values()}
    if len(sizes) != 1:
        raise UsageError(f"rows of {sorted(sizes)} images cannot be compared: draw equally many for each")
    n = sizes.pop()
    check_number(judge.task, n)
    rows = {name: judged(judge, *drawn, training=training) for name, drawn in samples.items()}
    return table(judge, [*rows.items(), *reference_rows(judge, n, seed, training=training).items()], n)


def table(judge: Judge, rows: Sequence[tuple[str, Mapping[str, float]]], n: int) -> str:
    """Return rows of measures as a text, a Markdown table with a line about each column below it."""
    columns = [name for name in COLUMNS if all(name in row for _, row in rows)]
    cells = [["", *columns], *([name, *(_cell(column, row[column]) for column in columns)] for name, row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["| " + " | ".join(_aligned(cell, i, widths[i]) for i, cell in enumerate(line)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|")
    what = [f"- {name}: {COLUMNS[name]}" for name in columns]
    return "\n".join([*lines, "", about(judge, n), *what]) + "\n"


def about(judge: Judge, n: int) -> str:
    """Return which judge it was, and what was compared with what."""
    return (
        f"Judge {judge.hash}, accuracy {judge.accuracy:.4f} on the test part; {n} images in each row, compared with the"
        f" {len(judge.test_features)} of the test part of {judge.task.name}."
    )


def _cell(column: str, value: float) -> str:
    if column == "labels_by_judge":
        return "yes" if value else "no"
    return f"{value:.0f}" if column == "classes_covered" else f"{value:.3f}"


def _aligned(cell: str, column: int, width: int) -> str:
    return f"{cell:>{width}}" if column else f"{cell:{width}}"
