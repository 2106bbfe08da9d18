"""What RMSprop does to a char-rnn that has learned its text by heart, and what clipping does about it.

    python benchmarks/rmsprop_collapse.py --picture rmsprop-collapse.png     # eight minutes on a slow core

An LSTM of 128 units reads the first 20,000 characters of Tiny Shakespeare 200 times with RMSprop at .01, with and
without clipping, on several seeds: `rllab run char-rnn opening.txt --cell lstm ...`. A collapse is counted where the
mean loss of two epochs (a line of metrics) is more than twice the lowest so far; the next one only after the loss has
come back to where it was, within a tenth. docs/rmsprop-collapse.md tells the story. Runs that are finished in
--runs-dir are not trained again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click

import rllab
from rllab.text import TextTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS = {
    "cell": "lstm",
    "hidden": 128,
    "batch_size": 16,
    "optimizer": "rmsprop",
    "lr": 0.01,
    "schedule": "constant",
    "epochs": 200,
}
CLIPS = (0.0, 0.1)
CHARACTERS = 20_000


def losses(text: Path, clip: float, seed: int, runs_dir: Path) -> rllab.Run:
    """Train one, or read what it gave before."""
    folder = runs_dir / f"clip{clip:g}_seed{seed}"
    how = {"resume": "auto", "run_dir": folder, "progress": False, "pictures_every": 0, "device": "cpu"}
    return rllab.run("char-rnn", str(text), seed=seed, max_grad_norm=clip, **how, **SETTINGS)


def collapses(values: Sequence[float]) -> int:
    """Return how often the loss has more than doubled above its lowest so far."""
    lowest, number, fallen = float("inf"), 0, False
    for value in values:
        if not fallen and value > 2 * lowest:
            number, fallen = number + 1, True
        if value <= 1.1 * lowest:
            fallen = False
        lowest = min(lowest, value)
    return number


def drawn(runs: dict[tuple[float, int], rllab.Run]) -> Figure:
    """Return the losses of all runs, a panel for each way of clipping."""
    from rllab.parts.drawing import COLOURS, sheet

    figure = sheet(7.5, 5.0, "An LSTM that knows its text by heart, trained on with RMSprop at .01")
    for axes, clip in zip(figure.subplots(len(CLIPS), 1, sharex=True, sharey=True), CLIPS, strict=True):
        for (of, seed), run in runs.items():
            if of == clip:
                step, _, value = run.metrics["train/loss"]
                axes.plot(step / 1e6, value, color=COLOURS[seed], label=f"seed {seed}")
        axes.set(yscale="log", ylabel="train/loss (nats)")
        axes.set_yticks([0.1, 0.2, 0.5, 1.0, 2.0], ["0.1", "0.2", "0.5", "1", "2"])
        axes.minorticks_off()
        axes.set_title(f"--max-grad-norm {clip:g}" + (": no clipping" if not clip else ""))
        axes.grid(visible=True)
    axes.set_xlabel("millions of characters")
    axes.legend(loc="upper right", ncols=3)
    return figure


@click.command(help="Count collapses with and without clipping; the module's docstring says how.")
@click.option("--seeds", default=3, show_default=True, help="How many.")
@click.option("--runs-dir", default="runs/collapse", show_default=True, type=click.Path(path_type=Path))
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the losses into this file.")
def main(seeds: int, runs_dir: Path, picture: Path | None) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    runs_dir.mkdir(parents=True, exist_ok=True)
    text = runs_dir / "opening.txt"
    if not text.is_file():
        task = TextTask.open("tinyshakespeare", TextTask.config_class("tinyshakespeare")(), seed=0)
        text.write_text(task.decode(task.text.train[:CHARACTERS]), encoding="utf-8")
    runs = {(clip, seed): losses(text, clip, seed, runs_dir) for clip, seed in product(CLIPS, range(seeds))}
    click.echo("| --max-grad-norm | seed | collapses | lowest loss | highest after it | at the end |")
    click.echo("|---|---|---|---|---|---|")
    for (clip, seed), run in runs.items():
        values = run.metrics["train/loss"].value
        after = values[values.argmin() :].max()
        cells = f"{collapses(values.tolist())} | {values.min():.3f} | {after:.3f} | {values[-1]:.3f}"
        click.echo(f"| {clip:g} | {seed} | {cells} |")
    if picture is not None:
        from rllab.parts.drawing import render, styled

        render(styled(drawn)(runs)).save(picture)


if __name__ == "__main__":
    main()
