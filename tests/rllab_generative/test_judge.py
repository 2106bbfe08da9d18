"""The judge: a classifier that is trained once, and kept by what it follows from."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rllab_generative import judge as module
from rllab_generative import measures
from rllab_generative.imagenets import channels_last
from rllab_generative.judge import Judge, check_judged, content_key, weights_hash
from rllab_generative.measures import reference_rows

from rllab import stopping
from rllab.data import Data, DatasetConfig, DatasetTask, Part
from rllab.errors import UsageError

pytestmark = pytest.mark.usefixtures("kept_judges")


def small(shape: tuple[int, ...] = (1, 4, 4), n: int = 400, classes: int = 2, test: int | None = None) -> DatasetTask:
    """Return a dataset of bright and dark images, quick to learn."""
    rng = np.random.default_rng(0)
    targets = torch.arange(n) % classes
    noise = torch.as_tensor(rng.uniform(0, 0.2, (n, *shape)), dtype=torch.float32)
    inputs = noise + 0.8 * (targets / max(classes - 1, 1)).reshape(-1, *[1] * len(shape))
    part = Part(inputs, targets)
    data = Data(part, classes=tuple("abcdefgh"[:classes]), test=part[: test or n])
    return DatasetTask("bright", DatasetConfig(), data)


# --- the classifier -----------------------------------------------------------------------------------------


def test_the_judge_knows_digits(judge: Judge, digits: DatasetTask) -> None:
    assert judge.accuracy > 0.97
    images = judge.pixels(digits.data.parts["test"].inputs)
    assert judge.features(images).shape == (360, 64)
    right = judge.classify(images) == digits.data.parts["test"].targets
    assert float(right.double().mean()) == judge.accuracy


def test_its_last_layer_reads_the_features(judge: Judge, digits: DatasetTask) -> None:
    images = judge.pixels(digits.data.train.inputs[:50])
    logits = judge.network(images)
    torch.testing.assert_close(judge.network[-1](judge.features(images)), logits)


@pytest.mark.usefixtures("quick")
def test_it_is_the_same_whatever_was_drawn_before_and_draws_nothing(digits: DatasetTask) -> None:
    pixels = module.Pixels(digits.data.train.inputs)
    state = torch.get_rng_state()
    first = module.fit(digits.data.train[:200], pixels, 10, seed=5)
    assert bool((torch.get_rng_state() == state).all())
    torch.rand(3)
    second = module.fit(digits.data.train[:200], pixels, 10, seed=5)
    assert weights_hash(first) == weights_hash(second)
    assert weights_hash(first) != weights_hash(module.fit(digits.data.train[:200], pixels, 10, seed=6))


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 32, 32), (2, 5, 9), (1, 28, 28)])
def test_the_network_takes_images_of_any_shape(shape: tuple[int, ...]) -> None:
    network = module.build(shape, 3)
    assert network[:-1](torch.rand(2, *shape)).shape == (2, 64)
    assert network(channels_last(torch.rand(2, *shape))).shape == (2, 3)


@pytest.mark.usefixtures("quick")
def test_it_judges_images_of_numbers_and_of_colours() -> None:
    task = small((3, 6, 5))
    judge = Judge.of(task)
    assert judge.accuracy == 1
    images = torch.cat([torch.full((1, 3, 6, 5), value) for value in (0.05, 0.95)])
    assert judge.classify(images).tolist() == [0, 1]


def test_training_it_listens_to_signals(digits: DatasetTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_requested", "SIGTERM")
    with pytest.raises(stopping.StopRequested):
        module.fit(digits.data.train, module.Pixels(digits.data.train.inputs), 10, seed=0)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (small(test=319), "319 test items of bright are too few.*320"),
        (small((16,)), "inputs of bright are 16 numbers"),
        (small((1, 3, 8)), "4x4 pixels at least"),
        (DatasetTask("numbers", DatasetConfig(), Data(small().data.train)), "has no classes"),
    ],
    ids=["few", "no images", "tiny", "no classes"],
)
def test_what_it_cannot_judge_is_refused(task: DatasetTask, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_judged(task)


# --- the cache ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "judges"


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often something is trained."""
    counted: list[int] = []
    original = module.fit

    def fit(*arguments: Any, **options: Any) -> Any:
        counted.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(module, "fit", fit)
    return counted


@pytest.mark.usefixtures("quick")
def test_it_is_trained_once_for_the_same_images(folder: Path, fits: list[int]) -> None:
    first, second = Judge.of(small()), Judge.of(small())
    assert len(fits) == 1
    assert first.hash == second.hash
    assert len(first.hash) == 12
    images = torch.rand(9, 1, 4, 4)
    assert torch.equal(first.features(images), second.features(images))
    assert [file.suffix for file in folder.iterdir()] == [".safetensors"]  # nothing half-written is left


def test_other_images_labels_or_recipes_have_another_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [small(), small(), small(), small(n=398), small((1, 2, 8)), small(classes=3)]
    tasks[1].data.train.inputs[7, 0, 0, 0] += 0.01
    tasks[2].data.train.targets[7] = 0
    keys = [content_key(task) for task in tasks]
    assert len(set(keys)) == len(tasks)
    assert content_key(small()) == keys[0]
    monkeypatch.setattr(module, "_RECIPE", "0")
    assert content_key(small()) not in keys


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "empty"])
@pytest.mark.usefixtures("quick")
def test_a_damaged_file_is_made_anew(
    folder: Path, fits: list[int], damage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("rllab"), "propagate", True)
    whole = Judge.of(small()).hash
    (file,) = folder.iterdir()
    raw = bytearray(file.read_bytes())
    raw[-9] ^= 64
    contents = {"cut": raw[:1000], "flipped": raw, "empty": b"", "other": b""}[damage]
    file.write_bytes(contents)
    if damage == "other":
        module._write(file, module.build((1, 8, 8), 2))
    assert Judge.of(small()).hash == whole
    assert "damaged" in caplog.text
    assert len(fits) == 2
    assert Judge.of(small()).hash == whole
    assert len(fits) == 2


@pytest.mark.usefixtures("quick")
def test_a_cache_that_cannot_be_written_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("rllab"), "propagate", True)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RLLAB_CACHE", str(tmp_path / "file" / "below"))
    assert Judge.of(small()).accuracy == 1
    judge = Judge.of(small())
    measures.keep(tmp_path / "file" / "below" / "judges" / "rows.json", lambda path: path.write_text(judge.hash))
    assert len([record for record in caplog.records if "cannot be kept" in record.message]) == 1


@pytest.mark.usefixtures("quick")
def test_reference_rows_are_kept_and_those_that_are_damaged_measured_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Judge.of(small(n=800))
    told: list[str] = []
    first = reference_rows(judge, 330, training=False, tell=told.append)
    assert told == list(first)
    assert reference_rows(judge, 330, training=False, tell=told.append) == first
    assert len(told) == len(first)
    (file,) = folder.glob("*.json")
    file.write_text('{"training images": 3')
    assert reference_rows(judge, 330, training=False) == first
    reference_rows(judge, 330, seed=1, training=False, tell=told.append)
    assert len(told) == 2 * len(first)
