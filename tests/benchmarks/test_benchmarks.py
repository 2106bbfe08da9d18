"""The benchmarks run, and write what they print; what they measure is not asserted here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def measure(script: str, tmp_path: Path, *options: str) -> tuple[str, dict[str, Any]]:
    """Run a script in an empty folder; return what it printed, and its JSON."""
    file = tmp_path / "numbers.json"
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *options, "--json", str(file)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [file.name], "a benchmark leaves nothing behind"
    return done.stdout, json.loads(file.read_text("utf-8"))


@pytest.mark.slow
def test_an_agent_is_measured_side_by_side_with_stable_baselines3(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    printed, numbers = measure(
        "agents_vs_sb3.py",
        tmp_path,
        *("--settings", "dqn-zoo,ppo", "--steps", "1536", "--eval-every", "768", "--eval-episodes", "2"),
        *("--repeats", "1"),
    )
    assert set(numbers["settings"]) == {"dqn-zoo", "ppo"}
    for setting in numbers["settings"].values():
        for library in ("rllab", "sb3"):
            (run,) = setting["runs"][library]
            assert run["speed"] > 0
            assert [step for step, *_ in run["evaluations"]][:2] == [768, 1536]
        assert setting["ratios"]["env steps per second"]["median"] > 0
    assert "not reached" in printed


@pytest.mark.slow
def test_a_short_run_of_each_setting_that_is_left_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    settings = ("a2c", "sac", "td3")
    few = ("--settings", ",".join(settings), "--steps", "120", "--repeats", "1")
    _, numbers = measure("agents_vs_sb3.py", tmp_path, *few)
    assert set(numbers["settings"]) == set(settings)
    assert all(s["ratios"]["env steps per second"]["median"] > 0 for s in numbers["settings"].values())


@pytest.mark.slow
def test_the_trainer_is_measured_against_a_bare_loop(tmp_path: Path) -> None:
    printed, numbers = measure("trainer_overhead.py", tmp_path, "--steps", "100", "--repeats", "1")
    assert set(numbers["cases"]) == {"dqn", "floats", "tensors"}
    for name, case in numbers["cases"].items():
        assert name in printed
        assert case["bare"]["median"] > 0
        assert case["overhead"]["median"] > -100


@pytest.mark.slow
def test_an_epoch_on_mnist_is_measured_side_by_side(tmp_path: Path) -> None:
    if not (Path(os.environ.get("RLLAB_DATA", "")) / "mnist" / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip("MNIST is not in $RLLAB_DATA/mnist")
    printed, numbers = measure("mnist_epoch.py", tmp_path, "--share", "0.02", "--repeats", "1", "--epochs", "0")
    for case in ("cnn", "mlp"):
        assert f"{case}: seconds of an epoch" in printed
        assert numbers[case]["rllab"]["median"] > 0
        assert numbers[case]["rllab / bare"]["median"] > 0


@pytest.mark.slow
def test_models_of_texts_are_measured_beside_loops_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    text = tmp_path / "text.txt"
    text.write_text("to be, or not to be: that is the question\n" * 500, encoding="utf-8")
    few = ("--steps", "3", "--repeats", "1", "--characters", "50")
    printed, numbers = measure("char_models.py", folder, *few, "--text", str(text))
    for method in ("char-rnn", "char-transformer"):
        assert f"{method}: seconds for a million characters" in printed
        assert numbers[method]["rllab / bare"]["median"] > 0
        assert numbers[method]["characters written a second"]["median"] > 0


@pytest.mark.slow
def test_an_epoch_of_a_vae_is_measured_side_by_side(tmp_path: Path) -> None:
    if not (Path(os.environ.get("RLLAB_DATA", "")) / "mnist" / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip("MNIST is not in $RLLAB_DATA/mnist")
    _, numbers = measure("vae_epoch.py", tmp_path, "--cases", "course", "--share", "0.02", "--repeats", "1")
    assert numbers["course"]["rllab"]["median"] > 0
    assert numbers["course"]["rllab / bare"]["median"] > 0


def test_a_setting_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "agents_vs_sb3.py"), "--settings", "huge"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "dqn-small, dqn-zoo" in done.stderr
