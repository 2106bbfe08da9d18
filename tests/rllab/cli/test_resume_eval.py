"""`rllab resume` and `rllab eval`."""

import json
from pathlib import Path
from typing import Any

import pytest

from rllab import checkpoint
from rllab.testing import first_difference, untimed_metrics


def info(run: str | Path = "run") -> dict[str, Any]:
    return dict(json.loads((Path(run) / "run.json").read_text()))


def steps(run: str | Path = "run") -> list[int]:
    return [json.loads(line)["step"] for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def evaluated(run: str | Path = "run") -> list[int]:
    lines = map(json.loads, (Path(run) / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "eval/return" in line]


def weights(run: str | Path = "run") -> bytes:
    path = Path(run) / "checkpoints"
    return (path / checkpoint.name_of(checkpoint.steps(path)[0]) / "weights.safetensors").read_bytes()


@pytest.fixture
def stopped(tiny):
    """A run in the folder `run` that was stopped after 90 of 200 steps."""
    assert tiny("--stop-after", "90", "--log-every", "30", "--eval-every", "60", "--checkpoint-every", "40").code == 75


# --- resume


@pytest.mark.usefixtures("stopped")
def test_a_resumed_run_ends_like_one_that_never_stopped(rllab, tiny):
    assert rllab("resume", "run").code == 0
    tiny("--log-every", "30", "--eval-every", "60", "--checkpoint-every", "40", run_dir="straight")
    assert weights() == weights("straight")
    assert not first_difference(untimed_metrics(Path("run")), untimed_metrics(Path("straight")))
    assert info()["status"] == "finished"
    assert info()["resumed"] >= info()["started"]


@pytest.mark.usefixtures("stopped")
def test_resuming_uses_the_intervals_of_the_run_unless_others_are_given(rllab):
    rllab("resume", "run", "--stop-after", "60")
    assert steps() == [30, 60, 90, 120, 150]
    assert evaluated() == [60, 120]
    assert rllab("resume", "run", "--log-every", "10", "--eval-every", "0", "--checkpoint-every", "0").code == 0
    assert steps() == [30, 60, 90, 120, 150, 160, 170, 180, 190, 200]
    assert evaluated() == [60, 120]


@pytest.mark.usefixtures("stopped")
def test_resuming_can_be_stopped_again_by_steps_or_time_or_a_condition(rllab):
    assert rllab("resume", "run", "--stop-after", "20").code == 75
    assert info()["totals"]["steps"] == 110
    assert rllab("resume", "run", "--max-time", "0.001").code == 75
    assert rllab("resume", "run", "--stop-when", "eval/return>0").code == 0
    assert info()["reason"] == "eval/return>0"


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("option", ["--lr", "--seed", "--num-envs", "--timesteps", "--frame-stack"])
def test_what_makes_a_run_what_it_is_is_no_option_of_resume(rllab, option):
    done = rllab("resume", "run", option, "3")
    assert done.code == 2
    assert f"No such option '{option}'" in done.err
    assert info()["status"] == "stopped"


@pytest.mark.usefixtures("stopped")
def test_python_refuses_a_changed_hyperparameter_and_says_what_to_do():
    import rllab
    from rllab.errors import UsageError

    with pytest.raises(UsageError, match=r"--lr makes this run what it is.*\nStart a new one: `rllab run dqn"):
        rllab.resume("run", lr=0.5, progress=False)


@pytest.mark.usefixtures("stopped")
def test_neither_presets_nor_variables_are_read_again(rllab, monkeypatch):
    monkeypatch.setenv("RLLAB_OPTION_LR", "0.5")
    monkeypatch.setenv("RLLAB_OPTION_EVAL_EVERY", "1")
    assert rllab("resume", "run").code == 0
    assert info()["config"]["lr"] == 0.001
    assert evaluated() == [60, 120, 180, 200]


def test_a_finished_run_is_left_as_it_is_unless_it_is_extended(rllab, tiny):
    tiny()
    before = info()
    done = rllab("resume", "run")
    assert done.code == 0
    assert "--extend N trains it further" in done.err
    assert info() == before
    assert rllab("resume", "run", "--extend", "300").code == 0
    assert info()["totals"]["steps"] == 300
    assert info()["config"]["timesteps"] == 300
    assert info()["sources"]["timesteps"] == "extend"
    assert "timesteps = 300" in Path("run/config.toml").read_text()
    assert steps()[-1] == 300


def test_a_budget_that_is_not_larger_is_refused_and_changes_nothing(rllab, tiny):
    tiny()
    before = info()
    done = rllab("resume", "run", "--extend", "200")
    assert (done.code, "--timesteps 200 already" in done.err) == (2, True)
    assert info() == before


def test_epochs_that_may_be_a_fraction_are_extended_by_one_and_others_are_not(rllab):
    Path("abc.txt").write_text("abacabad" * 100, encoding="utf-8")
    small = ("--preset", "none", "--hidden", "4", "--batch-size", "4", "--sequence", "8", "--logger", "none")
    rllab("run", "char-rnn", "abc.txt", *small, "--epochs", "0.5", "--device", "cpu", "--run-dir", "run", "--quiet")
    for wrong, said in {
        "0.5": "--extend 0.5: the run has --epochs 0.5 already",
        "0": "'0' is not a number above 0",
        "inf": "'inf' is not a number above 0",
        "two": "'two' is not a number above 0",
    }.items():
        done = rllab("resume", "run", "--extend", wrong)
        assert (done.code, said in done.err) == (2, True), done.err
    before = info()["totals"]["steps"]
    assert rllab("resume", "run", "--extend", "1.6").code == 0
    assert info()["config"]["epochs"] == 1.6
    assert info()["totals"]["steps"] > 3 * before
    assert "epochs = 1.6" in Path("run/config.toml").read_text()
    assert rllab("resume", "run", "--extend", "2").code == 0
    assert info()["config"]["epochs"] == 2


def test_a_budget_of_whole_numbers_takes_no_fraction(rllab, tiny):
    tiny()
    before = info()
    done = rllab("resume", "run", "--extend", "300.5")
    assert (done.code, "--timesteps 300.5: should be a valid integer" in done.err) == (2, True), done.err
    assert info() == before
    assert rllab("resume", "run", "--extend", "3e2").code == 0
    assert info()["config"]["timesteps"] == 300


@pytest.mark.usefixtures("stopped")
def test_a_run_is_a_folder_or_a_path_below_the_runs_folder_or_last(rllab):
    small = ("--preset", "none", "--timesteps", "100", "--learning-starts", "50", "--logger", "none", "--name", "x")
    for seed in (0, 1):
        rllab("run", "dqn", "CartPole-v1", *small, "--stop-after", "60", "--seed", seed, "--quiet")
    assert rllab("resume", "CartPole-v1/dqn/x_seed0", "--quiet").code == 0
    assert info("runs/CartPole-v1/dqn/x_seed0")["status"] == "finished"
    assert info("runs/CartPole-v1/dqn/x_seed1")["status"] == "stopped"
    assert rllab("resume", "last", "--quiet").code == 0
    assert info("runs/CartPole-v1/dqn/x_seed1")["status"] == "finished"
    Path("runs").rename("elsewhere")
    assert rllab("resume", "last").code == 5
    assert rllab("resume", "last", "--runs-dir", "elsewhere", "--quiet").code == 0
    done = rllab("resume", "nowhere")
    assert (done.code, len(done.err.splitlines())) == (5, 2)


@pytest.mark.usefixtures("stopped")
def test_resume_prints_json_and_requires_like_run(rllab):
    done = rllab("resume", "run", "--json", "--quiet", "--require", "eval/return>=475")
    assert done.code == 6
    assert done.json["status"] == "finished"
    assert done.err.startswith("Error: --require eval/return>=475: eval/return is ")


@pytest.mark.usefixtures("stopped")
def test_quiet_resuming_says_nothing(rllab):
    done = rllab("resume", "run", "--quiet", "--no-progress")
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.usefixtures("stopped")
def test_a_run_folder_can_be_moved_and_resumed(rllab):
    Path("run").rename("moved")
    assert rllab("resume", "moved", "--quiet").code == 0
    assert info("moved")["status"] == "finished"


# --- eval


@pytest.fixture
def finished(tiny):
    """A finished run in the folder `run` with checkpoints of the steps 150 and 200, and the best."""
    assert tiny("--checkpoint-every", "50", "--eval-every", "50").code == 0


@pytest.mark.usefixtures("finished")
def test_eval_measures_the_last_checkpoint_on_a_hundred_episodes(rllab):
    done = rllab("eval", "run")
    assert (done.code, done.err) == (0, "")
    shown = dict(line.split()[:2] for line in done.out.splitlines())
    assert "  (random " in next(line for line in done.out.splitlines() if line.startswith("eval/return "))
    assert (shown["step"], shown["eval/episodes"], shown["eval/deterministic"]) == ("200", "100", "1")
    assert float(shown["eval/return"]) == float(shown["eval/length"])


@pytest.mark.usefixtures("finished")
def test_eval_takes_the_best_a_step_and_the_last(rllab):
    best = info()["best"]["step"]
    for which, step in (("last", 200), ("best", best), ("150", 150)):
        done = rllab("eval", "run", "--checkpoint", which, "--episodes", "3", "--json")
        assert (done.code, done.err) == (0, "")
        assert done.json["step"] == step
    done = rllab("eval", "run", "--checkpoint", "100")
    assert done.code == 5
    assert "There are: last, best, 200, 150." in done.err


@pytest.mark.usefixtures("finished")
def test_eval_gives_the_same_each_time_and_something_else_with_another_seed(rllab):
    def returns(*options: str) -> Any:
        return rllab("eval", "run", "--episodes", "50", "--json", *options).json

    assert returns() == returns() == returns("--seed", "0") != returns("--seed", "1")
    assert returns("--stochastic")["eval/deterministic"] == 0
    spreads = [returns(how)["eval/return_std"] for how in ("--stochastic", "--deterministic")]
    assert spreads[0] != spreads[1]


@pytest.mark.usefixtures("finished")
def test_eval_changes_nothing_in_the_run_folder(rllab):
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    rllab("eval", "run", "--episodes", "2")
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("finished")
def test_eval_requires_with_exit_code_6_and_prints_the_result_all_the_same(rllab):
    done = rllab("eval", "run", "--episodes", "3", "--json", "--require", "eval/return>=475")
    assert (done.code, "eval/return" in done.json) == (6, True)
    assert rllab("eval", "run", "--episodes", "3", "--require", "eval/return>=1").code == 0
    done = rllab("eval", "run", "--require", "eval/return")
    assert (done.code, "is no condition" in done.err) == (2, True)


@pytest.mark.usefixtures("stopped")
def test_a_stopped_run_can_be_measured(rllab):
    assert rllab("eval", "run", "--episodes", "2", "--json").json["step"] == 90


def test_eval_of_nothing_says_what_a_run_is(rllab):
    done = rllab("eval", "last")
    assert (done.code, done.out) == (5, "")
    assert done.err == "Error: there are no runs in runs\n`rllab run METHOD TARGET` starts one.\n"


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize(
    "option", [("--episodes", "0"), ("--seed", "-1"), ("--device", "tpu"), ("--checkpoint", "worst")]
)
def test_eval_refuses_values_out_of_range(rllab, option):
    done = rllab("eval", "run", *option)
    assert done.code == (5 if option[0] == "--checkpoint" else 2)
    assert 1 <= len(done.err.splitlines()) <= 2
