"""The VAE: that it learns, and stays below what is possible."""

from typing import Any

import pytest
import torch

from rllab import experiment, planning
from rllab.data import DataMissing

SMALL: dict[str, Any] = {"hidden": "8", "latent": 3, "iwae": 3, "epochs": 2}


def built(target: str = "digits", **options: Any) -> Any:
    planned = planning.plan("vae", target, {"preset": "none", "device": "cpu", **SMALL, **options})
    algorithm, _ = experiment.build(planned)
    algorithm.setup()
    return algorithm


def finish(model: Any) -> Any:
    while model.count < model.budget:
        model.step()
    return model


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


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_of_mnist_it_knows_far_more_than_how_bright_each_pixel_is(seed: int) -> None:
    options: dict[str, Any] = {"hidden": "400", "latent": 20, "binarise": "static", "epochs": 3, "iwae": 10}
    try:
        model = built("mnist", **options, seed=seed)
    except DataMissing as error:
        pytest.skip(str(error))
    measured = finish(model).evaluate()
    # beside it the best that pixels can do which know nothing of each other, fitted on the training part
    train, test = (
        torch.cat([images.flatten(1) for images, _ in model.visits(part, name)])
        for part, name in ((model.task.data.train, "train"), (model.task.data.parts["test"], "eval"))
    )
    share = (train.sum(0) + 1) / (len(train) + 2)  # of the images in which a pixel is 1
    baseline = float((test @ share.log() + (1 - test) @ (-share).log1p()).double().mean())
    assert baseline == pytest.approx(-206, abs=3)
    assert measured["eval/elbo"] > -115
    assert measured["eval/iwae"] > measured["eval/elbo"] + 1
