"""A run that was stopped or killed, and resumed in a new process, ends like one that never was: to the last bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rllab import checkpoint
from rllab.testing import check_resume_in_new_process, first_difference, untimed_metrics

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("RLLAB_KILLS", "25"))
"""How many times the run is killed; a hundred before a release."""

WRAPPED = """
import gymnasium
from gymnasium.wrappers import FrameStackObservation, NormalizeObservation

gymnasium.register(
    "Wrapped-v0",
    "gymnasium.envs.classic_control:CartPoleEnv",
    max_episode_steps=500,
    additional_wrappers=(
        FrameStackObservation.wrapper_spec(stack_size=3),
        NormalizeObservation.wrapper_spec(epsilon=1e-8),
    ),
)
"""

DQN = ["--preset", "none", "--learning-starts", "200", "--device", "cpu", "--eval-episodes", "5", "--logger", "none"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a module that registers a wrapped environment."""
    (tmp_path / "wrapped.py").write_text(WRAPPED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("CartPole-v1", []),
        ("CartPole-v1", ["--double", "--schedule", "linear", "--tau", "0.1", "--logger", "tensorboard"]),
        ("CartPole-v1", ["--num-envs", "4"]),
        ("CartPole-v1", ["--frame-stack", "3", "--normalize-observations"]),
        ("wrapped:Wrapped-v0", []),
        ("wrapped:Wrapped-v0", ["--num-envs", "3", "--normalize-observations"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_four_thousand_steps_are_two_thousand_and_two_thousand_in_a_new_process(folder, target, options):
    check_resume_in_new_process(
        "dqn",
        target,
        budget=4000,
        stop_after=2000,
        options=["--timesteps", "4000", *DQN, *options],
        folder=folder,
    )


def rllab(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "rllab", *map(str, arguments), "--quiet"])


def lines(run: Path) -> list[dict[str, float]]:
    """Return the lines of metrics that are there, without half a last one."""
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")] if file.exists() else []


def same(one: Path, other: Path) -> None:
    """Check that two runs have the same metrics and ended with the same weights."""
    assert not first_difference(untimed_metrics(one), untimed_metrics(other))
    names = [checkpoint.name_of(checkpoint.steps(run / "checkpoints")[0]) for run in (one, other)]
    assert names[0] == names[1]
    for kind in (names[0], "best"):
        weights = [run / "checkpoints" / kind / "weights.safetensors" for run in (one, other)]
        assert weights[0].read_bytes() == weights[1].read_bytes(), kind


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_stopped_during_an_evaluation_evaluates_when_it_is_resumed(folder, number):
    often = ["--log-every", "10", "--eval-every", "2000", "--eval-episodes", "1500", "--checkpoint-every", "0"]
    command = ["run", "dqn", "CartPole-v1", "--timesteps", "4000", *DQN, *often]
    assert rllab(*command, "--run-dir", "straight").wait() == 0
    stopped = rllab(*command, "--run-dir", "stopped")
    while not lines(folder / "stopped") or lines(folder / "stopped")[-1]["step"] < 1990:
        assert stopped.poll() is None
        time.sleep(0.005)
    time.sleep(0.3)  # ten steps, and then it is evaluating, for seconds
    stopped.send_signal(number)
    assert stopped.wait(20) == 75
    # it was in the evaluation: no further step was taken, and its line is still to come
    assert checkpoint.steps(folder / "stopped" / "checkpoints") == [2000]
    assert lines(folder / "stopped")[-1]["step"] == 1990
    assert rllab("resume", "stopped").wait() == 0
    assert [line["step"] for line in lines(folder / "stopped") if "eval/return" in line] == [2000, 4000]
    same(folder / "straight", folder / "stopped")


@pytest.mark.timeout(3600)
def test_a_run_that_is_killed_at_random_moments_ends_like_one_that_never_was(folder):
    """Three kills of four come while it trains, evaluates or saves, the others while it starts or loads."""
    every = ["--log-every", "10", "--checkpoint-every", "20", "--eval-every", "130", "--eval-episodes", "2"]
    command = ["run", "dqn", "CartPole-v1", "--timesteps", str(400 * KILLS), *DQN, *every, "--resume", "auto"]
    began = time.monotonic()
    assert rllab(*command, "--run-dir", "straight").wait() == 0
    took = time.monotonic() - began

    draw = random.Random(0)
    killed = folder / "killed"
    kills = {"while training": 0, "while starting": 0}
    began = time.monotonic()
    start_up = 4.0
    while sum(kills.values()) < KILLS:
        before, started = progress(killed), time.monotonic()
        run = rllab(*command, "--run-dir", killed)
        if draw.random() < 0.75:
            moment = "while training"
            while progress(killed) == before and run.poll() is None:
                time.sleep(0.002)
            start_up = time.monotonic() - started
            time.sleep(draw.uniform(0, 0.2))  # a checkpoint comes about every 70 ms
        else:
            moment = "while starting"
            time.sleep(draw.uniform(0, start_up))
        run.kill()
        assert run.wait() == -signal.SIGKILL, "it ended before it was killed"
        kills[moment] += 1
    reached = max(checkpoint.steps(killed / "checkpoints"), default=0)
    assert rllab(*command, "--run-dir", killed).wait() == 0

    steps = [line["step"] for line in lines(killed)]
    assert steps == sorted(set(steps))
    same(folder / "straight", killed)
    assert json.loads((killed / "run.json").read_text())["status"] == "finished"
    left = {path.name for path in (killed / "checkpoints").iterdir()}
    newest = {checkpoint.name_of(step) for step in checkpoint.steps(killed / "checkpoints")}
    assert left == {"best", *newest}, "something half-written or half-removed was left"
    assert len(newest) == 2
    print(
        f"\n{KILLS} kills {kills} in {time.monotonic() - began:.0f} s, the last at step {reached} of {400 * KILLS}; "
        f"the run that was not killed took {took:.0f} s; {len(steps)} lines of metrics, each once"
    )


def progress(run: Path) -> tuple[int, ...]:
    """Return something that changes with every checkpoint that a run makes."""
    folder = run / "checkpoints"
    return tuple(checkpoint.steps(folder)) if folder.is_dir() else ()
