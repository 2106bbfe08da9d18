"""The autoencoder: against principal components, its outliers, and what it refuses."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from rllab_generative import autoencoder
from rllab_generative.autoencoder import Autoencoder

from rllab import experiment, planning
from rllab.errors import UsageError
from rllab.testing import check_algorithm, check_resume_in_new_process, first_difference

SMALL: dict[str, Any] = {"hidden": "8", "latent": 3, "epochs": 2}


def built(target: str = "digits", **options: Any) -> Any:
    planned = planning.plan("ae", target, {"preset": "none", "device": "cpu", **SMALL, **options})
    algorithm, _ = experiment.build(planned)
    algorithm.setup()
    return algorithm


def finish(model: Any) -> Any:
    while model.count < model.budget:
        model.step()
    return model


# --- the contract -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"network": "mlp", "ema": 0.9, "schedule": "linear", "validation_share": 0.2},
        {"network": "cnn", "channels": "2,3", "noise": 0.3, "max_grad_norm": 0.1},
    ],
    ids=str,
)
def test_it_keeps_the_contract(options: dict[str, Any]) -> None:
    check_algorithm("ae", "digits", steps=4, **{**SMALL, "batch_size": 150, **options})


@pytest.mark.parametrize("preset", ["digits", "mnist", "plane"])
def test_presets_are_valid(preset: str) -> None:
    assert planning.plan("ae", "digits", {"preset": preset}).config is not None


@pytest.mark.slow
def test_a_run_goes_on_in_a_new_process_as_if_never_stopped(tmp_path: Path) -> None:
    options = ["--hidden", "16", "--latent", "3", "--epochs", "4", "--noise", "0.2", "--preset", "none"]
    options += ["--device", "cpu", "--pictures-every", "0"]
    check_resume_in_new_process("ae", "digits", budget=4 * 1437, stop_after=2000, options=options, folder=tmp_path)


# --- what it learns ---------------------------------------------------------------------------------


def test_a_linear_one_finds_the_error_of_the_first_principal_components() -> None:
    model = finish(built(hidden="none", latent=2, epochs=60, batch_size=50, lr=2e-2, schedule="cosine"))
    train, test = (model.pixels(part.inputs).flatten(1).double() for part in model.task.data.parts.values())
    mean = train.mean(0)
    axes = torch.linalg.svd(train - mean, full_matrices=False).Vh[:2]
    least = (test - mean - (test - mean) @ axes.T @ axes).square().mean().sqrt().item()
    assert model.evaluate()["eval/rmse"] == pytest.approx(least, rel=0.01)


def test_the_error_is_that_of_a_pixel_beside_that_of_the_mean_image() -> None:
    model = built()
    with torch.no_grad():
        for parameter in model.network.decoder.parameters():
            parameter.zero_()
        model.network.decoder.dense[-1].bias.fill_(0.5)
    measured = model.evaluate()
    train, test = (model.pixels(part.inputs) for part in model.task.data.parts.values())
    assert measured["eval/rmse"] == pytest.approx((test - 0.5).square().mean().sqrt().item(), rel=1e-5)
    baseline = (test - train.mean(0)).square().mean().sqrt().item()
    assert measured["eval/mean_image_rmse"] == pytest.approx(baseline, rel=1e-5)


def test_training_beats_the_mean_image() -> None:
    measured = finish(built(hidden="32", latent=4, epochs=10, batch_size=50)).evaluate()
    assert measured["eval/rmse"] < 0.8 * measured["eval/mean_image_rmse"]


def test_a_denoising_one_gives_back_what_was_there_before_the_noise() -> None:
    options: dict[str, Any] = {"hidden": "64", "latent": 16, "epochs": 25, "batch_size": 50, "seed": 1}
    errors = []
    for noise in (0.0, 0.4):
        model = finish(built(noise=noise, **options))
        images = model.pixels(model.task.data.parts["test"].inputs)
        disturbed = images + 0.4 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            errors.append((model.network(disturbed) - images).square().mean().sqrt().item())
    assert errors[1] < 0.9 * errors[0]


# --- outliers and pictures --------------------------------------------------------------------------


def test_the_image_that_is_unlike_all_others_is_the_first_outlier(monkeypatch: pytest.MonkeyPatch) -> None:
    model = finish(built(hidden="32", latent=4, epochs=5, batch_size=50))
    part = model.task.data.parts["test"]
    checkers = torch.zeros(8, 8)
    checkers[::2, ::2] = checkers[1::2, 1::2] = part.inputs.max()
    part.inputs[17, 0] = checkers
    shown: dict[str, Any] = {}

    def watch(images: Any, again: Any, captions: Any, title: str) -> None:
        shown.update(images=images, again=again, captions=captions, title=title)

    monkeypatch.setattr(autoencoder, "outliers", watch)
    with model.undisturbed():
        model._outliers()
    assert torch.equal(shown["images"][0, 0], model.pixels(checkers))
    name, error = shown["captions"][0].split("\n")
    assert name == model.classes[int(part.targets[17])]
    expected = (shown["again"][0] - shown["images"][0]).square().mean().sqrt().item()
    assert float(error) == pytest.approx(expected, abs=0.02), "the picture is cut off at 0 and 1, the error is not"
    errors = [float(caption.split("\n")[1]) for caption in shown["captions"]]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) == 24
    assert "of 360 held-out images" in shown["title"]


@pytest.mark.parametrize("latent", [2, 5])
def test_pictures_have_the_same_size_each_time_and_change_nothing(latent: int) -> None:
    model = built(latent=latent)
    first = {name: picture.size for name, picture in model.pictures(final=False).items()}
    model.step()
    before = copy.deepcopy(model.state_dict())
    second = {name: picture.size for name, picture in model.pictures().items()}
    assert first == second
    assert set(first) == {"reconstructions", "outliers", "latents", "interpolations"}
    assert first_difference(before, model.state_dict()) is None


# --- what it refuses --------------------------------------------------------------------------------


def test_nothing_can_be_drawn_from_it_and_it_says_what_can() -> None:
    with pytest.raises(UsageError, match="a `vae` does"):
        built().sample(3, generator=torch.Generator())


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("digits", {"latent": 0}, "latent"),
        ("digits", {"noise": -0.1}, "noise"),
        ("digits", {"channels": "8"}, "--channels 8 is for --network cnn"),
        ("crescents", {}, "images"),
        ("tinyshakespeare", {}, "is a text"),
    ],
)
def test_what_makes_no_sense_is_refused(target: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        built(target, **options)


def test_the_size_of_an_update_is_known_before_it_is_made() -> None:
    planned = planning.plan("ae", "digits", {"preset": "none", "hidden": "10", "latent": 2, "batch_size": 7})
    assert Autoencoder.work(planned.config, planned.task) == 3 * 7 * 2 * (64 * 10 + 10 * 2)  # type: ignore[arg-type]
