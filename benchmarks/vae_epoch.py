"""An epoch of `vae` on MNIST: through the whole of rllab, and in a bare torch loop.

    RLLAB_DATA=... python benchmarks/vae_epoch.py

Both train the same network with the same step size and size of batches, in one thread:

    rllab       what `rllab run` does: trainer, metrics.jsonl, TensorBoard, progress lines, checkpoints every 10 %
    bare        a loop written by hand, as a tutorial has it: images as one uint8 tensor, batches by index, torch's Adam
                with its defaults; nothing is measured or logged

They alternate, the one or the other first; times are the processor's, of all threads together (with --wall those of
the clock on the wall, in which waiting for the disk counts), without loading, binarising, evaluation and pictures.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias

import click
import torch
from report import beside, measured_with
from rich.console import Console
from torch.nn import functional as F

from rllab import experiment, planning
from rllab.callbacks import Callback
from rllab.cli.progress import Lines
from rllab.planning import Plan
from rllab.runfolder import RunFolder

Clock: TypeAlias = Callable[[], float]

CASES: dict[str, dict[str, Any]] = {
    "mlp": {"preset": "mnist", "epochs": 1},
    "course": {"preset": "course", "optimizer": "adam", "epochs": 1},
    "dynamic": {"preset": "mnist", "binarise": "dynamic", "epochs": 1},
    "cnn": {"preset": "mnist-cnn", "epochs": 1},
}
"""Presets, and what is changed in them."""


def plan(case: str, folder: Path, seed: int, share: float) -> Plan:
    """Return the plan of a run on the first images of MNIST's training part."""
    constant = {"schedule": "constant", "ema": 0.0}
    how = {"device": "cpu", "pictures_every": 0, "seed": seed, "runs_dir": folder}
    planned = planning.plan("vae", "mnist", {**CASES[case], **constant, **how})
    data = planned.task.data  # type: ignore[attr-defined]
    planned.task.data = replace(data, train=data.train[: int(share * len(data.train))])  # type: ignore[attr-defined]
    return planned


def through_rllab(planned: Plan, clock: Clock) -> float:
    """Return the seconds of a run, with all that `rllab run` puts around it."""
    seconds: list[float] = []

    class Watch(Callback):
        def on_start(self, trainer: Any) -> None:
            super().on_start(trainer)
            self.started = clock()
            trainer.algorithm.evaluate = trainer.algorithm.validate = dict  # the other does not evaluate

        def on_end(self, status: Any) -> None:
            seconds.append(clock() - self.started)

    def watch(planned: Plan, folder: RunFolder) -> list[Callback]:
        return [Lines(Console(file=StringIO())), Watch()]

    experiment.start(planned, watch)
    return seconds[0]


def by_hand(planned: Plan, clock: Clock) -> float:
    """Return the seconds of an epoch in a bare loop."""
    algorithm: Any
    algorithm, _ = experiment.build(planned, threads=1)
    algorithm.setup()
    config, images = algorithm.config, algorithm.train.inputs
    encoder, decoder = algorithm.network.encoder, algorithm.network.decoder
    if encoder.convolutions is None:
        encoder, decoder, images = encoder.dense, decoder.dense, images.flatten(1)
    optimizer = torch.optim.Adam(algorithm.network.parameters(), lr=config.lr)
    start = clock()
    order = torch.randperm(len(images))
    for first in range(0, len(images), config.batch_size):
        x = images[order[first : first + config.batch_size]].float() / 255
        if config.binarise == "dynamic":
            x = torch.bernoulli(x)
        mu, logvar = encoder(x).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        bce = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        loss = (bce + kl) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clock() - start


@click.command(help="Measure an epoch of the VAE side by side; the module's docstring says how.")
@click.option("--cases", default="mlp,course", show_default=True, help=f"Some of {', '.join(CASES)}.")
@click.option("--repeats", default=5, show_default=True, help="Epochs of each.")
@click.option("--share", default=1.0, show_default=True, help="Share of the training images in an epoch.")
@click.option("--wall", is_flag=True, help="Take the clock on the wall instead of the processor's.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(cases: str, repeats: int, share: float, wall: bool, json_file: Path | None) -> None:
    chosen = cases.split(",")
    if unknown := set(chosen) - set(CASES):
        raise click.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(CASES)}")
    torch.set_num_threads(1)
    clock: Clock = time.perf_counter if wall else time.process_time
    ways: dict[str, Callable[[Plan, Clock], float]] = {"rllab": through_rllab, "bare": by_hand}
    versions = measured_with("rllab", "torch")
    click.echo(", ".join(f"{name} {value}" for name, value in versions.items()))
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for case in chosen:
            measured: dict[str, list[float]] = {way: [] for way in ways}
            for repeat in range(-1, repeats):  # the first is not counted: it loads what is loaded once
                part = share if repeat >= 0 else share / 20
                for way in list(ways)[:: 1 if repeat % 2 else -1]:
                    seconds = ways[way](plan(case, Path(name), max(repeat, 0), part), clock)
                    if repeat >= 0:
                        measured[way].append(seconds)
            results[case], lines = beside(measured)
            click.echo("\n".join([f"{case}: seconds of an epoch", *lines]))
    if json_file is not None:
        json_file.write_text(json.dumps({"versions": versions, "share": share, **results}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
