from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, PositiveFloat, PositiveInt
from rllab_agents.dqn import DQN

from rllab.config import Config, Layer, flag, plain, read_toml, resolve, to_text, variables, write_toml
from rllab.errors import PluginError, UsageError
from rllab.intervals import Interval
from rllab.planning import Method, Plan, plan_method
from rllab.plugins import Plugin


class Options(Config):
    """One option of each kind."""

    lr: PositiveFloat = 1e-3
    """Step size."""

    hidden: tuple[PositiveInt, ...] = (64, 64)
    """Units."""

    name: str | None = None
    """What it is called."""

    kind: Literal["a", "b"] = "a"
    """Which of two."""

    power: Literal[1, 2] | None = 2
    """Which of two numbers."""

    layers: tuple[int, ...] | None = None
    """Some, no, or unknown."""

    fast: bool = False
    """Whether to hurry."""

    extra: dict[str, Any] = {}
    """Anything."""

    every: Interval = Interval.parse("5%")
    """How often."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Between 0 and 1."""


def wrong(**values: Any) -> str:
    """Return what is said of values that are wrong."""
    with pytest.raises(UsageError) as caught:
        Options.parse(values)
    assert caught.value.exit_code == 2
    return str(caught.value)


# --- text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "1e-4", 1e-4),
        ("hidden", "32,16", (32, 16)),
        ("hidden", ("32", "16"), (32, 16)),
        ("hidden", " 32, 16 ", (32, 16)),
        ("hidden", "none", ()),
        ("hidden", ("none",), ()),
        ("name", "none", None),
        ("name", "nobody", "nobody"),
        ("kind", "b", "b"),
        ("power", "1", 1),
        ("power", "none", None),
        ("layers", "none", None),
        ("layers", ("none",), None),
        ("layers", "3,4", (3, 4)),
        ("fast", "true", True),
        ("extra", "none", {}),
        ("every", "30s", Interval(30, "s")),
    ],
)
def test_text_is_read_as_the_command_line_has_it(name: str, text: Any, value: object) -> None:
    assert getattr(Options.parse({name: text}), name) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        ((), "none"),
        ((64, 32), "64,32"),
        ({"a": 1}, "a=1"),
        (1e-5, "1e-05"),
        (Path("x"), "x"),
    ],
)
def test_values_are_written_as_one_would_type_them(value: object, text: str) -> None:
    assert to_text(value) == text


def test_a_flag_has_dashes() -> None:
    assert flag("buffer_size") == "--buffer-size"


# --- TOML ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"lr": 1e-300, "hidden": (1,), "name": "none of it", "kind": "b", "fast": True, "share": 1 / 3},
        {"hidden": (), "layers": (), "power": None, "extra": {"a": [1, {"b": "c"}], "d": False}},
        {"name": "quotes \"' \\ newline \n and ünïcode", "every": "1e12"},
        {"every": "2h"},
    ],
    ids=["defaults", "numbers", "empty", "strange text", "hours"],
)
def test_a_configuration_written_to_toml_reads_back_the_same(tmp_path: Path, values: dict[str, Any]) -> None:
    config = Options.parse(values)
    file = tmp_path / "config.toml"
    file.write_text(write_toml([("All of it", plain(config))]), encoding="utf-8")
    assert Options.parse(read_toml(file)) == config


def test_toml_has_a_comment_over_each_section_and_none_as_text() -> None:
    assert write_toml([("One", {"a": None, "b": [1, 2]}), ("Empty", {}), ("Two", {"c": "x"})]) == (
        '# One\na = "none"\nb = [1, 2]\n\n# Two\nc = "x"\n\n'
    )


def test_dashes_in_a_toml_file_are_read_as_underscores(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("buffer-size = 3")
    assert read_toml(tmp_path / "a.toml") == {"buffer_size": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read .*No such file"), (b"a =", "no valid TOML"), (b"\xff", "no valid TOML")],
)
def test_a_file_that_is_no_toml_is_a_usage_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_toml(tmp_path / "a.toml")


# --- what is wrong, and what would be right --------------------------------------------------------------------


def test_an_unknown_option_gets_the_nearest_name() -> None:
    assert wrong(hiden="3") == "there is no option --hiden. Did you mean 'hidden'?"
    assert wrong(zzz="3") == "there is no option --zzz."


def test_a_value_out_of_range_is_told_with_the_range_and_the_default() -> None:
    assert wrong(lr="-1") == "--lr -1: should be greater than 0 (default: 0.001)"
    assert wrong(share=2) == "--share 2: should be less than or equal to 1 (default: 0.5)"
    assert wrong(kind="c") == "--kind c: should be 'a' or 'b' (default: a)"
    assert "--hidden x: should be a valid integer" in wrong(hidden="3,x")
    assert "--every often: 'often' is no interval" in wrong(every="often")


@pytest.mark.parametrize("value", ["nan", "inf", float("nan"), float("inf")])
def test_no_number_may_be_infinite_or_nan(value: object) -> None:
    assert "should be a finite number" in wrong(lr=value)


def test_every_value_that_is_wrong_gets_a_line() -> None:
    assert len(wrong(lr="-1", share="7", hiden="3").splitlines()) == 3


def test_a_value_that_is_missing_is_named() -> None:
    class Needy(Config):
        buffer_size: int

    with pytest.raises(UsageError, match=r"^--buffer-size is needed$"):
        Needy.parse({})


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match=r"frozen"):
        Options().lr = 1.0


# --- help ---------------------------------------------------------------------------------------------------


def test_a_subclass_that_changes_only_a_default_keeps_the_help_text() -> None:
    class Child(Options):
        lr: PositiveFloat = 1.0

    class Grandchild(Child):
        lr: PositiveFloat = 2.0
        fast: bool = True

    assert Grandchild.model_fields["lr"].description == "Step size."
    assert Grandchild.model_fields["fast"].description == "Whether to hurry."
    assert Grandchild().lr == 2.0
    with pytest.raises(UsageError, match=r"greater than 0"):
        Grandchild.parse({"lr": 0})


def test_a_subclass_may_change_the_help_text_as_well() -> None:
    class Child(Options):
        lr: PositiveFloat = 1.0
        """Learning rate."""

    assert Child.model_fields["lr"].description == "Learning rate."
    assert Options.model_fields["lr"].description == "Step size."


# --- where values come from ---------------------------------------------------------------------------------


def test_a_later_layer_lies_over_an_earlier_one() -> None:
    values, sources = resolve([Layer("one", {"a": 1, "b": 1}), Layer("two", {"b": 2})])
    assert values == {"a": 1, "b": 2}
    assert sources == {"a": "one", "b": "two"}


def test_variables_are_read_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLLAB_OPTION_BATCH_SIZE", "7")
    monkeypatch.setenv("RLLAB_OPTION_UNRELATED", "8")
    assert variables(["batch_size", "lr"]) == [Layer("RLLAB_OPTION_BATCH_SIZE", {"batch_size": "7"})]


class Presets(Method):
    """DQN with presets of our own."""

    def presets(self) -> dict[str, dict[str, Any]]:
        return {"CartPole-v1": {"lr": 0.1, "gamma": 0.1, "batch_size": 1, "target_every": 1}, "other": {"lr": 0.7}}


def resolved(target: str = "CartPole-v1", **given: Any) -> Plan:
    plugin = Plugin("dqn", "rllab.agents", "rllab_agents.dqn:DQN", "rllab", "0")
    return plan_method(Presets(plugin, DQN), target, given, source="command line")


def test_default_preset_file_variable_flag_is_the_order_and_each_value_knows_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("gamma = 0.2\nbatch_size = 2\ntarget-every = 2\n")
    monkeypatch.setenv("RLLAB_OPTION_BATCH_SIZE", "3")
    monkeypatch.setenv("RLLAB_OPTION_TARGET_EVERY", "3")
    plan = resolved(config=file, target_every="4")
    names = ("tau", "lr", "gamma", "batch_size", "target_every")
    assert [getattr(plan.config, name) for name in names] == [1.0, 0.1, 0.2, 3, 4]
    assert [plan.sources.get(name) for name in names] == [
        None,
        "preset CartPole-v1",
        str(file),
        "RLLAB_OPTION_BATCH_SIZE",
        "command line",
    ]


def test_a_preset_goes_by_the_task_and_can_be_named_or_turned_off() -> None:
    assert resolved().config.lr == 0.1
    assert resolved(preset="other").config.lr == 0.7
    assert resolved(preset="none").config.lr == 1e-3
    assert resolved("Acrobot-v1").config.lr == 1e-3
    with pytest.raises(UsageError, match=r"no preset 'othr'; there are: CartPole-v1, other\nDid you mean 'other'"):
        resolved(preset="othr")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lerning_starts", r"dqn.toml, .* dqn@rllab: lerning_starts in \[other\] is no option\nDid you mean"),
        ("seed", r"seed in \[other\] is an option of the run, not of the method"),
    ],
)
def test_a_preset_may_only_have_options_of_the_method_and_the_task(
    key: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Presets, "presets", lambda self: {"other": {"max_episode_steps": 9, "lr": 0.7}})
    assert resolved(preset="other").task.config.max_episode_steps == 9  # type: ignore[attr-defined]
    monkeypatch.setattr(Presets, "presets", lambda self: {"other": {key: 1}})
    with pytest.raises(PluginError, match=message):
        resolved(preset="other")


def test_options_of_a_file_are_checked_by_name_and_method(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("lrr = 1\n")
    with pytest.raises(UsageError, match=r"dqn has no option lrr.*\nDid you mean 'lr'"):
        resolved(config=file)
    file.write_text('method = "ppo"\n')
    with pytest.raises(UsageError, match=r"has options of ppo, not of dqn"):
        resolved(config=file)


def test_the_config_toml_of_a_run_makes_the_same_run_again(tmp_path: Path) -> None:
    plan = resolved(hidden="8", seed=4, max_episode_steps=9, eval_every="7%", stop_when=("eval/return>=3",))
    file = tmp_path / "config.toml"
    file.write_text(write_toml(plan.sections()))
    again = resolved(config=file)
    assert again.config == plan.config
    assert again.task.config == plan.task.config
    assert again.sections() == plan.sections()


def test_an_unknown_option_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"dqn has no option --lerning-starts.\nDid you mean 'learning_starts'"):
        resolved(lerning_starts=3, runs_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
