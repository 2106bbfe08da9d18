"""Autoencoder: a network that has to say an image in a few numbers, and what it cannot say stands out.

Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks" (2006); Rumelhart, Hinton & Williams,
"Learning internal representations by error propagation" (1986).

    z = encoder(x),  x' = decoder(z),  z with fewer numbers than x
    repeat for minibatches: take a gradient step on the mean of (x' - x)^2 over pixels and images

Linear networks (--hidden none) find the plane of the first principal components (Baldi & Hornik, 1989). With --noise
the encoder sees x + noise and the decoder has to give x back: a denoising autoencoder (Vincent et al., "Extracting and
Composing Robust Features with Denoising Autoencoders", 2008). The images of the held-out part that it gives back worst
are the outliers.

Nothing is known of how z is distributed, so that nothing can be drawn from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from rllab.algorithm import Metrics, Objective
from rllab.data import DatasetTask, Part
from rllab.errors import UsageError
from rllab.generative import ImageConfig
from rllab.parts.averaging import average_of, averaged
from rllab.parts.drawing import shorten
from rllab.parts.optim import GradientSteps
from rllab_generative.imagenets import Decoder, Encoder, ImageNetConfig, multiply_adds_of_pair
from rllab_generative.latents import LatentModel, Shown, outliers, summed

_OUTLIERS = 24
"""Outliers that are shown."""


class AutoencoderConfig(ImageConfig, ImageNetConfig):
    """Hyperparameters of an autoencoder (Hinton & Salakhutdinov, 2006)."""

    latent: PositiveInt = 20
    """Numbers in which an image has to be said."""

    noise: NonNegativeFloat = 0.0
    """Deviation of the noise on pixels (0 to 1) that the encoder sees in training (Vincent et al., 2008); 0: none."""


class Network(nn.Module):
    """Encoder and decoder.

    Args:
        config: what they are made of.
        shape: of an image, (channels, height, width).
    """

    def __init__(self, config: AutoencoderConfig, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = Encoder(config, shape, config.latent)
        self.decoder = Decoder(config, config.latent, shape)

    def forward(self, images: Tensor) -> Tensor:
        """Return reconstructions (B, *shape) of images (B, *shape)."""
        reconstructions: Tensor = self.decoder(self.encoder(images))
        return reconstructions


class MeanImage(nn.Module):
    """The mean of the training images: the best guess of whoever is told nothing. It is saved with the weights.

    Args:
        shape: of an image, (channels, height, width).
    """

    image: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("image", torch.zeros(shape))


class Autoencoder(LatentModel):
    """An encoder into a few numbers and a decoder out of them, trained to give the image back.

    Attributes:
        network: encoder and decoder.
        average: of its weights, to measure with; may be None.
        mean: the mean image, from `setup` on or loaded.
    """

    Config = AutoencoderConfig
    config: AutoencoderConfig
    refuses_sampling = (
        "nothing can be drawn from an autoencoder: it does not know how its latents are distributed; "
        "a `vae` does, and one can be trained in the same way"
    )

    @classmethod
    def objective(cls, task: DatasetTask) -> Objective:
        """Return the root mean squared error of a pixel of the test part."""
        return Objective("eval/rmse", maximize=False)

    @classmethod
    def work(cls, config: AutoencoderConfig, task: DatasetTask) -> float:
        """Return the multiply-adds of a gradient step, of which the backward pass takes two thirds."""
        return 3.0 * config.batch_size * multiply_adds_of_pair(config, task.shape, config.latent, config.latent)

    def __init__(self, config: AutoencoderConfig, task: DatasetTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.network = Network(config, self.shape).to(device)
        self.average = average_of(self.network, config.ema)
        self.mean = MeanImage(self.shape).to(device)

    def setup(self) -> None:
        """Make the optimiser, have the training part at hand, and take its mean."""
        super().setup()
        self.optimizer = GradientSteps.of(self.network, self.config)
        total = torch.zeros(self.shape, dtype=torch.float64)
        for images, _ in self.visits(self.train, "train"):
            total += images.sum(0).cpu()
        self.mean.image.copy_(total / len(self.train))

    def step(self) -> Metrics:
        """Take a gradient step on the next minibatch."""
        images, _ = self.batch()  # (B, *shape)
        seen, lr = images, self.lr
        if self.config.noise:
            noise = torch.randn(images.shape, generator=self.streams.torch("noise", self.device), device=self.device)
            seen = images + self.config.noise * noise
        loss = nn.functional.mse_loss(self.network(seen), images)
        self.optimizer(loss, lr=lr)
        if self.average is not None:
            self.average.update(self.network)
        self.count += len(images)
        return {"train/loss": loss.detach(), "train/rmse": loss.detach().sqrt(), "train/lr": lr}

    # --- measuring

    def measure(self, part: Part, name: str) -> Metrics:
        """Return the root mean squared error of a pixel, and that of the mean of the training images."""
        squares, baseline = 0.0, 0.0
        with self.undisturbed():
            for images, _ in self.visits(part, name):
                squares += float(self.squares(images).sum())
                baseline += summed((images - self.mean.image).square())
        numbers = len(part) * math.prod(self.shape)
        return {
            f"{name}/rmse": math.sqrt(squares / numbers),
            f"{name}/mean_image_rmse": math.sqrt(baseline / numbers),
        }

    def squares(self, images: Tensor) -> Tensor:
        """Return the squared error of images (n, *shape), summed over the pixels of each, (n,) float64 on the CPU."""
        again: Tensor = averaged(self.network, self.average)(images)
        return (again - images).square().flatten(1).cpu().sum(1, dtype=torch.float64)

    # --- looking into it

    def draw(self, n: int, labels: Tensor | None, generator: torch.Generator) -> Tensor:
        """Refuse, as `sample` does: there is no distribution of latents to draw from."""
        raise UsageError(str(self.refuses_sampling))

    def encode_batch(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the latents of images."""
        found: Tensor = averaged(self.network, self.average).encoder(images)
        return found

    def decode_batch(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Return what the decoder makes of latents; pixels are cut off at 0 and 1."""
        found: Tensor = averaged(self.network, self.average).decoder(latents)
        return found.clamp(0, 1)

    def pictures(self, *, final: bool = True) -> Mapping[str, Any]:
        """Return reconstructions, outliers, latents and interpolations."""
        with self.undisturbed():
            shown = Shown(self)
            found = {
                "reconstructions": shown.reconstructions(),
                "outliers": self._outliers(),
                "latents": shown.scatter(),
            }
            if (between := shown.interpolations()) is not None:
                found["interpolations"] = between
        return found

    def _outliers(self) -> Any:
        """Return a picture of the held-out images with the largest error."""
        part = self.shown_part
        squares = torch.cat([self.squares(images) for images, _ in self.visits(part, "eval")])
        errors = (squares / math.prod(self.shape)).sqrt()
        worst = errors.argsort(descending=True, stable=True)[:_OUTLIERS]
        images = self.pixels(part.inputs[worst].to(self.device)).cpu()
        labels = torch.zeros(len(worst), dtype=torch.long)
        again = self.decode(self.encode(images, labels), labels)
        captions = [f"{errors[row]:.3f}" for row in worst]
        if self.classes:
            names = [shorten(self.classes[int(part.targets[row])], 12) for row in worst]
            captions = [f"{name}\n{error}" for name, error in zip(names, captions, strict=True)]
        usual = float(errors.median())
        title = f"Outliers: the largest errors of {len(part):,} held-out images {self.when} (the median is {usual:.3f})"
        return outliers(images, again, captions, title)
