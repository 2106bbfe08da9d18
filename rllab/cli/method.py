"""The command of one method: its options from its Config, the target's from the task, and what a run prints."""

from __future__ import annotations

import json
from typing import Any

import click

from rllab import experiment
from rllab.cli.data import offer
from rllab.cli.folds import run_folds
from rllab.cli.progress import Display
from rllab.conditions import Condition, check_required
from rllab.config import plain, write_toml
from rllab.data import DataMissing
from rllab.errors import EXIT_DONE, EXIT_STOPPED
from rllab.folds import open_option
from rllab.options import SectionedCommand, SectionedOption, given, options_of, target_among
from rllab.planning import Method, Plan, plan_method
from rllab.runfolder import RunFolder
from rllab.runoptions import RunOptions
from rllab.trainer import Status

_OUTPUT = {
    "quiet": "Print errors only.",
    "no_progress": "Show no progress, only the summary.",
    "json": "Print the result as JSON.",
    "debug": "Show the traceback of an error.",
    "dry_run": "Print every value and where it comes from; train nothing.",
}


class MethodCommand(SectionedCommand):
    """`rllab run METHOD`; the options of the target join when it is known.

    Args:
        method: the method, loaded.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self._switches = [
            SectionedOption([f"--{name.replace('_', '-')}", name], is_flag=True, help=text, section="Output")
            for name, text in _OUTPUT.items()
        ]
        self._options = [
            *options_of(method.algorithm.Config, f"Hyperparameters of {method.name}"),
            *options_of(RunOptions, "The run"),
        ]
        super().__init__(method.name, callback=self._run, params=[click.Argument(["target"])], help=self._help())

    def _help(self) -> str:
        algorithm = self.method.algorithm
        doc = (algorithm.Config.__doc__ or algorithm.__doc__ or "").strip().split("\n")[0]
        presets = ", ".join(self.method.presets())
        return f"Train {self.method.name} on TARGET. {doc}" + (f"\n\nPresets: {presets}." if presets else "")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add the options of the target, then parse."""
        task = self.method.algorithm.Task
        target = target_among(args, task.names(), [*self._options, *self._switches], ctx)
        own = options_of(task.config_class(target), f"The {task.kind}", names=self.method.task_options(target))
        self.params = [self.params[0], *self._options, *own, *self._switches]
        return super().parse_args(ctx, args)

    def _run(self, target: str, **_: Any) -> int:
        values = given(click.get_current_context())
        switches = {name: values.pop(name, False) for name in _OUTPUT}
        values.pop("target", None)
        try:
            planned = plan_method(self.method, target, values, source="command line")
        except DataMissing:
            if not offer(target, quiet=switches["quiet"]):
                raise
            planned = plan_method(self.method, target, values, source="command line")
        if switches["dry_run"]:
            print_plan(planned, as_json=switches["json"])
            return EXIT_DONE
        display = Display(quiet=switches["quiet"], live=not switches["no_progress"])
        if (fold := open_option(planned)) is not None:
            return run_folds(planned, fold, values, display, quiet=switches["quiet"], as_json=switches["json"])
        folder, status = experiment.start(planned, display.watch)
        return conclude(folder, status, planned.options.require, display, as_json=switches["json"])


def conclude(
    folder: RunFolder, status: Status, require: tuple[Condition, ...], display: Display, *, as_json: bool
) -> int:
    """Print the summary of a run; return the exit code.

    Raises:
        ThresholdMissed: if a condition of `--require` does not hold for the last metrics.
    """
    if as_json:
        click.echo(json.dumps({"run": str(folder.path), **folder.info}))
    else:
        display.summary(folder, status)
    if status.state == "stopped":
        return EXIT_STOPPED
    metrics = folder.info.get("metrics") or {}
    check_required(require, metrics)
    return EXIT_DONE


def print_plan(planned: Plan, *, as_json: bool) -> None:
    """Print every value of a plan and the source of each."""
    sections = planned.sections()
    shown = {name for _, values in sections for name in values} | {"preset", "config"}  # these two are sources
    here = {name: value for name, value in plain(planned.options).items() if name not in shown}
    sources = {"method": "command line", "task": "command line", **planned.sources}
    rows = [
        (section, name, value, sources.get(name, "default"))
        for section, values in [*sections, ("Where and how long it is run this time", here)]
        for name, value in values.items()
    ]
    if as_json:
        click.echo(json.dumps({name: {"value": value, "source": source} for _, name, value, source in rows}))
        return
    texts = [write_toml([("", {name: value})]).splitlines()[1] for _, name, value, _ in rows]
    width = max(map(len, texts))
    title = None
    for (section, _, _, source), text in zip(rows, texts, strict=True):
        if section != title:
            click.echo(f"# {section}")
            title = section
        click.echo(f"{text:<{width}}  # {source}")
