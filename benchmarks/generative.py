"""The generative models with their presets: how good each comes out over seeds, and the time it takes.

    python benchmarks/generative.py --jobs 2                    # all, about an hour on two slow cores
    python benchmarks/generative.py --models "vae,vae --preset course"

Each row is a `rllab run METHOD DATASET` with a preset, on several seeds, measured on the test part after the last step:
the mean over seeds with its 95 % interval (Student's t), or the one value. Columns are the method's own:

    vae    nats are minus the ELBO of an image, which the importance-weighted bound (iwae) comes below
    gan    Frechet distance in the judge's features (not FID), classes covered, and the accuracy of a classifier that
           learned from samples alone; `rllab judge` has the reference rows
    char   nats per character of the last tenth of the text, beside those of a bigram and of gzip

Time is the processor's, of training, measuring and pictures in one thread, without imports. Runs that are finished in
--runs-dir are not trained again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import click
from ladder import Measured, Rung, train
from report import measured_with

from rllab.folds import t_interval

TEXT = "tinyshakespeare"
MODELS = [
    Rung("ae", "mnist", 1),
    Rung("vae", "mnist", 3),
    Rung("vae", "mnist", 1, {"preset": "mnist-cnn"}),
    Rung("vae", "mnist", 3, {"preset": "course"}),
    Rung("gan", "mnist", 2),
    Rung("gan", "mnist", 1, {"preset": "mnist-cnn"}),
    Rung("char-rnn", TEXT, 3),
    Rung("char-transformer", TEXT, 3),
]
COLUMNS = {
    "ae": ("rmse", "mean_image_rmse"),
    "vae": ("nats", "iwae"),
    "gan": ("judge_frechet", "classes_covered", "trained_on_samples", "copied"),
    "char-rnn": ("nats_per_character", "bigram_nats", "gzip_nats"),
    "char-transformer": ("nats_per_character", "bigram_nats", "gzip_nats"),
}
"""What is shown of each method's metrics of the test part."""


def cell(name: str, values: Sequence[float]) -> str:
    """Return a metric over seeds as text."""
    if min(values) == max(values):
        return f"{name} {values[0]:.4g}"
    interval = t_interval(list(values))
    return f"{name} {interval.mean:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def row(model: Rung, runs: Sequence[Measured]) -> str:
    """Return a model as a line of a Markdown table."""
    columns = [cell(name, [run.metrics[f"eval/{name}"] for run in runs]) for name in COLUMNS[model.method]]
    seconds = sum(run.seconds for run in runs) / len(runs)
    return f"| `{model.name}` | {model.task} | {', '.join(columns)} | {len(runs)} | {seconds:.0f} |"


@click.command(help="Train the generative models with their presets; the module's docstring says what is shown.")
@click.option("--models", default="", help="Which rows by their first cell, separated by commas; all by default.")
@click.option("--jobs", default=2, show_default=True, help="Processes, one thread each.")
@click.option("--runs-dir", default="runs/generative", show_default=True, type=click.Path(path_type=Path))
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(models: str, jobs: int, runs_dir: Path, json_file: Path | None) -> None:
    # for the processes that are started: numerical libraries read it when they are imported
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    chosen = [model for model in MODELS if not models or model.name in models.split(",")]
    versions = measured_with("rllab", "torch", "numpy")
    click.echo(", ".join(f"{name} {value}" for name, value in versions.items()))
    click.echo("| Method | Data | On the test part: mean [95 %] | Seeds | Seconds |")
    click.echo("|---|---|---|---|---|")
    results = []
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        submitted = [
            (m, [pool.submit(train, m, seed, runs_dir, pictures=True) for seed in range(m.seeds)]) for m in chosen
        ]
        for model, futures in submitted:
            try:
                runs = [future.result() for future in futures]
            except Exception as error:  # noqa: BLE001 - the other models can still be measured
                click.echo(f"| `{model.name}` | {model.task} | {error} | | |")
                continue
            click.echo(row(model, runs))
            results.append({**asdict(model), "runs": [asdict(run) for run in runs]})
    if json_file is not None:
        json_file.write_text(json.dumps({"versions": versions, "models": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
