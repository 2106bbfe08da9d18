"""`--env-backend`, in run.json and after a resume."""

import json
from pathlib import Path

import pytest
from rllab_envs.cartpole import CartPoleVector

from rllab.testing import first_difference, untimed_metrics


def info(run: str = "run") -> dict[str, object]:
    return dict(json.loads(Path(run, "run.json").read_text()))


def test_what_auto_came_to_is_written_down_and_repeated_on_resume(tiny, rllab, monkeypatch):
    options = ["--num-envs", "4", "--log-every", "40", "--eval-every", "0"]
    monkeypatch.setattr(CartPoleVector, "faster_from", 4)
    assert tiny(*options, run_dir="straight").code == 0
    assert tiny(*options, "--stop-after", "100").code == 75
    assert (info()["env_backend"], info()["environment_state"]) == ("native", "own")
    monkeypatch.setattr(CartPoleVector, "faster_from", 100)  # as if another version had measured something else
    assert rllab("resume", "run").code == 0
    assert info()["env_backend"] == "native"
    assert not first_difference(untimed_metrics(Path("run")), untimed_metrics(Path("straight")))
    assert tiny(*options, run_dir="new").code == 0
    assert info("new")["env_backend"] == "loop"


@pytest.mark.parametrize(
    ("target", "more", "said"),
    [
        ("Pendulum-v1", ["random"], "there is none for it"),
        ("CartPole-v1", ["dqn", "--frame-stack", "3"], "--frame-stack is for single environments"),
        ("CartPole-v1", ["cem"], "lets some environments wait"),
    ],
)
def test_native_where_it_cannot_be_had_is_a_usage_error_with_the_way_out(rllab, target, more, said):
    done = rllab("run", more[0], target, "--env-backend", "native", *more[1:])
    assert done.code == 2
    assert said in done.err
    assert "--env-backend auto or loop" in done.err
    assert not Path("runs").exists()
