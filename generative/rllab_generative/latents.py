"""Models with a latent space, an encoder into it and a decoder out of it, and pictures of what is in there.

In: a `LatentModel`, trained or on the way. Out: images by name, which the trainer's callback hands to the logger, and
makes films of: the same items of the held-out part are shown each time, and the same places of the latent space.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rllab import stopping
from rllab.data import DatasetTask, Part
from rllab.generative import ImageModel
from rllab.parts import drawing
from rllab.parts.drawing import INK, shorten, styled
from rllab.parts.walls import wall
from rllab.seeding import generator_of
from rllab_generative.imagenets import ImageNetConfig, unused

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

_CHUNK = 500
"""Images that go through the networks at once."""
_ITEMS = 20
"""Held-out items whose reconstructions are shown."""
_PAIRS = 8
"""Pairs of held-out items between which the latents go."""
_POINTS = 3000
"""Held-out items whose latents are drawn at most."""
_CLASSES = 20
"""Classes that are shown by name."""
_TRAVERSED = 10
"""Latent dimensions that are traversed at most."""
_SIDE = 16
"""Images along a side of the manifold."""


class LatentModel(ImageModel):
    """A model of images that encodes them into a latent space, and decodes them out of it."""

    pictures_every: ClassVar[str] = "10%"

    @classmethod
    def refusal(cls, config: ImageNetConfig, task: DatasetTask) -> str | None:
        """Return why it cannot learn the inputs of `task`, or which option would do nothing."""
        # its dense layers have --hidden with either network
        return super().refusal(config, task) or unused(cls, config, task.shape, {"channels": "cnn"})

    @abstractmethod
    def encode_batch(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the latents of some images at once, (n, latent), as pictures show them; called without gradients.

        Args:
            images: (n, *shape) in [0, 1], on the device.
            labels: numbers of their classes (n,), on the device.
        """

    @abstractmethod
    def decode_batch(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Return the images of some latents at once, (n, *shape) in [0, 1]; called without gradients.

        Args:
            latents: (n, latent), on the device.
            labels: numbers of their classes (n,), on the device; they count if `conditional`.
        """

    @property
    def shown_part(self) -> Part:
        """Return the part of which pictures are drawn: the validation part, or without one the test part."""
        parts = self.task.data.parts
        return parts.get("validation", parts["test"])

    def visits(self, part: Part, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through a part in order: images as the model is shown them (n, *shape), and targets (n,), on the device.

        Args:
            part: whose.
            name: of the part, as its metrics are named: train, validation or eval.
        """
        for some in part.chunks(_CHUNK):
            stopping.check()
            images: Tensor = self.pixels(some.inputs.to(self.device))
            yield images, some.targets.to(self.device)

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the latents of images (N, *shape) on the CPU, (N, latent)."""
        pieces = zip(torch.split(images, _CHUNK), torch.split(labels, _CHUNK), strict=True)
        with torch.no_grad():
            return torch.cat([self.encode_batch(x.to(self.device), y.to(self.device)).cpu() for x, y in pieces])

    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the images of latents (N, latent) on the CPU, (N, *shape) in [0, 1]."""
        chosen = torch.zeros(len(latents), dtype=torch.long) if labels is None else labels
        pieces = zip(torch.split(latents, _CHUNK), torch.split(chosen, _CHUNK), strict=True)
        with torch.no_grad():
            return torch.cat([self.decode_batch(z.to(self.device), y.to(self.device)).cpu() for z, y in pieces])


def summed(numbers: Tensor) -> float:
    """Return the sum of numbers of any shape on any device, added up in float64, which not every device has."""
    return float(numbers.cpu().sum(dtype=torch.float64))


# --- of held-out items ------------------------------------------------------------------------------


class Shown:
    """Some items of the held-out part, with their latents.

    Args:
        model: the model; to be called without gradients.
    """

    def __init__(self, model: LatentModel) -> None:
        stopping.check()
        self.model = model
        self.part = model.shown_part[:_POINTS]
        self.labels = self.part.targets if model.classes else torch.zeros(len(self.part), dtype=torch.long)
        name = "validation" if "validation" in model.task.data.parts else "eval"
        self.images = torch.cat([images.cpu() for images, _ in model.visits(self.part, name)])
        self.latents = model.encode(self.images, self.labels)

    def reconstructions(self) -> Image:
        """Return a picture of images, each above what becomes of it through the latent space."""
        columns = _ITEMS // 2
        originals = self.images[:_ITEMS]
        again = self.model.decode(self.latents[:_ITEMS], self.labels[:_ITEMS])
        lines = [
            group[start : start + columns]
            for start in range(0, len(originals), columns)
            for group in (originals, again)
        ]
        names = ["original", "reconstruction"] * (len(lines) // 2)
        return wall(torch.cat(_filled(lines, columns)), columns, f"Reconstructions {self.model.when}", rows=names)

    def scatter(self, limit: float | None = None) -> Image:
        """Return a picture of the latents in the plane, those of each class in its colour.

        Args:
            limit: how far the axes reach; None: as far as the latents.
        """
        number, dimensions = self.latents.shape
        points, names, share = plane(self.latents)
        where = "" if dimensions <= 2 else f", {100 * share:.0f} % of their variance"
        title = f"Latents of {number:,} held-out images {self.model.when}{where}"
        labels = self.part.targets.numpy() if self.model.classes else None
        figure = scatter(points.numpy(), labels, self.model.classes, names, title, limit if dimensions <= 2 else None)
        return drawing.render(figure)

    def interpolations(self) -> Image | None:
        """Return a picture of the way from one image to another, straight through the latent space.

        They are of different classes; for a model that is told the class, of one.
        """
        pairs = self._pairs()
        if not pairs:
            return None
        first, last = (torch.tensor([pair[i] for pair in pairs]) for i in (0, 1))
        steps = torch.linspace(0, 1, 8)
        ends = self.latents[first, None], self.latents[last, None]
        between = torch.lerp(*ends, steps[None, :, None])  # (P, 8, latent)
        labels = self.labels[first].repeat_interleave(len(steps))
        drawn = self.model.decode(between.flatten(0, 1), labels).view(len(pairs), len(steps), *self.model.shape)
        whole = torch.cat([self.images[first, None], drawn, self.images[last, None]], 1)  # (P, 10, *shape)
        heads = ["image", *(f"{step:.0%}".replace("%", " %") for step in steps.tolist()), "image"]
        return wall(whole.flatten(0, 1), whole.shape[1], f"Between two images {self.model.when}", heads=heads)

    def _pairs(self) -> list[tuple[int, int]]:
        """Return which items are the ends of interpolations."""
        if not self.model.classes:
            return [(2 * i, 2 * i + 1) for i in range(min(_PAIRS, len(self.part) // 2))]
        rows = [torch.nonzero(self.labels == label).flatten()[:2].tolist() for label in range(len(self.model.classes))]
        if self.model.conditional:
            return [(found[0], found[1]) for found in rows if len(found) == 2][:_PAIRS]
        firsts = [found[0] for found in rows if found]
        return [(a, b) for a, b in zip(firsts, firsts[1:] + firsts[:1], strict=True) if a != b][:_PAIRS]

    def traversals(self, kl: Tensor) -> Image:
        """Return a picture of what single latents do: each goes from -3 to 3, and the others stay at an image's.

        Args:
            kl: how much each says, in nats, (latent,); those that say most are shown.
        """
        steps = torch.linspace(-3, 3, 11)
        chosen = kl.argsort(descending=True, stable=True)[:_TRAVERSED]
        latents = self.latents[0].repeat(len(chosen), len(steps), 1)  # (rows, columns, latent)
        for row, dimension in enumerate(chosen.tolist()):
            latents[row, :, dimension] = steps
        labels = self.labels[:1].expand(len(chosen) * len(steps))
        drawn = self.model.decode(latents.flatten(0, 1), labels)
        names = [f"z{int(dimension) + 1}: {float(kl[dimension]):.2f} nats" for dimension in chosen]
        heads = [f"{step:+.1f}" if abs(step) > 0.05 else "0" for step in steps.tolist()]
        title = f"One latent at a time, from the first held-out image {self.model.when}"
        return wall(drawn, len(steps), title, rows=names, heads=heads)


def _filled(lines: Sequence[Tensor], columns: int) -> list[Tensor]:
    """Return lines of images, those that are short filled up with white."""
    return [torch.cat([line, line.new_ones(columns - len(line), *line.shape[1:])]) for line in lines]


# --- of what is drawn -------------------------------------------------------------------------------


def samples(model: LatentModel, latent: int) -> Image:
    """Return a picture of images that are drawn from latents of the prior, the same each time.

    A model that is told the class has a row for each, with the same latents, so that a column shares what is no class.

    Args:
        model: which can draw.
        latent: dimensions of the latent space.
    """
    generator = generator_of(model.streams.sequence("pictures"))
    columns = 10
    title = f"Samples {model.when}"
    if not model.conditional:
        return wall(model.decode(torch.randn(10 * columns, latent, generator=generator)), columns, title)
    names = [shorten(name, 18) for name in model.classes[:_CLASSES]]
    labels = torch.arange(len(names)).repeat_interleave(columns)
    latents = torch.randn(columns, latent, generator=generator).repeat(len(names), 1)
    return wall(model.decode(latents, labels), columns, f"{title}, a column from the same latents", rows=names)


def manifold(model: LatentModel) -> Image:
    """Return a picture of the images all over a latent space of two dimensions, at equal steps of probability.

    Kingma & Welling (2014), figure 4: the unit square goes through the inverse distribution function of the normal.
    """
    drawn = model.decode(grid(_SIDE))
    which = f" of class {shorten(model.classes[0], 18)}" if model.conditional else ""
    return wall(drawn, _SIDE, f"The latent plane{which} at equal steps of probability {model.when}", gap=2)


def grid(side: int) -> Tensor:
    """Return places of the plane, (side * side, 2), row by row from the top left, the same share of a normal apart."""
    places = torch.special.ndtri((torch.arange(side, dtype=torch.float64) + 0.5) / side).float()
    y, x = torch.meshgrid(places.flip(0), places, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)


# --- planes -----------------------------------------------------------------------------------------


def plane(latents: Tensor) -> tuple[Tensor, tuple[str, str], float]:
    """Return latents (N, latent) in a plane, (N, 2), names of its axes, and the share of the variance that is in it.

    More than two dimensions are shown by their first two principal components, of which the largest weight is
    positive; one dimension against 0.
    """
    dimensions = latents.shape[1]
    if dimensions == 1:
        return torch.cat([latents, torch.zeros_like(latents)], 1), ("z1", ""), 1.0
    if dimensions == 2:
        return latents, ("z1", "z2"), 1.0
    centred = latents.double() - latents.double().mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    axes = vectors[:, -2:].flip(1)  # (latent, 2), the first has the most variance
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0)
    total = float(values.clamp(min=0).sum())
    share = float(values[-2:].sum()) / total if total > 0 else 1.0
    return (centred @ axes).float(), ("first principal component", "second principal component"), share


@styled
def scatter(
    points: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any] | None,
    classes: Sequence[str],
    names: tuple[str, str],
    title: str = "",
    limit: float | None = None,
) -> Figure:
    """Draw points (n, 2), those of each class in its colour with its name in their middle."""
    from matplotlib.patheffects import withStroke

    figure = drawing.sheet(6.4, 5.2, title)
    axes = figure.subplots()
    axes.set(xlabel=names[0], ylabel=names[1], box_aspect=1)
    if limit is not None:
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    axes.grid(visible=True)
    size = 14 if len(points) < 500 else 7
    if labels is None or not 0 < len(classes) <= _CLASSES:
        axes.scatter(points[:, 0], points[:, 1], s=size, linewidths=0, alpha=0.7, color=drawing.COLOURS[0])
        return figure
    palette = drawing.colours(classes)
    outlined = [withStroke(linewidth=2.5, foreground="white")]
    for number, name in enumerate(classes):
        theirs = points[labels == number]
        if not len(theirs):
            continue
        look: dict[str, Any] = {"color": palette[number], "marker": drawing.marker(number), "label": shorten(name, 18)}
        axes.scatter(theirs[:, 0], theirs[:, 1], s=size, linewidths=0, alpha=0.7, **look)
        x, y = np.median(theirs, 0)
        written: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "fontweight": "bold",
            "path_effects": outlined,
            "clip_on": True,
        }
        axes.text(x, y, shorten(name, 12), color=INK, zorder=5, **written)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), markerscale=1.6)
    return figure


# --- the odd ones -----------------------------------------------------------------------------------


def outliers(images: Tensor, again: Tensor, captions: Sequence[str], title: str) -> Image:
    """Return a picture of images (N, *shape), each above its reconstruction and with a caption below both."""
    both = torch.cat([images, images.new_ones(*images.shape[:2], 1, images.shape[3]), again], 2)
    return wall(both, min(12, len(both)), title, captions=captions, gap=10)
