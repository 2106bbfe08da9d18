"""`rllab info NAME`: a method's hyperparameters and presets, or what a run was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from rllab.errors import RunNotFound


@click.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON schema with defaults and presets.")
@click.option("--runs-dir", envvar="RLLAB_OPTION_RUNS_DIR", default="runs", show_default=True, help="Where runs are.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def info_command(name: str, as_json: bool, runs_dir: str, debug: bool) -> None:
    """Show the hyperparameters and presets of the method NAME, or what the run NAME was."""
    from rllab.runfolder import RunFolder, find

    try:
        folder = RunFolder(find(name, Path(runs_dir)))
    except RunNotFound:
        if name == "last" or Path(name).exists() or os.sep in name:  # what was meant is a run
            raise
        _method(name, as_json=as_json)
        return
    folder.check()
    if as_json:
        click.echo(json.dumps({**folder.info, "status": folder.status}))
    else:
        _run(folder)


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
    click.echo("\nHyperparameters:")
    for field_name, field in config.model_fields.items():
        default = to_text(field.get_default(call_default_factory=True))
        click.echo(f"  {flag(field_name):26s} {default:12s} {field.description or ''}")
    for preset, values in presets.items():
        click.echo(f"\nPreset {preset}:")
        click.echo("  " + "  ".join(f"{flag(n)} {to_text(v)}" for n, v in values.items()))


def _run(folder: Any) -> None:
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
