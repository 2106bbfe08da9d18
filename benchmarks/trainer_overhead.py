"""What the trainer costs: a run with all its callbacks and loggers, against a bare loop over the same `step()`.

    python benchmarks/trainer_overhead.py

It prints, for each method, how much longer a run takes than

    while algorithm.count < algorithm.budget:
        algorithm.step()

The run has what `rllab run` gives it: lines of metrics every 1 % to metrics.jsonl and TensorBoard, progress
lines, a stop condition that never holds, checkpoints every 10 %. There is no evaluation. Writing checkpoints
is shown by itself: it depends on the disk, and the trainer puts it off when it comes to 5 % of the time.

The methods are DQN with a network of 64x64, and a synthetic one whose step takes 50 microseconds and returns
three metrics, as floats and as tensors. Bare loops and runs alternate; times are the processor's, of all threads
together (with --wall those of the clock on the wall).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import click
import torch
from report import measured_with, spread, summary
from rich.console import Console

from rllab import experiment, planning
from rllab.algorithm import Algorithm, Metrics, Objective
from rllab.callbacks import Callback, Checkpoint, StopWhen, WriteLine
from rllab.cli.progress import Lines
from rllab.conditions import Condition
from rllab.config import Config
from rllab.intervals import Interval
from rllab.logger import JsonLinesWriter, Logger, TensorBoardWriter
from rllab.runfolder import RunFolder
from rllab.seeding import Streams
from rllab.trainer import Trainer

STEP_SECONDS = 50e-6


class Synthetic(Algorithm):
    """Keeps the processor busy for 50 microseconds a step, and returns three metrics."""

    Config = Config
    unit = "steps"
    budget = 0
    transient = frozenset({"budget"})

    def __init__(self, budget: int, *, tensors: bool) -> None:
        super().__init__(Config(), None, device=torch.device("cpu"), streams=Streams(0))
        self.budget = budget
        self.values: list[Any] = [torch.tensor(x) if tensors else x for x in (0.1, 0.2, 0.3)]

    def step(self) -> Metrics:
        """Wait, and count."""
        end = time.perf_counter() + STEP_SECONDS
        while time.perf_counter() < end:
            pass
        self.count += 1
        loss, score, rate = self.values
        return {"train/loss": loss, "train/score": score, "train/rate": rate}

    def evaluate(self) -> Metrics:
        """Measure nothing."""
        return {}

    @classmethod
    def objective(cls, task: Any) -> Objective:
        """Return a metric that is never measured."""
        return Objective("eval/score", maximize=True)


def dqn(steps: int) -> Algorithm:
    """Return DQN on CartPole-v1 with a network of 64x64 and one update per step, ready to train."""
    options = {"preset": "none", "timesteps": steps, "hidden": (64, 64), "learning_starts": 0, "device": "cpu"}
    algorithm, _ = experiment.build(planning.plan("dqn", "CartPole-v1", options))
    algorithm.setup()
    return algorithm


CASES: dict[str, Callable[[int], Algorithm]] = {
    "dqn": dqn,
    "floats": lambda steps: Synthetic(steps * 10, tensors=False),
    "tensors": lambda steps: Synthetic(steps * 10, tensors=True),
}
"""Methods by name, made for a number of steps of DQN; the synthetic ones are about 10 times as fast."""


class TimedCheckpoint(Checkpoint):
    """Knows how long it took."""

    transient = Checkpoint.transient | {"clock", "took"}

    def __init__(self, clock: Callable[[], float], **arguments: Any) -> None:
        super().__init__(Interval.parse("10%"), **arguments, keep=2, note={})
        self.clock = clock
        self.took = 0.0

    def save(self) -> None:
        """Save and look at the clock."""
        start = self.clock()
        super().save()
        self.took += self.clock() - start


def bare(algorithm: Algorithm, clock: Callable[[], float]) -> float:
    """Return the seconds of a bare loop."""
    start = clock()
    while algorithm.count < algorithm.budget:
        algorithm.step()
    seconds = clock() - start
    algorithm.close()
    return seconds


def trained(algorithm: Algorithm, clock: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds of a run without saving, and those of saving."""
    with tempfile.TemporaryDirectory() as folder:
        info = {"task": "none", "method": "none", "seed": 0, "objective": {"metric": "eval/return"}, "config": {}}
        files = RunFolder.create(Path(folder), "run", {**info, "task_config": {}, "options": {}})
        logger = Logger({"jsonl": JsonLinesWriter(), "tensorboard": TensorBoardWriter()}, algorithm.reductions)
        saver = TimedCheckpoint(clock, folder=files, objective=algorithm.objective(algorithm.task))
        callbacks: list[Callback] = [
            StopWhen([Condition.parse("train/loss<=-1")], Interval.parse("1%")),
            WriteLine(Interval.parse("1%")),
            Lines(Console(file=StringIO())),
            saver,
        ]
        trainer = Trainer(algorithm, logger, callbacks)
        logger.open(files)
        start = clock()
        status = trainer.run()
        logger.close(status.state)
        return clock() - start - saver.took, saver.took


@click.command(help="Measure what the trainer adds to a bare loop; the module's docstring says how.")
@click.option("--cases", default="dqn,floats,tensors", show_default=True, help="Which methods, separated by commas.")
@click.option(
    "--steps", default=10_000, show_default=True, help="Steps of DQN in a run; the others take 10 times as many."
)
@click.option("--repeats", default=5, show_default=True, help="Pairs of a bare loop and a run.")
@click.option("--wall", is_flag=True, help="Take the clock on the wall instead of the processor's.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(cases: str, steps: int, repeats: int, wall: bool, json_file: Path | None) -> None:
    chosen = cases.split(",")
    if unknown := set(chosen) - set(CASES):
        raise click.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(CASES)}")
    clock = time.perf_counter if wall else time.process_time
    torch.set_num_threads(1)
    versions = measured_with("rllab", "torch", "numpy")
    click.echo(", ".join(f"{name} {value}" for name, value in versions.items()))
    columns = ["bare, us a step", "the trainer adds, %", "saving, %"]
    click.echo(f"{'method':8}" + "".join(f"{column:>26}" for column in columns))
    results = {}
    for name in chosen:
        measured: dict[str, list[float]] = {"bare": [], "overhead": [], "saving": []}
        trained(CASES[name](max(steps // 10, 50)), clock)  # what is loaded at the first step
        for repeat in range(repeats):
            first, second = CASES[name](steps), CASES[name](steps)
            if repeat % 2 == 0:
                alone = bare(first, clock)
                run, saving = trained(second, clock)
            else:
                run, saving = trained(first, clock)
                alone = bare(second, clock)
            measured["bare"].append(alone / second.budget * 1e6)
            measured["overhead"].append((run / alone - 1) * 100)
            measured["saving"].append(saving / alone * 100)
        click.echo(f"{name:8}" + "".join(f"{spread(values, '.1f'):>26}" for values in measured.values()))
        results[name] = {what: summary(values) for what, values in measured.items()}
    if json_file is not None:
        json_file.write_text(json.dumps({"versions": versions, "steps": steps, "cases": results}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
