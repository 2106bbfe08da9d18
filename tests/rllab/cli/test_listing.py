import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from rllab.cli import doctor
from rllab.cli.completion import completion_command
from rllab.cli.doctor import doctor_command
from rllab.cli.listing import list_command, plugins_command

Install = Callable[..., None]


@pytest.fixture
def install(plugin: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Write distributions as `plugin` does; those beside them do not count."""
    every = importlib.metadata.distributions
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: every(path=[str(tmp_path / "site")]))
    return plugin


@pytest.fixture
def two(install: Install) -> None:
    """A healthy distribution and a broken one."""
    install(
        "sound",
        "[rllab.agents]\nzeta = sound:Zeta\n[rllab.datasets]\nspots = sound:Spots\n",
        "from rllab.algorithm import Algorithm\nfrom rllab.data import Source\n"
        'class Zeta(Algorithm):\n    """Learns nothing.\n\n    At all.\n    """\n\nclass Spots(Source):\n    pass\n',
    )
    install("broken", "[rllab.supervised]\nalpha = broken:Alpha\n", "raise RuntimeError('out of order')\n")


BROKEN = (
    "RuntimeError: out of order. Mend it with `pip install --upgrade broken`, or remove it with `pip uninstall broken`."
)


def run(*arguments: str) -> Result:
    commands = {command.name: command for command in (list_command, plugins_command, doctor_command)}
    return CliRunner().invoke(commands[arguments[0]], arguments[1:])


# --- list ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("two")
def test_list_shows_every_kind_in_columns_and_imports_nothing() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert result.stdout == (
        "NAME   KIND        FROM\n"
        "zeta   agents      sound 1.0\n"
        "alpha  supervised  broken 1.0\n"
        "spots  datasets    sound 1.0\n"
    )
    assert "Gymnasium" in result.stderr
    assert not {"sound", "broken"} & set(sys.modules)


@pytest.mark.usefixtures("two")
def test_list_of_methods_is_agents_and_generative_and_supervised_ones() -> None:
    assert [entry["name"] for entry in json.loads(run("list", "methods", "--json").stdout)] == [
        "zeta",
        "alpha",
    ]
    assert [entry["name"] for entry in json.loads(run("list", "datasets", "--json").stdout)] == ["spots"]


def test_texts_are_listed_after_datasets_and_checked(install: Install) -> None:
    code = "from rllab.text import TextSource\nclass Plays(TextSource):\n    pass\nclass Spots:\n    pass\n"
    install("sound", "[rllab.datasets]\na = sound:Plays\n[rllab.texts]\nplays = sound:Plays\nx = sound:Spots\n", code)
    assert [line.split()[:2] for line in run("list").stdout.splitlines()[2:]] == [["plays", "texts"], ["x", "texts"]]
    assert [entry["name"] for entry in json.loads(run("list", "texts", "--json").stdout)] == ["plays", "x"]
    statuses = {entry["name"]: entry["cause"] for entry in json.loads(run("plugins", "--check", "--json").stdout)}
    assert statuses["plays"] is None
    assert statuses["x"].startswith("sound:Spots is no rllab.text.TextSource")
    assert statuses["a"].startswith("sound:Plays is no rllab.data.Source")


@pytest.mark.usefixtures("two")
def test_list_of_details_imports_and_a_broken_one_costs_one_line() -> None:
    result = run("list", "methods", "--details")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "NAME   KIND        FROM        DETAILS",
        "zeta   agents      sound 1.0   Learns nothing.",
        f"alpha  supervised  broken 1.0  broken: {BROKEN}",
    ]


@pytest.mark.usefixtures("two")
def test_json_is_all_that_is_written() -> None:
    result = run("list", "--json", "--details")
    assert json.loads(result.output)[0] == {
        "name": "zeta",
        "kind": "agents",
        "distribution": "sound",
        "version": "1.0",
        "description": "Learns nothing.",
        "actions": [],
        "observations": [],
        "refusal": "it cannot be asked: AttributeError: type object 'Zeta' has no attribute 'Config'",
    }


AGENTS = """
from gymnasium import spaces
from rllab.agent import Agent, AgentConfig

class Base(Agent):
    Config = AgentConfig
    def act(self, observations, memory=None, starts=None, *, deterministic): ...
    def step(self): ...

class Any(Base):
    "Takes everything."

class Picky(Base):
    "Takes boxes for boxes."
    @classmethod
    def refusal(cls, config, task):
        for space in (task.action_space, task.observation_space):
            if not isinstance(space, spaces.Box):
                return f"it takes a Box, not {space}"

class Single(Base):
    "Pulls arms."
    @classmethod
    def refusal(cls, config, task):
        space = task.observation_space
        return None if isinstance(space, spaces.Discrete) and space.n == 1 else f"one state, not {space}"

class Planner(Base):
    "Plans."
    @classmethod
    def refusal(cls, config, task):
        for space in (task.action_space, task.observation_space):
            if not isinstance(space, spaces.Discrete):
                return f"it takes Discrete, not {space}"
        return None if hasattr(task.make_one().unwrapped, "P") else "it needs P[s][a]"

class Rude(Base):
    "Raises."
    @classmethod
    def refusal(cls, config, task):
        raise RuntimeError("go\\naway")

class Strict(Base):
    "Wants an option."
    @classmethod
    def refusal(cls, config, task):
        return "it has no heuristic"
"""


def test_details_of_agents_tell_the_spaces_that_each_takes_by_asking_it(install: Install) -> None:
    names = ("any", "picky", "single", "planner", "rude", "strict")
    lines = "".join(f"{name} = players:{name.capitalize()}\n" for name in names)
    install("players", f"[rllab.agents]\n{lines}gone = nowhere:Gone\n", AGENTS)
    result = run("list", "agents", "--details")
    assert result.exit_code == 0
    header, *rows = [re.split(r"  +", line) for line in result.stdout.splitlines()]
    assert header == ["NAME", "ACTIONS", "OBSERVATIONS", "DETAILS"]
    told = {name: row for name, *row in rows}
    all_actions = "Discrete, Box, MultiDiscrete, MultiBinary"
    assert told["any"] == [all_actions, "vector, image, discrete", "Takes everything."]
    assert told["picky"] == ["Box", "vector, image", "Takes boxes for boxes."]
    assert told["single"] == [all_actions, "one state", "Pulls arms."]
    assert told["planner"] == ["Discrete", "discrete", "Plans. Refuses others: it needs P[s][a]"]
    assert told["strict"] == ["-", "-", "Wants an option. Refuses others: it has no heuristic"]
    assert told["rude"] == ["-", "-", "Raises. it cannot be asked: RuntimeError: go"]
    assert told["gone"][2].startswith("broken: ModuleNotFoundError: No module named 'nowhere'. Mend it")
    found = {entry["name"]: entry for entry in json.loads(run("list", "agents", "--details", "--json").stdout)}
    assert found["picky"]["actions"] == ["Box"]
    assert found["planner"]["refusal"] == "it needs P[s][a]"


@pytest.mark.usefixtures("install")
def test_an_empty_list_says_so_beside_the_result() -> None:
    result = run("list", "loggers")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No loggers are installed.\n")
    assert json.loads(run("list", "loggers", "--json").stdout) == []


def test_an_unknown_kind_is_a_usage_error() -> None:
    assert run("list", "robots").exit_code == 2


def test_a_name_that_two_have_is_listed_as_it_must_be_said(install: Install) -> None:
    install("one", "[rllab.agents]\nzeta = one:Z\n", "")
    install("two", "[rllab.generative]\nzeta = two:Z\n", "")
    assert [line.split()[0] for line in run("list").stdout.splitlines()[1:]] == ["zeta@one", "zeta@two"]
    assert run("plugins").stdout.splitlines()[1].endswith("clash: say zeta@one")


# --- plugins ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("two")
def test_plugins_are_not_imported_unless_checked() -> None:
    result = run("plugins")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "NAME   GROUP             DISTRIBUTION  VERSION  STATUS",
        "alpha  rllab.supervised  broken        1.0      not checked",
        "spots  rllab.datasets    sound         1.0      not checked",
        "zeta   rllab.agents      sound         1.0      not checked",
    ]
    assert not {"sound", "broken"} & set(sys.modules)


@pytest.mark.usefixtures("two")
def test_checking_plugins_says_in_one_line_what_is_broken_and_exits_with_4() -> None:
    result = run("plugins", "--check")
    assert result.exit_code == 4
    assert result.stdout.splitlines()[1:] == [
        f"alpha  rllab.supervised  broken        1.0      broken: {BROKEN}",
        "spots  rllab.datasets    sound         1.0      ok",
        "zeta   rllab.agents      sound         1.0      ok",
    ]
    entries = json.loads(run("plugins", "--check", "--json").stdout)
    assert [(entry["status"], entry["cause"]) for entry in entries] == [
        ("broken", BROKEN),
        ("ok", None),
        ("ok", None),
    ]


def test_checking_healthy_plugins_exits_with_0(install: Install) -> None:
    install(
        "sound",
        "[rllab.agents]\nzeta = sound:Zeta\n",
        "from rllab.algorithm import Algorithm\nclass Zeta(Algorithm): pass",
    )
    assert run("plugins", "--check").exit_code == 0


def test_a_malformed_entry_point_is_told_without_an_import(install: Install) -> None:
    install("odd", "[rllab.agents]\nzeta = odd\n", "raise RuntimeError('imported')")
    result = run("plugins")
    assert result.exit_code == 0
    assert "broken: its entry point 'odd' is not of the form package.module:attribute" in result.stdout


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from rllab.cli import completion, doctor, listing\n"
        "listing.list_command([], standalone_mode=False)\n"
        "listing.plugins_command([], standalone_mode=False)\n"
        "heavy = ('torch', 'gymnasium', 'pydantic', 'numpy', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


# --- doctor -------------------------------------------------------------------------------------------------


def findings(*arguments: str) -> dict[str, str]:
    result = run("doctor", "--json", *arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return {entry["name"]: entry["value"] for entry in json.loads(result.stdout)}


def test_doctor_is_content_with_a_healthy_installation(install: Install) -> None:
    install(
        "sound",
        "[rllab.agents]\nzeta = sound:Zeta\n",
        "from rllab.algorithm import Algorithm\nclass Zeta(Algorithm): pass",
    )
    result = run("doctor")
    assert result.exit_code == 0
    assert "usable" in result.stdout


@pytest.mark.usefixtures("install")
def test_doctor_says_what_auto_picks_for_a_method_by_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    method = SimpleNamespace(work=lambda config, task: 3e6)
    closed: list[bool] = []
    planned = SimpleNamespace(
        algorithm_class=method, config=None, task=SimpleNamespace(close=lambda: closed.append(True))
    )
    monkeypatch.setattr("rllab.planning.plan", lambda method, target, values: planned)
    assert findings("zeta", "maze")["zeta maze"].startswith("cpu, 1 thread, float32: an update of 3 million")
    assert closed == [True]


@pytest.mark.usefixtures("install")
def test_doctor_reports_a_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_inventory", lambda: "OSError: libtorch.so: cannot open")
    result = run("doctor")
    assert result.exit_code == 4
    assert "cannot be used: OSError: libtorch.so: cannot open" in result.stdout


@pytest.mark.usefixtures("install")
def test_doctor_says_what_auto_picks_for_small_and_large_networks() -> None:
    found = findings()
    assert found["a small network"].startswith("cpu, 1 thread, float32: an update of 0.9 million")
    assert "a large network" in found
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert {"torch", "gymnasium", "platform", "cpu", "threads", "memory", "cuda", "mps", "disk"} <= set(found)


@pytest.mark.usefixtures("two")
def test_doctor_names_a_broken_plugin_in_one_line_and_exits_with_4() -> None:
    result = run("doctor")
    assert result.exit_code == 4
    assert f"broken 1.0: {BROKEN}" in result.stdout
    assert "2 of 3" in result.stdout
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("two")
def test_doctor_answers_for_methods_that_cannot_be_planned_as_well() -> None:
    assert findings("zetta")["zetta"].startswith("there is no method called 'zetta'. Did you mean 'zeta'?")
    assert findings("zeta")["zeta"] == "name a TARGET as well: the choice depends on it"
    assert BROKEN.partition(".")[0] in findings("alpha", "spots")["alpha spots"]
    assert run("doctor", "zeta", "spots").exit_code == 4


# --- completion ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_and_how_to_install_it(shell: str) -> None:
    result = CliRunner().invoke(completion_command, [shell])
    assert result.exit_code == 0
    assert "_RLLAB_COMPLETE" in result.stdout
    assert "# To install:" in result.stdout
    assert result.stdout.startswith("#compdef rllab\n") == (shell == "zsh")


def test_completion_for_an_unknown_shell_is_a_usage_error() -> None:
    result = CliRunner().invoke(completion_command, ["tcsh"])
    assert result.exit_code == 2
    assert "bash" in result.stderr


def test_checking_finds_what_imports_and_is_no_method(install: Install) -> None:
    install("odd", "[rllab.agents]\nzeta = odd:Zeta\n", "class Zeta: pass")
    result = run("plugins", "--check")
    assert result.exit_code == 4
    assert "broken: odd:Zeta is no rllab.algorithm.Algorithm." in result.stdout


def test_a_command_that_one_of_ours_hides_is_told(install: Install) -> None:
    install("odd", "[rllab.commands]\nrun = odd:run\n", "import click\nrun = click.Command('run')")
    result = run("plugins")
    assert "rllab has a command of this name, which is used instead" in result.stdout
