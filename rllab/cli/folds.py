"""`rllab run METHOD DATASET --folds K`: a run for each fold, and what they say together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from rllab import experiment
from rllab.cli.progress import Display
from rllab.conditions import check_required
from rllab.errors import EXIT_DONE, EXIT_STOPPED, RllabError, UsageError
from rllab.folds import t_interval
from rllab.planning import Method, Plan, plan_method

_COUNTS = {"eval/tp", "eval/tn", "eval/fp", "eval/fn"}


def run_folds(
    planned: Plan, option: str, values: Mapping[str, Any], display: Display, *, quiet: bool, as_json: bool
) -> int:
    """Train on each of the folds, one run after the other, and print their scores.

    Args:
        planned: the plan, its fold not yet chosen.
        option: the name of the option that chooses it.
        values: what was given on the command line.
        display: shows the progress of each run.
        quiet: print no table.
        as_json: print JSON instead.

    Returns:
        The exit code: 1 if a fold failed, 75 if one was stopped; those after it have not begun then.
    """
    if planned.options.run_dir is not None:
        raise UsageError(
            f"--run-dir is the folder of one run, and there are {planned.task.config.folds} folds",
            f"--{option.replace('_', '-')} chooses one of them; --runs-dir takes all.",
        )
    runs: list[dict[str, Any]] = []
    for fold in range(planned.task.config.folds):
        run, stopped = _run_one(planned.method, planned.task.name, {**values, option: fold}, fold, display)
        runs.append(run)
        if stopped:
            click.echo(f"Fold {fold} was stopped: `rllab resume {run['run']}` goes on with it.", err=True)
            return EXIT_STOPPED
    objective = planned.algorithm_class.objective(planned.task).metric
    scores = _scores([run["metrics"] for run in runs if "error" not in run], objective)
    if as_json:
        intervals = {name: t_interval(column)._asdict() for name, column in scores.items() if len(column) > 1}
        click.echo(json.dumps({"folds": runs, "metrics": intervals}))
    elif not quiet:
        _print_table(runs, scores)
    if any("error" in run for run in runs):
        return 1
    check_required(planned.options.require, {name: sum(column) / len(column) for name, column in scores.items()})
    return EXIT_DONE


def _run_one(
    method: Method, target: str, values: dict[str, Any], fold: int, display: Display
) -> tuple[dict[str, Any], bool]:
    """Train on one fold; return what is to be told of it, and whether it was stopped."""
    if values.get("name"):
        values["name"] = f"{values['name']}_fold-{fold}"
    try:
        folder, status = experiment.start(plan_method(method, target, values, source="command line"), display.watch)
    except RllabError as error:
        click.echo(f"Error: fold {fold}: {error}", err=True)
        return {"fold": fold, "error": error.message}, False
    metrics = folder.info.get("metrics") or {}
    return {"fold": fold, "run": str(folder.path), "metrics": metrics}, status.state == "stopped"


def _scores(metrics: list[dict[str, Any]], objective: str) -> dict[str, list[float]]:
    """Return the metrics of the test part that every fold has, the objective first: a value for each fold."""
    measured = {name for name in metrics[0] if name.startswith("eval/")} if metrics else set()
    shared = [name for name in sorted(measured) if all(fold.get(name) is not None for fold in metrics)]
    names = sorted(shared, key=lambda name: name != objective)
    return {name: [float(fold[name]) for fold in metrics] for name in names}


def _print_table(runs: list[dict[str, Any]], scores: Mapping[str, list[float]]) -> None:
    """Print a row for each fold, the mean and the interval; metrics of single classes are left out."""
    shown = {name: column for name, column in scores.items() if name.count("/") == 1 and name not in _COUNTS}
    headings = [name.removeprefix("eval/") for name in shown]
    widths = [max(len(heading), 9) for heading in headings] or [9]

    def line(first: str, cells: list[str]) -> None:
        click.echo("  ".join([f"{first:6}", *(f"{c:>{w}}" for c, w in zip(cells, widths, strict=False))]).rstrip())

    line("fold", headings)
    rows = iter(range(len(runs)))
    for run in runs:
        if "error" in run:
            line(str(run["fold"]), ["failed"])
            continue
        row = next(rows)
        line(str(run["fold"]), [f"{column[row]:.5g}" for column in shown.values()])
    if len(runs) - sum("error" in run for run in runs) > 1:  # of one fold there is no interval
        intervals = [t_interval(column) for column in shown.values()]
        line("mean", [f"{interval.mean:.5g}" for interval in intervals])
        line("+-95%", [f"{interval.high - interval.mean:.2g}" for interval in intervals])
