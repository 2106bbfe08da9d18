"""VAE: a variational autoencoder.

Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), https://arxiv.org/abs/1312.6114.

An image x is drawn from a latent z:  p(z) = N(0, I),  p(x|z) = decoder.  The encoder approximates what z was:
q(z|x) = N(mu(x), sigma(x)^2), one variance a dimension. For every q

    log p(x)  >=  ELBO(x)  =  E_q[log p(x|z)] - KL(q(z|x) || p(z))
    KL  =  1/2 sum_j (mu_j^2 + sigma_j^2 - 1 - log sigma_j^2)

    repeat for minibatches:  z = mu + sigma * noise, noise from N(0, I)       (the reparameterisation trick)
        take a gradient step on   -log p(x|z) + beta KL,  summed over dimensions, the mean over the batch

beta > 1 asks for fewer and more independent latents: Higgins et al., "beta-VAE" (2017). --conditional tells the class
to both networks: Sohn, Lee & Yan (2015). With more samples a tighter bound of log p(x) is measured, after training:

    log 1/K sum_k p(x, z_k) / q(z_k|x),  z_k from q    Burda, Grosse & Salakhutdinov, "Importance Weighted
                                                       Autoencoders" (2016)

What the numbers mean depends on the likelihood, and on what x is, --binarise:

    bernoulli   each pixel is 1 with a probability.
        static   x was drawn once, each pixel 1 with its intensity as the probability: Salakhutdinov & Murray (2008),
                 Larochelle & Murray (2011). The draw is by a seed of its own, the same in every run of one split.
        dynamic  the training part is drawn anew at every visit, as by Burda et al.; other parts once, as for static
        none     grey values stand for x in the same formula, which is then no likelihood: compare it with its like only
    gaussian    each pixel from 0 to 1 is normal around what is decoded, with one deviation for all pixels, which is
                learned: with a fixed one, such as 1, the KL outweighs the image, and nothing sharp is learned (Rybkin,
                Daniilidis & Levine, "Simple and Effective VAE Training with Calibrated Decoders", 2021). A density, not
                a probability: it may be above 0, and is kept finite by a deviation of at least 1/255, a step of bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from rllab import stopping
from rllab.algorithm import Metrics, Objective
from rllab.data import DatasetTask, Part
from rllab.generative import ImageConfig
from rllab.parts.averaging import average_of, averaged
from rllab.parts.optim import GradientSteps
from rllab.seeding import generator_of
from rllab_generative.imagenets import Decoder, Encoder, ImageNetConfig, multiply_adds_of_pair
from rllab_generative.latents import LatentModel, Shown, manifold, samples, summed

_DECODED = 4000
"""Images that are decoded at once for the importance-weighted bound."""
_DRAWS = {"train": 2008_1, "validation": 2008_2, "eval": 2008_3}
"""Seeds of binarisation: of the same split the bits are the same, whatever the run's seed is."""
_RANKING = 500
"""Images by which the most informative latents are found."""
_ACTIVE = 0.01
"""Variance of a latent's mean over the images from which on it is used (Burda et al., 2016)."""
_FLOOR = 1 / 255
"""The smallest deviation of the gaussian likelihood."""


class VAEConfig(ImageConfig, ImageNetConfig):
    """Hyperparameters of a variational autoencoder (Kingma & Welling, 2014)."""

    latent: PositiveInt = 20
    """Dimensions of the latent space."""

    beta: NonNegativeFloat = 1.0
    """Weight of the KL divergence in the loss (Higgins et al., 2017); 1: the loss is the negative ELBO."""

    conditional: bool = False
    """Tell the class to encoder and decoder (Sohn et al., 2015), so that images of a class can be asked for."""

    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """Of a pixel, given the latents: 1 with a probability, or normal with one learned deviation for all pixels."""

    binarise: Literal["none", "static", "dynamic"] = "none"
    """Pixels become 0 or 1 by chance: once (static), or anew at each visit (dynamic); none: they stay grey."""

    iwae: NonNegativeInt = 50
    """Samples an image of the importance-weighted bound (Burda et al., 2016), measured at the end; 0: not measured."""

    @model_validator(mode="after")
    def _likelihood_fits(self) -> Self:
        if self.likelihood == "gaussian" and self.binarise != "none":
            raise ValueError(
                f"--likelihood gaussian is for grey values, and --binarise {self.binarise} leaves none: "
                "write --binarise none, or --likelihood bernoulli"
            )
        return self


class Network(nn.Module):
    """Encoder q(z|x) and decoder p(x|z).

    Args:
        config: what they are made of.
        shape: of an image, (channels, height, width).
        classes: how many, if they are told the class; else 0.
    """

    def __init__(self, config: VAEConfig, shape: tuple[int, ...], classes: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.encoder = Encoder(config, shape, 2 * config.latent, classes)
        self.decoder = Decoder(config, config.latent, shape, classes)
        gaussian = config.likelihood == "gaussian"
        self.log_scale = nn.Parameter(torch.tensor(math.log(0.25))) if gaussian else None

    def hot(self, labels: Tensor) -> Tensor | None:
        """Return classes (B,) as one-hot vectors (B, classes), None if the networks are not told."""
        return F.one_hot(labels, self.classes).float() if self.classes else None

    def encode(self, images: Tensor, hot: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), (B, latent) each."""
        mean, log_variance = self.encoder(images, hot).chunk(2, 1)
        return mean, log_variance

    def decode(self, z: Tensor, hot: Tensor | None) -> Tensor:
        """Return what the decoder makes of z (B, latent): logits, or means of a normal, (B, *shape)."""
        images: Tensor = self.decoder(z, hot)
        return images

    def log_likelihood(self, outputs: Tensor, images: Tensor) -> Tensor:
        """Return log p(x|z) of each number in `images` (..., *shape), in nats, for `outputs` of `decode`."""
        if self.log_scale is None:
            return -F.binary_cross_entropy_with_logits(outputs, images, reduction="none")
        scale = self.scale()
        return -0.5 * ((images - outputs) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)

    def scale(self) -> Tensor:
        """Return the deviation of the gaussian likelihood."""
        assert self.log_scale is not None
        return _FLOOR + self.log_scale.exp()

    def expected(self, outputs: Tensor) -> Tensor:
        """Return the mean of p(x|z), in [0, 1], for `outputs` of `decode`."""
        return outputs.sigmoid() if self.log_scale is None else outputs.clamp(0, 1)


class VAE(LatentModel):
    """A decoder that draws images from latents, and an encoder that says which latents an image may have come from."""

    Config = VAEConfig
    config: VAEConfig

    @classmethod
    def objective(cls, task: DatasetTask) -> Objective:
        """Return the ELBO of the test part."""
        return Objective("eval/elbo", maximize=True)

    @classmethod
    def work(cls, config: VAEConfig, task: DatasetTask) -> float:
        """Return the multiply-adds of a gradient step, of which the backward pass takes two thirds."""
        classes = len(task.classes) if config.conditional else 0
        each = multiply_adds_of_pair(config, task.shape, 2 * config.latent, config.latent, classes)
        return 3.0 * config.batch_size * each

    def __init__(self, config: VAEConfig, task: DatasetTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.network = Network(config, self.shape, len(self.classes) if config.conditional else 0).to(device)
        self.average = average_of(self.network, config.ema)

    def setup(self) -> None:
        """Make the optimiser, and have the training part at hand, binarised if that is done once."""
        super().setup()
        self.optimizer = GradientSteps.of(self.network, self.config)
        if self.config.binarise == "static":
            inputs, low, width = self.train.inputs, self.pixels.low, self.pixels.width
            drawn = [(low + width * images).to(inputs.dtype) for images, _ in self.visits(self.train, "train")]
            self.train = Part(torch.cat(drawn), self.train.targets)  # the darkest and the brightest pixel

    # --- learning

    def step(self) -> Metrics:
        """Take a gradient step on the next minibatch."""
        images, labels = self.batch()  # (B, *shape)
        noise = self.streams.torch("noise", self.device)
        if self.config.binarise == "dynamic":
            images = torch.bernoulli(images, generator=noise)
        network, hot, lr = self.network, self.network.hot(labels), self.lr
        mean, log_variance = network.encode(images, hot)  # (B, latent) each
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=noise, device=self.device)
        reconstruction = network.log_likelihood(network.decode(z, hot), images).sum() / len(images)
        kl = divergence(mean, log_variance).sum() / len(images)
        loss = self.config.beta * kl - reconstruction
        self.optimizer(loss, lr=lr)
        if self.average is not None:
            self.average.update(network)
        self.count += len(images)
        kl, reconstruction = kl.detach(), reconstruction.detach()
        return {
            "train/loss": loss.detach(),
            "train/elbo": reconstruction - kl,
            "train/reconstruction": reconstruction,
            "train/kl": kl,
            "train/lr": lr,
        }

    # --- measuring

    def visits(self, part: Part, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through a part in order: images, binarised by a seed of their own (n, *shape), and classes (n,)."""
        draws = torch.Generator().manual_seed(_DRAWS[name])
        for images, labels in super().visits(part, name):
            if self.config.binarise != "none":
                images = (torch.rand(images.shape, generator=draws).to(self.device) < images).float()
            yield images, labels

    def measure(self, part: Part, name: str) -> Metrics:
        """Return the ELBO of a part and what it is made of, with one sample of z an image."""
        network, noise = averaged(self.network, self.average), self._noise(0)
        means, log_likelihood, kl = [], 0.0, 0.0
        with self.undisturbed():
            for images, labels in self.visits(part, name):
                hot = network.hot(labels)
                mean, log_variance = network.encode(images, hot)
                z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=noise).to(self.device)
                log_likelihood += summed(network.log_likelihood(network.decode(z, hot), images))
                kl += summed(divergence(mean, log_variance))
                means.append(mean)
            used = torch.cat(means).var(0, correction=0) > _ACTIVE
        reconstruction, kl = log_likelihood / len(part), kl / len(part)
        return {
            f"{name}/elbo": reconstruction - kl,
            f"{name}/nats": kl - reconstruction,
            f"{name}/reconstruction": reconstruction,
            f"{name}/kl": kl,
            f"{name}/active_latents": int(used.sum()),
        }

    def evaluate(self) -> Metrics:
        """Measure on the test part, there with the importance-weighted bound, and on the validation part."""
        measured = super().evaluate()
        if self.config.iwae:
            measured["eval/iwae"] = float(self.importance_weighted(self.task.data.parts["test"], "eval").mean())
        return measured

    def importance_weighted(self, part: Part, name: str) -> Tensor:
        """Return log 1/K sum_k p(x, z_k) / q(z_k|x) of each image of a part with K = --iwae.

        (N,) float64, on the CPU.
        """
        network, noise, number = averaged(self.network, self.average), self._noise(1), self.config.iwae
        bounds = []
        with self.undisturbed():
            for images, labels in self.visits(part, name):
                mean, log_variance = network.encode(images, network.hot(labels))  # (n, latent)
                each = max(1, _DECODED // number)
                for start in range(0, len(images), each):
                    stopping.check()
                    x, y, mu, log_var = (item[start : start + each] for item in (images, labels, mean, log_variance))
                    weights = [
                        log_weights(network, x, y, mu, log_var, torch.randn(some, *mu.shape, generator=noise))
                        for some in _pieces(number, _DECODED)
                    ]
                    bounds.append(torch.cat(weights).cpu().double().logsumexp(0) - math.log(number))
        return torch.cat(bounds)

    def _noise(self, key: int) -> torch.Generator:
        """Return a generator for measuring, on the CPU, which follows from seed and count."""
        return generator_of(self.streams.sequence("evaluation", self.count, key))

    @property
    def captions(self) -> Mapping[str, str]:
        """Return likelihood and binarisation, without which the numbers say nothing."""
        config = self.config
        if config.likelihood == "gaussian":
            words = "nats, gaussian likelihood of pixels from 0 to 1 with one learned deviation, no binarisation"
        elif config.binarise == "none":
            words = "nats, bernoulli likelihood of grey values, no binarisation: no proper likelihood"
        else:
            words = f"nats, bernoulli likelihood, {config.binarise} binarisation"
        parts = ("train", "validation", "eval")
        named = {f"{part}/{metric}": words for part in parts for metric in ("elbo", "reconstruction", "kl")}
        named |= {f"{part}/nats": f"negative ELBO; {words}" for part in parts[1:]}
        named["train/loss"] = f"negative ELBO, KL times {config.beta:g}; {words}"
        if config.iwae:
            named["eval/iwae"] = f"importance-weighted bound, {config.iwae} samples an image; {words}"
        return named

    # --- drawing

    def draw(self, n: int, labels: Tensor | None, generator: torch.Generator) -> Tensor:
        """Return the means of p(x|z) for z from the prior: pixels are not drawn one by one."""
        z = torch.randn(n, self.config.latent, generator=generator).to(self.device)
        network = averaged(self.network, self.average)
        return network.expected(network.decode(z, None if labels is None else network.hot(labels)))

    def encode_batch(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the means of q(z|x)."""
        network = averaged(self.network, self.average)
        return network.encode(images, network.hot(labels))[0]

    def decode_batch(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Return the means of p(x|z)."""
        network = averaged(self.network, self.average)
        return network.expected(network.decode(latents, network.hot(labels)))

    def pictures(self, *, final: bool = True) -> Mapping[str, Any]:
        """Return samples, reconstructions, latents, interpolations, traversals, and the manifold of two dimensions."""
        with self.undisturbed():
            shown = Shown(self)
            network = averaged(self.network, self.average)
            images, labels = shown.images[:_RANKING].to(self.device), shown.labels[:_RANKING].to(self.device)
            kl = divergence(*network.encode(images, network.hot(labels))).mean(0).cpu()
            found = {
                "samples": samples(self, self.config.latent),
                "reconstructions": shown.reconstructions(),
                "latents": shown.scatter(limit=4.0),
                "traversals": shown.traversals(kl),
            }
            if (between := shown.interpolations()) is not None:
                found["interpolations"] = between
            if self.config.latent == 2:
                found["manifold"] = manifold(self)
        return found


# --- mathematics ----------------------------------------------------------------------------------


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) of each dimension, in nats (Kingma & Welling, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def log_weights(
    network: Network, images: Tensor, labels: Tensor, mean: Tensor, log_variance: Tensor, noise: Tensor
) -> Tensor:
    """Return log p(x|z) + log p(z) - log q(z|x) for z = mean + deviation * noise, (K, n).

    Args:
        network: encoder and decoder.
        images: x, (n, *shape).
        labels: numbers of their classes (n,).
        mean: of q(z|x), (n, latent).
        log_variance: of q(z|x), (n, latent).
        noise: (K, n, latent), from N(0, I).
    """
    noise = noise.to(mean.device)
    number = len(noise)
    z = mean + (0.5 * log_variance).exp() * noise  # (K, n, latent)
    hot = network.hot(labels.repeat(number)) if network.classes else None
    outputs = network.decode(z.flatten(0, 1), hot).view(number, *images.shape)  # (K, n, *shape)
    reconstruction = network.log_likelihood(outputs, images.expand_as(outputs)).flatten(2).sum(2)
    prior_minus_posterior = 0.5 * (noise.square() + log_variance - z.square()).sum(2)
    return reconstruction + prior_minus_posterior


def _pieces(number: int, size: int) -> list[int]:
    """Return a number as a sum of numbers of at most `size`."""
    return [min(size, number - start) for start in range(0, number, size)]
