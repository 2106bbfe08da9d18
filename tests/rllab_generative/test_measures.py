"""What the judge says of images of known quality, and its tables."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rllab_generative import measures
from rllab_generative.judge import Judge
from rllab_generative.measures import (
    Drawn,
    blurred,
    judge_table,
    judged,
    measured_names,
    reference_images,
    reference_rows,
)
from torch import Tensor

from rllab.data import DataMissing, DatasetTask
from rllab.errors import UsageError

pytestmark = pytest.mark.usefixtures("kept_judges")

N = 1200
"""Images in a row of digits."""


@pytest.fixture(scope="module")
def rows(judge: Judge, judges_folder: Path) -> dict[str, dict[str, float]]:
    """What the judge says of the reference rows of digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLLAB_CACHE", str(judges_folder))
        torch.set_num_threads(1)
        return reference_rows(judge, N)


# --- images of known quality --------------------------------------------------------------------------------


def check_ranking(rows: dict[str, dict[str, float]], scale: float) -> None:
    """Check that the measures put the reference rows of ten classes in their order."""
    real, noise = rows["training images"], rows["uniform noise"]
    slightly, much, noisy = rows["blurred a little"], rows["blurred"], rows["noisy"]
    missing = rows["no class 0"]
    few = next(row for name, row in rows.items() if name.endswith("copied"))
    distances = [row["judge_frechet"] for row in (real, slightly, much, noise)]
    assert distances == sorted(distances)
    for worse in (noisy, missing, few):
        assert worse["judge_frechet"] > scale * real["judge_frechet"]
        assert worse["coverage"] < real["coverage"]
    assert real["coverage"] > slightly["coverage"] > much["coverage"] > noise["coverage"]
    assert 0.9 < real["density"] < 1.1
    assert real["classes_covered"] == 10
    assert missing["classes_covered"] == 9
    assert missing["share_0"] < 0.01
    assert noise["judge_frechet"] == max(row["judge_frechet"] for row in rows.values())
    for copies in (real, missing, few):
        assert copies["copied"] > 0.99
        assert copies["nearest"] == 0
    assert noise["copied"] < 0.01
    assert noise["nearest"] > 2
    assert few["coverage"] < 0.7  # copies of a few are told from copies of all
    assert real["trained_on_samples"] > missing["trained_on_samples"] > few["trained_on_samples"]


def test_the_measures_rank_what_is_known(rows: dict[str, dict[str, float]], judge: Judge) -> None:
    check_ranking(rows, 2)
    assert rows["training images"]["trained_on_samples"] == pytest.approx(judge.accuracy, abs=0.015)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_measures_rank_what_is_known_of_mnist() -> None:
    try:
        task = DatasetTask.open("mnist", DatasetTask.config_class("mnist").parse({}), seed=0)
    except DataMissing as error:
        pytest.skip(str(error))
    judge = Judge.of(task)
    assert judge.accuracy > 0.98
    rows = reference_rows(judge, 2000)
    check_ranking(rows, 5)
    assert rows["noisy"]["judge_frechet"] > 10 * rows["training images"]["judge_frechet"]
    assert rows["training images"]["trained_on_samples"] > 0.96
    held_out = judge.nearest(judge.pixels(task.data.parts["test"].inputs[-2000:]))
    assert measures.copied(held_out, judge.test_nearest) == pytest.approx(0.01, abs=0.01)


def test_images_that_were_held_out_are_not_called_copied(judge: Judge, digits: DatasetTask) -> None:
    images = judge.pixels(digits.data.parts["test"].inputs)
    found = judged(judge, images, training=False)
    assert found["copied"] == pytest.approx(0.01, abs=0.005)
    assert found["nearest"] == pytest.approx(1)
    assert found["judge_frechet"] == pytest.approx(0, abs=1e-6)


def test_training_on_noise_teaches_nothing_unless_the_judge_labels_it(judge: Judge) -> None:
    noise = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    by_chance = torch.arange(N) % 10
    assert measures.train_on_samples(judge, noise, by_chance) < 0.3
    found = judged(judge, noise)  # the judge's opinion of noise has in it what the judge knows
    assert found["labels_by_judge"] == 1
    assert found["trained_on_samples"] > 0.5
    assert judged(judge, noise, by_chance)["labels_by_judge"] == 0


def test_real_images_with_their_labels_teach_as_much_as_the_judge_learned(judge: Judge, digits: DatasetTask) -> None:
    train = digits.data.train
    accuracy = measures.train_on_samples(judge, judge.pixels(train.inputs), train.targets)
    assert accuracy == pytest.approx(judge.accuracy, abs=0.015)


def test_the_rows_say_the_share_of_each_class(rows: dict[str, dict[str, float]], judge: Judge) -> None:
    for row in rows.values():
        assert set(row) == set(measured_names(judge.task))
        assert sum(row[f"share_{digit}"] for digit in range(10)) == pytest.approx(1)


@pytest.mark.usefixtures("quick")
def test_judging_draws_nothing_from_global_streams(judge: Judge) -> None:
    images = reference_images(judge, 400)["noisy"].images
    state = torch.get_rng_state()
    assert judged(judge, images) == judged(judge, images)
    assert bool((torch.get_rng_state() == state).all())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(319, 1, 8, 8), "319 drawn images are too few.*320"),
        (torch.rand(400, 1, 9, 8), r"of \(1, 8, 8\), and not of \(1, 9, 8\)"),
        (torch.full((400, 1, 8, 8), float("nan")), "NaN"),
    ],
    ids=["few", "shape", "nan"],
)
def test_images_that_cannot_be_judged_are_refused(judge: Judge, images: Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        judged(judge, images)


def test_blurring_keeps_a_flat_image_and_spreads_a_point() -> None:
    flat = torch.full((1, 2, 9, 9), 0.5)
    torch.testing.assert_close(blurred(flat, 1.0), flat)
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    spread = blurred(point, 1.0)
    assert float(spread.sum()) == pytest.approx(1, abs=1e-4)
    ratio = float(spread[0, 0, 4, 5] / spread[0, 0, 4, 4])
    assert ratio == pytest.approx(np.exp(-0.5))


# --- tables ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_the_table_has_the_samples_first_and_what_they_are_compared_with(
    judge: Judge, rows: dict[str, dict[str, float]]
) -> None:
    images = reference_images(judge, N)
    text = judge_table(judge, {"mine": images["noisy"], "unlabelled": Drawn(images["noisy"].images)})
    lines = text.splitlines()
    assert lines[0].split() == ["|", "|", *" | ".join(measures.COLUMNS).split(), "|"]
    assert lines[2].startswith("| mine ")
    assert lines[2].endswith(" no |")
    assert lines[3].endswith(" yes |")
    assert len({len(line) for line in lines[: 4 + len(rows)]}) == 1
    assert f"{rows['blurred']['judge_frechet']:.3f}" in text
    assert f"Judge {judge.hash}, accuracy {judge.accuracy:.4f}" in text
    assert f"{N} images in each row" in text
    assert "FID" not in text.replace("not FID", "")


@pytest.mark.usefixtures("quick")
def test_rows_of_unequal_numbers_are_refused(judge: Judge) -> None:
    images = reference_images(judge, 400)["noisy"].images
    with pytest.raises(UsageError, match="400, 401"):
        judge_table(judge, {"a": Drawn(images), "b": Drawn(torch.cat([images, images[:1]]))})
    with pytest.raises(UsageError, match="1286 different ones at most"):
        reference_images(judge, 1287)
