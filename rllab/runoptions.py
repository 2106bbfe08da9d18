"""Options that every method shares: which run it is, and how it is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, NonNegativeInt, PositiveInt

from rllab.conditions import Condition
from rllab.config import Config
from rllab.intervals import Interval


def _as_time(value: Any) -> Any:
    """Read a bare number as seconds."""
    return f"{value}s" if str(value).replace(".", "", 1).isdigit() else value


def _is_time(interval: Interval) -> Interval:
    if interval.seconds is None:
        raise ValueError(f"{interval} is no time; write seconds, or like 30s, 5m, 2h")
    return interval


def _is_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ValueError("there is no such device; it is auto, cpu, cuda, cuda:N or mps")
    return name


Duration = Annotated[Interval, BeforeValidator(_as_time), AfterValidator(_is_time)]


class RunOptions(Config):
    """Options of a run that say nothing about the method."""

    seed: NonNegativeInt = 0
    """Every random number of the run comes from this."""

    device: Annotated[str, AfterValidator(_is_device)] = "auto"
    """auto, cpu, cuda, cuda:N or mps; auto takes what is fastest and says why."""

    deterministic: bool = False
    """Use only deterministic algorithms, for bit-equal runs on a GPU; slower."""

    runs_dir: Path = Path("runs")
    """Where run folders are made: RUNS_DIR/<task>/<method>/<name>."""

    run_dir: Path | None = None
    """The exact run folder, instead of one below --runs-dir."""

    resume: Literal["auto", "never", "must"] = "never"
    """With --run-dir: auto goes on with what is there (or starts, or finds it finished), must needs a checkpoint."""

    name: str | None = None
    """Name of the run folder, before the seed; by default the options given by hand."""

    preset: str | None = None
    """Tuned hyperparameters to start from; by default those for the task, if there are any. "none": the defaults."""

    config: Path | None = None
    """TOML file with options, such as the config.toml of another run."""

    log_every: Interval = Interval.parse("1%")
    """How often a line of metrics is written: units trained, %, epochs or seconds; 0: only with evaluations."""

    eval_every: Interval = Interval.parse("5%")
    """How often it is evaluated; 0: never."""

    eval_episodes: PositiveInt = 20
    """Episodes of each evaluation (agents only)."""

    patience: NonNegativeInt = 0
    """Evaluations in a row without a better one after which the run is finished; 0: it goes on."""

    checkpoint_every: Interval = Interval.parse("10%")
    """How often everything is saved; 0: only at the end. By default less often if it would take 5 % of the time."""

    pictures_every: Interval = Interval.parse("100%")
    """How often pictures are drawn into media/: 100% at the end, 5% or 1epoch also on the way, as films; 0: never.
    Unless this is given, it is what suits the method (gan: 5%), and a short run is spared lone learning curves."""

    record: bool = False
    """Record an episode at the end into media/, as mp4 or GIF, with the return on screen (agents only)."""

    keep: PositiveInt = 2
    """How many full checkpoints stay, besides the best weights."""

    stop_after: PositiveInt | None = None
    """Stop after so many units trained, resumable (exit code 75)."""

    max_time: Duration | None = None
    """Stop after so many seconds (or 5m, 2h), resumable (exit code 75)."""

    stop_when: tuple[Condition, ...] = ()
    """End the run, as done, when the metric gets there: 'eval/return>=475'."""

    require: tuple[Condition, ...] = ()
    """Exit with code 6 unless the last value of the metric gets there: 'eval/return>=475'."""

    callback: tuple[str, ...] = ()
    """Callback plugins to add."""

    logger: tuple[str, ...] = ("tensorboard",)
    """Writers of metrics besides metrics.jsonl; "none" for no other."""


HOW = frozenset(
    {"log_every", "eval_every", "eval_episodes", "checkpoint_every", "pictures_every", "keep", "stop_after", "max_time"}
    | {"patience", "stop_when", "require", "callback", "logger", "device", "deterministic", "record"}
)
"""Options about how a run is run: they may change when it is resumed."""

KEPT = (
    "log_every",
    "eval_every",
    "eval_episodes",
    "checkpoint_every",
    "pictures_every",
    "record",
    "keep",
    "patience",
    "stop_when",
    "require",
    "callback",
    "logger",
)
"""Options about how a run is run that its config.toml keeps, and that `resume` uses again."""

PLACES = frozenset({"runs_dir", "run_dir", "resume", "name", "preset", "config"})
"""Options that only say where a run is and where its values come from."""
