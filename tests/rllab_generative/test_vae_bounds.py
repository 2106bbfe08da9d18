"""The VAE's bounds against closed forms."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from rllab_generative.vae import VAE, Network, VAEConfig, divergence, log_weights
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from rllab import experiment, planning
from rllab.data import Data, Part


def built(target: str = "digits", **options: Any) -> Any:
    planned = planning.plan("vae", target, {"preset": "none", "device": "cpu", **options})
    algorithm, _ = experiment.build(planned)
    algorithm.setup()
    return algorithm


def test_the_divergence_from_the_prior_is_the_closed_form_and_0_at_the_prior() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = (torch.randn(7, 4, generator=generator) for _ in range(2))
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(divergence(mean, log_variance), expected)
    assert divergence(torch.zeros(1), torch.zeros(1)).item() == 0
    assert divergence(torch.tensor([2.0]), torch.zeros(1)).item() == 2, "half of the mean's square"


class Linear:
    """A linear decoder with normal pixels: z from N(0, I), x = W z + b + 0.3 noise; log p(x) is known.

    The columns of W are orthogonal, so that p(z|x) has one variance a dimension, as q(z|x) has. The encoder is it.
    """

    SHAPE = (1, 2, 3)

    def __init__(self, iwae: int = 5) -> None:
        config = VAEConfig(network="mlp", hidden=(), latent=2, likelihood="gaussian", iwae=iwae)
        self.network: Any = Network(config, self.SHAPE)
        weights = torch.zeros(6, 2)
        weights[:3, 0], weights[3:, 1] = torch.tensor([0.5, -0.2, 0.4]), torch.tensor([0.1, 0.7, -0.3])
        bias = torch.linspace(0.2, 0.7, 6)
        scale = 0.3
        precision = 1 + weights.square().sum(0) / scale**2  # of p(z|x), (2,)
        gain = (weights / scale**2 / precision).T  # E[z|x] = gain (x - b), (2, 6)
        decoder, encoder = self.network.decoder.dense[0], self.network.encoder.dense[0]
        with torch.no_grad():
            assert self.network.log_scale is not None
            self.network.log_scale.fill_(math.log(scale - 1 / 255))
            decoder.weight.copy_(weights)
            decoder.bias.copy_(bias)
            encoder.weight.copy_(torch.cat([gain, torch.zeros(2, 6)]))
            encoder.bias.copy_(torch.cat([-gain @ bias, -precision.log()]))
        self.evidence = MultivariateNormal(bias, weights @ weights.T + scale**2 * torch.eye(6))
        self.images = torch.rand(40, *self.SHAPE, generator=torch.Generator().manual_seed(3))

    def log_evidence(self) -> torch.Tensor:
        """Return log p(x) of each image."""
        return self.evidence.log_prob(self.images.flatten(1))

    def model(self, iwae: int) -> VAE:
        """Return a VAE with this network, whose test part these images are."""
        model = built(network="mlp", hidden="none", latent=2, likelihood="gaussian", iwae=iwae)
        model.network, model.shape = self.network, self.SHAPE
        model.pixels = torch.nn.Identity()
        part = Part(self.images, torch.zeros(len(self.images), dtype=torch.long))
        model.task.data = Data(part, test=part)
        return model  # type: ignore[no-any-return]


def weights_of(linear: Linear, samples: int, seed: int = 0) -> torch.Tensor:
    with torch.no_grad():
        mean, log_variance = linear.network.encode(linear.images, None)
        noise = torch.randn(samples, *mean.shape, generator=torch.Generator().manual_seed(seed))
        labels = torch.zeros(len(mean), dtype=torch.long)
        return log_weights(linear.network, linear.images, labels, mean, log_variance, noise).double()


def test_with_the_true_posterior_every_importance_weight_is_the_evidence() -> None:
    linear = Linear()
    found = weights_of(linear, samples=4)
    torch.testing.assert_close(found, linear.log_evidence().double().expand(4, -1), rtol=0, atol=1e-4)


def test_with_the_true_posterior_both_bounds_are_the_evidence() -> None:
    linear = Linear()
    measured = linear.model(iwae=7).evaluate()
    evidence = linear.log_evidence().mean().item()
    assert measured["eval/iwae"] == pytest.approx(evidence, abs=1e-4)
    # one sample an image: its closed-form KL is no longer that of the sample, so that some noise is left
    assert measured["eval/elbo"] == pytest.approx(evidence, abs=0.5)
    assert measured["eval/nats"] == -float(measured["eval/elbo"])
    assert measured["eval/active_latents"] == 2


def test_the_bounds_are_in_order_below_the_evidence_if_the_posterior_is_wrong() -> None:
    linear = Linear()
    with torch.no_grad():
        linear.network.encoder.dense[0].bias.add_(torch.tensor([0.5, -0.3, 0.8, 0.8]))
    evidence = linear.log_evidence().mean().item()
    # many samples make the expectations of both bounds sharp
    weights = weights_of(linear, samples=4000)
    elbo = weights.mean(0).mean().item()
    with torch.no_grad():
        mean, log_variance = linear.network.encode(linear.images, None)
        gap = kl_divergence(  # log p(x) - ELBO(x) = KL(q(z|x) || p(z|x))
            Normal(mean, (0.5 * log_variance).exp()),
            Normal(mean - torch.tensor([0.5, -0.3]), (0.5 * (log_variance - 0.8)).exp()),
        )
    assert elbo == pytest.approx(evidence - gap.sum(1).mean().item(), abs=0.02)
    bounds = [(weights.view(-1, k, 40).logsumexp(1) - math.log(k)).mean().item() for k in (1, 5, 50, 4000)]
    assert bounds[0] == pytest.approx(elbo, abs=1e-9), "with one sample it is the ELBO"
    assert bounds[0] < bounds[1] < bounds[2] < evidence < bounds[3] + 0.02
    assert bounds[3] == pytest.approx(evidence, abs=0.02)


def test_one_importance_sample_is_the_elbo_in_expectation() -> None:
    linear = Linear()
    with torch.no_grad():
        linear.network.encoder.dense[0].bias.add_(torch.tensor([0.5, -0.3, 0.8, 0.8]))
    one, elbos = linear.model(iwae=1), []
    singles = []
    for count in range(300):  # the noise follows from the count
        one.count = count
        measured = one.evaluate()
        singles.append(measured["eval/iwae"])
        elbos.append(measured["eval/elbo"])
    error = float(np.hypot(np.std(singles), np.std(elbos)) / math.sqrt(300))
    assert np.mean(singles) == pytest.approx(np.mean(elbos), abs=4 * error)
    assert error < 0.05


def test_a_bound_with_more_samples_than_fit_at_once_is_the_same_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = Linear()
    whole = linear.model(iwae=600).evaluate()["eval/iwae"]
    monkeypatch.setattr("rllab_generative.vae._DECODED", 128)
    pieces = linear.model(iwae=600).evaluate()["eval/iwae"]
    assert pieces == pytest.approx(float(whole), abs=1e-3)


def test_the_bernoulli_likelihood_is_that_of_each_pixel_summed() -> None:
    network = Network(VAEConfig(network="mlp", hidden=(), latent=2), (1, 1, 2))
    logits, pixels = torch.tensor([[[[math.log(3.0), 0.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    assert network.log_likelihood(logits, pixels).sum().item() == pytest.approx(math.log(0.75) + math.log(0.5))


def test_the_gaussian_likelihood_has_its_constants_and_a_floor() -> None:
    network = Network(VAEConfig(network="mlp", hidden=(), latent=2, likelihood="gaussian"), (1, 1, 1))
    assert network.log_scale is not None
    network.log_scale.data.fill_(math.log(0.5 - 1 / 255))
    found = network.log_likelihood(torch.tensor(0.2), torch.tensor(0.9))
    assert found.item() == pytest.approx(Normal(0.2, 0.5).log_prob(torch.tensor(0.9)).item())
    network.log_scale.data.fill_(-1000.0)
    assert network.scale().item() == pytest.approx(1 / 255)
