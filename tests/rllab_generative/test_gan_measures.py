"""GAN: what is measured of its samples, and what there is to look at."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rllab_generative.gan import GAN

import rllab
from rllab import experiment, planning

SMALL: dict[str, Any] = {"latent": 5, "batch_size": 100}
SIZES: dict[str, dict[str, str]] = {"mlp": {"hidden": "8"}, "cnn": {"channels": "3,4"}}
OF_THE_DISCRIMINATOR = {"accuracy_real", "accuracy_fake", "diversity"}
"""What no judge is asked about."""

pytestmark = pytest.mark.usefixtures("hasty")


def built(target: str = "digits", **options: Any) -> GAN:
    size = SIZES[options.get("network", "mlp")]
    planned = planning.plan("gan", target, {"preset": "none", "device": "cpu", **size, **options})
    algorithm, _ = experiment.build(planned)
    assert isinstance(algorithm, GAN)
    algorithm.setup()
    return algorithm


# --- measuring ----------------------------------------------------------------------------------------------


def test_an_evaluation_says_everything_and_one_on_the_way_what_is_quick() -> None:
    model = built(**SMALL, network="mlp")
    model.step()
    on_the_way, whole = model.validate(), model.evaluate()
    quick = {"judge_frechet", "classes_covered", "diversity", "accuracy_real", "accuracy_fake"}
    assert set(on_the_way) == {f"eval/{name}" for name in quick}
    more = {"density", "coverage", "copied", "nearest", "trained_on_samples", *(f"share_{i}" for i in range(10))}
    assert set(whole) >= {f"eval/{name}" for name in quick | more}
    for name in quick:
        assert float(on_the_way[f"eval/{name}"]) == pytest.approx(float(whole[f"eval/{name}"]))
    assert sum(float(whole[f"eval/share_{i}"]) for i in range(10)) == pytest.approx(1)


def test_what_is_measured_is_drawn_once_for_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(**SMALL, network="mlp", validation_share=0.3)
    drawn: list[int] = []
    original = model.sample

    def sample(n: int, **options: Any) -> Any:
        drawn.append(n)
        return original(n, **options)

    monkeypatch.setattr(model, "sample", sample)
    model.evaluate()
    assert len(drawn) == 1


@pytest.mark.parametrize("options", [{}, {"validation_share": 0.3, "conditional": True}], ids=str)
def test_every_number_that_depends_on_the_judge_names_it(options: dict[str, Any]) -> None:
    model = built(**SMALL, network="mlp", **options)
    captions, measured = model.captions, set(model.evaluate())
    assert {name for name in captions if name.startswith("eval/")} == {
        name for name in measured if name.startswith("eval/") and name.split("/")[1] not in OF_THE_DISCRIMINATOR
    }
    of_validation = {"validation/judge_frechet", "validation/classes_covered"}
    assert set(captions) - measured <= of_validation <= set(captions)
    for name, words in captions.items():
        assert words.startswith(f"judge {model.judge.hash}")
        assert ("not FID" in words) == name.endswith("judge_frechet")


def test_with_a_validation_part_that_decides() -> None:
    model = built(**SMALL, network="mlp", validation_share=0.3)
    measured = model.evaluate()
    assert {"validation/judge_frechet", "eval/judge_frechet"} <= set(measured)
    assert measured["validation/judge_frechet"] != measured["eval/judge_frechet"]
    assert set(model.validate()) == {name for name in measured if name.startswith("validation/")}
    objective = GAN.selection(model.task)
    assert objective is not None
    assert objective.metric == "validation/judge_frechet"
    assert not objective.maximize


def test_a_generator_that_draws_one_image_has_no_diversity_and_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = built(**SMALL, network="mlp", epochs=10)
    with torch.no_grad():
        model.generator[0].weight.zero_()  # type: ignore[union-attr,operator]
    with caplog.at_level(logging.WARNING, "rllab"):
        measured = model.evaluate()
        assert float(measured["eval/diversity"]) == pytest.approx(0, abs=1e-6)
        assert measured["eval/classes_covered"] == 1
        model.count = 3 * model.epoch - 1  # past a fifth of training
        model.validate()
        assert not caplog.records  # not much was learned yet
        model.count = 3 * model.epoch
        model.evaluate()
        model.validate()
    texts = [record.message for record in caplog.records]
    assert len(texts) == 2
    assert "after 3 epochs: Samples are alike" in texts[0]
    assert "9 of 10 classes are missing" in texts[1]
    report = model.pictures()["signs"]
    assert "mode collapse" in report
    assert "9 of 10 classes are missing" in report


def test_at_the_end_there_are_samples_signs_and_the_judges_table() -> None:
    model = built(**SMALL, network="mlp", conditional=True)
    model.step()
    found = model.pictures()
    assert set(found) == {"samples", "signs", "judge"}
    assert "judge_frechet" in found["judge"]
    assert "training images" in found["judge"]
    assert "`rllab judge RUN`" in found["judge"]
    assert set(model.pictures(final=False)) == {"samples"}
    assert model.judge.hash in found["judge"]


# --- looking at it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
def test_the_wall_is_on_the_same_noise_before_and_after_going_on(conditional: bool) -> None:
    one, other = (built(**SMALL, conditional=conditional) for _ in range(2))
    start = np.asarray(one.pictures(final=False)["samples"])
    for _ in range(2):
        one.step()
    other.load_state_dict(one.state_dict())
    walls = [np.asarray(model.pictures(final=False)["samples"]) for model in (one, other)]
    assert np.array_equal(walls[0], walls[1])
    assert walls[0].shape == start.shape  # so that they make a film
    assert not np.array_equal(walls[0], start)


def test_a_run_leaves_a_film_of_its_samples(tmp_path: Path) -> None:
    planned = planning.plan("gan", "digits", {"preset": "none", "device": "cpu"})
    assert str(planned.options.pictures_every) == "5%"
    options = {**SMALL, **SIZES["mlp"], "epochs": 1, "preset": "none", "device": "cpu", "pictures_every": "50%"}
    run = rllab.run("gan", "digits", run_dir=tmp_path / "run", **options)
    assert (tmp_path / "run" / "media" / "samples.gif").is_file()
    assert "eval/judge_frechet" in run.metrics
    assert run.info["captions"]["eval/judge_frechet"].startswith("judge ")
