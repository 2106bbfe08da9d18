"""`rllab list` and `rllab plugins`: what is installed, from metadata alone unless asked to import it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from rllab import plugins
from rllab.cli import COMMANDS
from rllab.errors import PluginError
from rllab.plugins import METHOD_GROUPS, Plugin

KINDS: dict[str, tuple[str, ...]] = {
    "agents": ("rllab.agents",),
    "generative": ("rllab.generative",),
    "supervised": ("rllab.supervised",),
    "envs": ("rllab.envs",),
    "datasets": ("rllab.datasets",),
    "texts": ("rllab.texts",),
    "callbacks": ("rllab.callbacks",),
    "loggers": ("rllab.loggers",),
    "methods": METHOD_GROUPS,
}
"""What `rllab list` can be asked for, and the entry-point groups behind it."""

_LISTED = tuple(group for kind, groups in KINDS.items() if kind != "methods" for group in groups)


@click.command("list")
@click.argument("kind", required=False, metavar="[KIND]", type=click.Choice(list(KINDS)))
@click.option("--details", is_flag=True, help="Import each and show what it says of itself.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--debug", is_flag=True, hidden=True, expose_value=False, help="Show the traceback of an error.")
def list_command(kind: str | None, details: bool, as_json: bool) -> None:
    """List methods, environments, datasets, texts, callbacks and loggers.

    KIND is agents, generative or supervised (methods for all three), envs, datasets, texts, callbacks or
    loggers. `rllab list agents --details` tells which actions and observations each agent takes.
    """
    found = plugins.find(KINDS[kind] if kind else _LISTED)
    found.sort(key=lambda plugin: (_LISTED.index(plugin.group), plugin))
    shared = plugins.clashes(plugins.find())
    entries: list[dict[str, Any]] = [
        {
            # where two have the name, this is what to say instead
            "name": plugin.full_name if plugin in shared else plugin.name,
            "kind": plugin.group.removeprefix("rllab."),
            "distribution": plugin.distribution,
            "version": plugin.version,
        }
        for plugin in found
    ]
    if details:
        for entry, plugin in zip(entries, found, strict=True):
            entry.update(_details(plugin))
    if as_json:
        _echo_json(entries)
    elif entries and details and kind == "agents":
        echo_table(("NAME", "ACTIONS", "OBSERVATIONS", "DETAILS"), [_agent_row(entry) for entry in entries])
    elif entries:
        shown = [
            (entry["name"], entry["kind"], plugin.origin, *_detail_cell(entry, details))
            for entry, plugin in zip(entries, found, strict=True)
        ]
        echo_table(("NAME", "KIND", "FROM", *(("DETAILS",) if details else ())), shown)
    else:
        click.echo(f"No {kind or 'plugins'} are installed.", err=True)
    if kind in (None, "envs") and not as_json:
        click.echo("Any environment that Gymnasium knows, such as CartPole-v1, can be named too.", err=True)


@click.command("plugins")
@click.option("--check", is_flag=True, help="Import every plugin; exit code 4 if one is broken.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--debug", is_flag=True, hidden=True, expose_value=False, help="Show the traceback of an error.")
@click.pass_context
def plugins_command(context: click.Context, check: bool, as_json: bool) -> None:
    """List all plugins with the distributions that have them, and whether they are usable."""
    found = plugins.find()
    shared = plugins.clashes(found)
    # what has not even the form of an entry point is told without importing anything
    broken = {p: plugins.check(p) if check or not p.is_well_formed else None for p in found}
    for plugin in found:
        if plugin.group == "rllab.commands" and plugin.name in COMMANDS:
            broken[plugin] = "rllab has a command of this name, which is used instead"
    entries = [
        {
            "name": plugin.name,
            "group": plugin.group,
            "value": plugin.value,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "status": _status(checked=check, cause=broken[plugin], clash=plugin in shared),
            "cause": broken[plugin],
        }
        for plugin in found
    ]
    if as_json:
        _echo_json(entries)
    elif entries:
        columns = ("name", "group", "distribution", "version")
        rows = [
            (
                *(entry[column] or "-" for column in columns),
                _status_cell(plugin, entry),
            )
            for entry, plugin in zip(entries, found, strict=True)
        ]
        echo_table((*map(str.upper, columns), "STATUS"), rows)
    else:
        click.echo("No plugins are installed.", err=True)
    if check and any(broken.values()):
        context.exit(PluginError.exit_code)


def echo_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows in columns as wide as their widest cell: plain text, on a terminal as in a file."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def first_line(documented: object) -> str:
    """Return the first line of an object's docstring, empty if it has none."""
    lines = (getattr(documented, "__doc__", None) or "").strip().splitlines()
    return lines[0].strip() if lines else ""


def _details(plugin: Plugin) -> dict[str, Any]:
    cause = plugins.check(plugin)
    if cause:
        return {"broken": cause}
    loaded: Any = plugins.load(plugin)
    found = {"description": first_line(loaded)}
    if plugin.group != "rllab.agents":
        return found
    from rllab.cli.spaces import taken_by

    return {**found, **taken_by(loaded)._asdict()}


def _agent_row(entry: dict[str, Any]) -> tuple[str, ...]:
    """Return name, actions, observations and what else there is to say of an agent."""
    if "broken" in entry:
        return entry["name"], "-", "-", f"broken: {entry['broken']}"
    spaces = [", ".join(entry[kind]) or "-" for kind in ("actions", "observations")]
    return entry["name"], *spaces, " ".join(filter(None, [entry["description"], _condition(entry)]))


def _condition(entry: dict[str, Any]) -> str:
    """Return what an agent wants besides spaces."""
    refusal: str = entry["refusal"] or ""
    return f"Refuses others: {refusal}" if refusal and "cannot be asked" not in refusal else refusal


def _detail_cell(entry: dict[str, Any], details: bool) -> tuple[str, ...]:
    if not details:
        return ()
    return (f"broken: {entry['broken']}" if "broken" in entry else entry["description"],)


def _status(*, checked: bool, cause: str | None, clash: bool) -> str:
    if cause:
        return "broken"
    if clash:
        return "clash"
    return "ok" if checked else "not checked"


def _status_cell(plugin: Plugin, entry: dict[str, Any]) -> str:
    if entry["cause"]:
        return f"broken: {entry['cause']}"
    return f"clash: say {plugin.full_name}" if entry["status"] == "clash" else str(entry["status"])


def _echo_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
