"""`rllab record RUN`: a film of a trained agent at play."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rllab.errors import EXIT_DONE


@click.command("record")
@click.argument("run")
@click.option("--episodes", type=click.IntRange(min=1), default=1, show_default=True, help="How many are played.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file: .mp4, .gif, or .txt for environments with text.  [default: media/episode-STEP.mp4 of the run, "
    "or .gif without an encoder]",
)
@click.option("--checkpoint", "which", default="last", show_default=True, help="last, best, or a step.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of these episodes.")
@click.option("--deterministic/--stochastic", default=True, show_default=True, help="Best actions, or samples.")
@click.option(
    "--fps",
    type=click.FloatRange(min=0, min_open=True, max=1000),
    show_default="the environment's",
    help="Frames per second.",
)
@click.option(
    "--max-steps", type=click.IntRange(min=1), default=5_000, show_default=True, help="An episode is cut off here."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--runs-dir", envvar="RLLAB_OPTION_RUNS_DIR", default="runs", show_default=True, help="Where runs are.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def record_command(
    run: str,
    episodes: int,
    output: Path | None,
    which: str,
    seed: int,
    deterministic: bool,
    fps: float | None,
    max_steps: int,
    device: str,
    as_json: bool,
    runs_dir: str,
    debug: bool,
) -> int:
    """Film RUN's trained agent at play: step, reward and return stand below the picture.

    RUN is a folder, a path below the runs folder, or `last`. An mp4 needs an encoder: pip install "rllab[video]".
    """
    from rllab import results, stopping

    loaded = results.load(run, runs_dir=runs_dir)
    with stopping.on_signals():
        try:
            made = loaded.record(
                which,
                output=output,
                episodes=episodes,
                seed=seed,
                deterministic=deterministic,
                fps=fps,
                max_steps=max_steps,
                device=device,
            )
        except stopping.StopRequested:
            raise KeyboardInterrupt from None
    if as_json:
        played = [{"return": end.return_, "length": end.step, "ended": end.ended} for end in made.episodes]
        click.echo(json.dumps({"file": str(made.path), "seed": seed, "episodes": played}))
        return EXIT_DONE
    for number, episode in enumerate(made.episodes, 1):
        cut = f", {episode.ended}" + (" by --max-steps" if episode.ended == "cut off" else "")
        click.echo(f"episode {number}: return {episode.return_:.6g}, {episode.step:,} steps{cut}", err=True)
    click.echo(made.path)
    return EXIT_DONE
