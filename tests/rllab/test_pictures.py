"""What a run leaves in media/ and in TensorBoard, and what drawing must not do."""

import json
import logging
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor, nn

from rllab import stopping
from rllab.algorithm import Metrics
from rllab.callbacks import Evaluate, Pictures, WriteLine
from rllab.config import Config
from rllab.data import Data, DatasetConfig, DatasetTask, Part, classification, regression, split
from rllab.errors import RunFailed
from rllab.intervals import Interval
from rllab.logger import JsonLinesWriter, Logger, MediaWriter, TensorBoardWriter
from rllab.pictures import _percent, table
from rllab.runfolder import RunFolder
from rllab.seeding import Streams, global_state
from rllab.supervised import SupervisedModel
from rllab.testing import first_difference
from rllab.trainer import Status, Trainer


class ToyConfig(Config):
    epochs: int = 4


class Toy(SupervisedModel):
    """Splits at 0 of the first number, and is the surer the further it is away; a step is an epoch."""

    Config = ToyConfig

    def __init__(self, task: DatasetTask) -> None:
        super().__init__(ToyConfig(), task, device=torch.device("cpu"), streams=Streams(0))
        self.layer = nn.Linear(int(np.prod(task.shape)), 3)
        self.asked = 0

    def step(self) -> Metrics:
        self.count += self.epoch
        return {"train/loss": 1.0 / self.count}

    def predict(self, inputs: Tensor) -> Tensor:
        self.asked += len(inputs)
        first = inputs.flatten(1)[:, 0].float()
        return torch.stack([torch.sigmoid(-first), torch.sigmoid(first)], 1) if self.classes else first

    def filters(self) -> Tensor:
        return self.layer.weight.detach().reshape(-1, *self.shape)

    def feature_maps(self, inputs: Tensor) -> dict[str, Tensor]:
        maps = {"dense1": self.layer(inputs.flatten(1).float())}
        if inputs.dim() == 4:
            maps["relu1"] = inputs.float().relu()
        return maps


def data(inputs: Any, targets: Any = None, **options: Any) -> DatasetTask:
    config = DatasetConfig(**options)
    items = classification(inputs, inputs.reshape(len(inputs), -1)[:, 0] > 0) if targets is None else None
    made = Data(items or regression(inputs, targets), ("no", "yes") if items else (), target="height (m)")
    return DatasetTask("toy", config, split(made, config, 0))


def points(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(50, 2))


def train(folder: RunFolder, algorithm: Any, every: str = "100%", *, asked: bool = True, **options: Any) -> Status:
    """Train, from where the run stopped if it did."""
    writers = {"jsonl": JsonLinesWriter(), "media": MediaWriter(), "tensorboard": TensorBoardWriter()}
    logger = Logger(writers)
    callbacks = [Evaluate(Interval.parse("100%")), WriteLine(Interval.parse("1epoch"))]
    callbacks.append(Pictures(Interval.parse(every), folder, asked=asked))  # type: ignore[arg-type]
    trainer = Trainer(algorithm, logger, callbacks, **options)
    state = folder.path / "state.json"
    if state.exists():
        trainer.load_state_dict(json.loads(state.read_text()))
    logger.open(folder, resumed_at=trainer.count if state.exists() else None)
    if not getattr(algorithm, "train", None):
        algorithm.setup()
    status = trainer.run()
    state.write_text(json.dumps(trainer.state_dict()))
    logger.close(status.state)
    return status


def media(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.media.glob("*"))


# --- what there is to see -----------------------------------------------------------------------------------


def test_a_classifier_of_two_inputs_leaves_all_its_pictures_at_the_end(run_folder: RunFolder) -> None:
    inputs = points()
    inputs[:, 0] += 0.2 * np.sign(inputs[:, 0])
    inputs[-1] = 3.0, 3.0
    task = data(inputs)
    task.data.test.targets[0] = 1 - task.data.test.targets[0]  # type: ignore[union-attr]
    assert train(run_folder, Toy(task)).state == "finished"
    assert media(run_folder) == [
        f"{name}-000000160.{suffix}"
        for name, suffix in [
            ("confusion", "png"),
            ("confusion-table", "txt"),
            ("curves", "png"),
            ("filters", "png"),
            ("neurons", "png"),
            ("regions", "png"),
            ("wrong", "png"),
        ]
    ]
    lines = (run_folder.media / "confusion-table-000000160.txt").read_text().splitlines()
    assert len(lines) == 4
    matrix = np.array([[int(number) for number in line.split("|")[2:4]] for line in lines[2:]])
    assert matrix.sum() == 10
    assert matrix.trace() == 9
    with Image.open(run_folder.media / "regions-000000160.png") as image:
        assert image.size == (960, 720)
        pixels = np.asarray(image).astype(int)
    left, right = pixels[400, 180], pixels[400, 580]  # blue where the first class is predicted, orange elsewhere
    assert left[2] > left[0] + 40
    assert right[0] > right[2] + 40


def test_numbers_are_predicted_against_true_and_two_inputs_are_a_map(run_folder: RunFolder) -> None:
    inputs = points()
    train(run_folder, Toy(data(inputs, inputs[:, 0] * 2)))
    names = {name.partition("-0")[0] for name in media(run_folder)}
    assert names == {"curves", "filters", "neurons", "predictions", "regions"}


def test_images_have_filters_and_feature_maps(run_folder: RunFolder) -> None:
    inputs = np.random.default_rng(0).integers(0, 2, (50, 1, 4, 4)).astype(np.uint8)
    train(run_folder, Toy(data(inputs)))
    names = {name.partition("-0")[0] for name in media(run_folder)}
    assert names == {"confusion", "confusion-table", "curves", "feature-maps", "filters"}


@pytest.mark.parametrize("shape", [(5,), (40,), (3, 1)])
def test_wrong_items_of_every_shape_are_shown(shape: tuple[int, ...]) -> None:
    inputs = np.random.default_rng(0).normal(size=(50, *shape))
    task = data(inputs)
    task.data.test.targets[:4] = 1 - task.data.test.targets[:4]  # type: ignore[union-attr]
    found = Toy(task).pictures()
    assert found["wrong"].mode == "RGB"


def test_the_confusion_matrix_as_text_is_a_table() -> None:
    text = table(torch.tensor([[3, 1], [0, 12]]), ["no", "a|b"])
    assert text == (
        "| true \\ predicted | no | a/b |\n|-----------------:|---:|----:|\n"
        "|               no |  3 |   1 |\n|              a/b |  0 |  12 |\n"
    )


def test_only_all_is_100_percent() -> None:
    assert [_percent(share) for share in (0.5, 0.996, 1.0)] == ["50 %", ">99 %", "100 %"]
    assert _percent(0.9999, 1) == "99.9 %"


def test_the_test_part_is_looked_at_only_at_the_end_and_asked_once(run_folder: RunFolder) -> None:
    model = Toy(data(np.random.default_rng(0).normal(size=(50, 5)), validation_share=0.25))
    assert set(model.pictures(final=False)) == {"filters", "validation-confusion", "validation-confusion-table"}
    model.asked = 0
    model.measure(model.task.data.parts["test"], "eval")
    model.pictures(final=True)
    assert model.asked == 10 + 10  # the test part when it was measured, the validation part when it was drawn


def test_what_counts_is_shown_for_rows_and_for_images() -> None:
    class Weighing(Toy):
        def importances(self) -> Tensor:
            return torch.rand(self.shape)

    images = np.random.default_rng(0).integers(0, 2, (50, 1, 4, 4)).astype(np.uint8)
    for inputs in (points(), images):
        assert "importances" in Weighing(data(inputs)).pictures()


# --- how it is done -----------------------------------------------------------------------------------------


def test_tensorboard_finds_the_pictures_and_the_text(run_folder: RunFolder) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(run_folder, Toy(data(points())))
    found = EventAccumulator(str(run_folder.path), size_guidance={"images": 0}).Reload()
    assert set(found.Tags()["images"]) == {"confusion", "curves", "filters", "neurons", "regions"}
    (event,) = found.Images("regions")
    assert (event.step, event.width, event.height) == (160, 960, 720)
    assert "confusion-table/text_summary" in found.Tags()["tensors"]


def test_pictures_drawn_on_the_way_become_a_film_which_a_resumed_run_continues(run_folder: RunFolder) -> None:
    model = Toy(data(points()))
    assert train(run_folder, model, "1epoch", stop_after=80).state == "stopped"
    assert [name for name in media(run_folder) if "regions" in name] == [f"regions-{s:09d}.png" for s in (40, 80)]
    (run_folder.media / "regions-000000120.png").write_bytes(b"of a process that was killed after its checkpoint")
    (run_folder.media / "mine-2.png").write_bytes(b"of somebody else")
    assert train(run_folder, model, "1epoch").state == "finished"
    with Image.open(run_folder.media / "regions.gif") as film:
        frames = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(film)]
    assert len(frames) == 4
    changed = np.abs(frames[1] - frames[0]).max(2) > 8
    assert changed[:30].any()  # the title says how far training is
    assert not changed[30:].any()  # axes, points and colours stay
    assert "curves.gif" not in media(run_folder)
    assert "mine-2.png" in media(run_folder)


def test_a_new_run_begins_without_what_a_killed_one_left(run_folder: RunFolder) -> None:
    run_folder.write(run_folder.media_file("regions", 7, ".png"), b"old")
    MediaWriter().open(run_folder, resumed_at=None)
    assert media(run_folder) == []


def test_an_interval_of_0_draws_nothing(run_folder: RunFolder) -> None:
    train(run_folder, Toy(data(points())), "0")
    assert not run_folder.media.exists()


class Curious(Toy):
    """An algorithm with pictures of its own making."""

    shown: Mapping[str, Any] = {}

    def pictures(self, *, final: bool = True) -> Mapping[str, Any]:
        random.random()
        np.random.random()
        torch.rand(1)
        return dict(self.shown)


def test_a_short_run_with_nothing_but_curves_is_spared_them_unless_they_were_asked_for(run_folder: RunFolder) -> None:
    train(run_folder, Curious(data(points())), asked=False)
    assert not run_folder.media.exists()
    (run_folder.path / "state.json").unlink()
    train(run_folder, Curious(data(points())), asked=True)
    assert media(run_folder) == ["curves-000000160.png"]


def test_a_picture_that_cannot_be_drawn_is_one_warning_and_the_others_are(
    run_folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    model = Curious(data(points()))
    model.shown = {"bad": object(), "words": "to be", "sub/array": np.full((2, 3, 3), 9, np.uint8)}
    with caplog.at_level(logging.WARNING, "rllab"):
        assert train(run_folder, model, "1epoch").state == "finished"
    assert len([record for record in caplog.records if "bad cannot be drawn" in record.message]) == 1
    assert len(caplog.records) == 1
    assert (run_folder.media / "words-000000160.txt").read_text() == "to be"
    with Image.open(run_folder.media / "sub-array-000000160.png") as image:
        assert (image.size, image.getpixel((2, 1))) == ((3, 2), (9, 9, 9))


def test_an_algorithm_whose_pictures_fail_finishes_with_its_curves(
    run_folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Any, *, final: bool = True) -> Any:
        raise RuntimeError("no canvas\nat all")

    monkeypatch.setattr(Curious, "pictures", fail)
    assert train(run_folder, Curious(data(points()))).state == "finished"
    assert [record.message for record in caplog.records] == ["pictures cannot be drawn: RuntimeError: no canvas"]
    assert media(run_folder) == ["curves-000000160.png"]


def test_a_request_to_stop_while_drawing_leaves_the_pictures_due(
    run_folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Any, *, final: bool = True) -> Any:
        raise stopping.StopRequested("SIGINT")

    model = Curious(data(points()))
    with monkeypatch.context() as patched:
        patched.setattr(Curious, "pictures", stop)
        assert train(run_folder, model).state == "stopped"
    assert not run_folder.media.exists()
    assert train(run_folder, model).state == "finished"
    assert media(run_folder) == ["curves-000000160.png"]


def test_drawing_is_no_training_time_and_leaves_chance_alone(
    run_folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Curious(data(points()))
    draw = Curious.pictures

    def slowly(self: Any, *, final: bool = True) -> Any:
        time.sleep(0.3)
        return draw(self, final=final)

    monkeypatch.setattr(Curious, "pictures", slowly)
    before = global_state()
    train(run_folder, model)
    assert not first_difference(before, global_state())
    last = json.loads((run_folder.path / "state.json").read_text())
    assert last["seconds"] < 0.25


def test_drawing_a_model_changes_nothing_of_it() -> None:
    model = Toy(data(points()))
    model.setup()
    model.layer.train()
    streams = model.streams.state_dict()
    weights = {name: tensor.clone() for name, tensor in model.weights().items()}
    before = global_state()
    model.pictures()
    assert not first_difference(before, global_state())
    assert not first_difference(streams, model.streams.state_dict())
    assert not first_difference(weights, model.weights())
    assert model.layer.training


def test_a_file_of_media_is_never_half_there(run_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MediaWriter()
    writer.open(run_folder, resumed_at=None)

    def break_off(self: Path, target: Path) -> Path:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", break_off)
        with pytest.raises(RunFailed, match="disk is full"):
            writer.media(3, "words", "to be")
    assert media(run_folder) == []
    writer.media(3, "words", "to be")
    assert media(run_folder) == ["words-000000003.txt"]
    assert list(run_folder.media_files()) == [("words", 3, run_folder.media / "words-000000003.txt")]


def test_a_part_of_the_data_is_shown_with_its_own_numbers() -> None:
    model = Toy(data(points()))
    part = Part(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([1, 1]))
    from rllab.pictures import mistakes

    found = mistakes(model, part, model.outputs(part), "test")
    assert found["confusion-table"].splitlines()[3].split("|")[1:4] == ["              yes ", "  1 ", "   1 "]
