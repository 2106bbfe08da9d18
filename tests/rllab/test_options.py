from pathlib import Path
from typing import Annotated, Any, Literal

import click
import pytest
from click.testing import CliRunner
from pydantic import Field, PositiveInt

from rllab.config import Config
from rllab.intervals import Interval
from rllab.options import SectionedCommand, given, options_of


class Options(Config):
    """One option of each kind."""

    batch_size: PositiveInt = 64
    """Rows in a batch."""

    tau: float = Field(default=1.0, gt=0, le=1)
    """How far."""

    hidden: tuple[PositiveInt, ...] = (64, 64)
    """Units."""

    fast: bool = False
    """Whether to hurry."""

    kind: Literal["a", "b"] = "a"
    """Which."""

    maybe: Literal["x"] | None = None
    """Perhaps."""

    env_kwarg: dict[str, Any] = {}
    """For the constructor."""

    every: Interval = Interval.parse("5%")
    """How often."""

    data: Path | None = None
    """Where."""

    rates: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Several."""

    size: int
    """Has no default."""


def parsed(*arguments: str) -> dict[str, Any]:
    """Return what was given, as the command gets it."""
    found: dict[str, Any] = {}
    command = SectionedCommand(
        "run",
        params=[*options_of(Options, "Hyperparameters")],
        callback=lambda **_: found.update(given(click.get_current_context())),
    )
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return found


def help_text() -> str:
    command = SectionedCommand("run", params=[*options_of(Options, "Hyperparameters"), click.Option(["--quiet"])])
    return CliRunner().invoke(command, ["--help"], terminal_width=120).output


def test_only_what_was_given_is_passed_on() -> None:
    assert parsed() == {}
    assert parsed("--batch-size", "64") == {"batch_size": "64"}


def test_values_go_through_the_configuration_unchanged() -> None:
    values = parsed("--hidden", "8,4", "--no-fast", "--kind", "b", "--maybe", "none", "--every", "30s", "--size", "3")
    config = Options.parse(values)
    assert (config.hidden, config.fast, config.kind, config.maybe, str(config.every)) == (
        (8, 4),
        False,
        "b",
        None,
        "30s",
    )


def test_an_option_of_several_values_may_be_repeated_or_separated_by_commas() -> None:
    for arguments in (["--hidden", "8,4"], ["--hidden", "8", "--hidden", "4"]):
        assert Options.parse({**parsed(*arguments), "size": 1}).hidden == (8, 4)
    assert Options.parse({**parsed("--hidden", "none"), "size": 1}).hidden == ()


def test_a_switch_has_a_way_to_turn_it_off() -> None:
    assert parsed("--fast") == {"fast": True}
    assert parsed("--no-fast") == {"fast": False}


def test_choices_are_checked_by_click() -> None:
    command = click.Command("run", params=[*options_of(Options, "x")])
    done = CliRunner().invoke(command, ["--kind", "c"])
    assert done.exit_code == 2
    assert "'c' is not one of 'a', 'b'" in done.output


@pytest.mark.parametrize(
    "line",
    [
        "--batch-size INTEGER > 0",
        "--tau FLOAT > 0 and <= 1",
        "--hidden INTEGER,... > 0",
        "--fast / --no-fast",
        "--kind [a|b]",
        "--maybe [x|none]",
        "--env-kwarg KEY=VALUE",
        "--every INTERVAL",
        "--data PATH",
        "--rates FLOAT,... >= 0",
    ],
)
def test_the_help_names_type_and_range(line: str) -> None:
    assert line in help_text()


def test_the_help_has_text_and_default_under_the_heading_of_the_section() -> None:
    text = help_text()
    assert "Hyperparameters:\n" in text
    assert text.index("Options:\n") > text.index("--rates")
    assert "Units.  [default: 64,64]" in text
    assert "Whether to hurry.  [default: false]" in text
    assert "Where.\n" in text
    assert "Has no default.\n" in text


def test_fields_may_be_renamed_or_left_out() -> None:
    renamed = options_of(Options, "x", names={"task_kind": "kind"})
    assert [option.opts for option in renamed] == [["--task-kind"]]
    assert [option.name for option in options_of(Options, "x", only=frozenset({"tau"}))] == ["tau"]
