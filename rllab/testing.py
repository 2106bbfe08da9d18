"""The conformance suite that every method runs, ours and a stranger's.

    from rllab.testing import check_algorithm

    def test_it_keeps_the_contract():
        check_algorithm("mymethod", "CartPole-v1", learning_starts=20)

Choose options under which a few dozen steps do everything the method does: fill the buffer, update, finish
an episode.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllab import checkpoint, experiment, planning
from rllab import state as states
from rllab.agent import Agent
from rllab.algorithm import Algorithm, Metrics
from rllab.config import Config, plain, read_toml, write_toml
from rllab.errors import UsageError
from rllab.generative import GenerativeModel, ImageModel, TextModel
from rllab.parts.averaging import WeightAverage
from rllab.planning import Method, Plan
from rllab.plugins import Plugin
from rllab.seeding import global_state, set_global_state
from rllab.state import State
from rllab.supervised import SupervisedModel

_NAMESPACES = ("train/", "validation/", "eval/", "time/")


def check_algorithm(algorithm: str | type[Algorithm], target: str, *, steps: int = 60, **options: Any) -> None:
    """Check that a method keeps the contract of `rllab.Algorithm`, on the CPU.

    Args:
        algorithm: the name of an installed method, or its class.
        target: an environment or dataset it takes.
        steps: calls of `step()` before and after the checkpoint; with epochs, choose them so that it is within one.
        **options: hyperparameters and task options by name, such as `learning_starts=20`.

    Raises:
        AssertionError: that says which rule is broken, and where.
    """
    planned = _plan(algorithm, target, options)
    before = global_state()
    threads = torch.get_num_threads()
    try:
        check_config(planned.algorithm_class.Config)
        check_round_trip(planned.config)
        check_average(planned)
        check_steps(planned, steps)
        check_evaluate(planned, steps)
        check_same_seed(planned, steps)
        check_resume(planned, steps)
        check_resume(planned, steps + 1)  # of two steps in a row one is within an epoch, if any is
        check_weights(planned, steps)
        if torch.cuda.is_available():
            check_resume(planned, steps, device="cuda")
    finally:
        set_global_state(before)
        torch.set_num_threads(threads)


# --- the rules, one a function --------------------------------------------------------------------


def check_config(config: type[Config]) -> None:
    """Every hyperparameter has a help text, the defaults are valid, and a budget of 0 is refused."""
    silent = [name for name, field in config.model_fields.items() if not field.description]
    assert not silent, f"no help text under {', '.join(silent)} in {config.__name__}: write a docstring below the field"
    try:
        config.parse({})
    except UsageError as error:
        raise AssertionError(f"the defaults of {config.__name__} are not valid: {error}") from error
    for name in {"timesteps", "epochs", "sweeps"} & set(config.model_fields):
        with suppress(UsageError):
            config.parse({name: 0})
            raise AssertionError(
                f"{config.__name__} takes {name}=0, with which nothing is trained: make it PositiveInt"
            )


def check_round_trip(config: Config) -> None:
    """A configuration that is written to TOML and read back is the same."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text(write_toml([("config", plain(config))]), encoding="utf-8")
        again = type(config).parse(read_toml(file))
    assert again == config, f"{type(config).__name__} changes when it is written and read: {again!r} is not {config!r}"


def check_average(planned: Plan) -> None:
    """A generative model that takes --ema keeps an average of its weights."""
    if not issubclass(planned.algorithm_class, GenerativeModel) or "ema" not in type(planned.config).model_fields:
        return
    algorithm = _build(replace(planned, config=planned.config.model_copy(update={"ema": 0.5})))
    kept = any(isinstance(module, WeightAverage) for module in states.modules(algorithm).values())
    algorithm.close()
    assert kept, (
        "--ema is taken and ignored: keep self.average = average_of(network, config.ema), update it after each step, "
        "and measure and draw with averaged(network, self.average); see rllab.parts.averaging"
    )


def check_steps(planned: Plan, steps: int) -> None:
    """Each step advances `count`; metrics are flat, named by namespace, finite in type, and detached."""
    algorithm = _build(planned)
    try:
        assert algorithm.count == 0, f"count is {algorithm.count} before the first step, not 0"
        assert algorithm.budget > 0, f"budget is {algorithm.budget}"
        for _ in range(steps):
            if algorithm.count >= algorithm.budget or algorithm.converged:
                break
            before = algorithm.count
            metrics = algorithm.step()
            assert algorithm.count > before, f"step() did not advance count beyond {before}: it would never end"
            _check_metrics(metrics, "step()")
    finally:
        algorithm.close()


def check_evaluate(planned: Plan, steps: int) -> None:
    """Evaluating changes nothing, gives the same each time, and measures the objective."""
    algorithm = _trained(planned, steps)
    try:
        before = _everything(algorithm)
        first = algorithm.evaluate()
        if difference := first_difference(before, _everything(algorithm)):
            raise AssertionError(f"evaluate() changed {difference}; it must leave everything as it was")
        second = algorithm.evaluate()
        _check_metrics(first, "evaluate()")
        difference = first_difference(_floats(first), _floats(second))
        assert not difference, f"evaluate() twice at the same count differs in {difference}: seed it from (seed, count)"
        objective = type(algorithm).objective(planned.task)
        assert isinstance(objective.maximize, bool), f"Objective({objective.metric!r}, maximize) is True or False"
        assert objective.metric in first, f"evaluate() does not return {objective.metric}, the objective"
    finally:
        algorithm.close()


def check_same_seed(planned: Plan, steps: int) -> None:
    """The same seed gives the same metrics and the same state."""
    results = []
    for _ in range(2):
        algorithm = _build(planned)
        try:
            history = _history(algorithm, steps)
            results.append((history, _everything(algorithm)))
        finally:
            algorithm.close()
    difference = first_difference(results[0], results[1])
    assert not difference, f"two runs with the same seed differ in {difference}: draw from self.streams only"


def check_resume(planned: Plan, steps: int, device: str = "cpu") -> None:
    """Save, load into a new object, go on: the same as never stopped, to the last bit."""
    straight = _trained(planned, steps, device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        saved = straight.state_dict()
        checkpoint.save(path, weights=saved["weights"], state=_with_globals(saved["state"]), note={})
        expected_at_stop = _everything(straight)
        expected = _history(straight, steps), _everything(straight)
        straight.close()

        resumed = _build(planned, device)
        try:
            state = checkpoint.load_state(path)
            resumed.load_state_dict({"weights": checkpoint.load_weights(path), "state": state["algorithm"]})
            set_global_state(state["globals"])
            difference = first_difference(expected_at_stop, _everything(resumed))
            assert not difference, f"after loading a checkpoint, {difference} is not as it was saved"
            got = _history(resumed, steps), _everything(resumed)
        finally:
            resumed.close()
    if device == "cpu":
        difference = first_difference(expected, got)
        assert not difference, (
            f"a resumed run goes on differently in {difference}: something that step() uses is not in the checkpoint"
        )


def check_weights(planned: Plan, steps: int) -> None:
    """What acting, sampling and predicting use is in the weights: a model loaded without `setup` measures the same."""
    trained = _trained(planned, steps)
    try:
        expected = _floats(trained.evaluate())
        weights = {name: tensor.clone() for name, tensor in trained.state_dict()["weights"].items()}
        count = trained.count
    finally:
        trained.close()
    loaded, _ = experiment.build(planned)
    loaded.load_weights(weights)
    loaded.count = count
    try:
        measured = _floats(loaded.evaluate())
    except AttributeError as error:
        raise AssertionError(
            f"a model loaded without setup() cannot be evaluated: {error}; what acting uses is made in __init__"
        ) from error
    difference = first_difference(expected, measured)
    assert not difference, f"a model loaded from its weights alone evaluates differently: {difference}"
    if isinstance(loaded, Agent):
        _check_act(loaded)
    if isinstance(loaded, SupervisedModel):
        _check_predict(loaded)
    if isinstance(loaded, GenerativeModel) and loaded.refuses_sampling is None:
        _check_sample(loaded)


def check_resume_in_new_process(
    method: str, target: str, *, budget: int, stop_after: int, options: list[str], folder: Path
) -> None:
    """Run the command straight, and stopped and resumed in a new process; weights and metrics must agree.

    Args:
        method: name of an installed method.
        target: what to train on.
        budget: units of the whole run, an option among `options` for the stopped and the straight run alike.
        stop_after: units after which the first process stops.
        options: further arguments of `rllab run`.
        folder: an empty folder for both runs.
    """
    command = [sys.executable, "-m", "rllab"]
    shared = [method, target, *options, "--quiet"]
    straight, stopped = folder / "straight", folder / "stopped"
    subprocess.run([*command, "run", *shared, "--run-dir", str(straight)], check=True)
    first = subprocess.run(
        [*command, "run", *shared, "--run-dir", str(stopped), "--stop-after", str(stop_after)], check=False
    )
    assert first.returncode == 75, f"--stop-after {stop_after} ended with exit code {first.returncode}, not 75"
    subprocess.run([*command, "resume", str(stopped), "--quiet"], check=True)
    names = [checkpoint.name_of(checkpoint.steps(run / "checkpoints")[0]) for run in (straight, stopped)]
    assert names[0] == names[1], f"the last checkpoints are {names[0]} and {names[1]}"
    assert checkpoint.steps(straight / "checkpoints")[0] >= budget, f"the last checkpoint is {names[0]}"
    files = [run / "checkpoints" / names[0] / "weights.safetensors" for run in (straight, stopped)]
    assert files[0].read_bytes() == files[1].read_bytes(), "the last weights differ"
    difference = first_difference(untimed_metrics(straight), untimed_metrics(stopped))
    assert not difference, f"metrics.jsonl differs in {difference}"


# --- comparing ------------------------------------------------------------------------------------


def first_difference(one: Any, other: Any, path: str = "") -> str | None:
    """Return the path of the first place where two states differ, bit for bit (NaN equals NaN); None if nowhere."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        one, other = one.detach().cpu().numpy(), other.detach().cpu().numpy()
    if isinstance(one, np.ndarray | np.generic) and isinstance(other, np.ndarray | np.generic):
        same = one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        return None if same else (path or "the value")
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if odd := set(one) ^ set(other):
            return f"{path}.{min(map(str, odd))}".lstrip(".")
        return _first(first_difference(one[key], other[key], f"{path}.{key}".lstrip(".")) for key in one)
    if isinstance(one, list | tuple | deque) and isinstance(other, list | tuple | deque):
        if len(one) != len(other):
            return f"the length of {path or 'a list'} ({len(one)} and {len(other)})"
        return _first(first_difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True)))
    if isinstance(one, float) and isinstance(other, float):
        return None if one.hex() == other.hex() else (path or "the value")
    return None if type(one) is type(other) and one == other else (path or "the value")


def _first(differences: Any) -> str | None:
    return next((difference for difference in differences if difference), None)


def untimed_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl without the times."""
    import json

    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "time" and not k.startswith("time/")} for line in lines]


# --- helpers --------------------------------------------------------------------------------------


def _plan(algorithm: str | type[Algorithm], target: str, options: Mapping[str, Any]) -> Plan:
    if isinstance(algorithm, str):
        return planning.plan(algorithm, target, {"preset": "none", "device": "cpu", **options})
    plugin = Plugin(algorithm.__name__.lower(), "rllab.agents", "", "(a class)", "0")
    try:
        return planning.plan_method(Method(plugin, algorithm), target, {"preset": "none", "device": "cpu", **options})
    except UsageError as error:
        raise AssertionError(str(error)) from error


def _build(planned: Plan, device: str = "cpu") -> Algorithm:
    options = planned.options.model_copy(update={"device": device})
    algorithm, _ = experiment.build(replace(planned, options=options))
    algorithm.setup()
    return algorithm


def _trained(planned: Plan, steps: int, device: str = "cpu") -> Algorithm:
    algorithm = _build(planned, device)
    _history(algorithm, steps)
    return algorithm


def _history(algorithm: Algorithm, steps: int) -> list[dict[str, float]]:
    history = []
    for _ in range(steps):
        if algorithm.count >= algorithm.budget or algorithm.converged:
            break
        history.append({"count": float(algorithm.count), **_floats(algorithm.step())})
    return history


def _everything(algorithm: Algorithm) -> State:
    """Return a copy of all state, found by the collector itself, whatever `state_dict` was overridden to return."""
    skip = algorithm.transient | {"config", "task", "device"}
    return copy.deepcopy(
        {
            "weights": states.weights(algorithm),
            "state": states.collect(algorithm, skip),
            "own state": algorithm.state_dict()["state"],
            "the global random generators": global_state(),
        }
    )


def _with_globals(state: State) -> State:
    return {"algorithm": state, "globals": global_state()}


def _floats(metrics: Metrics) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _check_metrics(metrics: Any, where: str) -> None:
    assert isinstance(metrics, dict), f"{where} returned {type(metrics).__name__}, not a dict of metrics"
    for name, value in metrics.items():
        assert isinstance(name, str), f"{where}: the metric name {name!r} is no text"
        assert name.startswith(_NAMESPACES), (
            f"{where}: the metric {name!r} does not begin with {', '.join(_NAMESPACES)}"
        )
        if isinstance(value, Tensor):
            assert value.dim() == 0, f"{where}: {name} is a tensor of shape {tuple(value.shape)}, not 0-d"
            assert not value.requires_grad, f"{where}: {name} still carries its graph; detach() it"
        else:
            assert isinstance(value, float | int), f"{where}: {name} is a {type(value).__name__}, not a number"


def _check_act(agent: Agent) -> None:
    """Acting needs no `setup`, keeps within the action space, and the best action is the same each time."""
    envs = agent.task.make(2, agent.streams.sequence("conformance"), keep_state=False)
    try:
        observations = envs.reset()
        first, _ = agent.act(observations, None, np.ones(2, bool), deterministic=True)
        second, _ = agent.act(observations, None, np.ones(2, bool), deterministic=True)
        difference = first_difference(first, second)
        assert not difference, "act(deterministic=True) gave two answers to the same observation"
        for actions in (first, agent.act(observations, None, np.ones(2, bool), deterministic=False)[0]):
            for action in actions:
                assert agent.action_space.contains(action), f"act() returned {action!r}, not in {agent.action_space}"
    finally:
        envs.close()


def _check_predict(model: SupervisedModel) -> None:
    """Predictions have the right shape, are the same whoever is predicted beside, and probabilities sum to 1."""
    inputs = model.task.data.parts["test"].inputs[:7].to(model.device)
    with model.undisturbed():
        outputs = model.predict(inputs)
        alone = torch.cat([model.predict(inputs[i : i + 1]) for i in range(len(inputs))])
    expected = (len(inputs), len(model.classes)) if model.classes else (len(inputs),)
    assert outputs.shape == expected, f"predict() returned the shape {tuple(outputs.shape)}, not {expected}"
    assert torch.allclose(outputs, alone, rtol=1e-3, atol=1e-5), (
        "predict() says something else of an item if it is alone: each has to be predicted for itself"
    )
    if model.classes and model.probabilistic:
        ones = torch.ones(len(inputs), dtype=outputs.dtype, device=outputs.device)
        assert bool((outputs >= 0).all()), "predict() returned probabilities below 0"
        assert torch.allclose(outputs.sum(1), ones, atol=1e-4), "predict() returned probabilities that sum not to 1"


def _check_sample(model: GenerativeModel) -> None:
    """Sampling needs no `setup`, follows from its generator alone, disturbs nothing, and gives what it should."""
    before = _everything(model)
    if isinstance(model, ImageModel):
        first, again, other = (model.sample(7, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert first.shape == (7, *model.shape), f"sample(7) has the shape {tuple(first.shape)}, not (7, *shape)"
        assert bool(((first >= 0) & (first <= 1)).all()), "sample() returned pixels outside 0 to 1"
        same, differs = torch.equal(first, again), not torch.equal(first, other)
    else:
        assert isinstance(model, TextModel), f"{type(model).__name__} is neither an ImageModel nor a TextModel"
        texts = [model.sample(40, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
        assert len(texts[0]) == 40, f"sample(40) gave {len(texts[0])} characters"
        assert set(texts[0]) <= set(model.task.vocabulary), "sample() gave characters that are not in the text"
        same, differs = texts[0] == texts[1], texts[0] != texts[2]
        best = [model.sample(40, temperature=0, rng=np.random.default_rng(seed)) for seed in (1, 2)]
        assert best[0] == best[1], "at temperature 0 two generators gave two texts: take the most probable character"
    assert same, "sample() gave something else for the same seed: draw from the generator that is passed in only"
    assert differs, "sample() gave the same for two seeds: draw from the generator that is passed in"
    if difference := first_difference(before, _everything(model)):
        raise AssertionError(f"sample() changed {difference}; it must leave everything as it was")
