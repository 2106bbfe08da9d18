"""The ladder of predictors, from the baseline to a CNN: every rung's score over seeds, and the time it takes.

    python benchmarks/ladder.py --jobs 2                 # all, a quarter of an hour on two slow cores
    python benchmarks/ladder.py --tasks digits,crescents

Each rung is a `rllab run METHOD DATASET` with its defaults or presets, on several seeds; a seed also draws the
data where they are random, and splits them. The score is that of the test part after the last step: the mean over
seeds with its 95 % interval (Student's t), and the lowest and the highest. The baseline, always the most frequent
class or the mean, stands beside it. Time is the processor's, of training and all measuring in one thread, without
imports. MNIST is looked for where `rllab run` looks; diamonds need the extra `diamonds`. Runs that are finished in
--runs-dir are not trained again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from report import measured_with

from rllab.folds import t_interval


@dataclass(frozen=True)
class Rung:
    """A method on a dataset with options, and the seeds it is measured on."""

    method: str
    task: str
    seeds: int
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the method and its options, as in the table."""
        return " ".join([self.method, *(f"--{k.replace('_', '-')} {v}" for k, v in self.options.items())])


CLASSICAL = ("naive-bayes", "logreg", "knn", "tree", "forest", "svm")
BASELINES = ("eval/majority_accuracy", "eval/mean_rmse")
DIAMONDS = {"test_share": 0.25, "split_seed": 42}

LADDER = [
    Rung("rule", "crescents", 10),
    Rung("knn", "crescents", 10, {"k": 1}),
    Rung("mlp", "crescents", 10),
    Rung("rule", "crescents-uniform", 10),
    Rung("knn", "crescents-uniform", 10, {"k": 1}),
    Rung("mlp", "crescents-uniform", 10),
    *(Rung("mlp", "posing", 10, {"view": view}) for view in ("single", "raw", "sorted", "histogram")),
    Rung("perceptron", "gauss", 5),
    Rung("mlp", "spiral", 5),
    Rung("mlp", "alphabet", 5),
    Rung("rnn", "alphabet", 5, {"cell": "lstm"}),
    Rung("linear", "diamonds", 1, DIAMONDS),
    Rung("tree", "diamonds", 1, {**DIAMONDS, "max_depth": 10, "random_state": 0}),
    *(Rung(method, "digits", 5) for method in (*CLASSICAL, "mlp", "cnn")),
    Rung("mlp", "mnist", 3, {"preset": "course"}),
    Rung("cnn", "mnist", 3, {"preset": "course"}),
    *(Rung(method, "mnist", 1) for method in CLASSICAL[:-1]),
    Rung("mlp", "mnist", 3),
    Rung("cnn", "mnist", 3),
    Rung("svm", "mnist", 1),
]


@dataclass(frozen=True)
class Measured:
    """A finished run: score and baseline, if any, on the test part, its other metrics, and seconds of the processor."""

    score: float
    baseline: float | None
    metrics: dict[str, float]
    seconds: float


def train(rung: Rung, seed: int, runs_dir: Path, *, pictures: bool = False) -> Measured:
    """Train one seed of a rung, or read what it gave before."""
    import torch

    import rllab

    torch.set_num_threads(1)
    name = rung.name.replace("--", "").replace(" ", "_")
    folder = runs_dir / rung.task / name / f"seed{seed}"
    noted = folder.parent / f"seed{seed}.json"
    if noted.is_file():
        return Measured(**json.loads(noted.read_text(encoding="utf-8")))
    how = {"resume": "auto", "run_dir": folder, "progress": False, "checkpoint_every": 0}
    how |= {} if pictures else {"pictures_every": 0}
    began = time.process_time()
    run = rllab.run(rung.method, rung.task, seed=seed, **how, **rung.options)
    seconds = time.process_time() - began
    metrics = {n: v for n, v in run.info["metrics"].items() if n.startswith("eval/") and v is not None}
    metric = run.info["objective"]["metric"]
    baseline = next((metrics[name] for name in BASELINES if name in metrics), None)
    measured = Measured(metrics[metric], baseline, metrics, seconds)
    noted.write_text(json.dumps(asdict(measured)), encoding="utf-8")
    return measured


def row(rung: Rung, runs: list[Measured]) -> str:
    """Return a rung as a line of a Markdown table."""
    scores = [run.score for run in runs]
    form = ".3f" if scores[0] > 1 else ".4f"
    text = f"{scores[0]:{form}}"
    if len(scores) > 1:
        interval = t_interval(scores)
        text = f"{interval.mean:{form}} [{interval.low:{form}}, {interval.high:{form}}]"
        text += f", {min(scores):{form}} to {max(scores):{form}}"
    baseline = sum(run.baseline or 0 for run in runs) / len(runs)
    seconds = sum(run.seconds for run in runs) / len(runs)
    return f"| {rung.task} | `{rung.name}` | {text} | {baseline:{form}} | {len(runs)} | {seconds:.1f} |"


@click.command(help="Measure the ladder of predictors; the module's docstring says how.")
@click.option("--tasks", default="", help="Which datasets, separated by commas; all by default.")
@click.option("--methods", default="", help="Which methods, separated by commas; all by default.")
@click.option("--jobs", default=2, show_default=True, help="Processes, one thread each.")
@click.option("--runs-dir", default="runs/ladder", show_default=True, type=click.Path(path_type=Path))
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(tasks: str, methods: str, jobs: int, runs_dir: Path, json_file: Path | None) -> None:
    # for the processes that are started: numerical libraries read it when they are imported
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    rungs = [
        rung
        for rung in LADDER
        if (not tasks or rung.task in tasks.split(",")) and (not methods or rung.method in methods.split(","))
    ]
    versions = measured_with("rllab", "torch", "scikit-learn", "numpy")
    click.echo(", ".join(f"{name} {value}" for name, value in versions.items()))
    click.echo("| Dataset | Method | Score: mean [95 %], lowest to highest | Baseline | Seeds | Seconds |")
    click.echo("|---|---|---|---|---|---|")
    results = []
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        submitted = [(r, [pool.submit(train, r, seed, runs_dir) for seed in range(r.seeds)]) for r in rungs]
        for rung, futures in submitted:
            try:
                runs = [future.result() for future in futures]
            except Exception as error:  # noqa: BLE001 - the other rungs can still be measured
                click.echo(f"| {rung.task} | `{rung.name}` | {error} | | | |")
                continue
            click.echo(row(rung, runs))
            results.append({**asdict(rung), "runs": [asdict(run) for run in runs]})
    if json_file is not None:
        json_file.write_text(json.dumps({"versions": versions, "rungs": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
