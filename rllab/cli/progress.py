"""Progress a person likes: a live panel on a terminal, a line every few seconds elsewhere, a summary at the end."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rllab.algorithm import Metrics
from rllab.callbacks import Callback
from rllab.intervals import Interval
from rllab.planning import Plan
from rllab.runfolder import RunFolder
from rllab.state import State
from rllab.trainer import Status, Trainer

_EVERY_ON_TERMINAL = Interval.parse("0.25s")
_EVERY_ELSEWHERE = Interval.parse("5s")
_PREDICTING = {
    "eval/majority_accuracy": "always the most frequent class",
    "eval/mean_rmse": "always the mean of the targets",
}
_BASELINES = _PREDICTING | {
    "eval/unigram_nats": "characters by how often they occur",
    "eval/bigram_nats": "each by the one before it",
    "eval/gzip_nats": "gzip",
}
"""What stands beside a score, and how it is made; the first are those of what predicts targets."""
_NATS = frozenset(_BASELINES) - frozenset(_PREDICTING) | {"eval/nats_per_character"}
"""What is said in bits as well."""


def watch(planned: Plan, folder: RunFolder) -> Sequence[Callback]:
    """Return the callbacks that show the progress of a run, as `rllab.run` in Python does."""
    return Display(quiet=False, live=True).watch(planned, folder)


class Display:
    """What a run shows on stderr.

    Args:
        quiet: nothing at all.
        live: whether to show progress; the summary comes anyway.
    """

    def __init__(self, *, quiet: bool, live: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.live = live and not quiet

    def watch(self, planned: Plan, folder: RunFolder) -> Sequence[Callback]:
        """Say what starts, and return the callback that shows progress."""
        console = self.console
        presets = {source for source in planned.sources.values() if source.startswith("preset ")}
        used = f", {presets.pop()}" if presets else ""
        console.print(f"{planned.method.name} on {planned.task.name}, seed {planned.options.seed}{used}", style="bold")
        placed = folder.info.get("device")
        if placed:
            text = f"device {placed['name']}, threads {placed['threads']}: {placed['reason']}"
            console.print(text, style="dim", soft_wrap=not console.is_terminal)
        console.print(f"{folder.path}", style="dim", soft_wrap=True)
        if not self.live:
            return []
        return [Panels(console) if console.is_terminal else Lines(console)]

    def summary(self, folder: RunFolder, status: Status) -> None:
        """Print how a run ended, where it is, and what one would want next."""
        info, console = folder.info, self.console
        totals = info.get("totals") or {}
        trained = f"{totals.get('steps', 0):,} {info['unit']} in {_clock(totals.get('seconds', 0))}"
        console.print(f"{status.state.capitalize()} ({status.reason}): {trained}.", style="bold")
        metric = info["objective"]["metric"]
        last = (info.get("metrics") or {}).get(metric)
        if last is not None:
            best = info.get("best") or {}
            picked = f" {best['metric']}" if best and best["metric"] != metric else ""
            kept = f", best{picked} {best['value']:.4g} at step {best['step']:,}" if best else ""
            caption = (info.get("captions") or {}).get(metric)
            console.print(f"{metric} {_value(metric, last)} at the end{kept}" + (f" ({caption})" if caption else ""))
        measured = info.get("metrics") or {}
        for name, words in _BASELINES.items():
            if (baseline := measured.get(name)) is not None:
                console.print(f"The baseline, {words}: {_value(name, baseline)}")
        console.print(f"Run folder: {folder.path}", soft_wrap=True)
        if any(folder.media_files()):
            console.print(f"Pictures: {folder.media}", soft_wrap=True)
        path = shlex.quote(str(folder.path))
        again = f"rllab run {info['method']} {shlex.quote(info['task'])} --config {path}/config.toml"
        commands = [
            (f"rllab eval {path}" + (" --checkpoint best" if info.get("best") else ""), "measure it anew"),
            (f"tensorboard --logdir {shlex.quote(str(folder.path.parent))}", "look at the curves"),
            (f"{again} --seed {info['seed'] + 1}", "the same with another seed"),
        ]
        if any(name in measured for name in _PREDICTING):
            commands.insert(1, (f"rllab predict {path} INPUT", "ask it about something new"))
        if info.get("draws"):
            commands.insert(1, (f"rllab sample {path}", f"{'write' if metric in _NATS else 'draw'} something new"))
        if status.state == "stopped":
            commands[0] = (f"rllab resume {path}", "go on with it")
        for command, purpose in commands:
            line = Text(f"  {command}", style="cyan")
            if not console.is_terminal or line.cell_len + len(purpose) + 4 <= console.width:
                line.append(f"  # {purpose}", style="dim")
            console.print(line, soft_wrap=True)


class _Progress(Callback):
    """Remembers the last metrics; shows nothing by itself. It has no state worth keeping."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.shown: dict[str, float] = {}
        self.began = time.perf_counter()
        self.first_count = 0

    def on_start(self, trainer: Trainer) -> None:
        """Remember where this process begins."""
        super().on_start(trainer)
        self.began, self.first_count = time.perf_counter(), trainer.count
        self.shown |= trainer.logger.latest

    def on_evaluate(self, metrics: Metrics) -> None:
        """Remember the evaluation."""
        self.shown |= {name: float(value) for name, value in metrics.items()}

    def on_log(self, line: dict[str, float]) -> None:
        """Remember the line."""
        self.shown |= line

    def state_dict(self) -> State:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Do nothing."""

    def left(self) -> float:
        """Return the seconds this run will still take, at the pace so far, evaluations included; never below 0."""
        trainer = self.trainer
        done = trainer.count - self.first_count
        elapsed = time.perf_counter() - self.began
        return elapsed / done * max(0, trainer.algorithm.budget - trainer.count) if done else float("inf")

    def share(self) -> float:
        """Return how much of the budget is used, 1 at most: the last step may go a little beyond it."""
        return min(1.0, self.trainer.count / self.trainer.algorithm.budget)

    def scores(self) -> list[tuple[str, str]]:
        """Return what is worth showing, as names and texts."""
        objective = self.trainer.algorithm.objective(self.trainer.algorithm.task).metric
        rows = [(objective, "evaluation"), ("train/return", "return"), ("train/loss", "loss")]
        rows += [(name, name.removeprefix("train/")) for name in ("train/epsilon", "train/lr") if name in self.shown]
        return [(label, f"{self.shown[name]:.4g}") for name, label in rows if name in self.shown]


class Lines(_Progress):
    """A line every few seconds, for logs and notebooks."""

    every = _EVERY_ELSEWHERE

    def on_due(self) -> None:
        """Print a line."""
        trainer, budget = self.trainer, self.trainer.algorithm.budget
        speed = (trainer.count - self.first_count) / max(time.perf_counter() - self.began, 1e-9)
        scores = "  ".join(f"{label} {value}" for label, value in self.scores())
        self.console.print(
            f"{trainer.count:,}/{budget:,} {trainer.algorithm.unit} ({self.share():.0%})  "
            f"{speed:,.0f}/s  {_clock(self.left())} left  {scores}",
            soft_wrap=True,
        )


class Panels(_Progress):
    """A live panel on a terminal: bar, time left, speed, the last returns, the last evaluation."""

    every = _EVERY_ON_TERMINAL

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.panel = Live(console=console, auto_refresh=False, transient=True)

    def on_start(self, trainer: Trainer) -> None:
        """Open the panel."""
        super().on_start(trainer)
        self.panel.start()
        self.panel.update(self.render(), refresh=True)

    def on_due(self) -> None:
        """Draw the panel anew."""
        self.panel.update(self.render(), refresh=True)

    def on_evaluate(self, metrics: Metrics) -> None:
        """Show a new evaluation at once."""
        super().on_evaluate(metrics)
        self.panel.update(self.render(), refresh=True)

    def on_end(self, status: Status) -> None:
        """Close the panel."""
        self.panel.stop()

    def render(self) -> Panel:
        """Return the panel as it is now."""
        trainer = self.trainer
        count, budget = trainer.count, trainer.algorithm.budget
        speed = (count - self.first_count) / max(time.perf_counter() - self.began, 1e-9)
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        done = f"{count:>{len(f'{budget:,}')},}/{budget:,} {trainer.algorithm.unit}"
        left = f"{_clock(self.left())} left"
        bar.add_row(ProgressBar(total=budget, completed=count), Text(f"{self.share():4.0%}  {done}  {left:>10}"))
        return Panel(Group(bar, self._numbers(speed)), border_style="dim")

    def _numbers(self, speed: float) -> Text:
        """Return the numbers in places of fixed width, so that nothing jumps; as many as fit into a line."""
        room = self.console.width - 4  # the border
        line = Text(f"{speed:,.0f}/s".ljust(9), style="cyan", no_wrap=True, overflow="crop")
        for label, value in self.scores():
            width = 9 if label == "loss" else 6
            part = Text.assemble("  ", (f"{label} ", "dim"), (value.ljust(width), "default"))
            if line.cell_len + len(part.plain.rstrip()) > room:
                break
            line.append_text(part)
        line.truncate(room)
        return line


def _value(name: str, value: float) -> str:
    """Return the value of a metric; nats per character with the bits that they are."""
    return f"{value:.4g}" + (f" nats, {value / math.log(2):.4g} bits" if name in _NATS else "")


def _clock(seconds: float) -> str:
    """Return seconds as one reads them: 47 s, 3:05 min, 2:10 h."""
    if seconds == float("inf"):
        return "?"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"
