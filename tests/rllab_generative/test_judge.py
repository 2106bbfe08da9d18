"""The judge, what it says of images of known quality, and the command that asks it."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rllab_generative import judge as module
from rllab_generative import measures
from rllab_generative.judge import Judge, check_judged, content_key, weights_hash
from rllab_generative.judging import judge_command
from rllab_generative.measures import Drawn, blurred, judge_table, judged, reference_images, reference_rows
from torch import Tensor

from rllab import results, stopping
from rllab.data import Data, DataMissing, DatasetConfig, DatasetTask, Part
from rllab.errors import UsageError
from rllab.generative import ImageModel
from rllab.minibatches import epoch_order

N = 1200
"""Images in a row of digits."""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keep judges in a folder of this file's tests, and torch to one thread."""
    before, threads = os.environ.get("RLLAB_CACHE"), torch.get_num_threads()
    folder = tmp_path_factory.mktemp("cache")
    os.environ["RLLAB_CACHE"] = str(folder)
    torch.set_num_threads(1)
    yield folder
    torch.set_num_threads(threads)
    os.environ.pop("RLLAB_CACHE")
    if before is not None:
        os.environ["RLLAB_CACHE"] = before


def opened(name: str, seed: int = 0, **options: Any) -> DatasetTask:
    return DatasetTask.open(name, DatasetTask.config_class(name).parse(options), seed=seed)


@pytest.fixture(scope="module")
def digits() -> DatasetTask:
    return opened("digits")


@pytest.fixture(scope="module")
def judge(digits: DatasetTask, cache: Path) -> Judge:
    return Judge.of(digits)


@pytest.fixture(scope="module")
def rows(judge: Judge) -> dict[str, dict[str, float]]:
    return reference_rows(judge, N)


def small(shape: tuple[int, ...] = (1, 4, 4), n: int = 400, classes: int = 2, test: int | None = None) -> DatasetTask:
    """Return a dataset of bright and dark images, quick to learn."""
    rng = np.random.default_rng(0)
    targets = torch.arange(n) % classes
    noise = torch.as_tensor(rng.uniform(0, 0.2, (n, *shape)), dtype=torch.float32)
    inputs = noise + 0.8 * (targets / max(classes - 1, 1)).reshape(-1, *[1] * len(shape))
    part = Part(inputs, targets)
    data = Data(part, classes=tuple("abcdefgh"[:classes]), test=part[: test or n])
    return DatasetTask("bright", DatasetConfig(), data)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train what is trained but shortly."""
    monkeypatch.setattr(module, "_EXAMPLES", 2000)


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
    assert network(module.arranged(torch.rand(2, *shape))).shape == (2, 3)


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
        task = opened("mnist")
    except DataMissing as error:
        pytest.skip(str(error))
    judge = Judge.of(task)
    assert judge.accuracy > 0.98
    rows = reference_rows(judge, 2000)
    check_ranking(rows, 5)
    assert rows["noisy"]["judge_frechet"] > 10 * rows["training images"]["judge_frechet"]
    assert rows["training images"]["trained_on_samples"] > 0.96
    held_out = judge.nearest(judge.pixels(task.data.parts["test"].inputs[-2000:]))
    assert measures.copied(held_out, judge.held_out_nearest) == pytest.approx(0.01, abs=0.01)


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
    assert found["labels_asked"] == 0
    assert found["trained_on_samples"] > 0.5
    assert judged(judge, noise, by_chance)["labels_asked"] == 1


def test_real_images_with_their_labels_teach_as_much_as_the_judge_learned(judge: Judge, digits: DatasetTask) -> None:
    train = digits.data.train
    accuracy = measures.train_on_samples(judge, judge.pixels(train.inputs), train.targets)
    assert accuracy == pytest.approx(judge.accuracy, abs=0.015)


def test_the_rows_say_the_share_of_each_class(rows: dict[str, dict[str, float]]) -> None:
    for row in rows.values():
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


# --- tables and the command ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_the_table_has_the_samples_first_and_what_they_are_compared_with(
    judge: Judge, rows: dict[str, dict[str, float]]
) -> None:
    images = reference_images(judge, N)
    text = judge_table(judge, {"mine": images["noisy"], "unlabelled": Drawn(images["noisy"].images)})
    lines = text.splitlines()
    assert lines[0].split() == ["|", "|", *" | ".join(measures.COLUMNS).split(), "|"]
    assert lines[2].startswith("| mine ")
    assert lines[2].endswith(" yes |")
    assert lines[3].endswith(" judge's |")
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


class Copier(ImageModel):
    """Draws training images; `conditional` ones of the classes that are asked for."""

    def __init__(self, task: DatasetTask, by_class: bool = False) -> None:
        self.task, self.device, self.by_class = task, torch.device("cpu"), by_class
        self.classes, self.shape = task.classes, task.shape

    @property
    def conditional(self) -> bool:
        return self.by_class

    def sample(self, n: int, *, labels: Tensor | None = None, generator: torch.Generator) -> Tensor:
        train = self.task.data.train
        assert (labels is None) != self.by_class
        if labels is None:
            rows = torch.randint(len(train), (n,), generator=generator)
        else:
            order = epoch_order(len(train), np.random.SeedSequence(1))
            by_class = [order[train.targets[order] == number] for number in range(10)]
            rows = torch.stack([by_class[label][i % 100] for i, label in enumerate(labels.tolist())])
        return module.Pixels(train.inputs)(train.inputs[rows])

    measure: Any = None
    draw: Any = None
    step: Any = None
    objective: Any = None


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: DatasetTask) -> dict[str, Any]:
    """Models by the names of runs, which the command finds."""
    models: dict[str, Any] = {
        "a": Copier(digits),
        "b": Copier(digits, by_class=True),
        "other": Copier(opened("digits", 1)),
    }

    class Found:
        def __init__(self, name: str) -> None:
            self.name, self.path, self.info = name, tmp_path / "runs" / name, {"method": "copier"}

        def load(self, which: str, *, device: str) -> Any:
            assert (which, device) == ("last", "auto")
            return models[self.name]

    monkeypatch.setattr(results, "load", lambda run, *, runs_dir: Found(run))
    monkeypatch.chdir(tmp_path)
    return models


def ask(*arguments: str) -> Any:
    return CliRunner().invoke(judge_command, arguments, standalone_mode=False)


@pytest.mark.usefixtures("quick")
def test_the_command_prints_runs_and_reference_rows(runs: dict[str, Any]) -> None:
    result = ask("a", "b", "-n", "400")
    assert result.exception is None
    lines = result.stdout.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:6]] == ["a", "b", "training images", "blurred a little"]
    assert lines[2].split("|")[-2].strip() == "judge's"
    assert lines[3].split("|")[-2].strip() == "yes"
    assert "a: drawing 400 images" in result.stderr


@pytest.mark.usefixtures("quick")
def test_the_command_as_json_has_everything_by_name(runs: dict[str, Any], judge: Judge) -> None:
    result = ask("a", "other", "--json", "--no-train-on-samples", "--seed", "3")
    first, second = json.loads(result.stdout)
    assert first["judge"] == {"hash": judge.hash, "accuracy": judge.accuracy}
    assert first["judge"]["hash"] != second["judge"]["hash"]  # another split: another judge, and a table of its own
    assert (first["n"], first["seed"], first["against"]) == (1286, 3, {"part": "test", "items": 360})
    row = first["rows"][0]
    assert (row["row"], row["kind"]) == ("a", "run")
    assert row["copied"] == 1
    assert "trained_on_samples" not in row
    assert {row["kind"] for row in first["rows"][1:]} == {"reference"}


def test_the_command_refuses_what_draws_no_images(runs: dict[str, Any], digits: DatasetTask) -> None:
    runs["a"] = object()
    assert "which draws no images" in str(ask("a").exception)
    runs["b"].refuses_sampling = "an autoencoder has no distribution to draw from"
    assert "no distribution to draw from" in str(ask("b").exception)
    assert "300 drawn images are too few" in str(ask("other", "-n", "300").exception)
    assert "at most" in str(ask("other", "-n", "5000").exception)
