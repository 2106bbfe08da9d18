import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rllab
from rllab import checkpoint
from rllab.errors import CheckpointError, RunNotFound, ThresholdMissed, UsageError
from rllab.results import MetricsTable
from rllab.testing import first_difference, untimed_metrics

OPTIONS: dict[str, Any] = {
    "preset": "none",
    "device": "cpu",
    "timesteps": 200,
    "learning_starts": 20,
    "hidden": (8,),
    "eval_every": "50%",
    "eval_episodes": 2,
    "logger": "none",
    "progress": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def run(folder: Path) -> rllab.Run:
    """A tiny run of DQN, which several tests look at."""
    return rllab.run("dqn", "CartPole-v1", runs_dir=folder / "runs", **OPTIONS)


def test_a_run_from_python_leaves_a_run_folder(run: rllab.Run, folder: Path) -> None:
    assert run.status == "finished"
    assert run.path.parent == folder / "runs" / "CartPole-v1" / "dqn"
    assert run.path.name == "timesteps-200_learning-starts-20_hidden-8_seed0"
    assert run.info["totals"]["steps"] == 200
    assert run.info["sources"]["timesteps"] == "option"
    assert checkpoint.steps(run.path / "checkpoints")[0] == 200
    assert (run.path / "checkpoints" / "best").is_dir()
    assert repr(run).startswith(f"<Run {run.path}: finished, best eval/return ")


def test_metrics_are_arrays_of_equal_length(run: rllab.Run) -> None:
    score = run.metrics["eval/return"]
    assert score.step.tolist() == [100, 200]
    assert score.value.shape == score.time.shape == (2,)
    assert (np.diff(score.time) > 0).all()
    loss = run.metrics["train/loss"]
    assert loss.step.tolist() == list(range(22, 201, 2))  # a line for each 1 %, learning after 20
    assert np.isfinite(loss.value).all()
    assert "eval/return" in run.metrics
    assert len(run.metrics) == len(list(run.metrics)) > 5
    with pytest.raises(KeyError, match=r"'eval/retrun' was not measured; there are: "):
        run.metrics["eval/retrun"]
    assert "eval/retrun" not in run.metrics


def test_a_threshold_that_is_missed_is_an_error_after_the_run(tmp_path: Path) -> None:
    options: dict[str, Any] = {"timesteps": 60, "learning_starts": 20, "preset": "none", "hidden": 8}
    with pytest.raises(ThresholdMissed, match=r"--require eval/return>=475: eval/return is .*seed0"):
        rllab.run("dqn", "CartPole-v1", progress=False, runs_dir=tmp_path, require="eval/return>=475", **options)


def test_a_run_is_loaded_by_its_path_and_as_the_last(run: rllab.Run, folder: Path) -> None:
    runs = folder / "runs"
    for name in (run.path, str(run.path), run.path.relative_to(runs), "last"):
        assert rllab.load(name, runs_dir=runs).info == run.info
    with pytest.raises(RunNotFound, match=r"there is no run 'nothing'"):
        rllab.load("nothing", runs_dir=runs)


def test_the_trained_agent_acts_without_training_environments(run: rllab.Run) -> None:
    agent = run.load(device="cpu")
    assert isinstance(agent, rllab.Agent)
    assert agent.count == 200
    assert not hasattr(agent, "envs")
    actions, memory = agent.act(np.zeros((5, 4), np.float32), deterministic=True)
    assert actions.shape == (5,)
    assert memory is None


def test_last_best_and_a_step_can_be_loaded(run: rllab.Run) -> None:
    assert run.load("last", device="cpu").count == 200
    assert run.load(200, device="cpu").count == 200
    assert run.load("best", device="cpu").count == run.info["best"]["step"]
    with pytest.raises(CheckpointError, match=r"there is no checkpoint 3 in .*\nThere are: last, best, 200"):
        run.load(3, device="cpu")


def test_evaluating_anew_repeats_and_does_not_touch_the_run(run: rllab.Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    first = run.evaluate(episodes=3, device="cpu")
    assert first == run.evaluate(episodes=3, device="cpu")
    assert first["step"] == 200
    assert first["eval/episodes"] == 3
    others = [run.evaluate(episodes=10, seed=seed, device="cpu")["eval/return"] for seed in range(4)]
    assert len(set(others)) > 1
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_a_stopped_run_goes_on_as_if_never_stopped(run: rllab.Run, folder: Path) -> None:
    stopped = rllab.run("dqn", "CartPole-v1", run_dir=folder / "stopped", stop_after=77, **OPTIONS)
    assert (stopped.status, stopped.info["totals"]["steps"]) == ("stopped", 77)
    resumed = rllab.resume(stopped.path, progress=False)
    assert resumed.status == "finished"
    assert first_difference(untimed(run.path), untimed(resumed.path)) is None
    newest = [path / "checkpoints" / "step-000000200" / "weights.safetensors" for path in (run.path, resumed.path)]
    assert newest[0].read_bytes() == newest[1].read_bytes()


def untimed(path: Path) -> list[dict[str, Any]]:
    return untimed_metrics(path)


def test_a_finished_run_is_left_as_it_is(run: rllab.Run) -> None:
    before = run.folder.metrics_file.read_bytes()
    assert rllab.resume(run.path, progress=False).status == "finished"
    assert run.folder.metrics_file.read_bytes() == before


def test_a_finished_run_can_be_extended_and_says_so(folder: Path) -> None:
    short = rllab.run("dqn", "CartPole-v1", run_dir=folder / "short", **{**OPTIONS, "timesteps": 50})
    longer = rllab.resume(short.path, extend=100, progress=False)
    assert longer.info["config"]["timesteps"] == 100
    assert longer.info["sources"]["timesteps"] == "extend"
    assert longer.metrics["eval/return"].step.tolist()[-1] == 100
    assert "timesteps = 100" in (short.path / "config.toml").read_text()
    with pytest.raises(UsageError, match=r"--extend 100: the run has --timesteps 100 already"):
        rllab.resume(short.path, extend=100, progress=False)


def test_what_makes_a_run_what_it_is_cannot_be_changed(run: rllab.Run) -> None:
    with pytest.raises(UsageError, match=r"--lr makes this run what it is, and cannot be changed"):
        rllab.resume(run.path, progress=False, lr=1.0)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**OPTIONS, "checkpoint_every": "20"}
    stopped = rllab.run("dqn", "CartPole-v1", run_dir=folder / "damaged", stop_after=90, keep=1, **options)
    checkpoints = stopped.path / "checkpoints"
    assert checkpoint.steps(checkpoints) == [90]
    earlier = rllab.run("dqn", "CartPole-v1", run_dir=folder / "earlier", stop_after=60, keep=1, **options)
    (earlier.path / "checkpoints" / "step-000000060").rename(checkpoints / "step-000000060")
    file = checkpoints / "step-000000090" / "state.json"
    file.write_bytes(file.read_bytes()[:-1])
    resumed = rllab.resume(stopped.path, progress=False, stop_after=20)
    assert "state.json has" in caplog.text
    assert "the one before it is used" in caplog.text
    assert resumed.info["totals"]["steps"] == 80
    assert checkpoint.steps(checkpoints) == [80]  # neither the damaged one nor, with --keep 1, the one before
    assert rllab.resume(stopped.path, progress=False).status == "finished"


def test_the_last_checkpoint_that_is_sound_is_loaded_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**OPTIONS, "checkpoint_every": "20"}
    stopped = rllab.run("dqn", "CartPole-v1", run_dir=folder / "half", stop_after=70, **options)
    newest, before = checkpoint.steps(stopped.path / "checkpoints")[:2]
    file = stopped.path / "checkpoints" / checkpoint.name_of(newest) / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert stopped.load(device="cpu").count == before
    assert "weights.safetensors has" in caplog.text
    assert "the one before it is used" in caplog.text
    with pytest.raises(CheckpointError, match=r"weights\.safetensors has"):
        stopped.load(newest, device="cpu")


def test_training_leaves_the_threads_and_small_numbers_of_a_notebook_alone(folder: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_flush_denormal(False)
    small = torch.tensor(1e-40)
    torch.set_num_threads(3)
    try:
        stopped = rllab.run("dqn", "CartPole-v1", run_dir=folder / "polite", stop_after=10, **OPTIONS)
        assert (torch.get_num_threads(), bool((small * 1).item())) == (3, True)
        rllab.resume(stopped.path, progress=False, stop_after=10)
        assert (torch.get_num_threads(), bool((small * 1).item())) == (3, True)
    finally:
        torch.set_num_threads(threads)


def test_without_a_sound_checkpoint_nothing_is_resumed(folder: Path) -> None:
    stopped = rllab.run("dqn", "CartPole-v1", run_dir=folder / "unsound", stop_after=30, **OPTIONS)
    for manifest in stopped.path.rglob("manifest.json"):
        manifest.write_text("{}")
    with pytest.raises(CheckpointError, match=r"its manifest cannot be read.*\nNothing can be resumed"):
        rllab.resume(stopped.path, progress=False)


def test_half_a_last_line_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [{"step": 1, "time": 0.1, "a": 1.0}, {"step": 2, "time": 0.2, "a": None, "b": 3.0}]
    file.write_bytes(
        "".join(json.dumps(line) + "\n" for line in lines).encode() + b'{"step": 3, "time": 0.3, "a": \xff'
    )
    table = MetricsTable(file)
    assert list(table) == ["a", "b"]
    assert table["a"].step.tolist() == [1, 2]
    np.testing.assert_array_equal(table["a"].value, [1.0, np.nan])
    assert table["b"].time.tolist() == [0.2]
    assert list(MetricsTable(tmp_path / "missing")) == []


def test_a_failed_run_says_why_and_where_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rllab_agents.dqn import DQN

    targets = DQN.targets
    calls: list[int] = []

    def breaking(self: DQN, *arguments: Any) -> Any:
        calls.append(1)
        return targets(self, *arguments) * (float("nan") if len(calls) > 50 else 1.0)

    monkeypatch.setattr(DQN, "targets", breaking)
    with pytest.raises(
        rllab.RllabError,
        match=r"^the loss became nan \(at step 71\)\n.*The last good checkpoint is .*step-000000060\.$",
    ):
        rllab.run("dqn", "CartPole-v1", run_dir=folder / "broken", **{**OPTIONS, "checkpoint_every": "20"})
    broken = rllab.load(folder / "broken")
    assert broken.status == "failed"
    assert broken.info["reason"].startswith("the loss became nan")
