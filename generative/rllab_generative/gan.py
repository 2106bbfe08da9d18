"""GAN: a generator that learns to draw what a discriminator takes for real.

Goodfellow et al., "Generative adversarial nets", NeurIPS 2014: algorithm 1 with k = 1, and the non-saturating loss of
the generator (section 3). Convolutions: Radford, Metz & Chintala, ICLR 2016. Smoothing of the real labels alone:
Salimans et al., "Improved techniques for training GANs", NeurIPS 2016. By class: Mirza & Osindero, "Conditional
generative adversarial nets" (2014); the discriminator has a row of last weights for each class, which is the projection
of Miyato & Koyama, "cGANs with projection discriminator", ICLR 2018.

    repeat, for every epoch in a new order of the training part
        take the next minibatch x;  z ~ N(0, 1);  x' = G(z)
        L_D = mean of -(1 - s) log D(x) - s log(1 - D(x))  +  mean of -log(1 - D(x'))     a step of D, where x' is fixed
        L_G = mean of -log D(x'),  D as it is after its step                              a step of G, where D is fixed

Both steps see the same z: the images need to be drawn only once, and the gradient of L_G goes through them. Where D can
but guess, L_D = 2 log 2 = 1.39 and L_G = log 2 = .69. Neither has to fall as samples get better.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from rllab.algorithm import Metrics, Objective
from rllab.data import DatasetTask, Part, datasets_for
from rllab.errors import UsageError
from rllab.generative import ImageConfig, ImageModel
from rllab.minibatches import epoch_order
from rllab.parts.averaging import average_of, averaged
from rllab.parts.layers import multiply_adds
from rllab.parts.optim import GradientSteps, Share
from rllab.parts.walls import wall
from rllab.seeding import generator_of
from rllab.supervised import refuses_shape
from rllab_generative.collapse import Sign, Stretch, diversity, report, signs
from rllab_generative.gannets import cnn_discriminator, cnn_generator, mlp_discriminator, mlp_generator
from rllab_generative.imagenets import Channels, NetworkName, kind, unused
from rllab_generative.judge import FEATURES, Judge, check_judged
from rllab_generative.measures import DRAWN, Drawn, judge_table, judged, measured_names, most
from rllab_generative.quality import check_enough, class_shares, classes_covered, frechet, needed

_STRETCHES = 20
"""Parts of training of which the means are kept, to see where the game goes."""
_WARM_UP = 0.2
"""Share of the training before which nobody is warned: samples of a generator that knows nothing are alike."""
_WARM_UP_EPOCHS = 3
"""And so many epochs."""
_SHARES = 20
"""A share is advised in steps of 1 / 20, and below 0.9."""
_BELONGS = {"hidden": "mlp", "channels": "cnn"}
"""Options of one network alone."""
_SHOWN = 64
_COLUMNS = 8
_ROWS = 16

_log = logging.getLogger("rllab")


class GANConfig(ImageConfig):
    """Hyperparameters of generative adversarial networks (Goodfellow et al., 2014)."""

    network: NetworkName = "auto"
    """mlp, cnn (DCGAN), or auto: mlp for images of up to 1024 numbers, such as 28x28 grey pixels, else cnn."""

    latent: PositiveInt = 64
    """Numbers in the noise that becomes an image."""

    hidden: tuple[PositiveInt, ...] = (512, 256)
    """Units of the discriminator's hidden layers (mlp); the generator has them the other way round."""

    channels: Channels = (32, 64)
    """Channels of the discriminator's convolutions (cnn), each of which halves the image; the generator has them the
    other way round."""

    conditional: bool = False
    """Tell both networks the class, to draw images of a class that is asked for (Mirza & Osindero, 2014)."""

    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """How much less than 1 the discriminator is to say of real images (Salimans et al., 2016); 0 of drawn ones."""

    dropout: Share = 0.3
    """Share of the discriminator's hidden units (mlp), or of what its last layer sees (cnn), dropped in training."""

    lr: PositiveFloat = 2e-4
    """Step size of both optimisers, where the schedule has it highest."""

    betas: tuple[Share, Share] = (0.5, 0.999)
    """How much of the running means of the gradient and of its square Adam keeps at a step."""


def _way_out(task: DatasetTask) -> str:
    """Return what to do about a part that is too small to compare samples with; empty if none is."""
    sizes, least = {name: len(part) for name, part in task.data.parts.items()}, needed(FEATURES)
    if sizes["test"] < least:
        items, option = sum(sizes.values()), "--test-share"
    elif sizes.get("validation", least) < least:
        items, option = sum(sizes.values()) - sizes["test"], "--validation-share"
    else:
        return ""
    share = math.ceil(_SHARES * least / items) / _SHARES
    larger = "write fewer --folds, or " if task.config.folds and option == "--test-share" else ""
    if not larger and share < 0.9:
        larger = f"write {option} {share:g}, or "
    return f"; {larger}take a larger dataset"


def discriminator_loss(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return L_D, which is 2 log 2 for logits of 0; log D = -softplus(-logit), log(1 - D) = -softplus(logit).

    Args:
        real: logits of real images (B,), to become 1 - smoothing.
        fake: logits of drawn images (B,), to become 0: those are never smoothed.
        smoothing: s.
    """
    # (1 - s) softplus(-l) + s softplus(l) = softplus(-l) + s l
    return (softplus(-real) + smoothing * real).mean() + softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Return L_G, the non-saturating one, for logits of drawn images (B,)."""
    return softplus(-fake).mean()


class Seen(NamedTuple):
    """What an evaluation has seen, for the report at the end."""

    after: int
    signs: list[Sign]
    diversity: float


class GAN(ImageModel):
    """Two networks that play against each other.

    Attributes:
        generator: from noise (B, latent), with a one-hot class if `conditional`, to images in [-1, 1].
        average: of the generator's weights, to draw with; may be None.
        discriminator: from images in [-1, 1] to logits of being real: (B, 1), or if `conditional` (B, classes).
        course: what was lost and told apart, a mean over each finished stretch of training, see `watch`.
    """

    Config = GANConfig
    config: GANConfig
    transient: ClassVar[frozenset[str]] = ImageModel.transient | {"_judge", "_features", "_warned", "_seen"}
    pictures_every = "5%"

    @classmethod
    def refusal(cls, config: GANConfig, task: DatasetTask) -> str | None:
        """Return why it cannot learn the inputs of `task`, or why its samples could not be judged."""
        if (reason := super().refusal(config, task)) is not None:
            return reason
        if (reason := unused(cls, config, task.shape, _BELONGS)) is not None:
            return reason
        try:
            check_judged(task)
            if (validation := task.data.parts.get("validation")) is not None:
                check_enough(len(validation), FEATURES, f"validation items of {task.name}")
        except UsageError as error:
            return f"its samples could not be judged: {error}{_way_out(task)}"
        return None

    @classmethod
    def alternatives(cls, config: GANConfig) -> list[str]:
        """Return the names of the datasets that it takes."""
        # how many items there are is not known without loading them
        return datasets_for(
            lambda task: (
                refuses_shape(task, 3, "images") is None
                and bool(task.classes)
                and unused(cls, config, task.shape, _BELONGS) is None
            )
        )

    @classmethod
    def objective(cls, task: DatasetTask) -> Objective:
        """Return the Frechet distance between samples and the test part in the judge's features."""
        return Objective("eval/judge_frechet", maximize=False)

    @classmethod
    def work(cls, config: GANConfig, task: DatasetTask) -> float:
        """Return the multiply-adds of a step: of the mirrored networks, G passes 3 times, D 8 times."""
        with torch.device("meta"):
            discriminator = cls.build(config, task)[1]
            once = multiply_adds(discriminator, torch.zeros(1, *task.shape))
        return 11.0 * config.batch_size * once

    @classmethod
    def build(cls, config: GANConfig, task: DatasetTask) -> tuple[nn.Sequential, nn.Sequential]:
        """Return generator and discriminator."""
        classes = len(task.classes) if config.conditional else 0
        inputs, outputs = config.latent + classes, max(classes, 1)
        if kind(config.network, task.shape) == "cnn":
            generator = cnn_generator(inputs, config.channels, task.shape)
            return generator, cnn_discriminator(task.shape, config.channels, outputs, config.dropout)
        generator = mlp_generator(inputs, config.hidden, task.shape)
        return generator, mlp_discriminator(task.shape, config.hidden, outputs, config.dropout)

    def __init__(self, config: GANConfig, task: DatasetTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        generator, discriminator = self.build(config, task)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        self.average = average_of(self.generator, config.ema)
        self.course: list[list[float]] = []
        self.sums = torch.zeros(len(Stretch._fields), device=device)  # over the stretch that goes on
        self.summed = 0
        self._judge: Judge | None = None
        self._features: dict[str, Tensor] = {}
        self._warned: set[str] = set()
        self._seen: Seen | None = None

    def setup(self) -> None:
        """Make the two optimisers."""
        super().setup()
        self.generator_steps = GradientSteps.of(self.generator, self.config)
        self.discriminator_steps = GradientSteps.of(self.discriminator, self.config)

    # --- learning

    def step(self) -> Metrics:
        """Take a step with the discriminator, and one with the generator against it."""
        images, labels = self.batch()
        number, lr = len(images), self.lr
        noise = torch.randn(
            number, self.config.latent, generator=self.streams.torch("noise", self.device), device=self.device
        )
        drawn = self.generator(self.told(noise, labels))  # (B, *shape) in [-1, 1], with the graph of its gradient
        both = torch.cat([2 * images - 1, drawn.detach()])  # (2B, *shape)
        real, fake = self.logits(both, torch.cat([labels, labels])).chunk(2)  # (B,), (B,)
        loss_discriminator = discriminator_loss(real, fake, self.config.smoothing)
        self.discriminator_steps(loss_discriminator, lr=lr)

        # differentiated by the generator's weights alone
        loss_generator = generator_loss(self.logits(drawn, labels))
        self.generator_steps(loss_generator, lr=lr)
        if self.average is not None:
            self.average.update(self.generator)

        self.count += number
        told_apart = (real > 0).float().mean(), (fake < 0).float().mean()
        measured = torch.stack([loss_discriminator.detach(), loss_generator.detach(), *told_apart])
        self.watch(measured, number)
        return {**{f"train/{name}": measured[i] for i, name in enumerate(Stretch._fields)}, "train/lr": lr}

    def told(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Return what the generator takes: noise (B, latent), and if `conditional` one-hot classes beside it."""
        if not self.conditional:
            return noise
        assert labels is not None
        return torch.cat([noise, one_hot(labels, len(self.classes)).to(noise.dtype)], 1)

    def logits(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (B,) of being real, for images (B, *shape) in [-1, 1] of classes (B,)."""
        outputs: Tensor = self.discriminator(images)  # (B, 1), or (B, classes)
        return outputs.gather(1, labels[:, None]).squeeze(1) if self.conditional else outputs.squeeze(1)

    def watch(self, measured: Tensor, number: int) -> None:
        """Add what a step measured (4,) on so many images to the stretch that goes on; keep its mean at its end.

        A stretch ends with the step that finishes a twentieth of the budget: there are 20 of them in a run, fewer if a
        step is longer than that. They belong to the budget of their time: after one was raised, longer ones follow
        those of the shorter run.
        """
        self.sums.add_(measured, alpha=number)
        self.summed += number
        if self.count * _STRETCHES // self.budget > (self.count - number) * _STRETCHES // self.budget:
            self.course.append((self.sums / self.summed).tolist())
            self.sums.zero_()
            self.summed = 0

    # --- drawing

    def draw(self, n: int, labels: Tensor | None, generator: torch.Generator) -> Tensor:
        """Return drawn images (n, *shape) in [0, 1]."""
        noise = torch.randn(n, self.config.latent, generator=generator).to(self.device)
        images: Tensor = averaged(self.generator, self.average)(self.told(noise, labels))
        return (images + 1) / 2

    def fixed(self, n: int, stream: str) -> Drawn:
        """Return n images on noise that follows from the seed alone, on the CPU; if `conditional` with their classes.

        The classes are as frequent as in the training part.
        """
        noise, order = self.streams.sequence(stream).spawn(2)
        targets = self.task.data.train.targets
        rows = epoch_order(len(targets), order)
        labels = targets[rows[torch.arange(n) % len(rows)]].cpu() if self.conditional else None
        return Drawn(self.sample(n, labels=labels, generator=generator_of(noise)), labels)

    # --- measuring

    @property
    def judge(self) -> Judge:
        """The judge of the dataset, from the cache or trained now."""
        if self._judge is None:
            self._judge = Judge.of(self.task, self.device)
        return self._judge

    @property
    def captions(self) -> Mapping[str, str]:
        """Return which judge it was, for every number that depends on one; it is trained now if it never was."""
        judge = f"judge {self.judge.hash}"
        named = {f"{part}/classes_covered": judge for part in ("validation", "eval")}
        named |= {f"eval/{name}": judge for name in measured_names(self.task)}
        return named | {f"{part}/judge_frechet": f"{judge}; not FID" for part in ("validation", "eval")}

    def samples_to_measure(self) -> Drawn:
        """Draw the images that are measured: as many as in the reference rows, and on the same noise each time."""
        return self.fixed(max(min(DRAWN, most(self.task)), needed(FEATURES)), "evaluation")

    def measure(self, part: Part, name: str) -> Metrics:
        """Return what can be measured in a second or two, of samples on the same noise each time."""
        return self._compare(self.samples_to_measure(), part, name)

    def evaluate(self) -> Metrics:
        """Measure as on the way, and what takes longer: density, copying, what a classifier learns from samples."""
        drawn, parts = self.samples_to_measure(), self.task.data.parts
        measured: Metrics = {}
        if "validation" in parts:
            measured |= self._compare(drawn, parts["validation"], "validation")
        measured |= self._compare(drawn, parts["test"], "eval")
        return measured | {f"eval/{name}": value for name, value in judged(self.judge, *drawn).items()}

    def _compare(self, drawn: Drawn, part: Part, name: str) -> Metrics:
        """Return what tells drawn images from those of a part; look for signs of collapse."""
        images, labels = drawn
        rows = epoch_order(len(part), np.random.SeedSequence(0))[: len(images)]
        inputs, targets = self.pixels(part.inputs[rows].to(self.device)).cpu(), part.targets[rows].cpu()
        features = self.judge.features(images)
        classes = self.judge.classify_features(features)
        shares = class_shares(classes, len(self.classes))
        variety = diversity(images, inputs, None if labels is None else (labels, targets))
        told_apart = (
            self.told_apart(inputs, targets),
            1 - self.told_apart(images, classes if labels is None else labels),
        )
        self._look(variety, shares)
        return {
            f"{name}/judge_frechet": frechet(features, self._real(part, name)),
            f"{name}/classes_covered": float(classes_covered(shares, self.judge.shares)),
            f"{name}/diversity": variety,
            f"{name}/accuracy_real": told_apart[0],
            f"{name}/accuracy_fake": told_apart[1],
        }

    def told_apart(self, images: Tensor, labels: Tensor) -> float:
        """Return the share of images (n, *shape) in [0, 1] that the discriminator takes for real."""
        with self.undisturbed():
            chunks = zip(torch.split(images, DRAWN), torch.split(labels, DRAWN), strict=True)
            taken = [(self.logits(2 * x.to(self.device) - 1, y.to(self.device)) > 0).cpu() for x, y in chunks]
        return float(torch.cat(taken).double().mean())

    def _real(self, part: Part, name: str) -> Tensor:
        """Return the judge's features of a part, (m, 64)."""
        if name == "eval":
            return self.judge.test_features
        if name not in self._features:
            self._features[name] = self.judge.features(self.judge.pixels(part.inputs.cpu()))
        return self._features[name]

    def _look(self, variety: float, shares: Tensor) -> None:
        """Look for signs of collapse; warn of each bad one once."""
        real = self.judge.shares
        named = (dict(zip(self.classes, side.tolist(), strict=True)) for side in (shares, real))
        found = signs(self.stretches, variety, *named)
        self._seen = Seen(self.count, found, variety)
        if self.count < max(_WARM_UP * self.budget, _WARM_UP_EPOCHS * self.epoch):
            return
        for sign in found:
            if sign.bad and sign.name not in self._warned:
                self._warned.add(sign.name)
                _log.warning("%s: %s", self.when, sign.text)

    @property
    def stretches(self) -> list[Stretch]:
        """The means over each finished stretch of training, in order."""
        return [Stretch(*means) for means in self.course]

    # --- looking at it

    def pictures(self, *, final: bool = True) -> Mapping[str, Any]:
        """Return samples on the same noise each time, chosen by nobody; at the end what is to be said of them."""
        found: dict[str, Any] = {"samples": self._wall()}
        if not final:
            return found
        drawn = self.samples_to_measure()
        if self._seen is None or self._seen.after != self.count:
            self._compare(drawn, self.task.data.parts["test"], "eval")
        assert self._seen is not None
        found["signs"] = report(self._seen.signs, self.stretches, self._seen.diversity)
        if len(drawn.images) <= most(self.task):
            found["judge"] = judge_table(self.judge, {"gan": drawn}, training=False)
            found["judge"] += "\n`rllab judge RUN` adds trained_on_samples to each row, and compares runs.\n"
        return found

    def _wall(self) -> Any:
        generator = generator_of(self.streams.sequence("wall"))
        if not self.conditional:
            images = self.sample(_SHOWN, generator=generator)
            return wall(images, _COLUMNS, f"The first {_SHOWN} samples, {self.when}")
        names = self.classes[:_ROWS]
        labels = torch.arange(len(names)).repeat_interleave(_COLUMNS)
        images = self.sample(len(labels), labels=labels, generator=generator)
        return wall(images, _COLUMNS, f"The first {_COLUMNS} samples of a class, {self.when}", rows=names)
