"""`rllab resume RUN` and `rllab eval RUN`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from rllab.errors import EXIT_DONE, ThresholdMissed

_RUNS_DIR = click.option(
    "--runs-dir", envvar="RLLAB_OPTION_RUNS_DIR", default="runs", show_default=True, help="Where runs are."
)
_DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")


def _budget(text: str) -> float:
    """Return a number above 0, a whole one as an int; whether a run's budget may be a fraction is asked later."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise click.BadParameter(f"{text!r} is not a number above 0.")
    return int(number) if number.is_integer() else number


class ResumeCommand(click.Command):
    """`resume`, whose options come from RunOptions when they are needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's parameters and the options about how a run is run; a shell gets the former."""
        if ctx.resilient_parsing:
            return super().get_params(ctx)
        from rllab.options import options_of
        from rllab.runoptions import HOW, RunOptions

        if not hasattr(self, "_all"):
            self._all = [*self.params, *options_of(RunOptions, "Options", only=HOW)]
        return [*self._all, *filter(None, [self.get_help_option(ctx)])]


@click.command("resume", cls=ResumeCommand)
@click.argument("run")
@click.option(
    "--extend", type=_budget, metavar="NUMBER", help="A larger budget (timesteps or epochs) than the run had."
)
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.option("--no-progress", is_flag=True, help="Show no progress, only the summary.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@_RUNS_DIR
@_DEBUG
@click.pass_context
def resume_command(
    ctx: click.Context,
    /,
    run: str,
    extend: float | None,
    quiet: bool,
    no_progress: bool,
    as_json: bool,
    runs_dir: str,
    debug: bool,
    **_: Any,
) -> int:
    """Go on with RUN from its newest checkpoint, bit for bit as if it had never stopped.

    RUN is a folder, a path below the runs folder, or `last`. What makes a run what it is (hyperparameters,
    task, seed) stays; how it is run may change.
    """
    from rllab import experiment, planning, runfolder
    from rllab.cli.method import conclude
    from rllab.cli.progress import Display
    from rllab.options import given
    from rllab.runfolder import RunFolder
    from rllab.runoptions import HOW

    changes = {name: value for name, value in given(ctx).items() if name in HOW}
    folder = RunFolder(runfolder.find(run, Path(runs_dir)))
    folder.check()
    if folder.info["status"] == "finished" and extend is None:
        click.echo(f"{folder.path} is finished ({folder.info['reason']}); --extend N trains it further.", err=True)
    display = Display(quiet=quiet, live=not no_progress)
    require = planning.reopen(folder, changes).options.require
    folder, status = experiment.resume(folder, changes, extend=extend, watch=display.watch)
    return conclude(folder, status, require, display, as_json=as_json)


@click.command("eval")
@click.argument("run")
@click.option("--episodes", type=click.IntRange(min=1), show_default="100", help="Episodes (agents only).")
@click.option("--on", metavar="DATASET", help="Measure on the test part of another dataset.")
@click.option("--task-option", "task_options", multiple=True, metavar="KEY=VALUE", help="An option of that dataset.")
@click.option("--checkpoint", "which", default="last", show_default=True, help="last, best, or a step.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of these episodes.")
@click.option("--deterministic/--stochastic", default=True, show_default=True, help="Best actions, or samples.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--require", multiple=True, metavar="CONDITION", help="Exit with code 6 unless it holds.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@_RUNS_DIR
@_DEBUG
def eval_command(
    run: str,
    episodes: int | None,
    on: str | None,
    task_options: tuple[str, ...],
    which: str,
    seed: int,
    deterministic: bool,
    device: str,
    require: tuple[str, ...],
    as_json: bool,
    runs_dir: str,
    debug: bool,
) -> int:
    """Measure RUN's trained model anew: an agent on episodes that neither training nor its evaluations saw.

    A model of data is measured on the test part, or with --on on that of another dataset.

    RUN is a folder, a path below the runs folder, or `last`.
    """
    from rllab import results, stopping
    from rllab.conditions import Condition

    try:
        conditions = [Condition.parse(part) for text in require for part in text.split(",")]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    measured = results.load(run, runs_dir=runs_dir)
    with stopping.on_signals():
        try:
            metrics = measured.evaluate(
                which,
                on=on,
                task_options=_pairs(task_options),
                episodes=episodes,
                seed=seed,
                deterministic=deterministic,
                device=device,
            )
        except stopping.StopRequested:
            raise KeyboardInterrupt from None
    captions = measured.captions
    if as_json:
        click.echo(json.dumps({**metrics, **({"captions": captions} if captions else {})}))
    else:
        for name, value in metrics.items():
            caption = f"  ({captions[name]})" if name in captions else ""
            click.echo(f"{name:24s} {value:.6g}{caption}")
    for condition in conditions:
        if not condition.holds(metrics):
            raise ThresholdMissed(f"--require {condition}: {condition.measured(metrics)}")
    return EXIT_DONE


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """Return KEY=VALUE texts as a dict, keys as options are called in Python."""
    for text in texts:
        if "=" not in text:
            raise click.UsageError(f"--task-option {text}: write KEY=VALUE, such as --task-option samples=500")
    pairs = (text.partition("=") for text in texts)
    return {name.strip().removeprefix("--").replace("-", "_"): value for name, _, value in pairs}
