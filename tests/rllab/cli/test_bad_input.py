"""What bad input gets: one or two lines, the right exit code, no traceback, and nothing lost."""

import errno
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from rllab import checkpoint
from rllab.errors import CheckpointError
from rllab.runfolder import RunFolder

TOYS = '''
import os, time
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

class Raises(CartPoleEnv):
    """Its 130th step, over all episodes, goes wrong."""
    steps = 0
    def step(self, action):
        self.steps += 1
        if self.steps == 130:
            raise RuntimeError("the pole fell\\noff the table")
        return super().step(action)

class Inflates(CartPoleEnv):
    """Its rewards become so large that their squares are infinite."""
    steps = 0
    def step(self, action):
        self.steps += 1
        observation, _, *rest = super().step(action)
        return observation, 1e30 if self.steps > 130 else 1.0, *rest

class Infinite(CartPoleEnv):
    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, float("inf"), *rest

class Sleeps(CartPoleEnv):
    """Its steps take 2 ms, or 30 s where there is a file `nap`."""
    def step(self, action):
        time.sleep(30 if os.path.exists("nap") else 0.002)
        return super().step(action)

for kind in (Raises, Inflates, Infinite, Sleeps):
    gymnasium.register(f"{kind.__name__}-v0", kind, max_episode_steps=500)
'''


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Environments that misbehave, as `toys:Id`."""
    (tmp_path / "toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    forget_toys()


def forget_toys() -> None:
    sys.modules.pop("toys", None)
    for name in ("Raises-v0", "Inflates-v0", "Infinite-v0", "Sleeps-v0"):
        gymnasium.registry.pop(name, None)


def files(run: str | Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(run).rglob("*") if path.is_file()}


def info(run: str | Path = "run") -> dict[str, Any]:
    return dict(json.loads((Path(run) / "run.json").read_text()))


def sound(run: str | Path = "run") -> list[int]:
    """Return the steps of the checkpoints that verify, and fail if one does not."""
    folder = Path(run) / "checkpoints"
    found = checkpoint.steps(folder)
    for step in found:
        checkpoint.verify(folder / checkpoint.name_of(step))
    return found


def newest(run: str | Path = "run") -> Path:
    folder = Path(run) / "checkpoints"
    return folder / checkpoint.name_of(checkpoint.steps(folder)[0])


# --- names and values


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["dnq", "CartPole-v1"], 4, "Did you mean 'dqn'?"),
        (["dqn@elsewhere", "CartPole-v1"], 4, "Say dqn@rllab"),
        (["dqn", "CartPol-v1"], 4, "Did you mean 'CartPole-v1'"),
        (["dqn", "CartPole-v7"], 4, "There is CartPole-v0 and CartPole-v1"),
        (["dqn", "nowhere:CartPole-v1"], 4, "cannot import the module 'nowhere'"),
        (["dqn", "../etc/passwd"], 4, "there is no environment"),
        (["dqn", "Pendulum-v1"], 2, "it takes Discrete actions, not Box"),
        (["dqn"], 2, "Missing argument 'TARGET'"),
        (["dqn", "CartPole-v1", "too", "many"], 2, "unexpected extra argument"),
        (["dqn", "CartPole-v1", "--learning-rate", "1"], 2, "No such option '--learning-rate'"),
        (["dqn", "CartPole-v1", "--bufer-size", "1"], 2, "--buffer-size"),
        (["--seed", "1", "dqn", "CartPole-v1"], 2, "options come after the method and the target"),
        (["dqn", "CartPole-v1", "--lr", "0"], 2, "--lr 0: should be greater than 0"),
        (["dqn", "CartPole-v1", "--lr", "nan"], 2, "--lr nan"),
        (["dqn", "CartPole-v1", "--gamma", "1.1"], 2, "--gamma 1.1: should be less than or equal to 1"),
        (["dqn", "CartPole-v1", "--batch-size", "many"], 2, "--batch-size many"),
        (["dqn", "CartPole-v1", "--batch-size", "1.5"], 2, "--batch-size 1.5"),
        (["dqn", "CartPole-v1", "--hidden", "64,-1"], 2, "--hidden"),
        (["dqn", "CartPole-v1", "--loss", "l3"], 2, "'huber', 'squared'"),
        (["dqn", "CartPole-v1", "--seed", "-1"], 2, "--seed -1"),
        (["dqn", "CartPole-v1", "--keep", "0"], 2, "--keep 0"),
        (["dqn", "CartPole-v1", "--timesteps", "500", "--learning-starts", "500"], 2, "no update would ever happen"),
        (["dqn", "CartPole-v1", "--eval-every", "often"], 2, "is no interval"),
        (["dqn", "CartPole-v1", "--eval-every", "1epoch"], 2, "dqn has no epochs"),
        (["dqn", "CartPole-v1", "--max-time", "5%"], 2, "is no time"),
        (["dqn", "CartPole-v1", "--stop-when", "eval/return"], 2, "write it like 'eval/return>=475'"),
        (["dqn", "CartPole-v1", "--callback", "nothing"], 4, "there is no callback called 'nothing'"),
        (["dqn", "CartPole-v1", "--logger", "tensorbored"], 4, "Did you mean 'tensorboard'?"),
        (["dqn", "CartPole-v1", "--preset", "CartPole"], 2, "Did you mean 'CartPole-v1'"),
        (["dqn", "CartPole-v1", "--config", "nowhere.toml"], 2, "cannot read nowhere.toml"),
        (["dqn", "CartPole-v1", "--config", "."], 2, "cannot read ."),
        (["dqn", "CartPole-v1", "--env-kwarg", "colour=red"], 2, "--env-kwarg colour"),
        (["dqn", "CartPole-v1", "--env-kwarg", "red"], 2, "expected KEY=VALUE"),
        (["dqn", "digits"], 2, "digits is a dataset, not an environment"),
        (["dqn", "tinyshakespeare"], 2, "tinyshakespeare is a text, not an environment"),
        (["dqn", "a-file"], 2, "a-file is a file, not an environment"),
        (["dqn", "."], 2, ". is a folder, not an environment"),
        (["mlp", "stdlib"], 2, "stdlib is a text, not a dataset"),
        (["knn", "tinyshakespeare"], 2, "tinyshakespeare is a text, not a dataset"),
        (["vae", "CartPole-v1"], 2, "CartPole-v1 is an environment, not a dataset"),
        (["vae", "a-file"], 2, "a-file is a file that no dataset is read from"),
        (["mlp", "a-file"], 2, "A CSV file or a folder is one"),
        (["mlp", "nosuch"], 4, "there is no dataset called 'nosuch'"),
        (["char-rnn", "digits"], 2, "digits is a dataset, not a text"),
        (["char-rnn", "CartPole-v1"], 2, "CartPole-v1 is an environment, not a text"),
        (["char-rnn", "ALE/Pong-v5"], 2, "ALE/Pong-v5 is an environment, not a text"),
        (["char-rnn", "stdlb"], 4, "Did you mean 'stdlib'?"),
        (["char-rnn", "nowhere.txt"], 2, "nowhere.txt is no file"),
        (["char-rnn", "file"], 2, "file stands for a text of your own"),
        (["char-rnn", "stdlib", "--limit", "0"], 2, "--limit 0: should be greater than 0"),
        (["char-rnn", "stdlib", "--test-share", "1"], 2, "--test-share 1: should be less than 1"),
        (["char-rnn", ".", "--pattern", "*.txt"], 2, ". has no files called *.txt"),
        (["dqn", "CartPole-v1", "--run-dir", "a-file"], 1, "cannot write to a-file"),
        (["dqn", "CartPole-v1", "--runs-dir", "a-file"], 1, "cannot write to a-file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_or_two_lines_and_no_run_folder(rllab, arguments, code, says):
    Path("a-file").write_text("precious")
    done = rllab("run", *arguments)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert done.err.startswith("Error: ")
    assert 1 <= len(done.err.splitlines()) <= 2
    assert [path.name for path in Path().iterdir()] == ["a-file"]
    assert Path("a-file").read_text() == "precious"


def test_several_values_that_are_wrong_get_a_line_each(rllab):
    done = rllab("run", "dqn", "CartPole-v1", "--lr", "-1", "--gamma", "2")
    assert [line.split()[:2] for line in done.err.removeprefix("Error: ").splitlines()] == [
        ["--lr", "-1:"],
        ["--gamma", "2:"],
    ]


# --- training that goes wrong


@pytest.mark.usefixtures("toys")
def test_an_environment_that_raises_is_named_with_the_step_and_the_last_checkpoint(rllab):
    options = ("--preset", "none", "--learning-starts", "50", "--timesteps", "200", "--checkpoint-every", "50")
    done = rllab("run", "dqn", "toys:Raises-v0", *options, "--run-dir", "run", "--no-progress", "--eval-every", "0")
    assert done.code == 1
    first, second = done.err.splitlines()[-2:]
    assert first.startswith("Error: toys:Raises-v0 (environment 0 of 1, step ")
    assert "raised RuntimeError: the pole fell (at step 129)" in first
    assert second == "The last good checkpoint is run/checkpoints/step-000000100."
    assert info()["status"] == "failed"
    assert "the pole fell" in info()["reason"]
    assert sound() == [100, 50]


@pytest.mark.usefixtures("toys")
def test_a_run_that_failed_can_be_resumed_once_its_cause_is_mended(rllab, tmp_path):
    options = ("--preset", "none", "--learning-starts", "50", "--timesteps", "200", "--checkpoint-every", "50")
    rllab("run", "dqn", "toys:Raises-v0", *options, "--run-dir", "run", "--quiet", "--eval-every", "0")
    (tmp_path / "toys.py").write_text(TOYS.replace("self.steps == 130", "False"))
    forget_toys()
    assert rllab("resume", "run", "--quiet").code == 0
    assert info()["status"] == "finished"


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("env", ["Inflates-v0", "Infinite-v0"])
def test_a_loss_or_reward_that_is_not_finite_stops_the_run_with_the_step(rllab, env):
    options = ("--preset", "none", "--learning-starts", "50", "--timesteps", "300", "--checkpoint-every", "50")
    done = rllab(
        *("run", "dqn", f"toys:{env}", *options, "--loss", "squared"),
        *("--run-dir", "run", "--no-progress", "--eval-every", "0", "--log-every", "10"),
    )
    assert done.code == 1
    assert "step" in done.err.splitlines()[-2]
    if env == "Inflates-v0":
        assert "loss became inf" in done.err
        assert done.err.splitlines()[-1].endswith("The last good checkpoint is run/checkpoints/step-000000100.")
        assert sound() == [100, 50]
    else:
        assert "a reward that is not finite" in done.err
        assert "There is no checkpoint yet." in done.err
    assert info()["status"] == "failed"
    for line in Path("run/metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} in metrics.jsonl"))


# --- the folder


def test_an_occupied_run_folder_is_not_touched(rllab, tiny):
    Path("run").mkdir()
    Path("run/thesis.tex").write_text("x")
    done = tiny()
    assert done.code == 2
    assert done.err.startswith("Error: the folder run is not empty\n")
    assert files("run") == {"run/thesis.tex": b"x"}
    tiny(run_dir="b")
    before = files("b")
    done = tiny(run_dir="b")
    assert done.code == 2
    assert "rllab resume b" in done.err
    assert files("b") == before


def test_a_run_that_another_process_holds_is_refused_and_says_who(rllab, tiny):
    tiny("--stop-after", "90")
    before = {name: data for name, data in files("run").items() if not name.endswith(".lock")}
    code = (
        "import sys\nfrom pathlib import Path\nfrom rllab.runfolder import RunFolder, process\n"
        "folder = RunFolder(Path('run'))\n"
        "with folder.held():\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    for arguments in (("resume", "run"), ("run", "dqn", "CartPole-v1", "--config", "run/config.toml")):
        more = ("--run-dir", "run", "--resume", "auto") if arguments[0] == "run" else ()
        done = rllab(*arguments, *more)
        assert done.code == 2
        assert f"the run run is held by process {info()['pid']} on " in done.err
        assert done.err.splitlines()[-1] == "Wait for it, or stop it."
    assert {name: data for name, data in files("run").items() if not name.endswith(".lock")} == before
    assert rllab("eval", "run", "--episodes", "1").code == 0
    holder.communicate("")
    assert rllab("resume", "run", "--quiet").code == 0


def test_a_folder_that_cannot_be_written_is_said_in_one_line(rllab, monkeypatch):
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    for option in ("--runs-dir", "--run-dir"):
        done = rllab("run", "dqn", "CartPole-v1", option, "there")
        assert done.code == 1
        assert done.err.startswith("Error: cannot write to there")
        assert "Permission denied" in done.err
        assert len(done.err.splitlines()) == 2


@pytest.fixture
def volume() -> Iterator[Path]:
    """A file system of 3 MB of its own; only root can make one."""
    path = Path(tempfile.mkdtemp())
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        path.rmdir()
        pytest.skip("a file system can be mounted by root only")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)
    path.rmdir()


def test_a_read_only_disk_is_said_in_two_lines(rllab, tiny, volume):
    run = volume / "run"
    tiny("--stop-after", "90", run_dir=str(run))
    subprocess.run(["mount", "-o", "remount,ro", str(volume)], check=True)
    before = files(run)
    for arguments in (("resume", run), ("run", "dqn", "CartPole-v1", "--runs-dir", volume)):
        done = rllab(*arguments)
        assert done.code == 1
        assert "Read-only file system" in done.err
        assert len(done.err.splitlines()) == 2
    assert rllab("eval", run, "--episodes", "1").code == 0
    assert files(run) == before


@pytest.mark.parametrize("logger", ["none", "tensorboard"])
def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(rllab, tiny, volume, monkeypatch, logger):
    run = volume / "run"
    assert tiny("--stop-after", "90", "--checkpoint-every", "0", run_dir=str(run)).code == 75
    (volume / "ballast").write_bytes(b"x" * (shutil.disk_usage(volume).free - 20_000))
    done = rllab("resume", run, "--no-progress", "--checkpoint-every", "50", "--logger", logger)
    assert done.code == 1
    assert "no room for a checkpoint" in done.err
    assert f"The last good checkpoint is {run}/checkpoints/step-000000090." in done.err
    assert sound(run) == [90]
    (volume / "ballast").unlink()
    assert rllab("resume", run, "--quiet").code == 0
    assert info(run)["status"] == "finished"


def fill(path: Path) -> None:
    """Write until nothing more goes onto the disk."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_a_disk_that_is_quite_full_is_no_fault_of_the_program(rllab, tiny, volume):
    run = volume / "run"
    assert tiny("--stop-after", "90", "--checkpoint-every", "0", run_dir=str(run)).code == 75
    fill(volume / "ballast")
    done = rllab("resume", run, "--no-progress", "--logger", "tensorboard")
    assert done.code == 1
    assert done.err.startswith("Error: cannot write to ")
    assert len(done.err.splitlines()) == 2
    assert sound(run) == [90]
    (volume / "ballast").unlink()
    assert rllab("resume", run, "--quiet").code == 0


@pytest.mark.parametrize("fails", ["os.fsync", "rllab.checkpoint.save_file", "pathlib.Path.rename"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before_whole(rllab, tiny, monkeypatch, fails):
    tiny("--stop-after", "90", "--checkpoint-every", "0")
    module, _, name = fails.rpartition(".")
    owner: Any = Path if module == "pathlib.Path" else sys.modules[module]

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fail)
        done = rllab("resume", "run", "--no-progress")
    assert done.code == 1
    assert "No space left on device" in done.err
    assert len([line for line in done.err.splitlines() if line.startswith("Error:")]) == 1
    assert "This is a fault of the program" not in done.err
    assert sound() == [90]
    assert [path.name for path in Path("run/checkpoints").glob(".*")] == []
    assert info()["status"] == "failed"
    assert rllab("resume", "run", "--quiet").code == 0


# --- checkpoints


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.fixture
def two_checkpoints(tiny):
    """A stopped run with the checkpoints of the steps 50 and 90."""
    assert tiny("--stop-after", "90", "--checkpoint-every", "50").code == 75
    assert sound() == [90, 50]


@pytest.mark.usefixtures("two_checkpoints")
@pytest.mark.parametrize("harm", [truncate, flip, empty, Path.unlink])
@pytest.mark.parametrize("name", ["weights.safetensors", "state.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(rllab, tiny, harm, name):
    harm(newest() / name)
    done = rllab("resume", "run", "--no-progress")
    assert done.code == 0
    quiet = name == "manifest.json" and harm is Path.unlink  # without a manifest it is none
    harmless = name == "manifest.json" and harm is flip and "damaged" not in done.err
    if not quiet and not harmless:
        notes = [line for line in done.err.splitlines() if line.startswith("Note: ")]
        assert len(notes) == 1
        assert "step-000000090 is damaged" in notes[0]
        assert notes[0].endswith("; the one before it is used")
    tiny("--checkpoint-every", "50", run_dir="straight")
    assert (newest() / "weights.safetensors").read_bytes() == (newest("straight") / "weights.safetensors").read_bytes()


@pytest.mark.usefixtures("two_checkpoints")
def test_where_no_checkpoint_is_sound_nothing_can_be_resumed_and_nothing_is_lost(rllab):
    for step in sound():
        flip(Path("run/checkpoints") / checkpoint.name_of(step) / "weights.safetensors")
    before = files("run")
    done = rllab("resume", "run")
    assert done.code == 5
    assert "the checksum of weights.safetensors is wrong" in done.err
    assert {name: data for name, data in files("run").items() if name in before} == before
    assert rllab("eval", "run").code == 5


@pytest.mark.usefixtures("two_checkpoints")
def test_without_any_checkpoint_resume_exits_with_5(rllab):
    shutil.rmtree("run/checkpoints")
    done = rllab("resume", "run")
    assert (done.code, len(done.err.splitlines())) == (5, 2)
    assert "there is no checkpoint" in done.err
    assert rllab("eval", "run").code == 5
    assert rllab("resume", "run", "--extend", "1000").code == 5
    assert info()["config"]["timesteps"] == 200


@pytest.mark.usefixtures("two_checkpoints")
@pytest.mark.parametrize("option", [("--lr", "0.1"), ("--hidden", "8"), ("--seed", "5"), ("--frame-stack", "2")])
def test_a_checkpoint_of_another_configuration_is_refused(rllab, tiny, option):
    tiny("--stop-after", "95", *option, run_dir="other")
    shutil.copytree(newest("other"), Path("run/checkpoints") / newest("other").name)
    for command in ("resume", "eval"):
        done = rllab(command, "run")
        assert done.code == 5
        assert "is of another run" in done.err
        assert 1 <= len(done.err.splitlines()) <= 2
    assert info()["status"] == "stopped"


@pytest.mark.usefixtures("two_checkpoints")
def test_a_checkpoint_of_another_method_is_refused(rllab):
    path = newest()
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "method": "ppo"}))
    done = rllab("resume", "run")
    assert (done.code, "is of ppo, the run is of dqn" in done.err) == (5, True)


@pytest.mark.usefixtures("two_checkpoints")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', "{}", '{"schema": "x"}'])
def test_a_damaged_run_json_exits_with_5(rllab, text):
    Path("run/run.json").write_text(text)
    for command in ("resume", "eval"):
        done = rllab(command, "run")
        assert done.code == 5, command
        assert "run.json" in done.err
        assert 1 <= len(done.err.splitlines()) <= 2


@pytest.mark.usefixtures("two_checkpoints")
def test_half_a_last_line_of_metrics_is_mended_by_resuming(rllab, tiny):
    with Path("run/metrics.jsonl").open("a") as file:
        file.write('{"step": 91, "ti')
    assert rllab("resume", "run", "--quiet").code == 0
    lines = [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert lines == sorted(set(lines))


# --- plugins


def test_a_plugin_that_fails_to_import_costs_one_line_and_disturbs_nothing(rllab, tiny, plugin):
    plugin("faulty", "[rllab.agents]\nfaulty = faulty:Agent\n", "raise RuntimeError('out of order')\n")
    plugin("exits", "[rllab.agents]\nexits = exits:Agent\n", "import sys\nprint('bye')\nsys.exit(3)\n")
    plugin("needs", "[rllab.agents]\nneeds = needs:Agent\n", "import a_module_that_is_nowhere\n")
    plugin("other", "[rllab.agents]\nother = other:Agent\n", "Agent = 3\n")
    for name, cause in {
        "faulty": "RuntimeError: out of order",
        "exits": "it calls sys.exit(3)",
        "needs": "it needs the module 'a_module_that_is_nowhere'",
        "other": "is no rllab.Algorithm",
    }.items():
        done = rllab("run", name, "CartPole-v1")
        assert done.code == 4
        assert done.out == ""
        assert cause in done.err
        assert name in done.err
        assert len([line for line in done.err.splitlines() if line != "bye"]) <= 2
    assert tiny("--quiet").code == 0
    listed = rllab("list", "agents")
    assert (listed.code, {"dqn", "faulty", "exits"} <= {line.split()[0] for line in listed.out.splitlines()}) == (
        0,
        True,
    )


def test_two_plugins_of_one_name_are_told_apart_by_their_distribution(rllab, plugin):
    plugin("copycat", "[rllab.agents]\ndqn = copycat:Agent\n", "from rllab_agents.dqn import DQN as Agent\n")
    done = rllab("run", "dqn", "CartPole-v1")
    assert done.code == 4
    assert "2 plugins are called 'dqn'" in done.err
    assert "dqn@copycat" in done.err
    assert "dqn@rllab" in done.err
    for name in ("dqn@rllab", "dqn@copycat"):
        small = ("--preset", "none", "--timesteps", "60", "--learning-starts", "50", "--logger", "none", "--quiet")
        assert rllab("run", name, "CartPole-v1", *small, "--run-dir", name, "--stop-after", "55").code == 75
        assert rllab("resume", name, "--quiet").code == 0


# --- signals


def wait(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait until a condition holds; fail if the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"the run ended too early: {process.communicate()}")
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def lines(run: Path) -> list[dict[str, Any]]:
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")] if file.exists() else []


SLOW_RUN = (
    *("run", "dqn", "toys:Sleeps-v0", "--preset", "none", "--timesteps", "2000", "--learning-starts", "50"),
    *("--run-dir", "run", "--logger", "none", "--log-every", "5"),
)


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_saves_and_exits_with_75(process, tmp_path, number):
    run = process(*SLOW_RUN, "--eval-every", "0")
    wait(lambda: lines(tmp_path / "run"), run)
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 75
    assert (out, "Traceback" in err) == ("", False)
    assert f"Stopped ({number.name})" in err
    found = info(tmp_path / "run")
    assert (found["status"], found["reason"]) == ("stopped", number.name)
    assert sound(tmp_path / "run")[0] == found["totals"]["steps"]


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
def test_a_second_ctrl_c_does_not_wait_and_exits_with_130(process, tmp_path):
    run = process(*SLOW_RUN, "--eval-every", "0", "--checkpoint-every", "10")
    wait(lambda: checkpoint.steps(tmp_path / "run" / "checkpoints"), run)
    (tmp_path / "nap").touch()  # a step that takes long
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=20)
    assert run.returncode == 130
    assert err.splitlines()[-1] == "Interrupted."
    assert "Traceback" not in err
    found = info(tmp_path / "run")
    assert (found["status"], found["reason"]) == ("stopped", "interrupted without saving")
    (step, *_) = sound(tmp_path / "run")
    assert step % 10 == 0
    (tmp_path / "nap").unlink()
    again = process("resume", "run", "--stop-after", "5", "--no-progress")
    _, err = again.communicate(timeout=60)
    assert (again.returncode, f"{step + 5} env steps" in err) == (75, True)


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_an_evaluation_leaves_it_due(process, tmp_path, number):
    run = process(*SLOW_RUN, "--eval-every", "20", "--eval-episodes", "1000")
    wait(lambda: lines(tmp_path / "run") and lines(tmp_path / "run")[-1]["step"] == 15, run)
    time.sleep(1)  # five steps are taken in 10 ms, an evaluation takes twenty seconds
    run.send_signal(number)
    assert run.wait(timeout=10) == 75
    assert sound(tmp_path / "run") == [20]
    assert [line["step"] for line in lines(tmp_path / "run")] == [5, 10, 15]
    again = process("resume", "run", "--eval-episodes", "1", "--stop-after", "3", "--quiet")
    assert again.wait(timeout=60) == 75
    line = lines(tmp_path / "run")[-1]
    assert (line["step"], "eval/return" in line) == (20, True)


@pytest.mark.usefixtures("toys")
def test_ctrl_c_before_anything_was_trained_ends_without_a_traceback(process, tmp_path):
    run = process(*SLOW_RUN)
    time.sleep(1.5)  # it imports by then, or trains
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert run.returncode in {75, 130}
    assert "Traceback" not in err


@pytest.mark.parametrize("command", [("plugins", "--check"), ("stubborn",)])
def test_ctrl_c_that_a_library_turns_into_an_import_error_exits_with_130(rllab, plugin, command):
    plugin(
        "stubborn_library",
        "[rllab.commands]\nstubborn = stubborn_library:command\n",
        "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n    raise ImportError('half of it is missing')\n",
    )
    before = signal.getsignal(signal.SIGINT)
    assert rllab(*command).code == 130
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
def test_ctrl_c_during_eval_exits_with_130(process, tmp_path):
    run = process(*SLOW_RUN, "--eval-every", "0", "--stop-after", "60", "--quiet")
    assert run.wait(timeout=60) == 75
    evaluation = process("eval", "run", "--episodes", "2000", "--json")
    time.sleep(5)
    assert evaluation.poll() is None
    evaluation.send_signal(signal.SIGINT)
    out, err = evaluation.communicate(timeout=10)
    assert (evaluation.returncode, out, err.strip()) == (130, "", "Interrupted.")


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
def test_a_killed_run_goes_on_from_its_last_checkpoint(process, tmp_path):
    run = process(*SLOW_RUN, "--eval-every", "0", "--checkpoint-every", "10")
    wait(lambda: checkpoint.steps(tmp_path / "run" / "checkpoints"), run)
    run.kill()
    run.communicate()
    (step, *_) = sound(tmp_path / "run")
    with RunFolder(tmp_path / "run").held():
        pass  # the lock died with its process
    again = process("resume", "run", "--stop-after", "20", "--no-progress")
    _, err = again.communicate(timeout=60)
    assert (again.returncode, "Traceback" in err) == (75, False)
    assert f"{step + 20} env steps" in err
    steps = [line["step"] for line in lines(tmp_path / "run")]
    assert steps == list(range(5, step + 21, 5))


def test_what_verifies_a_checkpoint_names_the_damage(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint nothing"):
        checkpoint.verify(tmp_path / "nothing")


def test_a_pipe_that_closes_early_is_no_traceback(tmp_path):
    command = f"{sys.executable} -m rllab info dqn | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.startswith("dqn, from rllab")
    assert done.stderr == ""
