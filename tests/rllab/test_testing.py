import itertools
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from rllab_agents.dqn import DQN, DQNConfig
from torch import Tensor, nn

from rllab import checkpoint, experiment, planning
from rllab.algorithm import Algorithm, Metrics, Objective
from rllab.config import Config
from rllab.parts.optim import GradientSteps
from rllab.planning import Method
from rllab.plugins import Plugin
from rllab.runfolder import RunFolder
from rllab.task import Task
from rllab.testing import check_algorithm, check_config, first_difference, untimed_metrics

SMALL: dict[str, Any] = {"learning_starts": 10, "hidden": "8", "timesteps": 400, "batch_size": 8, "eval_episodes": 3}
STEPS = 25


# --- sound methods pass -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_envs": 3, "double": True, "normalize_observations": True, "optimizer": "rmsprop", "schedule": "linear"},
        {"buffer_size": 15, "tau": 0.5, "target_every": 7, "train_every": 4, "gradient_steps": 2, "max_grad_norm": 0},
    ],
    ids=["small", "with everything", "with a full buffer"],
)
def test_dqn_keeps_the_contract(options: dict[str, Any]) -> None:
    check_algorithm("dqn", "CartPole-v1", steps=STEPS, **SMALL, **options)


def test_the_check_leaves_random_generators_and_threads_alone() -> None:
    threads, before = torch.get_num_threads(), (torch.get_rng_state(), np.random.get_state()[1].tolist())
    check_algorithm("dqn", "CartPole-v1", steps=3, **SMALL)
    assert torch.get_num_threads() == threads
    assert first_difference(before, (torch.get_rng_state(), np.random.get_state()[1].tolist())) is None


# --- planted faults are caught, each by its message -----------------------------------------------------------


class ForgottenCounter(DQN):
    """Keeps a counter where the state collector does not look."""

    transient = DQN.transient | {"calls"}

    def setup(self) -> None:
        super().setup()
        self.calls = 0

    def step(self) -> Metrics:
        self.calls += 1
        return {**super().step(), "train/calls": float(self.calls)}


class DroppedCounter(DQN):
    """Drops a counter from its state, and makes up for it when that is loaded."""

    def setup(self) -> None:
        super().setup()
        self.calls = 0

    def step(self) -> Metrics:
        self.calls += 1
        return super().step()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        del state["state"]["calls"]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict({**state, "state": {**state["state"], "calls": 0}})


class Remembering(nn.Module):
    """Counts in a plain attribute."""

    calls = 0


class DroppedPart(DQN):
    """Drops what a module counts."""

    def setup(self) -> None:
        super().setup()
        self.memory = Remembering()
        self.memory.calls = 0

    def step(self) -> Metrics:
        self.memory.calls += 1
        return super().step()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.memory.calls = 0


class LostLength(DQN):
    """Brings back a list with its first item alone."""

    def setup(self) -> None:
        super().setup()
        self.history: list[int] = []

    def step(self) -> Metrics:
        self.history.append(self.count)
        return super().step()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        del self.history[1:]


class DrawingEvaluation(DQN):
    """Draws from a global generator when it is evaluated."""

    def evaluate(self, *arguments: Any, **options: Any) -> Metrics:
        np.random.random()
        return super().evaluate(*arguments, **options)


class SteppingEvaluation(DQN):
    """Is evaluated in the environments of training."""

    def evaluate(self, *arguments: Any, **options: Any) -> Metrics:
        self.envs.step(np.zeros(self.config.num_envs, int))
        return super().evaluate(*arguments, **options)


class UnseededStep(DQN):
    """Draws from a generator that no seed decides."""

    def step(self) -> Metrics:
        return {**super().step(), "train/luck": float(np.random.default_rng().random())}


class UnrepeatedEvaluation(DQN):
    """Measures something else each time."""

    turns = itertools.count()

    def evaluate(self, *arguments: Any, **options: Any) -> Metrics:
        return {**super().evaluate(*arguments, **options), "eval/turn": float(next(self.turns))}


class LateModule(DQN):
    """Makes a module that acting needs in setup."""

    def setup(self) -> None:
        self.head = nn.Identity()
        super().setup()

    def greedy(self, observations: np.ndarray) -> np.ndarray:
        return super().greedy(self.head(torch.from_numpy(observations)).numpy())


class StateInActing(DQN):
    """Lets acting depend on what is not in the weights."""

    direction = 1

    def step(self) -> Metrics:
        self.direction = -1
        return super().step()

    def greedy(self, observations: np.ndarray) -> np.ndarray:
        return (observations[:, 2] * self.direction > 0).astype(int)


class GraphInMetrics(DQN):
    """Returns a loss with its graph."""

    def step(self) -> Metrics:
        super().step()
        return {"train/loss": next(self.q.parameters()).sum()}


class Standing(DQN):
    """Does not advance."""

    def step(self) -> Metrics:
        return {}


class Unfrozen(DQN):
    """Stays in evaluation mode."""

    def evaluate(self, *arguments: Any, **options: Any) -> Metrics:
        self.q.eval()
        return super().evaluate(*arguments, **options)


class WithoutObjective(DQN):
    """Does not measure what decides."""

    @classmethod
    def objective(cls, task: Any) -> Objective:
        return Objective("eval/score", maximize=True)


class OutOfBounds(DQN):
    """Acts beyond the action space."""

    def act(self, observations: np.ndarray, *arguments: Any, **options: Any) -> Any:
        actions, memory = super().act(observations, *arguments, **options)
        return (actions if hasattr(self, "envs") or len(actions) != 2 else actions + 9), memory


class SilentConfig(DQNConfig):
    """Has an option without a word about it."""

    boldness: float = 0.5


class Silent(DQN):
    Config = SilentConfig


class WrongDefaultConfig(DQNConfig):
    """Has a default that it does not take itself."""

    learning_starts: NonNegativeInt = -1
    """Steps before the first update."""


class WrongDefault(DQN):
    Config = WrongDefaultConfig


class LossyConfig(DQNConfig):
    """Has an option that is not what was written."""

    def model_dump(self, **options: Any) -> dict[str, Any]:
        return {**super().model_dump(**options), "gamma": 0.5}


class Lossy(DQN):
    Config = LossyConfig


def returning(**metrics: Any) -> type[DQN]:
    """Return a DQN whose steps return these metrics."""

    class Returning(DQN):
        def step(self) -> Metrics:
            super().step()
            return {name.replace("_", "/", 1): value for name, value in metrics.items()}

    return Returning


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (
            ForgottenCounter,
            r"a resumed run goes on differently in \[0\]\[0\]\.train/calls: something that step",
        ),
        (DroppedCounter, r"after loading a checkpoint, state\.calls is not as it was saved"),
        (LostLength, r"after loading a checkpoint, the length of state\.history \(25 and 1\) is not as it was saved"),
        (DrawingEvaluation, r"evaluate\(\) changed the global random generators.*; it must leave everything as it was"),
        (SteppingEvaluation, r"evaluate\(\) changed state\.envs"),
        (UnseededStep, r"two runs with the same seed differ in .*train/luck: draw from self\.streams only"),
        (
            UnrepeatedEvaluation,
            r"evaluate\(\) twice at the same count differs in eval/turn: seed it from",
        ),
        (LateModule, r"a model loaded without setup\(\) cannot be evaluated: .*no attribute 'head'"),
        (StateInActing, r"a model loaded from its weights alone evaluates differently: eval/"),
        (GraphInMetrics, r"step\(\): train/loss still carries its graph; detach\(\) it"),
        (Standing, r"step\(\) did not advance count beyond 0: it would never end"),
        (Unfrozen, r"evaluate\(\) changed the length of state\.__frozen__"),
        (WithoutObjective, r"evaluate\(\) does not return eval/score, the objective"),
        (OutOfBounds, r"act\(\) returned .*, not in Discrete\(2\)"),
        (Silent, r"no help text under boldness in SilentConfig: write a docstring below the field"),
        (WrongDefault, r"the defaults of WrongDefaultConfig are not valid: --learning-starts -1"),
        (DroppedPart, r"after loading a checkpoint, state\.__parts__\.memory\.calls is not as it was saved"),
        (Lossy, r"LossyConfig changes when it is written and read"),
        (returning(loss=1.0), r"the metric 'loss' does not begin with train/"),
        (returning(train_q=torch.ones(2)), r"train/q is a tensor of shape \(2,\), not 0-d"),
        (returning(train_q="high"), r"train/q is a str, not a number"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_planted_fault_is_caught_by_its_message(faulty: type[Algorithm], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_algorithm(faulty, "CartPole-v1", steps=STEPS, **SMALL)


def test_a_budget_of_nothing_must_be_refused() -> None:
    class IdleConfig(Config):
        """Hyperparameters of who may do nothing."""

        epochs: NonNegativeInt = 3
        """Passes over the data."""

    with pytest.raises(AssertionError, match=r"IdleConfig takes epochs=0, with which nothing is trained"):
        check_config(IdleConfig)


def test_a_task_that_the_method_refuses_fails_with_the_reason() -> None:
    with pytest.raises(AssertionError, match=r"it takes Discrete actions, not Box"):
        check_algorithm(DQN, "Pendulum-v1", **SMALL)


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ({"a": [1, 2.0]}, {"a": [1, 2.0]}, None),
        (float("nan"), float("nan"), None),
        ({"a": 1}, {"b": 1}, "a"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "a[1]"),
        ({"a": [1]}, {"a": [1, 2]}, "the length of a (1 and 2)"),
        ({"a": 1}, {"a": 1.0}, "a"),
        ({"a": np.float32(1)}, {"a": np.float64(1)}, "a"),
        ({"a": torch.zeros(2)}, {"a": torch.zeros(1, 2)}, "a"),
        ({"a": np.array([0.0])}, {"a": np.array([-0.0])}, "a"),
        (0.0, -0.0, "the value"),
    ],
)
def test_states_are_compared_to_the_last_bit(one: Any, other: Any, difference: str | None) -> None:
    assert first_difference(one, other) == difference


# --- a method and a task that have nothing to do with reinforcement learning ----------------------------------


class LineConfig(Config):
    """Options of a noisy line."""

    noise: NonNegativeFloat = 0.1
    """Standard deviation around the line."""


class Line(Task):
    """Points on y = 2 x - 1 with noise: 64 to train on, 32 to test with."""

    kind = "dataset"
    config: LineConfig

    def __init__(self, name: str, config: LineConfig, seed: int) -> None:
        self.name, self.config = name, config
        rng = np.random.default_rng(seed)
        self.x = torch.from_numpy(rng.uniform(-1, 1, (96, 1)).astype(np.float32))
        noise = torch.from_numpy(rng.normal(0, 1, (96, 1)).astype(np.float32))
        self.y = 2 * self.x - 1 + config.noise * noise

    @classmethod
    def config_class(cls, target: str) -> type[Config]:
        return LineConfig

    @classmethod
    def open(cls, target: str, config: Config, *, seed: int) -> "Line":
        assert isinstance(config, LineConfig)
        return cls(target, config, seed)

    @classmethod
    def names(cls) -> list[str]:
        return ["line"]


class LeastSquaresConfig(Config):
    """Hyperparameters of least squares by gradient descent."""

    epochs: PositiveInt = 20
    """Passes over the data."""

    batch_size: PositiveInt = 16
    """Examples in a step."""

    lr: PositiveFloat = 0.1
    """Step size."""


class LeastSquares(Algorithm):
    """Fits a line; the data comes in an order that is drawn anew for each epoch."""

    Config = LeastSquaresConfig
    Task = Line
    unit = "examples"
    reductions: ClassVar[dict[str, Any]] = {"train/examples": "sum"}

    def __init__(self, config: Any, task: Any, **rest: Any) -> None:
        super().__init__(config, task, **rest)
        self.model = nn.Linear(1, 1).to(self.device)

    @classmethod
    def objective(cls, task: Any) -> Objective:
        return Objective("eval/rmse", maximize=False)

    @property
    def epoch(self) -> int:
        return 64

    @property
    def budget(self) -> int:
        return 64 * int(self.config.epochs)

    def setup(self) -> None:
        self.rng = self.streams.numpy("data")
        self.order: list[int] = []
        self.optimizer = GradientSteps(self.model, lr=self.config.lr)

    def step(self) -> Metrics:
        if not self.order:
            self.order = self.rng.permutation(64).tolist()
        rows, self.order = self.order[: self.config.batch_size], self.order[self.config.batch_size :]
        loss = self.loss(rows)
        self.optimizer(loss)
        self.count += len(rows)
        return {"train/loss": loss.detach(), "train/examples": float(len(rows))}

    def loss(self, rows: Any) -> Tensor:
        return (self.model(self.task.x[rows]) - self.task.y[rows]).square().mean()

    def evaluate(self) -> Metrics:
        with self.undisturbed():
            return {"eval/rmse": self.loss(slice(64, 96)).sqrt().item()}


METHOD = Method(Plugin("least-squares", "rllab.supervised", "tests:LeastSquares", "tests", "0"), LeastSquares)


def test_least_squares_keeps_the_contract() -> None:
    check_algorithm(LeastSquares, "line", steps=7, epochs=5, batch_size=24)


def test_least_squares_is_trained_from_a_plan_to_a_run_folder(tmp_path: Path) -> None:
    values = {"runs_dir": tmp_path, "device": "cpu", "noise": 0.05, "eval_every": "5epochs", "log_every": "1epoch"}
    planned = planning.plan_method(METHOD, "line", values)
    folder, status = experiment.start(planned)
    assert status.state == "finished"
    assert folder.path == tmp_path / "line" / "least-squares" / "noise-0.05_seed0"
    assert folder.info["unit"] == "examples"
    assert folder.info["totals"]["steps"] == 20 * 64
    assert folder.info["task_config"] == {"noise": 0.05}
    lines = [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [64 * epoch for epoch in range(1, 21)]
    assert all(line["train/examples"] == 64 for line in lines)
    assert [line["step"] for line in lines if "eval/rmse" in line] == [320, 640, 960, 1280]
    assert lines[-1]["eval/rmse"] == pytest.approx(0.05, abs=0.02)  # the noise, which nothing can explain
    assert folder.info["best"]["value"] == min(line.get("eval/rmse", 9) for line in lines)
    weights = checkpoint.load_weights(folder.checkpoints / "step-000001280")
    assert weights["model.weight"].item() == pytest.approx(2, abs=0.05)
    assert weights["model.bias"].item() == pytest.approx(-1, abs=0.05)


def test_least_squares_stops_in_the_middle_of_an_epoch_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "load_method", lambda name: METHOD)
    values: dict[str, Any] = {"device": "cpu", "epochs": 4, "log_every": "1epoch", "eval_every": "2epochs"}
    straight, _ = experiment.start(planning.plan_method(METHOD, "line", {**values, "run_dir": tmp_path / "a"}))
    stop = {"run_dir": tmp_path / "b", "stop_after": 96}
    stopped, status = experiment.start(planning.plan_method(METHOD, "line", {**values, **stop}))
    assert (status.state, stopped.info["totals"]["steps"]) == ("stopped", 96)
    resumed, status = experiment.resume(RunFolder(stopped.path))
    assert status.state == "finished"
    assert untimed_metrics(resumed.path) == untimed_metrics(straight.path)
    files = [run.checkpoints / "step-000000256" / "weights.safetensors" for run in (straight, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
