"""`rllab info`, `rllab new agent`, and what stands around the commands."""

import importlib
import json
import sys
import tomllib
from pathlib import Path

import pytest

from rllab import __version__
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.errors import UsageError

# --- info


def test_info_of_a_method_as_json_is_a_schema_with_defaults_and_presets(rllab):
    done = rllab("info", "dqn", "--json")
    assert (done.code, done.err) == (0, "")
    schema = done.json
    assert (schema["method"], schema["unit"], schema["type"]) == ("dqn", "env steps", "object")
    assert schema["additionalProperties"] is False
    for name, field in schema["properties"].items():
        assert "default" in field, name
        assert field["description"], name
    assert schema["properties"]["gamma"]["maximum"] == 1
    assert schema["properties"]["loss"]["enum"] == ["huber", "squared"]
    assert set(schema["presets"]["CartPole-v1"]) <= set(schema["properties"])


def test_info_of_a_method_shows_each_hyperparameter_with_default_and_text(rllab):
    done = rllab("info", "dqn")
    assert done.code == 0
    assert done.out.startswith(f"dqn, from rllab {__version__}\n")
    assert any(
        line.split()[:2] == ["--hidden", "64,64"] and "Units of the hidden layers" in line
        for line in done.out.splitlines()
    )
    assert "Preset CartPole-v1:" in done.out


def test_info_of_a_run_shows_what_it_was(rllab, tiny):
    tiny("--lr", "0.002")
    done = rllab("info", "run")
    assert done.code == 0
    assert "run: dqn on CartPole-v1, seed 0" in done.out
    assert "finished (the budget is used up)" in done.out
    assert "trained     200 env steps" in done.out
    assert any(line.split() == ["lr", "0.002", "command", "line"] for line in done.out.splitlines())
    assert rllab("info", "run", "--json").json == json.loads(Path("run/run.json").read_text())


def test_info_of_a_killed_run_says_so_as_json_too(rllab, tiny):
    tiny()
    file = Path("run/run.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "status": "running"}))
    assert "killed" in rllab("info", "run").out
    assert rllab("info", "run", "--json").json["status"] == "killed"


def test_info_of_a_text_shows_what_it_is_and_its_options(rllab):
    done = rllab("info", "stdlib")
    assert done.out.startswith("stdlib, a text from rllab ")
    assert "--limit" in done.out
    schema = rllab("info", "stdlib", "--json").json
    assert (schema["text"], schema["properties"]["limit"]["default"]) == ("stdlib", 1_000_000)


def test_info_of_a_name_that_a_dataset_and_a_text_have_shows_both(rllab):
    out = rllab("info", "folder").out
    assert out.index("folder, a dataset from rllab ") < out.index("folder, a text from rllab ")
    assert [next(iter(schema)) for schema in rllab("info", "folder", "--json").json] == ["dataset", "text"]


def test_info_of_a_dataset_shows_what_it_is_and_its_options(rllab):
    done = rllab("info", "crescents-uniform")
    assert done.code == 0
    assert "Points from all over the square" in done.out
    rows = {line.split()[0]: line.split()[1] for line in done.out.splitlines() if line.startswith("  --")}
    assert rows["--samples"] == "20000"
    assert rows["--split-seed"] == "none"
    schema = rllab("info", "crescents-uniform", "--json").json
    assert (schema["dataset"], schema["properties"]["samples"]["default"]) == ("crescents-uniform", 20000)


def test_info_of_a_run_of_a_network_shows_its_layers_and_counts_its_parameters(rllab):
    done = rllab(
        *("run", "mlp", "gauss", "--preset", "none", "--hidden", "3", "--activation", "relu"),
        *("--epochs", "1", "--run-dir", "run", "--quiet", "--logger", "none", "--pictures-every", "0"),
    )
    assert done.code == 0
    lines = rllab("info", "run").out.splitlines()
    table = [line.split() for line in lines[lines.index("  layers") + 1 :]]
    assert table[0] == ["layer", "output", "parameters", "receptive", "field"]
    assert [row[2] for row in table[1:-1] if len(row) > 2] == ["9", "8"]  # 2 x 3 + 3, and 3 x 2 + 2
    assert table[-1] == ["parameters", "17", "in", "all"]


def test_info_of_a_run_says_why_its_layers_cannot_be_shown(rllab):
    Path("points.csv").write_text("x,kind\n" + "1,a\n2,b\n" * 10)
    assert (
        rllab(
            "run",
            "mlp",
            "points.csv",
            "--epochs",
            "1",
            "--run-dir",
            "run",
            "--quiet",
            "--logger",
            "none",
            "--pictures-every",
            "0",
        ).code
        == 0
    )
    Path("points.csv").unlink()
    done = rllab("info", "run")
    assert done.code == 0
    assert "  layers      cannot be shown: " in done.out


def test_info_of_nothing_names_the_nearest(rllab):
    done = rllab("info", "dqm")
    assert (done.code, done.out) == (4, "")
    assert "Did you mean 'dqn'?" in done.err


# --- new


def test_a_new_agent_is_a_package_with_entry_point_readme_and_test(rllab):
    done = rllab("new", "agent", "my-agent")
    assert (done.code, done.err) == (0, "")
    assert sorted(str(p.relative_to("my-agent")) for p in Path("my-agent").rglob("*") if p.is_file()) == [
        "README.md",
        "my_agent/__init__.py",
        "pyproject.toml",
        "tests/test_my_agent.py",
    ]
    project = tomllib.loads(Path("my-agent/pyproject.toml").read_text())["project"]
    assert project["entry-points"]["rllab.agents"] == {"my-agent": "my_agent:MyAgent"}
    for path in Path("my-agent").rglob("*.py"):
        compile(path.read_text(), str(path), "exec")
    for path in Path("my-agent").rglob("*"):
        assert path.is_dir() or "$" not in path.read_text(), path


def test_a_new_agent_takes_no_environment_without_a_time_limit_and_no_negative_budget(rllab, monkeypatch):
    rllab("new", "agent", "unlimited-agent")
    monkeypatch.syspath_prepend("unlimited-agent")
    agent = importlib.import_module("unlimited_agent").UnlimitedAgent
    monkeypatch.delitem(sys.modules, "unlimited_agent")
    task = EnvironmentTask.open("CartPole-v1", EnvironmentConfig(), seed=0)
    assert agent.refusal(agent.Config(), task) is None
    task.max_episode_steps = None
    assert "set --max-episode-steps" in agent.refusal(agent.Config(), task)
    with pytest.raises(UsageError, match="--timesteps 0"):
        agent.Config.parse({"timesteps": 0})


def test_what_is_said_after_making_an_agent_is_what_to_do_next(rllab):
    lines = rllab("new", "agent", "my-agent", "--directory", "a folder").out.splitlines()
    assert lines == [
        "Wrote a folder. Next:",
        '  pip install -e "a folder[test]"',
        "  rllab run my-agent CartPole-v1",
        "  pytest 'a folder'",
    ]


@pytest.mark.parametrize("name", ["My-Agent", "1agent", "an_agent", "agent-", "a b", "../agent", ""])
def test_a_name_that_makes_no_package_is_refused(rllab, name):
    done = rllab("new", "agent", name)
    assert done.code == 2
    assert "lower-case" in done.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["class", "torch", "json", "rllab", "test", "numpy"])
def test_a_name_that_python_or_another_package_has_is_refused(rllab, name):
    done = rllab("new", "agent", name)
    assert done.code == 2
    assert 1 <= len(done.err.splitlines()) <= 2
    assert list(Path().iterdir()) == []


def test_a_name_that_a_method_has_is_refused(rllab):
    done = rllab("new", "agent", "dqn")
    assert (done.code, "already, from rllab" in done.err) == (2, True)


def test_a_folder_that_is_not_empty_is_left_alone(rllab):
    Path("mine").mkdir()
    Path("mine/precious.txt").write_text("x")
    done = rllab("new", "agent", "mine")
    assert (done.code, done.err) == (2, "Error: mine exists already and is not empty\n")
    assert [path.name for path in Path("mine").iterdir()] == ["precious.txt"]
    Path("file").write_text("x")
    assert rllab("new", "agent", "file").code == 2


# --- around the commands


def test_help_lists_the_commands_and_imports_none(rllab):
    done = rllab("--help")
    assert done.code == 0
    for name in ("run", "resume", "eval", "predict", "list", "info", "plugins", "doctor", "new", "completion"):
        assert f"\n  {name} " in done.out


@pytest.mark.parametrize(
    "command", ["run", "resume", "eval", "predict", "list", "info", "plugins", "doctor", "new", "completion"]
)
def test_every_command_has_a_help_on_stdout(rllab, command):
    done = rllab(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"rllab {command}" in done.out


@pytest.mark.parametrize("command", ["list", "plugins", "doctor", "completion bash"])
def test_every_command_takes_debug(rllab, command):
    assert rllab(*command.split(), "--debug").code == 0


def test_the_version_is_printed(rllab):
    assert rllab("--version").out == f"rllab {__version__}\n"


def test_an_unknown_command_gets_the_nearest_and_exit_code_2(rllab):
    done = rllab("rnu")
    assert (done.code, len(done.err.splitlines())) == (2, 2)
    assert "Did you mean 'run'?" in done.err


def test_a_plugin_can_add_a_command(rllab, plugin):
    plugin(
        "more_commands",
        "[rllab.commands]\nhello = more_commands:hello\nbad = more_commands:nothing\n",
        "import click\n@click.command()\ndef hello():\n    click.echo('hello there')\n",
    )
    assert rllab("hello").out == "hello there\n"
    assert "\n  hello " in rllab("--help").out
    done = rllab("bad")
    assert (done.code, "more_commands" in done.err) == (4, True)
