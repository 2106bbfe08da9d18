"""`rllab data`: which datasets and texts there are, what is in one, and fetching those that must be downloaded."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from rllab import plugins
from rllab.cli.completion import complete
from rllab.cli.listing import echo_table, first_line
from rllab.errors import PluginError, UnknownName, UsageError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from rllab.data import DatasetTask, Part
    from rllab.fetching import Fetchable, Progress
    from rllab.text import TextTask

_DATASETS, _TEXTS = "rllab.datasets", "rllab.texts"
_KINDS = {_DATASETS: "dataset", _TEXTS: "text"}
_KERNELS = ("edge", "blur", "sharpen", "emboss")
"""Those of `rllab.parts.samples`, which imports torch."""
_MOST_ROWS = 40
"""Rows that a table of classes or features has on screen; JSON has all."""


@click.group("data")
def data_command() -> None:
    """List, show and fetch datasets and texts."""


def _complete_name(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return complete(plugins.names(_KINDS), incomplete)


# --- list -----------------------------------------------------------------------------------------


@data_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--debug", is_flag=True, hidden=True, expose_value=False, help="Show the traceback of an error.")
def list_command(as_json: bool) -> None:
    """List datasets and texts, and whether each is on this machine."""
    entries = [_entry(plugin.full_name if shared else plugin.name, plugin) for plugin, shared in _plugins()]
    if as_json:
        click.echo(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    rows = [
        (entry["name"], entry["kind"], _here(entry), entry["description"] or f"broken: {entry['broken']}")
        for entry in entries
    ]
    echo_table(("NAME", "KIND", "HERE", "DESCRIPTION"), rows)
    if absent := [str(entry["name"]) for entry in entries if entry["here"] is False and entry["can_fetch"]]:
        click.echo(f"`rllab data fetch {absent[0]}` downloads it.", err=True)


def _plugins() -> list[tuple[plugins.Plugin, bool]]:
    found = [plugin for group in _KINDS for plugin in plugins.find(group)]
    shared = plugins.clashes(found)
    return [(plugin, plugin in shared) for plugin in found]


def _entry(name: str, plugin: plugins.Plugin) -> dict[str, Any]:
    """Return what is known of a dataset or text; one that cannot be imported costs a line."""
    entry: dict[str, Any] = {"name": name, "kind": _KINDS[plugin.group], "distribution": plugin.distribution}
    entry |= {"here": None, "missing": None}
    try:
        found = _source(plugin.full_name, plugin.group)
        entry["missing"] = found.missing()
    except PluginError as error:
        return {**entry, "can_fetch": False, "description": "", "broken": one_line(error)}
    here = None if found.takes_path else entry["missing"] is None
    return {**entry, "here": here, "can_fetch": found.can_fetch(), "description": first_line(found)}


def _source(name: str, group: str) -> type[Fetchable]:
    from rllab import data, text

    return text.source(name) if group == _TEXTS else data.source(name)


def _group(name: str) -> str:
    """Return the group that has a plugin of this name: of datasets, or else of texts.

    Raises:
        UnknownName: if there is neither.
    """
    bare = name.partition("@")[0]
    for group in _KINDS:
        if bare in plugins.names(group):
            return group
    raise UnknownName("dataset or text", name, plugins.names(_KINDS), "`rllab data list` lists them.")


def _here(entry: dict[str, Any]) -> str:
    return {True: "yes", False: "no", None: "-"}[entry["here"]]


# --- show -----------------------------------------------------------------------------------------


class _ShowCommand(click.Command):
    """`rllab data show NAME`; the options of the dataset or text join when it is known."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add the options of the dataset or text, then parse."""
        from rllab.options import options_of, target_among

        own = [parameter for parameter in self.params if not hasattr(parameter, "section")]
        options = [parameter for parameter in own if isinstance(parameter, click.Option)]
        name = target_among(args, plugins.names(_KINDS), options, ctx)
        kind = _task_class(name, as_text="--text" in args)
        self.params = [*own, *options_of(kind.config_class(name), f"The {kind.kind}")]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of the dataset or text under a heading of their own."""
        from rllab.options import SectionedCommand

        SectionedCommand.format_options(self, ctx, formatter)  # type: ignore[arg-type]


@data_command.command("show", cls=_ShowCommand)
@click.argument("name", shell_complete=_complete_name)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Draw samples into this file.")
@click.option("--text", "as_text", is_flag=True, help="Read the folder NAME as a text.")
@click.option("--kernel", type=click.Choice(_KERNELS), help="Draw what this kernel makes of images.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The seed of the run it is for.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--debug", is_flag=True, hidden=True, expose_value=False, help="Show the traceback of an error.")
@click.pass_context
def show_command(
    context: click.Context,
    /,
    name: str,
    output: Path | None,
    as_text: bool,
    kernel: str | None,
    seed: int,
    as_json: bool,
    **_: Any,
) -> None:
    """Show sizes, classes, shapes, base rates and ranges of a dataset; -o FILE.png draws samples.

    Of a text, show its parts, its first lines and its characters; -o FILE.png draws how frequent they are. NAME is
    one of `rllab data list`, or a path: of a CSV file, of a folder with a subfolder for each class, or of a text.
    """
    from rllab.cli import texts
    from rllab.options import given
    from rllab.text import TextTask

    kind = _task_class(name, as_text=as_text)
    config = kind.config_class(name)
    values = {option: value for option, value in given(context).items() if option in config.model_fields}
    try:
        task = kind.open(name, config.parse(values), seed=seed)
    except UsageError as error:
        if kind is TextTask or not Path(name).expanduser().is_dir():
            raise
        raise UsageError(error.message, f"{error.hint or ''} --text reads the folder as a text.".strip()) from None
    if kernel and (isinstance(task, TextTask) or len(task.shape) != 3):
        what = "is a text" if isinstance(task, TextTask) else f"has {_shape(task)}"
        raise UsageError(f"--kernel {kernel} is for images, and {name} {what}")
    described = texts.describe(task) if isinstance(task, TextTask) else describe(task)
    drawn = None
    if output or kernel:
        picture = texts.picture(described) if isinstance(task, TextTask) else _picture(task, kernel)
        drawn = _save(picture, output or Path(f"{task.slug}-{kernel}.png"))
    if as_json:
        click.echo(json.dumps({**described, "picture": str(drawn) if drawn else None}, indent=2, ensure_ascii=False))
        return
    if isinstance(task, TextTask):
        texts.echo(described)
    else:
        _print(task, described)
    if drawn:
        click.echo(f"Drawn into {drawn}", err=True)


def _task_class(name: str, *, as_text: bool) -> type[DatasetTask] | type[TextTask]:
    """Return what opens a name or path; a folder is a dataset unless it is asked for as a text.

    Raises:
        UnknownName: if there is neither a dataset nor a text of that name.
    """
    from rllab import text
    from rllab.data import DatasetTask, plugin_name

    bare = name.partition("@")[0]
    if as_text or (bare in plugins.names(_TEXTS) and bare not in plugins.names(_DATASETS)):
        return text.TextTask
    if plugin_name(name) in plugins.names(_DATASETS):
        return DatasetTask
    if text.plugin_name(name) == "file":
        return text.TextTask
    if name:
        _group(name)
    return DatasetTask


def describe(task: DatasetTask) -> dict[str, Any]:
    """Return what is in a dataset, as JSON has it: parts, classes and their shares, ranges of the values."""
    data = task.data
    parts = {name: _part(part, data.classes) for name, part in data.parts.items()}
    columns = [data.train.inputs[:, n] for n in range(len(data.features))] if len(data.shape) == 1 else []
    return {
        "name": task.name,
        "shape": list(data.shape),
        "type": str(data.train.inputs.dtype).removeprefix("torch."),
        "target": data.target,
        "classes": list(data.classes),
        "notes": data.notes,
        "parts": parts,
        "features": {name: _range(column) for name, column in zip(data.features, columns, strict=False)},
    }


def _part(part: Part, classes: Sequence[str]) -> dict[str, Any]:
    described: dict[str, Any] = {"items": len(part), "inputs": _range(part.inputs)}
    if not classes:
        return {
            **described,
            "targets": {**_range(part.targets), "deviation": float(part.targets.double().std(correction=0))},
        }
    counts = part.targets.bincount(minlength=len(classes)).tolist()
    return {**described, "counts": dict(zip(classes, counts, strict=True)), "base_rate": max(counts) / len(part)}


def _range(values: Tensor) -> dict[str, float]:
    import torch

    total = values.sum(dtype=torch.float64 if values.is_floating_point() else torch.int64)
    return {
        "lowest": float(values.min()),
        "mean": float(total) / max(values.numel(), 1),
        "highest": float(values.max()),
    }


def _shape(task: DatasetTask) -> str:
    from rllab.data import describe_shape

    return describe_shape(task.shape)


def _print(task: DatasetTask, described: dict[str, Any]) -> None:
    parts, classes = described["parts"], described["classes"]
    kind = f"{len(classes)} classes" if classes else "a number to predict"
    total = sum(part["items"] for part in parts.values())
    click.echo(f"{task.name}: {total} items, {_shape(task)} ({described['type']}), {kind}: {described['target']}")
    for name, text in described["notes"].items():
        click.echo(f"{name}: {text}")
    click.echo()
    header = ("PART", "ITEMS", "LOWEST", "MEAN", "HIGHEST", "BASE RATE" if classes else "TARGET")
    echo_table(header, [(name, part["items"], *_numbers(part["inputs"]), _last(part)) for name, part in parts.items()])
    if classes:
        click.echo()
        rows = [(label, *(_share(part, label) for part in parts.values())) for label in classes]
        _echo_some(("CLASS", *map(str.upper, parts)), rows)
    if described["features"]:
        click.echo()
        rows = [(name, *_numbers(found)) for name, found in described["features"].items()]
        _echo_some(("FEATURE", "LOWEST", "MEAN", "HIGHEST"), rows)


def _share(part: dict[str, Any], label: str) -> str:
    return f"{part['counts'][label]} ({part['counts'][label] / part['items']:.2%})"


def _last(part: dict[str, Any]) -> str:
    if "base_rate" in part:
        return f"{part['base_rate']:.2%}"
    lowest, mean, highest = _numbers(part["targets"])
    return f"{lowest} to {highest}, mean {mean}, deviation {part['targets']['deviation']:.5g}"


def _numbers(found: dict[str, float]) -> tuple[str, str, str]:
    lowest, mean, highest = (f"{found[name]:.5g}" for name in ("lowest", "mean", "highest"))
    return lowest, mean, highest


def _echo_some(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    echo_table(header, rows[:_MOST_ROWS])
    if len(rows) > _MOST_ROWS:
        click.echo(f"... and {len(rows) - _MOST_ROWS} more; --json has them all")


def _picture(task: DatasetTask, kernel: str | None) -> Image:
    from rllab.parts import plots

    return plots.kernel(task, kernel) if kernel else plots.samples(task)


def _save(picture: Image, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except ValueError:
        raise UsageError(f"-o {path}: no picture has that ending", "Such as samples.png.") from None
    except OSError as error:
        raise UsageError(f"-o {path}: {error.strerror or error}") from None
    return path


# --- fetch ----------------------------------------------------------------------------------------


@data_command.command("fetch")
@click.argument("name", shell_complete=_complete_name)
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="The folder of all data. [RLLAB_DATA]")
@click.option("--from", "mirror", metavar="URL", help="Fetch from here: an address, or a folder that has the files.")
@click.option("--debug", is_flag=True, hidden=True, expose_value=False, help="Show the traceback of an error.")
def fetch_command(name: str, to: Path | None, mirror: str | None) -> None:
    """Download the files of a dataset or text, go on with a download that was cut off, and check what came.

    They go to NAME in the folder --to, else in $RLLAB_DATA, else in the user's data folder.
    """
    from rllab import fetching

    found = _source(name, _group(name))
    if not found.can_fetch():
        raise UsageError(f"there is nothing to fetch for {name}: {_why_not(found)}")
    files = fetch(name, to, [fetching.mirror(mirror)] if mirror else [])
    for file in files:
        click.echo(file)
    if to is not None and to.expanduser().resolve() != fetching.data_folder().resolve():
        click.echo(f"A run finds them with RLLAB_DATA={shlex.quote(str(to))}.", err=True)


def _why_not(found: type[Fetchable]) -> str:
    if found.takes_path:
        return "it is data of your own, by its path"
    return found.missing() or "it comes with a package, or is made when it is needed"


def fetch(name: str, to: Path | None = None, mirrors: Sequence[str] = ()) -> list[Path]:
    """Fetch a dataset or text, showing progress on a terminal; return its files."""
    from rllab import fetching

    folder = (to.expanduser() if to is not None else fetching.data_folder()) / name.partition("@")[0]
    with _progress() as progress:
        return _source(name, _group(name)).fetch(folder, mirrors, progress)


def offer(target: str, *, quiet: bool) -> bool:
    """On a terminal, ask whether to fetch what is missing, and do; return whether it is there now.

    Args:
        target: the name of a dataset or text, as the user wrote it.
        quiet: ask nothing.
    """
    is_named = target.partition("@")[0] in plugins.names(_KINDS)
    if quiet or not is_named or not _on_terminal() or not _source(target, _group(target)).can_fetch():
        return False
    if not click.confirm(f"{target} is not on this machine. Fetch it now?", default=True, err=True):
        return False
    fetch(target)
    return True


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Show a bar for each file while the block runs, if stderr is a terminal; else nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    bars: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as shown:

        def progress(name: str, done: int, total: int | None) -> None:
            if name not in bars:
                bars[name] = shown.add_task(name, total=total)
            shown.update(bars[name], completed=done, total=total)

        yield progress
