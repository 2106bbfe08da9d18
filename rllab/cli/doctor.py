"""`rllab doctor`: what there is, what is broken, and which device `auto` would pick and why.

Each finding is a line. A piece that cannot even be looked at is a line as well, and never a traceback.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rllab import plugins
from rllab.cli.completion import complete
from rllab.errors import PluginError, RllabError, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from rllab.device import Inventory

RUNS = Path("runs")

_NEEDED = ("torch", "gymnasium", "numpy", "pydantic", "click", "safetensors", "tensorboard")
_TYPICAL = (
    ("a small network", "two hidden layers of 64, batch 64", 9.3e5),
    ("a large network", "the convolutional network for Atari, batch 32", 9e8),
)


@dataclass(frozen=True)
class Finding:
    """A line of the report.

    Attributes:
        section: what it is about.
        name: of the piece.
        value: what was found.
        exit_code: 0 if all is well, else what `rllab doctor` ends with.
    """

    section: str
    name: str
    value: str
    exit_code: int = 0


def _complete_method(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return complete(plugins.names(plugins.METHOD_GROUPS), incomplete)


@click.command("doctor")
@click.argument("method", required=False, shell_complete=_complete_method)
@click.argument("target", required=False)
@click.option("--calibrate", is_flag=True, help="Train METHOD on TARGET for seconds in each way, and compare.")
@click.option("--num-envs", type=click.IntRange(1), help="With --calibrate: parallel environments.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="With --calibrate: how long each way is measured.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--debug", is_flag=True, hidden=True, expose_value=False, help="Show the traceback of an error.")
@click.pass_context
def doctor_command(
    context: click.Context,
    method: str | None,
    target: str | None,
    calibrate: bool,
    num_envs: int | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Say what this machine and installation have, what is broken, and what --device auto picks and why.

    With METHOD and TARGET also what it picks for them. With --calibrate it is measured whether that is the fastest:
    device, threads, and what steps the environments. Exit code 4 if a plugin is broken.
    """
    if calibrate:
        _calibrate(method, target, {} if num_envs is None else {"num_envs": num_envs}, seconds, as_json)
        return
    if num_envs is not None:
        raise UsageError("--num-envs is for --calibrate", "Say `rllab doctor --calibrate METHOD TARGET --num-envs N`.")
    inventory = _inventory()
    choices = _choices(inventory, method, target)
    findings = [*_versions(), *_machine(inventory), *_extras(), *_plugins(), *choices]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        _report(findings)
    context.exit(next((finding.exit_code for finding in findings if finding.exit_code), 0))


def _report(findings: list[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    section = ""
    for finding in findings:
        if finding.section != section:
            click.echo(f"{chr(10) if section else ''}{finding.section}")
            section = finding.section
        mark = "!" if finding.exit_code else " "
        click.echo(f"{mark} {finding.name.ljust(width)}  {finding.value}".rstrip())


def _calibrate(method: str | None, target: str | None, values: dict[str, int], seconds: float, as_json: bool) -> None:
    """Measure how fast a method trains in each way, and print a table."""
    if method is None or target is None:
        raise UsageError(
            "--calibrate needs a METHOD and a TARGET: how fast each way is depends on them",
            "Say `rllab doctor --calibrate dqn CartPole-v1`, for example.",
        )
    from rllab.calibration import calibrate

    found = calibrate(method, target, values, seconds=seconds)
    if as_json:
        more = {"holds": found.holds, "fastest": asdict(found.fastest.setting), "verdict": found.verdict}
        click.echo(json.dumps({"method": method, "target": target, **asdict(found), **more}, indent=2))
        return
    envs = f", {found.num_envs} environment{'s' * (found.num_envs > 1)}" if found.num_envs else ""
    click.echo(f"{method} on {target}{envs}; auto picks {found.picked}: {found.reason}\n")
    head = ("device", "threads", "environments by", found.unit, "ratio", "")
    lines = [head] + [
        (
            row.setting.device,
            str(row.setting.threads),
            row.setting.backend or "",
            "-" if row.rate is None else f"{row.rate:,.0f}",
            "-" if row.ratio is None else f"{row.ratio:.2f}",
            row.note,
        )
        for row in found.rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        left = [cell.ljust(width) for cell, width in zip(line[:3], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(line[3:5], widths[3:], strict=False)]
        click.echo("  ".join([*left, *right, line[5]]).rstrip())
    click.echo(f"\n{found.verdict}")


# --- what there is --------------------------------------------------------------------------------


def _versions() -> Iterator[Finding]:
    section = "versions"
    yield Finding(section, "rllab", _version("rllab") or "not installed, used from a folder")
    yield Finding(section, "python", f"{platform.python_version()} ({sys.executable})")
    for name in _NEEDED:
        found = _version(name)
        if found is None:
            yield Finding(section, name, f"missing; pip install {name}", PluginError.exit_code)
        else:
            yield Finding(section, name, found)


def _machine(inventory: Inventory | str) -> Iterator[Finding]:
    section = "machine"
    yield Finding(section, "platform", platform.platform())
    if isinstance(inventory, str):
        yield Finding(section, "torch", f"cannot be used: {inventory}", PluginError.exit_code)
    else:
        cores = "1 core" if inventory.cores == 1 else f"{inventory.cores} cores"
        yield Finding(section, "cpu", f"{inventory.cpu}, {cores} for this process")
        yield Finding(section, "threads", _attempt(_torch_threads))
        free, total = _size(inventory.memory_free), _size(inventory.memory_total)
        yield Finding(section, "memory", f"{free} free of {total}")
        build = f"torch is built for {inventory.cuda_build}" if inventory.cuda_build else "torch is built without"
        yield Finding(section, "cuda", "; ".join(map(str, inventory.cuda)) or f"no device ({build})")
        yield Finding(section, "mps", "yes" if inventory.mps else "no")
    yield Finding(section, "disk", _attempt(_disk))


def _torch_threads() -> str:
    import torch

    return f"{torch.get_num_threads()} if torch decides"


def _disk() -> str:
    folder = RUNS.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    return f"{_size(shutil.disk_usage(existing).free)} free for {folder}"


def _extras() -> Iterator[Finding]:
    for extra, requirements in sorted(plugins.extras(plugins.HUB).items()):
        missing = sorted({name for name in requirements if not _is_installed(name)})
        if missing:
            value = f"not installed ({', '.join(missing)}); pip install '{plugins.HUB}[{extra}]'"
        else:
            value = "installed"
        yield Finding("extras", extra, value)


def _is_installed(requirement: str) -> bool:
    """Whether a requirement is there, such as `ray` or `gymnasium[box2d]`, and what its own extras want."""
    name, _, inner = requirement.partition("[")
    if _version(name) is None:
        return False
    offered = plugins.extras(name)
    chosen = [extra.strip() for extra in inner.rstrip("]").split(",") if extra.strip()]
    return all(_version(wanted.partition("[")[0]) for extra in chosen for wanted in offered.get(extra, []))


def _plugins() -> Iterator[Finding]:
    section = "plugins"
    found = plugins.find()
    shared = plugins.clashes(found)
    broken = {plugin: cause for plugin in found if (cause := plugins.check(plugin))}
    usable = f"{len(found) - len(broken)} of {len(found)}"
    yield Finding(section, "usable", usable if found else "none; rllab's own come with `pip install rllab`")
    for plugin, cause in broken.items():
        yield Finding(section, plugin.name, f"{plugin.origin}: {cause}", PluginError.exit_code)
    for plugin in sorted(shared):
        yield Finding(section, plugin.name, f"{plugin.origin}: another has this name; say {plugin.full_name}")


# --- what auto picks ------------------------------------------------------------------------------


def _choices(inventory: Inventory | str, method: str | None, target: str | None) -> Iterator[Finding]:
    section = "--device auto picks"
    if isinstance(inventory, str):
        yield Finding(section, "nothing", "torch cannot be used", PluginError.exit_code)
        return
    from rllab.device import choose

    for name, example, work in _TYPICAL:
        choice = choose(inventory, work=work)
        yield Finding(section, name, f"{choice} (as for {example})")
    if method is None:
        return
    name = " ".join(filter(None, [method, target]))
    try:
        if target is None:
            plugins.load(plugins.method(method))
            yield Finding(section, name, "name a TARGET as well: the choice depends on it")
        else:
            yield Finding(section, name, str(choose(inventory, work=_work(method, target))))
    except RllabError as error:
        yield Finding(section, name, _one_line(error), error.exit_code)
    except Exception as error:  # noqa: BLE001 - whatever a plugin does wrong is a line of the report
        yield Finding(section, name, f"cannot be worked out: {_brief(error)}", PluginError.exit_code)


def _work(method: str, target: str) -> float | None:
    from rllab.planning import plan

    planned = plan(method, target, {})
    try:
        return planned.algorithm_class.work(planned.config, planned.task)
    finally:
        planned.task.close()


# --- small things ---------------------------------------------------------------------------------


def _inventory() -> Inventory | str:
    """Return the machine's inventory, or why there is none: torch missing or damaged."""
    try:
        from rllab.device import Inventory

        return Inventory.probe()
    except Exception as error:  # noqa: BLE001 - a damaged torch raises what it likes
        return _brief(error)


def _attempt(look: Callable[[], str]) -> str:
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - as above
        return f"unknown: {_brief(error)}"


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _one_line(error: RllabError) -> str:
    return " ".join(". ".join(filter(None, [error.message.rstrip("."), error.hint])).split())


def _version(distribution: str) -> str | None:
    try:
        return str(importlib.metadata.version(distribution))
    except (importlib.metadata.PackageNotFoundError, OSError, UnicodeError, KeyError, ValueError):
        return None


def _size(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
