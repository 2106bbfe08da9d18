"""`rllab new agent NAME`: a small installable package to start from."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shlex
from importlib import resources
from pathlib import Path
from string import Template

import click

from rllab import plugins
from rllab.errors import RunFailed, UsageError

_FILES = {
    "pyproject.toml.in": "pyproject.toml",
    "README.md.in": "README.md",
    "package.py.in": "{package}/__init__.py",
    "test.py.in": "tests/test_{package}.py",
}


@click.group("new")
def new_command() -> None:
    """Write a small installable package to start from."""


@new_command.command("agent")
@click.argument("name")
@click.option("--directory", type=click.Path(path_type=Path), help="Where to write it; by default a folder NAME.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def new_agent(name: str, directory: Path | None, debug: bool) -> None:
    """Write a package with a working toy agent, its entry point and its test.

    NAME is what it will be called in `rllab run NAME`: lower case, digits and hyphens.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(f"{name!r} is no name for an agent", "Use lower-case letters, digits and hyphens: my-agent.")
    for group in plugins.METHOD_GROUPS:
        for plugin in plugins.find(group):
            if plugin.name == name:
                raise UsageError(f"there is a method called {name!r} already, from {plugin.distribution}")
    package = name.replace("-", "_")
    if keyword.iskeyword(package) or _is_module(package):
        raise UsageError(f"{name!r} is no name for a package: Python has {package!r} already", "Take another one.")
    values = {
        "name": name,
        "package": package,
        "class": "".join(part.capitalize() for part in name.split("-")),
    }
    folder = directory or Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already and is not empty")
    templates = resources.files("rllab") / "templates" / "agent"
    try:
        for source, target in _FILES.items():
            path = folder / target.format(package=package)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = Template((templates / source).read_text(encoding="utf-8")).substitute(values)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFailed(f"cannot write to {folder}: {error.strerror}") from error
    click.echo(f"Wrote {folder}. Next:")
    click.echo(f'  pip install -e "{folder}[test]"')
    click.echo(f"  rllab run {name} CartPole-v1")
    click.echo(f"  pytest {shlex.quote(str(folder))}")


def _is_module(name: str) -> bool:
    """Whether `import name` finds a module; a mere folder of that name is none."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None
