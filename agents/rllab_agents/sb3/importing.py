"""`rllab import sb3 FILE.zip`: a model that stable-baselines3 saved becomes a run like any other.

FILE.zip -> runs/<task>/sb3-dqn/imported-FILE_seed0, with options, weights and an evaluation
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rllab.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from rllab_agents.sb3.reading import Saved

ALGORITHMS = ("sb3-a2c", "sb3-ddpg", "sb3-dqn", "sb3-ppo", "sb3-sac", "sb3-td3")


@click.group("import")
def import_command() -> None:
    """Make a run of a model that another library has trained."""


@import_command.command("sb3")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--trust", is_flag=True, help="Unpickle the settings in FILE; only for files whose author you trust.")
@click.option("--env", "target", help="The environment it was trained on, which FILE does not say.")
@click.option(
    "--algorithm", type=click.Choice(ALGORITHMS), help="What it is; by default that is seen from its settings."
)
@click.option(
    "--vec-normalize",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The pickled VecNormalize that was saved beside it, if there is one.",
)
@click.option("--name", help="Name of the run folder.  [default: imported-FILE]")
@click.option(
    "--eval-episodes", type=click.IntRange(min=0), default=20, show_default=True, help="Episodes it is measured by."
)
@click.option("--runs-dir", envvar="RLLAB_OPTION_RUNS_DIR", default="runs", show_default=True, help="Where runs are.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def import_sb3(
    file: Path,
    trust: bool,
    target: str | None,
    algorithm: str | None,
    vec_normalize: Path | None,
    name: str | None,
    eval_episodes: int,
    runs_dir: str,
    as_json: bool,
    debug: bool,
) -> int:
    """Make a run of FILE, a zip that stable-baselines3's save() wrote.

    Its weights are read as plain tensors. Its settings are partly pickles, which run whatever their author put into
    them as soon as they are read: --trust says that this is all right. The run is finished; `rllab eval`, `record` and
    comparisons take it like one of our own, but it cannot be trained further.
    """
    from rllab_agents.sb3 import reading

    saved = reading.open_file(file)
    pickled = ([vec_normalize.name] if vec_normalize else []) + saved.pickled
    if not trust:
        raise UsageError(
            f"{file} is a model of stable-baselines3, whose format is a pickle: reading {_some(pickled)} runs whatever "
            "code their author put there",
            "The weights are plain tensors, but these settings are needed to use them. Say --trust if you know where "
            "the file comes from.",
        )
    target = target or _target(file, saved)
    folder, metrics, notes = _imported(saved, target, algorithm, vec_normalize, name, eval_episodes, runs_dir)
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    if as_json:
        click.echo(json.dumps({"run": str(folder), "metrics": metrics, "notes": notes}))
    else:
        click.echo(str(folder))
        if metrics:
            spread = f"{metrics['eval/return']:.4g} +- {metrics['eval/return_std']:.2g}"
            click.echo(f"return {spread} over {eval_episodes} episodes")
    return EXIT_DONE


def _imported(
    saved: Saved,
    target: str,
    algorithm: str | None,
    vec_normalize: Path | None,
    name: str | None,
    episodes: int,
    runs_dir: str,
) -> tuple[Path, dict[str, float], list[str]]:
    """Make the run; return its folder, its evaluation, and what there is to tell about it."""
    from rllab import experiment
    from rllab_agents.sb3 import reading

    method = algorithm or reading.algorithm_of(saved)
    planned, notes = reading.plan(saved, method, target, vec_normalize, runs_dir=runs_dir)
    agent: Any = experiment.build(planned)[0]
    agent.count = saved.steps
    notes += reading.fill(agent, saved, vec_normalize)
    metrics = {key: float(value) for key, value in agent.evaluate(episodes).items()} if episodes else {}
    folder = experiment.adopt(planned, agent, name=name or f"imported-{saved.path.stem}", metrics=metrics)
    return folder.path, metrics, notes


def _target(file: Path, saved: Saved) -> str:
    """Return the environment that the name of the file, or of its folder, speaks of."""
    from rllab.environments import is_registered

    for text in (file.stem, file.resolve().parent.name):
        for found in re.findall(r"(?:ALE/)?[A-Za-z][A-Za-z0-9]*(?:-[A-Z][A-Za-z0-9]*)*-v\d+", text):
            names = [found[i:] for i in range(len(found)) if i == 0 or found[i - 1] == "-"]
            for name in filter(is_registered, names):
                return str(name)
    raise UsageError(
        f"{file} does not say which environment it is for; its observations have shape {saved.shape('observation')}",
        "Say --env ID, such as --env CartPole-v1.",
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
