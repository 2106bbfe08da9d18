"""The VAE: its numbers against closed forms, what it refuses, and its contract."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rllab_generative.latents import grid, plane
from rllab_generative.vae import VAE, Network, VAEConfig, divergence, log_weights
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from rllab import experiment, planning
from rllab.data import Data, Part
from rllab.errors import UsageError
from rllab.testing import check_algorithm, check_resume_in_new_process, first_difference

SMALL: dict[str, Any] = {"hidden": "8", "latent": 3, "iwae": 3, "epochs": 2}


def built(target: str = "digits", **options: Any) -> Any:
    planned = planning.plan("vae", target, {"preset": "none", "device": "cpu", **SMALL, **options})
    algorithm, _ = experiment.build(planned)
    algorithm.setup()
    return algorithm


# --- the contract -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"network": "mlp"},
        {"network": "cnn", "channels": "2,3", "conditional": True, "hidden": "none"},
        {"binarise": "dynamic", "ema": 0.9, "schedule": "cosine"},
        {"binarise": "static", "conditional": True, "beta": 4.0},
        {"likelihood": "gaussian", "max_grad_norm": 1.0, "validation_share": 0.2},
    ],
    ids=str,
)
def test_it_keeps_the_contract(options: dict[str, Any]) -> None:
    check_algorithm("vae", "digits", steps=4, **{**SMALL, "batch_size": 150, **options})


@pytest.mark.parametrize("preset", ["digits", "mnist", "mnist-cnn", "course"])
def test_presets_are_valid(preset: str) -> None:
    assert planning.plan("vae", "digits", {"preset": preset}).config is not None


@pytest.mark.slow
def test_a_run_goes_on_in_a_new_process_as_if_never_stopped(tmp_path: Path) -> None:
    options = ["--hidden", "16", "--latent", "3", "--epochs", "4", "--binarise", "dynamic", "--ema", "0.99"]
    options += ["--preset", "none", "--iwae", "2", "--device", "cpu", "--pictures-every", "0"]
    check_resume_in_new_process("vae", "digits", budget=4 * 1437, stop_after=2000, options=options, folder=tmp_path)


# --- mathematics ------------------------------------------------------------------------------------


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
        self.network = Network(config, self.SHAPE)
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


# --- signs and sums ---------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_the_loss_is_the_negative_elbo_with_beta_and_all_is_summed_over_dimensions(beta: float) -> None:
    model = built(beta=beta, batch_size=50)
    found = model.step()
    loss, elbo, reconstruction, kl = (
        float(found[f"train/{name}"]) for name in ("loss", "elbo", "reconstruction", "kl")
    )
    assert loss == pytest.approx(beta * kl - reconstruction, rel=1e-5)
    assert elbo == pytest.approx(reconstruction - kl, rel=1e-5)
    assert kl > 0 > reconstruction
    # before training each of the 64 pixels has about probability 1/2
    assert reconstruction == pytest.approx(-64 * math.log(2), rel=0.1)


def test_beta_and_the_part_do_not_change_what_is_measured() -> None:
    one, four = built(beta=1.0), built(beta=4.0)
    assert one.evaluate() == four.evaluate(), "the ELBO is measured with beta 1"


def test_no_elbo_is_above_what_is_possible_of_binarised_images() -> None:
    model = built(binarise="dynamic", hidden="64", epochs=20, batch_size=50)
    while model.count < model.budget:
        model.step()
    measured = model.evaluate()
    part = model.task.data.parts["test"]
    images = model.pixels(part.inputs)
    entropy = -(images * images.log().nan_to_num(neginf=0) + (1 - images) * (1 - images).log().nan_to_num(neginf=0))
    bound = -entropy.flatten(1).sum(1).mean().item()  # given its grey image nobody can guess the bits any better
    assert -45 < measured["eval/elbo"] < measured["eval/iwae"] + 0.1
    assert measured["eval/iwae"] < bound
    assert measured["eval/elbo"] == pytest.approx(measured["eval/reconstruction"] - measured["eval/kl"])


def test_the_bound_with_many_samples_is_above_the_elbo_after_training() -> None:
    model = built(likelihood="gaussian", hidden="32", epochs=10, batch_size=50, iwae=20)
    before = model.evaluate()["eval/elbo"]
    while model.count < model.budget:
        model.step()
    measured = model.evaluate()
    assert measured["eval/iwae"] > measured["eval/elbo"] > before + 10
    assert "eval/iwae" not in model.validate()


# --- binarisation -----------------------------------------------------------------------------------


def test_static_bits_are_drawn_once_with_the_intensity_whatever_the_seed() -> None:
    one, other = built(binarise="static", seed=0, split_seed=0), built(binarise="static", seed=1, split_seed=0)
    assert torch.equal(one.train.inputs, other.train.inputs)
    bits, grey = one.pixels(one.train.inputs), one.pixels(one.task.data.train.inputs)
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    assert bool((bits[grey == 0] == 0).all())
    assert bool((bits[grey == 1] == 1).all())
    for low, high in ((0.1, 0.4), (0.4, 0.6), (0.6, 0.9)):
        chosen = (grey > low) & (grey < high)
        spread = 4 * math.sqrt(0.25 / int(chosen.sum()))
        assert bits[chosen].mean().item() == pytest.approx(grey[chosen].mean().item(), abs=spread)
    first = torch.cat([images for images, _ in one.visits(one.task.data.parts["test"], "eval")])
    again = torch.cat([images for images, _ in other.visits(other.task.data.parts["test"], "eval")])
    assert torch.equal(first, again)


def test_bytes_stay_bytes_when_they_are_binarised(tmp_path: Path) -> None:
    folder(tmp_path, (6, 5))
    model = built(str(tmp_path), binarise="static", split_seed=0)
    assert model.train.inputs.dtype is torch.uint8
    assert set(model.train.inputs.unique().tolist()) <= {0, 255}


def test_dynamic_bits_are_drawn_anew_at_each_visit_and_the_test_part_is_not() -> None:
    model = built(binarise="dynamic", batch_size=1437)
    seen = []
    encode = model.network.encode

    def watch(images: torch.Tensor, hot: Any) -> Any:
        seen.append(images)
        return encode(images, hot)

    model.network.encode = watch
    model.step()
    model.step()
    first, second = (images[model.minibatches.rows(0).argsort()] for images in seen)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first.sum(0), second.sum(0))
    test = model.task.data.parts["test"]
    parts = [torch.cat([images for images, _ in model.visits(test, "eval")]) for _ in range(2)]
    assert torch.equal(*parts)


@pytest.mark.parametrize("options", [{}, {"binarise": "static"}, {"binarise": "dynamic"}, {"likelihood": "gaussian"}])
def test_likelihood_and_binarisation_stand_beside_every_number(options: dict[str, Any]) -> None:
    captions = built(**options).captions
    for name in ("train/loss", "eval/elbo", "validation/elbo", "eval/nats", "eval/reconstruction", "eval/iwae"):
        assert options.get("likelihood", "bernoulli") in captions[name]
        assert options.get("binarise", "no binarisation") in captions[name]
        assert "nats" in captions[name]
    assert "3 samples" in captions["eval/iwae"]
    assert ("no proper likelihood" in captions["eval/elbo"]) == (not options)


# --- networks of any size ---------------------------------------------------------------------------


def folder(path: Path, size: tuple[int, int], mode: str = "L") -> None:
    """Write two classes of images into a folder."""
    random = np.random.default_rng(0)
    for name in ("one", "two"):
        (path / name).mkdir()
        for number in range(8):
            shape = (*size, 3) if mode == "RGB" else size
            Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(path / name / f"{number}.png")


@pytest.mark.parametrize(("size", "mode"), [((7, 13), "L"), ((33, 18), "RGB"), ((3, 2), "RGB")], ids=str)
def test_images_of_odd_sizes_and_colours_come_back_in_their_size(
    tmp_path: Path, size: tuple[int, int], mode: str
) -> None:
    folder(tmp_path, size, mode)
    for network in ("cnn", "mlp", "auto"):
        model = built(str(tmp_path), network=network, channels="2,3,4", conditional=True, batch_size=5)
        model.step()
        drawn = model.sample(3, generator=torch.Generator().manual_seed(0))
        assert drawn.shape == (3, 3 if mode == "RGB" else 1, *size)
        assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1


def test_auto_takes_convolutions_for_large_images_only() -> None:
    config = VAEConfig()
    assert [config.kind(shape) for shape in ((1, 28, 28), (1, 32, 32), (3, 32, 32))] == ["mlp", "mlp", "cnn"]
    assert VAEConfig(network="cnn").kind((1, 8, 8)) == "cnn"


def test_the_class_changes_what_is_drawn_from_the_same_latents() -> None:
    model = built(conditional=True)
    drawn = [
        model.sample(4, labels=torch.full((4,), label), generator=torch.Generator().manual_seed(0)) for label in (0, 1)
    ]
    assert not torch.allclose(*drawn)
    assert torch.equal(
        drawn[1], model.sample(4, labels=torch.ones(4).long(), generator=torch.Generator().manual_seed(0))
    )
    without = built()
    with pytest.raises(UsageError, match="not trained by class"):
        without.sample(2, labels=torch.zeros(2).long(), generator=torch.Generator())


# --- pictures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"latent": 2}, {"manifold"}),
        ({"latent": 1, "conditional": True, "binarise": "static"}, set()),
        ({"latent": 12, "network": "cnn", "channels": "2", "likelihood": "gaussian"}, set()),
    ],
    ids=str,
)
def test_pictures_are_drawn_in_the_same_size_each_time(options: dict[str, Any], more: set[str]) -> None:
    model = built(**options)
    first: Mapping[str, Any] = model.pictures(final=False)
    while model.count < model.epoch:
        model.step()
    second = model.pictures()
    assert set(first) == {"samples", "reconstructions", "latents", "traversals", "interpolations"} | more
    assert {name: picture.size for name, picture in first.items()} == {
        name: picture.size for name, picture in second.items()
    }


def test_pictures_change_nothing() -> None:
    model = built(latent=2, binarise="dynamic")
    model.step()
    before = copy.deepcopy(model.state_dict())
    model.pictures()
    assert first_difference(before, model.state_dict()) is None


def test_the_manifold_is_at_equal_steps_of_probability_from_the_top_left() -> None:
    places = grid(4)
    assert places.shape == (16, 2)
    shares = Normal(0.0, 1.0).cdf(places)
    assert torch.allclose(shares[:4, 0], torch.tensor([0.125, 0.375, 0.625, 0.875]))
    assert torch.allclose(shares[:4, 1], torch.full((4,), 0.875)), "up is at the top"
    assert torch.allclose(shares[-1], torch.tensor([0.875, 0.125]))


def test_more_than_two_latents_are_shown_by_their_principal_components() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(500, 4, generator=generator) * torch.tensor([0.1, 5.0, 0.1, 1.0]) + 7
    points, names, share = plane(latents)
    centred = latents - latents.mean(0)
    assert torch.allclose(points[:, 0].abs(), centred[:, 1].abs(), atol=0.2)
    assert float(points[:, 0] @ centred[:, 1]) > 0, "the largest weight is positive"
    assert names[0] == "first principal component"
    assert 0.99 < share < 1


# --- what it refuses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 0}, "latent"),
        ({"beta": -1}, "beta"),
        ({"iwae": -1}, "iwae"),
        ({"hidden": "0"}, "hidden"),
        ({"channels": "none"}, "channels"),
        ({"likelihood": "poisson"}, "bernoulli"),
        ({"likelihood": "gaussian", "binarise": "static"}, "--likelihood gaussian is for grey values"),
        ({"likelihood": "gaussian", "binarise": "dynamic"}, "--binarise dynamic leaves none"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        built(**options)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("crescents", {}, "images"),
        ("tinyshakespeare", {}, "is a text"),
        ("digits", {"scale": "standard"}, "--scale minmax"),
    ],
)
def test_data_that_are_no_images_are_refused(target: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        built(target, **options)


def test_a_class_cannot_be_told_where_there_is_none(tmp_path: Path) -> None:
    model = built()
    data = model.task.data
    model.task.data = replace(data, classes=())
    reason = VAE.refusal(VAEConfig(conditional=True), model.task)
    assert reason is not None
    assert "has none" in reason
    assert VAE.refusal(VAEConfig(), model.task) is None
