"""`rllab info NAME`: a method's hyperparameters and presets, the options of a dataset or text, or what a run was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rllab import plugins
from rllab.errors import RllabError, RunNotFound, UnknownName

if TYPE_CHECKING:
    from rllab.config import Config
    from rllab.runfolder import RunFolder


@click.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON schema with defaults and presets.")
@click.option("--runs-dir", envvar="RLLAB_OPTION_RUNS_DIR", default="runs", show_default=True, help="Where runs are.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def info_command(name: str, as_json: bool, runs_dir: str, debug: bool) -> None:
    """Show the hyperparameters and presets of the method NAME, the options of a dataset or text, or what a run was."""
    from rllab.runfolder import RunFolder, find

    try:
        folder = RunFolder(find(name, Path(runs_dir)))
    except RunNotFound:
        if name == "last" or Path(name).exists() or os.sep in name:  # what was meant is a run
            raise
        data, methods = plugins.names(("rllab.datasets", "rllab.texts")), plugins.names(plugins.METHOD_GROUPS)
        known = name.partition("@")[0]
        if known in methods:
            _method(name, as_json=as_json)
        elif known in data:
            _data(name, as_json=as_json)
        else:
            what = "`rllab list` lists methods, datasets and texts; --runs-dir says where runs are."
            raise UnknownName("method, dataset, text or run", name, [*methods, *data], what) from None
        return
    folder.check()
    if as_json:
        click.echo(json.dumps({**folder.info, "status": folder.status}))
    else:
        _run(folder)
        _network(folder)


def _method(name: str, *, as_json: bool) -> None:
    from rllab.config import flag, to_text
    from rllab.planning import load_method

    method = load_method(name)
    config, presets = method.algorithm.Config, method.presets()
    if as_json:
        schema = config.model_json_schema()
        click.echo(json.dumps({"method": method.name, "unit": method.algorithm.unit, **schema, "presets": presets}))
        return
    click.echo(f"{method.name}, from {method.plugin.distribution} {method.plugin.version}")
    click.echo((method.algorithm.__doc__ or "").strip().split("\n")[0])
    _options("Hyperparameters", config)
    for preset, values in presets.items():
        click.echo(f"\nPreset {preset}:")
        click.echo("  " + "  ".join(f"{flag(n)} {to_text(v)}" for n, v in values.items()))


def _data(name: str, *, as_json: bool) -> None:
    """Tell of the dataset and of the text of this name; `folder` is both."""
    from rllab import data, text

    found: list[tuple[str, plugins.Plugin, type[data.Source] | type[text.TextSource]]] = []
    known = name.partition("@")[0]
    if known in plugins.names("rllab.datasets"):
        found.append(("dataset", plugins.get("rllab.datasets", name, "dataset"), data.source(name)))
    if known in plugins.names("rllab.texts"):
        found.append(("text", plugins.get("rllab.texts", name, "text"), text.source(name)))
    if as_json:
        schemas = [{kind: plugin.name, **source.Config.model_json_schema()} for kind, plugin, source in found]
        click.echo(json.dumps(schemas[0] if len(schemas) == 1 else schemas))
        return
    for kind, plugin, source in found:
        click.echo(f"{plugin.name}, a {kind} from {plugin.origin}")
        click.echo((source.__doc__ or "").strip().split("\n")[0])
        _options("Options", source.Config)
        if kind != found[-1][0]:
            click.echo()


def _options(title: str, config: type[Config]) -> None:
    """Print a row for each option: its default and its help."""
    from rllab.config import flag, to_text

    click.echo(f"\n{title}:")
    for name, field in config.model_fields.items():
        default = to_text(field.get_default(call_default_factory=True))
        click.echo(f"  {flag(name):26s} {default:12s} {field.description or ''}")


def _run(folder: RunFolder) -> None:
    from rllab.config import to_text

    info = folder.info
    click.echo(f"{folder.path}: {info['method']} on {info['task']}, seed {info['seed']}")
    click.echo(f"  status      {folder.status}" + (f" ({info['reason']})" if info.get("reason") else ""))
    click.echo(f"  command     {info['command']}")
    if info.get("best"):
        best = info["best"]
        metric = best.get("metric", info["objective"]["metric"])
        click.echo(f"  best        {metric} {best['value']:.6g} at {best['step']}")
    if info.get("totals"):
        click.echo(f"  trained     {info['totals']['steps']} {info['unit']} in {info['totals']['seconds']:.1f} s")
    click.echo("  options     (those not at their default)")
    values = {**info["config"], **info["task_config"], **info["options"]}
    for name, source in info["sources"].items():
        if name in values:
            click.echo(f"    {name:22s} {to_text(values[name]):16s} {source}")


def _network(folder: RunFolder) -> None:
    """Print the layers of a run's model, if it has any to show."""
    from rllab import experiment, planning

    try:
        method = planning.load_method(f"{folder.info['method']}@{folder.info['plugin']['distribution']}")
        if not hasattr(method.algorithm, "layers"):
            return
        model: Any = experiment.build(planning.reopen(folder, {"device": "cpu"}))[0]
    except RllabError as error:  # such as data that are not on this machine
        click.echo(f"  layers      cannot be shown: {error.message}")
        return
    rows = [("layer", "output", "parameters", "receptive field")]
    total = 0
    for name, shape, parameters, receptive_field in model.layers():
        field = f"{receptive_field} x {receptive_field}" if receptive_field else ""
        rows.append((name, " x ".join(map(str, shape)), f"{parameters:,}" if parameters else "", field))
        total += parameters
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    click.echo("  layers")
    for name, shape, number, field in rows:
        text = f"    {name:{widths[0]}}  {shape:>{widths[1]}}  {number:>{widths[2]}}  {field:>{widths[3]}}"
        click.echo(text.rstrip())
    click.echo(f"  parameters  {total:,} in all")
