"""`rllab doctor --calibrate`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rllab.calibration import Calibration, Row, Setting, settings
from rllab.device import Cuda, Inventory
from rllab.seeding import global_state
from rllab.testing import first_difference

AUTO = Setting("cpu", 1, "loop")


def test_a_short_training_is_measured_in_each_way_and_leaves_nothing_behind(rllab, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before, threads = global_state(), torch.get_num_threads()
    command = ("doctor", "--calibrate", "dqn", "CartPole-v1", "--num-envs", "2", "--seconds", "0.1")
    done = rllab(*command, "--json")
    assert done.code == 0, done.err
    found = done.json
    assert (found["unit"], found["num_envs"]) == ("env steps/s", 2)
    assert found["picked"] == {"device": "cpu", "threads": 1, "backend": "loop"}
    measured = {row["setting"]["backend"]: row for row in found["rows"] if row["setting"]["device"] == "cpu"}
    assert list(measured) == ["loop", "native", "workers"]
    assert measured["loop"]["ratio"] == 1
    assert all(row["rate"] > 10 for row in measured.values())
    assert "hold" in found["verdict"]
    assert list(Path().iterdir()) == []
    assert not first_difference(before, global_state())
    assert torch.get_num_threads() == threads


def test_the_table_names_what_cannot_be_measured_and_why(rllab, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("rllab.calibration.settings", lambda picked, *_: [picked, replace(picked, backend="native")])
    options = ("--num-envs", "2", "--seconds", "0.1")
    done = rllab("doctor", "--calibrate", "random", "ProbeDelay-v0", *options)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("random on ProbeDelay-v0, 2 environments; auto picks cpu, 1 thread, loop: ")
    assert lines[2].split() == ["device", "threads", "environments", "by", "env", "steps/s", "ratio"]
    assert lines[3].split()[:3] == ["cpu", "1", "loop"]
    assert lines[3].split()[-2:] == ["1.00", "auto"]
    assert lines[4].split()[:5] == ["cpu", "1", "native", "-", "-"]
    assert "there is none for it" in lines[4]
    assert lines[-1].startswith("The assumptions hold")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--calibrate",), "needs a METHOD and a TARGET"),
        (("--calibrate", "dqn"), "needs a METHOD and a TARGET"),
        (("--num-envs", "2"), "is for --calibrate"),
        (("--calibrate", "mlp", "digits", "--num-envs", "2"), "no option --num-envs"),
        (("--calibrate", "dqn", "Pendulum-v1"), "cannot be trained"),
    ],
)
def test_what_cannot_be_calibrated_is_a_usage_error(rllab, arguments, said):
    done = rllab("doctor", *arguments)
    assert done.code == 2
    assert said in done.err


def test_what_is_measured_differs_from_what_auto_picks_in_one_thing():
    gpu = Cuda(0, "a GPU", 2**34, 2**34, (9, 0))
    machine = Inventory("a CPU", 8, cuda=(gpu, replace(gpu, index=1)))
    assert settings(AUTO, machine, 4) == [
        AUTO,
        Setting("cuda:0", 1, "loop"),
        Setting("cpu", 8, "loop"),
        Setting("cpu", 1, "native"),
        Setting("cpu", 1, "workers"),
    ]
    assert settings(AUTO, Inventory("a CPU", 1), 1) == [AUTO]
    on_gpu = Setting("cuda:0", 1, None)
    assert settings(on_gpu, machine, None) == [on_gpu, Setting("cpu", 1, None)]


def test_the_verdict_names_what_is_faster_in_each_round_and_how_to_get_it():
    base = Row(AUTO, 100.0, 1.0, [90.0, 100.0], "auto")
    native = Row(replace(AUTO, backend="native"), 130.0, 1.3, [120.0, 130.0], "")
    lucky = Row(replace(AUTO, threads=2), 300.0, 3.0, [300.0, 80.0], "")
    found = Calibration("env steps/s", 2, AUTO, "", [base, lucky, native])
    assert not found.holds
    assert found.verdict == (
        "The assumptions do not hold: cpu, 1 thread, native is 1.30 times as fast as cpu, 1 thread, loop; "
        "say --env-backend native."
    )
    assert replace(found, rows=[base, lucky]).holds
