"""An epoch of `cnn` and of `mlp` on MNIST: through the whole of rllab, in a bare torch loop, and under Lightning.

    RLLAB_DATA=... python benchmarks/mnist_epoch.py

The three train the same network with the same optimiser, step sizes and size of batches, in one thread:

    rllab       what `rllab run` does: trainer, metrics.jsonl, TensorBoard, progress lines, checkpoints every 10 %
    bare        a loop written by hand: images as one uint8 tensor, batches by index, nothing is measured or logged
    lightning   a LightningModule, a DataLoader over a TensorDataset of floats, no logger, no checkpoints

They alternate, in another order each time; times are the processor's, of all threads together (with --wall those
of the clock on the wall, in which waiting for the disk counts), without loading, evaluation and pictures. The
networks are the preset of `cnn` (with one epoch) and the course's MLP of 784-20-15-10 (with five). In the end `cnn`
is trained by its preset, and its seconds and its accuracy on the test part are printed. Lightning is left out where
it is not installed.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias

import click
import torch
from report import measured_with, spread, summary
from rich.console import Console
from torch import nn

from rllab import experiment, planning
from rllab.algorithm import Algorithm
from rllab.callbacks import Callback
from rllab.cli.progress import Lines
from rllab.data import DatasetTask
from rllab.parts.schedules import scheduled
from rllab.planning import Plan
from rllab.runfolder import RunFolder

Clock: TypeAlias = Callable[[], float]

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn": ("cnn", {"epochs": 1}),
    "mlp": ("mlp", {"preset": "course", "epochs": 5}),
}
"""Methods and their options, by name; where an epoch takes a fraction of a second, a run has several."""

HOW = {"device": "cpu", "pictures_every": 0}


def plan(case: str, folder: Path, seed: int) -> Plan:
    """Return the plan of a run on MNIST."""
    method, options = CASES[case]
    return planning.plan(method, "mnist", {**options, **HOW, "seed": seed, "runs_dir": folder})


def beginning(planned: Plan, share: float) -> Plan:
    """Return the plan, which now trains on the first images of the training part only."""
    assert isinstance(planned.task, DatasetTask)
    data = planned.task.data
    rows = slice(0, max(int(share * len(data.train)), 1))
    planned.task.data = replace(data, train=data.train[rows])
    return planned


# --- the three ------------------------------------------------------------------------------------


def through_rllab(planned: Plan, clock: Clock) -> float:
    """Return the seconds of an epoch of a run, with all that `rllab run` puts around it."""
    seconds: list[float] = []

    class Watch(Callback):
        def on_start(self, trainer: Any) -> None:
            super().on_start(trainer)
            self.started = clock()
            trainer.algorithm.evaluate = dict  # the others do not evaluate

        def on_end(self, status: Any) -> None:
            seconds.append(clock() - self.started)

    def watch(planned: Plan, folder: RunFolder) -> list[Callback]:
        return [Lines(Console(file=StringIO())), Watch()]

    experiment.start(planned, watch)
    return seconds[0] / planned.config.epochs  # type: ignore[attr-defined]


def by_hand(planned: Plan, clock: Clock) -> float:
    """Return the seconds of an epoch in a bare loop."""
    model, config, images, labels = parts(planned)
    channels_last = images.dim() == 4 and planned.method.name == "cnn"
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, betas=config.betas, fused=True)
    start = clock()
    for epoch in range(config.epochs):
        order = torch.randperm(len(labels))
        for first in range(0, len(labels), config.batch_size):
            rows = order[first : first + config.batch_size]
            x = images[rows].float() / 255
            progress = (epoch + first / len(labels)) / config.epochs
            optimizer.param_groups[0]["lr"] = scheduled(config.lr, config.schedule, progress)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x if channels_last else x.flatten(1)), labels[rows])
            loss.backward()
            optimizer.step()
    return (clock() - start) / config.epochs


def under_lightning(planned: Plan, clock: Clock) -> float:
    """Return the seconds of an epoch under Lightning."""
    import lightning

    model, config, images, labels = parts(planned)
    flat = planned.method.name == "mlp"
    if not flat:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, index: int) -> Any:
            x, y = batch
            return nn.functional.cross_entropy(self.model(x.flatten(1) if flat else x), y)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), lr=config.lr, betas=config.betas, fused=True)
            steps = -(-len(labels) // config.batch_size) * config.epochs
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: scheduled(1.0, config.schedule, step / steps)
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    data = torch.utils.data.TensorDataset(images.float() / 255, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=config.batch_size, shuffle=True)
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=config.epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        module = Module()
        start = clock()
        trainer.fit(module, loader)
        return (clock() - start) / config.epochs


def parts(planned: Plan) -> tuple[nn.Module, Any, torch.Tensor, torch.Tensor]:
    """Return the network of a plan, its options, and the images and labels to learn from."""
    algorithm, _ = experiment.build(planned, threads=1)
    train = planned.task.data.train  # type: ignore[attr-defined]
    return algorithm.network, planned.config, train.inputs, train.targets  # type: ignore[attr-defined]


def to_99(folder: Path, epochs: int) -> tuple[float, float]:
    """Return the seconds of training `cnn` for so many epochs with its preset, and its accuracy in the end."""
    planned = planning.plan("cnn", "mnist", {"epochs": epochs, **HOW, "runs_dir": folder})
    algorithm: Algorithm
    algorithm, _ = experiment.build(planned, threads=1)
    algorithm.setup()
    start = time.perf_counter()
    while algorithm.count < algorithm.budget:
        algorithm.step()
    return time.perf_counter() - start, float(algorithm.evaluate()["eval/accuracy"])


@click.command(help="Measure an epoch on MNIST side by side; the module's docstring says how.")
@click.option("--cases", default="cnn,mlp", show_default=True, help="Which methods, separated by commas.")
@click.option("--repeats", default=5, show_default=True, help="Epochs of each.")
@click.option("--share", default=1.0, show_default=True, help="Share of the training images in an epoch.")
@click.option("--wall", is_flag=True, help="Take the clock on the wall instead of the processor's.")
@click.option("--epochs", default=1, show_default=True, help="Epochs of the cnn whose accuracy is measured; 0: none.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(cases: str, repeats: int, share: float, wall: bool, epochs: int, json_file: Path | None) -> None:
    chosen = cases.split(",")
    if unknown := set(chosen) - set(CASES):
        raise click.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(CASES)}")
    torch.set_num_threads(1)
    clock: Clock = time.perf_counter if wall else time.process_time
    ways: dict[str, Callable[[Plan, Clock], float]] = {"rllab": through_rllab, "bare": by_hand}
    try:
        versions = measured_with("rllab", "torch", "lightning")
        ways["lightning"] = under_lightning
        quieten()
    except ModuleNotFoundError:
        versions = measured_with("rllab", "torch")
        click.echo("lightning is not installed and is left out: pip install lightning -c constraints.txt")
    click.echo(", ".join(f"{name} {value}" for name, value in versions.items()))
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in chosen:
            measured: dict[str, list[float]] = {way: [] for way in ways}
            for repeat in range(-1, repeats):  # the first is not counted: it loads what is loaded once
                order = list(ways)[repeat % len(ways) :] + list(ways)[: repeat % len(ways)]
                for way in order:
                    part = share if repeat >= 0 else share / 20
                    seconds = ways[way](beginning(plan(case, folder, max(repeat, 0)), part), clock)
                    if repeat >= 0:
                        measured[way].append(seconds)
            results[case] = {way: summary(values) for way, values in measured.items()}
            click.echo(f"{case}: seconds of an epoch")
            for way, values in measured.items():
                ratios = [ours / theirs for ours, theirs in zip(measured["rllab"], values, strict=True)]
                results[case][f"rllab / {way}"] = summary(ratios)
                compared = "" if way == "rllab" else f"   rllab takes {spread(ratios)} times that"
                click.echo(f"  {way:10} {spread(values)}{compared}")
        if epochs:
            seconds, accuracy = to_99(folder, epochs)
            results["to 99 %"] = {"seconds": seconds, "accuracy": accuracy, "epochs": epochs}
            click.echo(f"cnn, {epochs} epoch{'s' * (epochs > 1)}: {accuracy:.2%} after {seconds:.1f} s")
    if json_file is not None:
        json_file.write_text(json.dumps({"versions": versions, "share": share, **results}, indent=1), "utf-8")


def quieten() -> None:
    """Have Lightning say nothing about the machine and what it recommends."""
    import logging

    import lightning  # noqa: F401 - it sets the levels of its loggers

    for name in [name for name in logging.root.manager.loggerDict if name.startswith("lightning")]:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


if __name__ == "__main__":
    main()
