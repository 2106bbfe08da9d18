"""The VAE: its contract, its loss, binarisation, images of any size, and what it refuses."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rllab_generative.vae import VAE, VAEConfig

from rllab import experiment, planning
from rllab.errors import UsageError
from rllab.testing import check_algorithm, check_resume_in_new_process

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


def test_neither_beta_nor_the_name_of_a_part_changes_what_is_measured() -> None:
    one, four = built(beta=1.0), built(beta=4.0)
    assert one.evaluate() == four.evaluate(), "the ELBO is measured with beta 1"
    test, train = one.task.data.parts["test"], one.task.data.train
    found = [one.measure(part, name) for part, name in ((test, "eval"), (test, "validation"), (train, "validation"))]
    numbers = [list(measured.values()) for measured in found]
    assert numbers[0] == numbers[1]
    assert numbers[0] != numbers[2]


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
    own: dict[str, dict[str, str]] = {"cnn": {"channels": "2,3,4"}, "mlp": {}, "auto": {}}
    for network in own:
        model = built(str(tmp_path), network=network, conditional=True, batch_size=5, **own[network])
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


# --- what it refuses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 0}, "latent"),
        ({"beta": -1}, "beta"),
        ({"iwae": -1}, "iwae"),
        ({"hidden": "0"}, "hidden"),
        ({"channels": "none"}, "--channels.*at least one convolution"),
        ({"channels": "8"}, "--channels 8 is for --network cnn, and auto takes the mlp.*small; write --network cnn"),
        ({"channels": "8", "network": "mlp"}, "--channels 8 is for --network cnn, and --network mlp has no use for it"),
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
