"""Gradient steps of `char-rnn` and `char-transformer` beside loops written by hand, and how fast they write.

    RLLAB_DATA=... python benchmarks/char_models.py

Both train the same network with the same optimiser, step sizes and batches on Tiny Shakespeare, in one thread:

    rllab       what `rllab run` does: trainer, metrics.jsonl, TensorBoard, progress lines, checkpoints every 10 %
    bare        a loop written by hand with torch's own parts: nn.LSTM, cross_entropy, clip_grad_norm_, Adam; for the
                transformer nanoGPT's model and its AdamW with two groups; nothing is measured or logged

They alternate, in another order each time; times are the processor's, of all threads together (with --wall those of the
clock on the wall), without loading, evaluation and samples. The networks are those of the presets. In the end each
method writes characters with the weights it begins with, which is as fast as with better ones.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias

import click
import numpy as np
import torch
from report import beside, measured_with, spread, summary
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, linear, scaled_dot_product_attention

from rllab import experiment, planning
from rllab.callbacks import Callback
from rllab.cli.progress import Lines
from rllab.parts.schedules import scheduled
from rllab.planning import Plan
from rllab.runfolder import RunFolder

Clock: TypeAlias = Callable[[], float]

METHODS = ("char-rnn", "char-transformer")


def plan(method: str, target: str, folder: Path, seed: int, steps: int) -> Plan:
    """Return the plan of a run of so many gradient steps."""
    options = {"device": "cpu", "pictures_every": 0, "seed": seed, "runs_dir": folder, "preset": "tinyshakespeare"}
    planned = planning.plan(method, target, options)
    config: Any = planned.config
    epoch = len(planned.task.text.train)  # type: ignore[attr-defined]
    return planning.plan(method, target, {**options, "epochs": steps * config.batch_size * config.sequence / epoch})


# --- the two --------------------------------------------------------------------------------------


def through_rllab(planned: Plan, clock: Clock) -> float:
    """Return the seconds for a million characters, with all that `rllab run` puts around it."""
    measured: list[float] = []

    class Watch(Callback):
        def on_start(self, trainer: Any) -> None:
            super().on_start(trainer)
            trainer.algorithm.evaluate = dict  # the other does not evaluate
            trainer.algorithm.validate = dict
            self.started = clock()

        def on_end(self, status: Any) -> None:
            measured.append((clock() - self.started) / self.trainer.count * 1e6)

    def watch(planned: Plan, folder: RunFolder) -> list[Callback]:
        return [Lines(Console(file=StringIO())), Watch()]

    experiment.start(planned, watch)
    return measured[0]


def by_hand(planned: Plan, clock: Clock) -> float:
    """Return the seconds for a million characters in a bare loop."""
    config: Any = planned.config
    text = planned.task.text  # type: ignore[attr-defined]
    torch.manual_seed(planned.options.seed)
    codes, size = text.train.long(), len(text.vocabulary)
    steps = max(round(config.epochs * len(codes) / (config.batch_size * config.sequence)), 1)
    loop = rnn_by_hand if planned.method.name == "char-rnn" else transformer_by_hand
    start = clock()
    loop(config, codes, size, steps)
    return (clock() - start) / (steps * config.batch_size * config.sequence) * 1e6


def rnn_by_hand(config: Any, codes: Tensor, size: int, steps: int) -> None:
    """Train as many steps of a recurrent network, all within the first epoch."""
    embedding = nn.Embedding(size, config.embedding)
    cells = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[config.cell](
        config.embedding, config.hidden, config.layers, dropout=config.dropout if config.layers > 1 else 0.0
    )
    drop, head = nn.Dropout(config.dropout), nn.Linear(config.hidden, size)
    parameters = [*embedding.parameters(), *cells.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config.lr, betas=config.betas, fused=True)
    length = len(codes) // config.batch_size
    streams = codes[: length * config.batch_size].view(config.batch_size, length).T.contiguous()
    memory = None
    for step in range(steps):
        part = streams[step * config.sequence : (step + 1) * config.sequence + 1]
        optimizer.param_groups[0]["lr"] = scheduled(config.lr, config.schedule, step / steps)
        hidden, memory = cells(embedding(part[:-1]), memory)
        memory = tuple(m.detach() for m in memory) if config.cell == "lstm" else memory.detach()
        loss = cross_entropy(head(drop(hidden)).view(-1, size), part[1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()


def transformer_by_hand(config: Any, codes: Tensor, size: int, steps: int) -> None:
    """Train as many steps of a transformer."""
    model = Decoder(config, size)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    gains = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    for step in range(steps):
        starts = torch.randint(len(codes) - config.sequence, (config.batch_size,))
        x = torch.stack([codes[i : i + config.sequence] for i in starts])
        y = torch.stack([codes[i + 1 : i + 1 + config.sequence] for i in starts])
        for group in optimizer.param_groups:
            group["lr"] = scheduled(config.lr, config.schedule, step / steps)
        loss = cross_entropy(model(x).view(-1, size), y.view(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()


class Decoder(nn.Module):
    """A transformer of nanoGPT's kind."""

    def __init__(self, config: Any, size: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(size, config.width), nn.Embedding(config.sequence, config.width)
        self.blocks = nn.ModuleList(DecoderBlock(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, T, V)."""
        h = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return linear(self.norm(h), self.tokens.weight)


class DecoderBlock(nn.Module):
    """Attention and two dense layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, width)."""
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm_1(x)).split(width, dim=2)
        q, k, v = (part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in (q, k, v))
        y = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).contiguous().view(batch, length, width))
        return x + self.down(gelu(self.up(self.norm_2(x))))


# --- writing --------------------------------------------------------------------------------------


def writing(planned: Plan, characters: int, clock: Clock) -> float:
    """Return the characters a second of a sample."""
    algorithm: Any
    algorithm, _ = experiment.build(planned, threads=1)
    algorithm.sample(100, rng=np.random.default_rng(0))
    start = clock()
    algorithm.sample(characters, temperature=0.8, top_k=20, rng=np.random.default_rng(0))
    return characters / (clock() - start)


@click.command(help="Measure models of characters beside loops by hand; the module's docstring says how.")
@click.option("--methods", default=",".join(METHODS), show_default=True, help="Which, separated by commas.")
@click.option("--text", "target", default="tinyshakespeare", show_default=True, help="What to learn from.")
@click.option("--steps", default=200, show_default=True, help="Gradient steps of a measurement.")
@click.option("--repeats", default=5, show_default=True, help="Measurements of each.")
@click.option("--characters", default=10_000, show_default=True, help="Characters of a sample; 0: none.")
@click.option("--wall", is_flag=True, help="Take the clock on the wall instead of the processor's.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(
    methods: str, target: str, steps: int, repeats: int, characters: int, wall: bool, json_file: Path | None
) -> None:
    chosen = methods.split(",")
    if unknown := set(chosen) - set(METHODS):
        raise click.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(METHODS)}")
    torch.set_num_threads(1)
    clock: Clock = time.perf_counter if wall else time.process_time
    versions = measured_with("rllab", "torch", "numpy")
    click.echo(", ".join(f"{name} {value}" for name, value in versions.items()))
    ways: dict[str, Callable[[Plan, Clock], float]] = {"rllab": through_rllab, "bare": by_hand}
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for method in chosen:
            measured: dict[str, list[float]] = {way: [] for way in ways}
            for repeat in range(-1, repeats):  # the first is not counted: it loads what is loaded once
                for way in list(ways)[:: 1 if repeat % 2 else -1]:
                    number = steps if repeat >= 0 else math.ceil(steps / 20)
                    seconds = ways[way](plan(method, target, folder, max(repeat, 0), number), clock)
                    if repeat >= 0:
                        measured[way].append(seconds)
            results[method], lines = beside(measured, ".1f")
            click.echo("\n".join([f"{method}: seconds for a million characters", *lines]))
            if characters:
                rates = [writing(plan(method, target, folder, 0, steps), characters, clock) for _ in range(repeats)]
                results[method]["characters written a second"] = summary(rates)
                click.echo(f"  writes {spread(rates, ',.0f')} characters a second")
    if json_file is not None:
        json_file.write_text(json.dumps({"versions": versions, "steps": steps, **results}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
