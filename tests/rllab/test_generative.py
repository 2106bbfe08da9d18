"""What every generative model has, on the smallest ones that there are."""

import io
import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import PositiveInt
from torch import Tensor, nn

from rllab import experiment, planning
from rllab.algorithm import Metrics, Objective
from rllab.cli.runs import eval_command
from rllab.cli.sample import sample_command
from rllab.config import Config
from rllab.data import Data, DatasetConfig, DatasetTask, Part
from rllab.errors import UsageError
from rllab.generative import ImageConfig, ImageModel, Pixels, TextModel
from rllab.parts.averaging import average_of, averaged
from rllab.parts.optim import GradientSteps
from rllab.planning import Method
from rllab.plugins import Plugin
from rllab.testing import check_algorithm
from rllab.text import TextTask


class MeanConfig(ImageConfig):
    """Hyperparameters of the mean image."""

    conditional: bool = False
    """One mean a class."""


class MeanImage(ImageModel):
    """Draws the mean of the images, with some noise."""

    Config = MeanConfig

    def __init__(self, config: Any, task: DatasetTask, **rest: Any) -> None:
        super().__init__(config, task, **rest)
        self.means = nn.Embedding(len(task.classes) if config.conditional else 1, torch.Size(task.shape).numel())
        self.average = average_of(self.means, config.ema)

    @classmethod
    def objective(cls, task: DatasetTask) -> Objective:
        return Objective("eval/rmse", maximize=False)

    @property
    def captions(self) -> dict[str, str]:
        return {"eval/rmse": "of grey values"}

    def setup(self) -> None:
        super().setup()
        self.optimizer = GradientSteps.of(self.means, self.config)

    def error(self, images: Tensor, targets: Tensor) -> Tensor:
        shown = self.means if torch.is_grad_enabled() else averaged(self.means, self.average)
        means = shown(targets if self.conditional else torch.zeros_like(targets))
        return (images.flatten(1) - means).square().mean()

    def step(self) -> Metrics:
        images, targets = self.batch()
        loss = self.error(images, targets)
        self.optimizer(loss, lr=self.lr)
        if self.average is not None:
            self.average.update(self.means)
        self.count += len(images)
        return {"train/loss": loss.detach(), "train/lr": self.lr}

    def measure(self, part: Part, name: str) -> Metrics:
        with self.undisturbed():
            return {f"{name}/rmse": self.error(self.pixels(part.inputs), part.targets).sqrt().item()}

    def draw(self, n: int, labels: Tensor | None, generator: torch.Generator) -> Tensor:
        means = averaged(self.means, self.average)(labels if labels is not None else torch.zeros(n, dtype=torch.int64))
        noise = torch.randn(means.shape, generator=generator)
        return (means + 0.01 * noise).clamp(0, 1).reshape(n, *self.shape)


class UnigramConfig(Config):
    """Hyperparameters of the unigram."""

    epochs: PositiveInt = 1
    """Passes over the text."""


class Unigram(TextModel):
    """Counts characters."""

    Config = UnigramConfig

    def __init__(self, config: Any, task: TextTask, **rest: Any) -> None:
        super().__init__(config, task, **rest)
        self.table = nn.Embedding(1, len(task.vocabulary)).requires_grad_(False)
        self.table.weight.fill_(1.0)

    @property
    def counts(self) -> Tensor:
        return self.table.weight[0]

    @property
    def budget(self) -> int:
        return len(self.task.text.train)

    def step(self) -> Metrics:
        self.table.weight += self.task.text.train.long().bincount(minlength=len(self.counts))
        self.count = self.budget
        return {}

    def evaluate(self) -> Metrics:
        log = (self.counts / self.counts.sum()).log()
        return {"eval/nats_per_character": -log[self.task.text.test.long()].mean().item()}

    def stream(
        self, prime: str = "", *, temperature: float = 1.0, top_k: int = 0, rng: np.random.Generator
    ) -> Iterator[str]:
        self.task.encode(prime)
        shares = (self.counts / self.counts.sum()).double().numpy()
        while True:
            number = int(shares.argmax()) if temperature == 0 else int(rng.choice(len(shares), p=shares / shares.sum()))
            yield self.task.vocabulary[number]


METHODS = {
    "mean-image": Method(Plugin("mean-image", "rllab.generative", "tests:MeanImage", "tests", "0"), MeanImage),
    "unigram": Method(Plugin("unigram", "rllab.generative", "tests:Unigram", "tests", "0"), Unigram),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return the folder of a run, which is trained when it is first asked for."""
    runs: dict[str, Path] = {}
    load = planning.load_method

    def train(method: str, target: str, **options: Any) -> Path:
        asked = f"{method} {target} {options}"
        if asked not in runs:
            folder = tmp_path_factory.mktemp("runs") / method
            values = {"run_dir": folder, "device": "cpu", "logger": "none", **options}
            _, status = experiment.start(planning.plan_method(planning.load_method(method), target, values))
            assert status.state == "finished"
            runs[asked] = folder
        return runs[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "load_method", lambda name: METHODS.get(name.partition("@")[0]) or load(name))
        yield train


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("texts") / "abc.txt"
    path.write_text("abacabad" * 30, encoding="utf-8")
    return str(path)


def sampled(*arguments: str) -> Any:
    return CliRunner().invoke(sample_command, [*arguments], catch_exceptions=False)


# --- images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
def test_an_image_model_keeps_the_contract(conditional):
    check_algorithm(MeanImage, "digits", steps=5, epochs=2, conditional=conditional)


def test_a_model_that_ignores_ema_breaks_the_contract(monkeypatch):
    monkeypatch.setattr("test_generative.average_of", lambda network, decay: None)
    with pytest.raises(AssertionError, match="--ema is taken and ignored"):
        check_algorithm(MeanImage, "digits", steps=1)


def test_bytes_become_numbers_from_0_to_1_and_other_numbers_by_lowest_and_highest():
    assert Pixels(torch.tensor([[0, 51]], dtype=torch.uint8))(torch.tensor([51, 255])).tolist() == pytest.approx(
        [0.2, 1.0]
    )
    assert Pixels(torch.tensor([[-1.0, 3.0]]))(torch.tensor([-1.0, 0.0, 3.0, 9.0])).tolist() == [0, 0.25, 1, 1]
    assert Pixels(torch.ones(2, 2))(torch.ones(1)).tolist() == [0]  # all alike: nothing to divide by


def task_of(shape: tuple[int, ...], *, classes: tuple[str, ...] = ("a", "b"), **options: Any) -> DatasetTask:
    part = Part(torch.rand(4, *shape), torch.tensor([0, 1, 0, 1]) if classes else torch.rand(4))
    return DatasetTask("fake", DatasetConfig(**options), Data(part, classes=classes, test=part))


@pytest.mark.parametrize(
    ("task", "options", "reason"),
    [
        (task_of((2,)), {}, "it takes images, and the inputs of fake are 2 numbers"),
        (task_of((1, 2, 2), scale="standard"), {}, "--scale standard"),
        (task_of((1, 2, 2), classes=()), {"conditional": True}, "--conditional is by the class, and fake has none"),
    ],
)
def test_what_does_not_fit_is_refused(task, options, reason):
    assert reason in (MeanImage.refusal(MeanConfig(**options), task) or "")


def test_the_datasets_that_fit_are_named():
    assert MeanImage.alternatives(MeanConfig()) == ["digits", "fashion-mnist", "mnist"]


def test_without_a_validation_part_the_test_part_is_watched_and_picks_nothing(trained):
    folder = trained("mean-image", "digits", epochs=2)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert sum("eval/rmse" in line for line in lines) > 2
    assert not (folder / "checkpoints" / "best").exists()


def test_a_validation_part_is_watched_and_picks_the_best_checkpoint(trained):
    folder = trained("mean-image", "digits", epochs=2, validation_share=0.2)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert sum("validation/rmse" in line for line in lines) > 2
    assert [line["step"] for line in lines if "eval/rmse" in line] == [lines[-1]["step"]]
    assert (folder / "checkpoints" / "best").exists()


def test_captions_stand_beside_the_numbers(trained):
    folder = trained("mean-image", "digits", epochs=1)
    assert json.loads((folder / "run.json").read_text())["captions"] == {"eval/rmse": "of grey values"}
    shown = CliRunner().invoke(eval_command, [str(folder)], catch_exceptions=False)
    assert "(of grey values)" in next(line for line in shown.stdout.splitlines() if "eval/rmse" in line)
    as_json = CliRunner().invoke(eval_command, [str(folder), "--json"], catch_exceptions=False)
    assert json.loads(as_json.stdout)["captions"] == {"eval/rmse": "of grey values"}


# --- rllab sample -----------------------------------------------------------------------------------


def test_images_become_a_picture_and_the_same_seed_gives_the_same(trained, tmp_path):
    from PIL import Image

    folder = trained("mean-image", "digits", epochs=1)
    files = [tmp_path / name for name in ("one.png", "two.png", "other.png")]
    for file, seed in zip(files, "112", strict=True):
        done = sampled(str(folder), "-n", "9", "--seed", seed, "-o", str(file))
        assert done.exit_code == 0
        assert done.stdout == f"{file}\n"
    with Image.open(files[0]) as picture:
        assert min(picture.size) > 100
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_without_a_number_64_images_are_drawn(trained, tmp_path):
    sampled(str(trained("mean-image", "digits", epochs=1)), "-o", str(tmp_path / "x.npy"))
    assert np.load(tmp_path / "x.npy").shape == (64, 1, 8, 8)


def test_without_a_seed_each_sample_is_new_and_its_seed_is_told(trained, tmp_path):
    folder = trained("mean-image", "digits", epochs=1)
    done = [sampled(str(folder), "-n", "1", "-o", str(tmp_path / "x.npy")) for _ in range(2)]
    assert all(result.stderr.startswith("--seed ") for result in done)
    assert done[0].stderr != done[1].stderr


def test_a_label_asks_for_a_class_and_npy_has_the_numbers(trained, tmp_path):
    folder = trained("mean-image", "digits", epochs=30, lr=0.02, conditional=True)
    one, both = tmp_path / "seven.npy", tmp_path / "all.npy"
    sampled(str(folder), "-n", "3", "--label", "7", "--seed", "0", "-o", str(one))
    sampled(str(folder), "-n", "20", "--seed", "0", "-o", str(both))
    sevens, images = np.load(one), np.load(both)
    assert sevens.shape == (3, 1, 8, 8)
    assert images.shape == (20, 1, 8, 8)
    distance = np.abs(images - sevens[0]).mean((1, 2, 3))
    assert set(np.argsort(distance)[:2]) == {7, 17}  # each class in turn


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--label", "7"], "--label 7: this model was not trained by class"),
        (["--label", "seven"], "--label seven: this model was not trained by class"),
        (["--prime", "x"], "--prime is for models of texts"),
        (["-o", "x.doc"], "no picture has that ending"),
        (["-n", "20000", "-o", "x.png"], "too many for a picture"),
        (["--checkpoint", "99"], "there is no checkpoint"),
    ],
)
def test_what_an_image_model_cannot_do_is_said(trained, arguments, says):
    folder = trained("mean-image", "digits", epochs=1)
    with pytest.raises(Exception, match=says):
        sampled(str(folder), *arguments)


def test_a_label_that_does_not_exist_is_said_with_those_that_do(trained):
    folder = trained("mean-image", "digits", epochs=30, lr=0.02, conditional=True)
    with pytest.raises(UsageError, match=r"digits has no class 'seven'\nThe classes are: 0, 1, 2"):
        sampled(str(folder), "--label", "seven")


def test_a_model_that_draws_nothing_says_why(trained, monkeypatch):
    folder = trained("mean-image", "digits", epochs=1)
    monkeypatch.setattr(MeanImage, "refuses_sampling", "a mean is no distribution")
    with pytest.raises(UsageError, match="a mean is no distribution"):
        sampled(str(folder))


# --- texts ------------------------------------------------------------------------------------------


def test_a_text_model_keeps_the_contract(text):
    check_algorithm(Unigram, text, steps=1)


def test_only_the_sample_goes_to_stdout(trained, text):
    folder = trained("unigram", text)
    first, again = (sampled(str(folder), "-n", "50", "--seed", "3") for _ in range(2))
    assert len(first.stdout) == 50
    assert set(first.stdout) <= set("abcd")
    assert first.stdout == again.stdout
    assert first.stderr == ""


def test_a_text_can_go_to_a_file(trained, text, tmp_path):
    folder = trained("unigram", text)
    shown = sampled(str(folder), "-n", "50", "--seed", "3").stdout
    assert sampled(str(folder), "-n", "50", "--seed", "3", "-o", str(tmp_path / "o.txt")).stdout == ""
    assert (tmp_path / "o.txt").read_text() == shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prime", "abx"], "lacks 'x'"),
        (["--label", "7"], "--label is for models of images"),
    ],
)
def test_what_a_text_model_cannot_do_is_said(trained, text, arguments, says):
    folder = trained("unigram", text)
    with pytest.raises(UsageError, match=says):
        sampled(str(folder), *arguments)


def test_what_predicts_draws_nothing(trained):
    folder = trained("majority", "digits")
    assert not json.loads((folder / "run.json").read_text()).get("draws")
    with pytest.raises(UsageError, match="is a run of Majority, which draws nothing new"):
        sampled(str(folder))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What `stream` of a model that says nothing but "ab", line by line, was asked for."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def stream(self: Unigram, prime: str = "", **how: Any) -> Iterator[str]:
        calls.append((prime, how))
        return cycle("ab\n")

    monkeypatch.setattr(Unigram, "stream", stream)
    return calls


def test_without_a_number_400_characters_are_written_after_nothing_at_temperature_1(trained, text, asked):
    assert sampled(str(trained("unigram", text))).stdout == ("ab\n" * 134)[:400]
    ((prime, how),) = asked
    assert (prime, how["temperature"], how["top_k"]) == ("", 1, 0)


def test_prime_temperature_and_top_k_reach_the_model_and_the_prime_is_not_repeated(trained, text, asked):
    options = ("--prime", "cab", "--temperature", "0.8", "--top-k", "20", "--seed", "5", "-n", "2")
    assert sampled(str(trained("unigram", text)), *options).stdout == "ab"
    ((prime, how),) = asked
    assert (prime, how["temperature"], how["top_k"]) == ("cab", 0.8, 20)
    assert how["rng"].random() == np.random.default_rng(5).random()


def test_always_the_most_probable_character_is_what_a_temperature_of_0_writes(trained, text):
    assert sampled(str(trained("unigram", text)), "--temperature", "0", "-n", "5").stdout == "aaaaa"


class Terminal(io.StringIO):
    """Remembers what is seen on it, each time it is told to show what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.seen.append(self.getvalue())


@pytest.mark.usefixtures("asked")
def test_on_a_terminal_each_character_is_seen_when_it_comes(trained, text, monkeypatch):
    terminal = Terminal()
    folder = trained("unigram", text)
    monkeypatch.setattr("sys.stdout", terminal)
    sample_command.main([str(folder), "-n", "5", "--seed", "0"], standalone_mode=False)
    assert terminal.seen[:5] == ["a", "ab", "ab\n", "ab\na", "ab\nab"]
    assert terminal.getvalue() == "ab\nab\n"  # what is typed next begins a line


def test_through_a_pipe_each_line_is_seen_when_it_is_complete(trained, text, monkeypatch):
    pipe, seen = io.BytesIO(), []

    def stream(self: Unigram, prime: str = "", **how: Any) -> Iterator[str]:
        for character in cycle("ä\n"):
            seen.append(pipe.getvalue().decode())
            yield character

    folder = trained("unigram", text)
    monkeypatch.setattr(Unigram, "stream", stream)
    out = io.TextIOWrapper(pipe, encoding="ascii", newline="\r\n")
    monkeypatch.setattr("sys.stdout", out)
    sample_command.main([str(folder), "-n", "5", "--seed", "0"], standalone_mode=False)
    assert seen == ["", "", "ä\n", "ä\n", "ä\nä\n"]
    out.flush()
    assert pipe.getvalue().decode() == "ä\nä\nä"
