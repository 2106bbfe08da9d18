"""`rllab run`: its options, its two output streams, its exit codes, and what it writes down."""

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllab import checkpoint
from rllab.testing import first_difference, untimed_metrics

# --- reading what a run left


def info(run: str | Path = "run") -> dict[str, Any]:
    return dict(json.loads((Path(run) / "run.json").read_text()))


def metrics(run: str | Path = "run") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def saved(run: str | Path = "run") -> list[int]:
    return sorted(checkpoint.steps(Path(run) / "checkpoints"))


def weights(run: str | Path = "run") -> bytes:
    path = Path(run) / "checkpoints"
    return (path / checkpoint.name_of(checkpoint.steps(path)[0]) / "weights.safetensors").read_bytes()


def evaluated(run: str | Path = "run") -> list[int]:
    return [line["step"] for line in metrics(run) if "eval/return" in line]


# --- what a run prints and leaves


def test_a_run_writes_nothing_to_stdout_and_its_summary_to_stderr(tiny):
    done = tiny()
    assert (done.code, done.out) == (0, "")
    lines = done.err.splitlines()
    assert lines[0] == "dqn on CartPole-v1, seed 0"
    assert lines[1].startswith("device cpu, threads ")
    assert lines[2] == "run"
    assert "Finished (the budget is used up): 200 env steps" in done.err
    assert "Run folder: run" in done.err
    for command in ("rllab eval run --checkpoint best", "tensorboard --logdir", "rllab run dqn CartPole-v1 --config"):
        assert f"  {command}" in done.err


def test_the_three_commands_of_the_summary_work(rllab, tiny):
    lines = [line.partition("#")[0].split() for line in tiny().err.splitlines() if line.startswith("  rllab")]
    assert len(lines) == 2
    for _, *arguments in lines:
        assert rllab(*arguments).code == 0, arguments


def test_run_json_says_what_was_run_by_what_where_and_how_it_ended(tiny):
    tiny("--lr", "0.002")
    found = info()
    assert found["schema"] == 1
    assert (found["method"], found["task"], found["seed"], found["unit"]) == ("dqn", "CartPole-v1", 0, "env steps")
    assert (found["status"], found["reason"]) == ("finished", "the budget is used up")
    assert found["config"]["lr"] == 0.002
    assert found["sources"]["lr"] == "command line"
    assert "gamma" not in found["sources"]
    assert found["plugin"]["distribution"] == "rllab"
    assert {"rllab", "torch", "numpy", "gymnasium"} <= set(found["versions"])
    assert found["totals"]["steps"] == 200
    assert found["device"]["name"] == "cpu"
    assert found["objective"] == {"metric": "eval/return", "maximize": True}
    assert found["metrics"]["eval/return"] == metrics()[-1]["eval/return"]
    assert found["best"]["step"] in evaluated()
    assert found["started"] <= found["ended"]
    assert {"command", "host", "platform", "python", "pid", "git"} <= set(found)


def test_config_toml_holds_every_value_that_makes_the_run(tiny):
    tiny("--hidden", "32,16", "--env-kwarg", "sutton_barto_reward=true")
    found = tomllib.loads(Path("run/config.toml").read_text())
    assert (found["method"], found["task"], found["seed"]) == ("dqn", "CartPole-v1", 0)
    assert found["hidden"] == [32, 16]
    assert found["env_kwarg"] == {"sutton_barto_reward": True}
    assert found["max_episode_steps"] == "none"
    assert found["eval_episodes"] == 2
    assert set(info()["config"]) <= set(found)


def test_a_run_from_its_config_toml_is_the_same_bit_for_bit(rllab, tiny):
    tiny("--hidden", "32", "--seed", 3, "--frame-stack", 2)
    done = rllab("run", "dqn", "CartPole-v1", "--config", "run/config.toml", "--run-dir", "again")
    assert done.code == 0
    assert weights("again") == weights()
    assert not first_difference(untimed_metrics(Path("again")), untimed_metrics(Path("run")))
    assert info("again")["sources"]["lr"] == "run/config.toml"
    assert info("again")["seed"] == 3


def test_a_config_of_another_method_or_with_an_unknown_option_is_refused(rllab):
    Path("other.toml").write_text('method = "ppo"\n')
    done = rllab("run", "dqn", "CartPole-v1", "--config", "other.toml")
    assert (done.code, done.err) == (2, "Error: other.toml has options of ppo, not of dqn\n")
    Path("typo.toml").write_text("learning_rate_ = 1\nlr = 1\n")
    assert rllab("run", "dqn", "CartPole-v1", "--config", "typo.toml").code == 2
    Path("broken.toml").write_text("lr =")
    assert "is no valid TOML" in rllab("run", "dqn", "CartPole-v1", "--config", "broken.toml").err


def test_metrics_have_one_line_a_step_and_the_steps_rise(tiny):
    tiny("--log-every", "20", "--eval-every", "50")
    lines = metrics()
    assert [line["step"] for line in lines] == [20, 40, 50, 60, 80, 100, 120, 140, 150, 160, 180, 200]
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert "time/steps_per_second" in lines[-1]


# --- every option


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tiny):
    tiny(run_dir="a")
    tiny(run_dir="b")
    tiny("--seed", 1, run_dir="c")
    assert weights("a") == weights("b") != weights("c")
    assert not first_difference(untimed_metrics(Path("a")), untimed_metrics(Path("b")))


def test_deterministic_algorithms_can_be_asked_for(tiny):
    assert tiny("--deterministic").code == 0
    assert info()["options"]["deterministic"] is True


def test_a_device_that_cannot_be_had_is_an_error_and_leaves_no_folder(rllab):
    done = rllab("run", "dqn", "CartPole-v1", "--device", "tpu")
    assert done.code == 2
    assert "auto, cpu, cuda, cuda:N or mps" in done.err
    assert rllab("run", "dqn", "CartPole-v1", "--device", "cuda:97").code == 2
    assert not Path("runs").exists()


def test_run_folders_lie_below_the_runs_dir_and_are_never_overwritten(rllab):
    tiny = ("run", "dqn", "CartPole-v1", "--preset", "none", "--timesteps", "60", "--learning-starts", "50", "--quiet")
    for _ in range(2):
        assert rllab(*tiny, "--logger", "none", "--runs-dir", "elsewhere").code == 0
    parent = Path("elsewhere/CartPole-v1/dqn")
    name = "timesteps-60_learning-starts-50_seed0"
    assert sorted(path.name for path in parent.iterdir()) == [name, f"{name}.2"]
    assert rllab(*tiny, "--logger", "none", "--runs-dir", "elsewhere", "--name", "my trial", "--seed", 7).code == 0
    assert (parent / "my-trial_seed7").is_dir()


@pytest.mark.parametrize("option", ["--log-every", "--eval-every", "--checkpoint-every"])
@pytest.mark.parametrize("value", ["0", "50", "25%", "0.02s"])
def test_intervals_take_units_shares_seconds_and_never(tiny, option, value):
    others = {"--log-every": "0", "--eval-every": "0", "--checkpoint-every": "0"}
    given = [part for pair in {**others, option: value}.items() for part in pair]
    assert tiny(*given, "--keep", "9").code == 0
    steps = {
        "--log-every": [line["step"] for line in metrics()],
        "--eval-every": evaluated(),
        "--checkpoint-every": saved(),
    }[option]
    if value == "0.02s":
        assert len(steps) > 2
    elif value == "0":
        assert steps == ([200] if option == "--checkpoint-every" else [])
    else:
        assert steps == [50, 100, 150, 200]


def test_each_evaluation_has_the_episodes_asked_for(tiny):
    tiny("--eval-every", "0.5%", "--eval-episodes", "3")
    assert {line["eval/episodes"] for line in metrics() if "eval/episodes" in line} == {3.0}


def test_as_many_checkpoints_stay_as_asked_for(tiny):
    tiny("--checkpoint-every", "20", "--keep", "3")
    assert saved() == [160, 180, 200]


def test_stopping_after_some_steps_can_be_resumed(tiny):
    done = tiny("--stop-after", "90")
    assert done.code == 75
    assert "Stopped (--stop-after 90): 90 env steps" in done.err
    assert "rllab resume run" in done.err
    assert (info()["status"], saved()[-1]) == ("stopped", 90)


@pytest.mark.parametrize("value", ["0.05", "0.05s"])
def test_stopping_after_some_time_can_be_resumed(tiny, value):
    assert tiny("--max-time", value, "--eval-every", "0").code == 75
    assert saved()[-1] < 200


def test_a_run_ends_as_done_when_the_metric_gets_there(tiny):
    done = tiny("--stop-when", "eval/return>=1", "--eval-every", "50")
    assert done.code == 0
    assert info()["reason"] == "eval/return>=1"
    assert (evaluated(), saved()[-1]) == ([50], 50)


def test_all_of_several_conditions_must_hold(tiny):
    tiny("--stop-when", "eval/return>=1", "--stop-when", "eval/length<0", "--eval-every", "50")
    assert info()["totals"]["steps"] == 200


def test_a_metric_that_never_came_is_named_with_the_nearest(tiny):
    done = tiny("--stop-when", "eval/retrun>=475")
    assert done.code == 0
    assert "--stop-when eval/retrun>=475: eval/retrun was not measured. Did you mean 'eval/return'" in done.err


def test_the_folder_of_runs_may_come_from_a_variable(rllab, tmp_path, monkeypatch):
    monkeypatch.setenv("RLLAB_OPTION_RUNS_DIR", str(tmp_path / "elsewhere"))
    done = rllab("run", "dqn", "CartPole-v1", "--timesteps", 60, "--learning-starts", 20, "--preset", "none")
    assert done.code == 0
    assert len(list((tmp_path / "elsewhere" / "CartPole-v1" / "dqn").iterdir())) == 1
    assert rllab("eval", "last", "--episodes", 1).code == 0


def test_a_threshold_that_is_missed_exits_with_6_and_says_by_how_much(tiny):
    done = tiny("--require", "eval/return>=475")
    assert done.code == 6
    assert done.err.splitlines()[-1].startswith("Error: --require eval/return>=475: eval/return is ")
    assert info()["status"] == "finished"
    assert tiny("--require", "eval/return>=1", run_dir="b").code == 0
    done = tiny("--require", "eval/reward>=1", run_dir="c")
    assert (done.code, "eval/reward was not measured" in done.err) == (6, True)


COUNTER = """
from pathlib import Path
import rllab
class Counter(rllab.Callback):
    def __init__(self):
        self.steps = 0
    def on_step(self, metrics):
        self.steps += 1
    def on_end(self, status):
        Path("counted").write_text(f"{self.steps} {status.state}")
"""


def test_a_callback_and_a_logger_can_be_plugins(tiny, plugin):
    plugin(
        "extras_of_mine",
        "[rllab.callbacks]\ncounter = extras_of_mine:Counter\n[rllab.loggers]\nlines = extras_of_mine:Lines\n",
        f"{COUNTER}"
        "class Lines(rllab.Writer):\n"
        "    def write(self, step, metrics):\n"
        "        with open('lines', 'a') as file:\n"
        "            print(step, file=file)\n",
    )
    assert tiny("--callback", "counter", "--logger", "lines", "--log-every", "100").code == 0
    assert Path("counted").read_text() == "200 finished"
    assert Path("lines").read_text().split()[-1] == "200"


@pytest.mark.parametrize(("option", "base"), [("callback", "Callback"), ("logger", "Writer")])
def test_a_plugin_that_cannot_be_made_is_named_with_its_distribution_and_the_cause(tiny, plugin, option, base):
    plugin(
        "sick",
        f"[rllab.{option}s]\nsick = sick:Sick\n",
        f"from rllab.{option}{'s' if option == 'callback' else ''} import {base}\n"
        f"class Sick({base}):\n"
        "    def write(self, step, metrics): pass\n"
        "    def __init__(self): raise KeyError('no token')\n",
    )
    done = tiny(f"--{option}", "sick")
    assert done.code == 4
    assert "the plugin 'sick' of sick 1.0 cannot be used: KeyError: 'no token'" in done.err


def test_the_state_of_a_callback_is_resumed(rllab, tiny, plugin):
    plugin("counting", "[rllab.callbacks]\ncounter = counting:Counter\n", COUNTER)
    assert tiny("--callback", "counter", "--stop-after", "90").code == 75
    assert rllab("resume", "run").code == 0
    assert Path("counted").read_text() == "200 finished"


def test_quiet_says_nothing_and_no_progress_leaves_the_summary(tiny):
    assert tiny("--quiet").err == ""
    assert "Run folder: b" in tiny("--no-progress", run_dir="b").err


def test_json_is_all_that_goes_to_stdout(tiny):
    done = tiny("--json", "--quiet")
    assert done.err == ""
    assert done.json["run"] == "run"
    assert done.json["status"] == "finished"
    assert tiny("--json", "--stop-after", "50", run_dir="b").json["status"] == "stopped"


def test_debug_shows_the_traceback_of_a_users_mistake_too(rllab, tmp_path):
    command = [sys.executable, "-m", "rllab", "run", "dqn", "CartPole-v1", "--lr", "-1", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: --lr -1")


def test_a_method_has_a_help_with_type_default_and_text_of_each_option(rllab):
    done = rllab("run", "dqn", "--help")
    assert (done.code, done.err) == (0, "")
    for part in ("Hyperparameters of dqn:", "The environment:", "The run:", "Output:", "--buffer-size INTEGER > 0"):
        assert part in done.out
    assert "Step size of the optimiser." in done.out
    assert "[default: 50000]" in done.out
    assert "--double / --no-double" in done.out


# --- where values come from


def source_of(done: Any, name: str) -> tuple[Any, str]:
    return done.json[name]["value"], done.json[name]["source"]


def test_a_dry_run_prints_every_value_with_its_source_and_trains_nothing(rllab):
    done = rllab("run", "dqn", "CartPole-v1", "--dry-run", "--lr", "0.01")
    assert (done.code, done.err) == (0, "")
    values = tomllib.loads(done.out)
    assert values["lr"] == 0.01
    lines = {line.split(" = ")[0]: line for line in done.out.splitlines() if not line.startswith("#")}
    assert lines["lr"].endswith("  # command line")
    assert lines["timesteps"].endswith("  # preset CartPole-v1")
    assert lines["device"].endswith("  # default")
    assert not Path("runs").exists()


def test_what_a_dry_run_prints_is_a_config(rllab, tiny):
    text = tiny("--dry-run").out
    kept = text.partition("# Where and how long")[0]
    Path("dry.toml").write_text(kept)
    assert rllab("run", "dqn", "CartPole-v1", "--config", "dry.toml", "--run-dir", "b", "--quiet").code == 0
    tiny()
    assert weights("b") == weights()


def test_a_flag_beats_a_variable_beats_a_file_beats_a_preset_beats_a_default(rllab, monkeypatch):
    dry = ("run", "dqn", "CartPole-v1", "--dry-run", "--json")
    assert source_of(rllab(*dry, "--preset", "none"), "timesteps") == (100_000, "default")
    value, source = source_of(rllab(*dry), "timesteps")
    assert (value, source) == (rllab("info", "dqn", "--json").json["presets"]["CartPole-v1"]["timesteps"], source)
    assert source == "preset CartPole-v1"
    Path("my.toml").write_text("timesteps = 40_000\n")
    file = (*dry, "--config", "my.toml")
    assert source_of(rllab(*file), "timesteps") == (40_000, "my.toml")
    monkeypatch.setenv("RLLAB_OPTION_TIMESTEPS", "30000")
    assert source_of(rllab(*file), "timesteps") == (30_000, "RLLAB_OPTION_TIMESTEPS")
    assert source_of(rllab(*file, "--timesteps", "20000"), "timesteps") == (20_000, "command line")


def test_a_value_that_is_wrong_is_told_with_where_it_came_from(rllab, monkeypatch, tmp_path):
    monkeypatch.setenv("RLLAB_OPTION_LR", "fast")
    done = rllab("run", "dqn", "CartPole-v1")
    assert done.code == 2
    assert done.err.startswith("Error: RLLAB_OPTION_LR: --lr fast: ")
    monkeypatch.delenv("RLLAB_OPTION_LR")
    Path("my.toml").write_text("lr = -1\n")
    assert rllab("run", "dqn", "CartPole-v1", "--config", "my.toml").err.startswith("Error: my.toml: --lr -1")
    assert rllab("run", "dqn", "CartPole-v1", "--lr", "-1").err.startswith("Error: --lr -1")


def test_the_options_of_the_environment_are_options_of_the_command(rllab):
    given = ("--max-episode-steps", "50", "--env-kwarg", "sutton_barto_reward=true", "--env-kwarg", "render_mode=none")
    done = rllab("run", "dqn", "CartPole-v1", "--dry-run", "--json", *given)
    assert source_of(done, "max_episode_steps") == (50, "command line")
    kwargs = {"sutton_barto_reward": True, "render_mode": None}
    assert source_of(done, "env_kwarg") == (kwargs, "command line")


def test_a_preset_can_be_named_for_another_environment(rllab):
    done = rllab("run", "dqn", "Acrobot-v1", "--dry-run", "--json", "--preset", "CartPole-v1")
    assert source_of(done, "timesteps")[1] == "preset CartPole-v1"


# --- --resume


def test_resume_needs_a_run_dir(rllab):
    done = rllab("run", "dqn", "CartPole-v1", "--resume", "auto")
    assert done.code == 2
    assert "--run-dir" in done.err


def test_resume_auto_starts_goes_on_and_finds_it_finished(tiny):
    tiny(run_dir="straight")
    assert tiny("--resume", "auto", "--stop-after", "90").code == 75
    assert tiny("--resume", "auto", "--stop-after", "60").code == 75
    assert info()["totals"]["steps"] == 150
    assert tiny("--resume", "auto").code == 0
    assert weights() == weights("straight")
    assert not first_difference(untimed_metrics(Path("run")), untimed_metrics(Path("straight")))
    before = info()
    done = tiny("--resume", "auto")
    assert (done.code, info()) == (0, before)
    assert "Finished (the budget is used up)" in done.err


def test_resume_auto_starts_afresh_where_there_is_no_checkpoint_yet(tiny):
    tiny("--stop-after", "90")
    for step in saved():
        shutil.rmtree(Path("run/checkpoints") / checkpoint.name_of(step))
    Path("run/config.toml").unlink()
    assert tiny("--resume", "auto").code == 0
    assert [line["step"] for line in metrics()] == sorted({line["step"] for line in metrics()})
    assert Path("run/config.toml").exists()


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", ".run.json.tmp"]])
def test_resume_auto_takes_a_folder_that_was_killed_while_it_was_made(tiny, left):
    Path("run").mkdir()
    for name in left:
        (Path("run") / name).write_text("")
    assert tiny("--resume", "auto", "--quiet").code == 0


def test_resume_must_needs_a_checkpoint(tiny):
    done = tiny("--resume", "must")
    assert done.code == 5
    assert not Path("run").exists()
    tiny("--stop-after", "90")
    assert tiny("--resume", "must").code == 0
    assert info()["status"] == "finished"


def test_resume_never_does_not_touch_a_run_that_is_there(tiny):
    tiny("--stop-after", "90")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    done = tiny("--resume", "never")
    assert done.code == 2
    assert "holds a run already" in done.err
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("option", [("--lr", "0.5"), ("--seed", "4"), ("--frame-stack", "2")])
def test_resume_auto_refuses_another_run(tiny, option):
    tiny("--stop-after", "90")
    done = tiny("--resume", "auto", *option)
    assert done.code == 2
    assert f"differs in {option[0][2:].replace('-', '_')}" in done.err


def test_how_a_run_is_run_may_change_when_it_goes_on(tiny):
    tiny("--stop-after", "90", "--log-every", "30")
    assert tiny("--resume", "auto", "--log-every", "20", "--eval-every", "0").code == 0
    assert [line["step"] for line in metrics() if line["step"] > 90] == [100, 120, 140, 160, 180, 200]


# --- as a process


def test_python_m_rllab_is_the_same_command_with_the_same_streams(process: Callable[..., Any]):
    arguments = ("--timesteps", "200", "--learning-starts", "50", "--preset", "none", "--eval-every", "0")
    started = process("run", "dqn", "CartPole-v1", *arguments, "--json", "--run-dir", "run")
    out, err = started.communicate(timeout=120)
    assert started.returncode == 0
    assert json.loads(out)["status"] == "finished"
    assert err.startswith("dqn on CartPole-v1, seed 0")
    assert "\x1b" not in err
