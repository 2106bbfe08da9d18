"""Where a result comes from: versions, command, machine, and the state of the source code."""

from __future__ import annotations

import json
import os
import platform
import shlex
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from rllab.plugins import Plugin

_PACKAGES = ("rllab", "torch", "numpy", "gymnasium", "pydantic", "safetensors")


def provenance(plugin: Plugin) -> dict[str, Any]:
    """Return what run.json keeps about the origin of a run of `plugin`."""
    return {
        "command": command(),
        "plugin": {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version},
        "versions": versions(plugin.distribution),
        "git": git_state(Path.cwd()),
        "plugin_git": _editable_git(plugin.distribution),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def command() -> str:
    """Return the command line of this process, as one would type it."""
    program, *arguments = sys.argv if sys.argv else [""]
    return shlex.join([Path(program).name, *arguments])


def versions(*more: str) -> dict[str, str]:
    """Return the versions of the packages a result depends on, as far as they are installed."""
    found = {}
    for name in (*_PACKAGES, *more):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit and dirty flag of the git checkout that `folder` is in; None if it is in none."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def _editable_git(distribution: str) -> dict[str, Any] | None:
    """Return the git state of a distribution that is installed editable."""
    try:
        text = metadata.distribution(distribution).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    source = json.loads(text) if text else {}
    if not source.get("dir_info", {}).get("editable"):
        return None
    return git_state(Path(unquote(urlparse(source["url"]).path)))


def _git(folder: Path, *arguments: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            env=environment,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
