"""What `rllab data show` tells of a text: its parts, its first lines and its characters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rllab.cli.listing import echo_table

if TYPE_CHECKING:
    from PIL.Image import Image

    from rllab.text import TextTask

_LINES = 8
"""First lines that are shown."""
_WIDTH = 100
"""Characters of a line that are shown."""
_ROWS = 20
"""Characters that have a row of the table on screen, and a bar in the picture; JSON has all."""


def describe(task: TextTask) -> dict[str, Any]:
    """Return what is in a text, as JSON has it: parts, first lines, and how often each character occurs."""
    import torch

    size = len(task.vocabulary)
    counts = {name: torch.bincount(part.int(), minlength=size) for name, part in task.text.parts.items()}
    total = torch.stack(list(counts.values())).sum(0)
    order = torch.argsort(total, descending=True, stable=True).tolist()
    known = counts["train"] > 0
    return {
        "name": task.name,
        "kind": task.kind,
        "characters": task.size,
        "vocabulary_size": size,
        "vocabulary": task.vocabulary,
        "notes": task.text.notes,
        "parts": {
            name: {
                "characters": int(count.sum()),
                "different": int((count > 0).sum()),
                "unseen": task.decode(((count > 0) & ~known).nonzero().flatten()),
            }
            for name, count in counts.items()
        },
        "first_lines": _first_lines(task),
        "frequencies": {task.vocabulary[number]: int(total[number]) for number in order},
    }


def _first_lines(task: TextTask) -> list[str]:
    lines = task.decode(task.text.train[: _LINES * _WIDTH * 2]).split("\n")[:_LINES]
    return [line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…" for line in lines]


def echo(described: dict[str, Any]) -> None:
    """Print what `describe` has found."""
    frequencies, total = described["frequencies"], described["characters"]
    click.echo(f"{described['name']}: {total} characters, {described['vocabulary_size']} different ones")
    for name, text in described["notes"].items():
        click.echo(f"{name}: {text}")
    click.echo()
    rows = [
        (name, part["characters"], f"{part['characters'] / total:.2%}", part["different"], len(part["unseen"]))
        for name, part in described["parts"].items()
    ]
    echo_table(("PART", "CHARACTERS", "SHARE", "DIFFERENT", "NOT IN TRAIN"), rows)
    click.echo("\nIt begins with:\n")
    for line in described["first_lines"]:
        # what a terminal would obey instead of showing it is not for a text to say
        click.echo(("  " + "".join(c if c.isprintable() else " " for c in line)).rstrip())
    click.echo()
    shown = list(frequencies.items())[:_ROWS]
    echo_table(("CHARACTER", "COUNT", "SHARE"), [(repr(c), count, f"{count / total:.2%}") for c, count in shown])
    if len(frequencies) > _ROWS:
        click.echo(f"... and {len(frequencies) - _ROWS} more; --json has them all")


def picture(described: dict[str, Any]) -> Image:
    """Return the most frequent characters as bars."""
    from rllab.parts import drawing, plots

    frequencies, total = described["frequencies"], described["characters"]
    shown = list(frequencies.items())[:_ROWS]
    title = f"{described['name']}: the {len(shown)} most frequent of {len(frequencies)} characters"
    shares = [100 * count / total for _, count in shown]
    return drawing.render(plots.bars([repr(c) for c, _ in shown], shares, "share of the text in %", title))
