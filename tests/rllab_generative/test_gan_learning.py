"""GAN: that it learns to draw digits, and by class those that are asked for."""

from typing import Any

import pytest
from rllab_generative.gan import GAN
from rllab_generative.measures import reference_images
from rllab_generative.quality import frechet

from rllab import experiment, planning

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("kept_judges")]


def built(target: str = "digits", **options: Any) -> GAN:
    planned = planning.plan("gan", target, {"preset": "none", "device": "cpu", **options})
    algorithm, _ = experiment.build(planned)
    assert isinstance(algorithm, GAN)
    algorithm.setup()
    return algorithm


def trained(**options: Any) -> GAN:
    model = built(**options)
    while model.count < model.budget:
        model.step()
    return model


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("options", [{"network": "mlp"}, {"network": "cnn", "channels": "16,32"}], ids=str)
def test_it_learns_to_draw_digits(options: dict[str, Any], seed: int) -> None:
    options = {"lr": 1e-3, "batch_size": 64, "hidden": "256,128", "seed": seed, **options}
    untrained = float(built(**options).validate()["eval/judge_frechet"])  # type: ignore[arg-type]
    model = trained(**options, epochs=100)
    measured = {name.removeprefix("eval/"): float(value) for name, value in model.evaluate().items()}
    references = reference_images(model.judge, 1000)
    noise, blurred = (
        frechet(model.judge.features(references[name].images), model.judge.test_features)
        for name in ("uniform noise", "blurred")
    )
    assert measured["judge_frechet"] < 0.1 * min(untrained, noise)
    assert measured["judge_frechet"] < blurred
    assert measured["classes_covered"] >= 9
    assert 0.8 < measured["diversity"] < 1.2
    assert measured["trained_on_samples"] > 0.6
    assert "mode collapse" not in model.pictures()["signs"]


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_by_class_it_draws_the_class_that_is_asked_for(network: str) -> None:
    options = {"lr": 1e-3, "batch_size": 64, "hidden": "256,128", "channels": "16,32"}
    model = trained(**options, network=network, conditional=True, epochs=100)
    images, labels = model.samples_to_measure()
    assert labels is not None
    assert float((model.judge.classify(images) == labels).double().mean()) > 0.8
