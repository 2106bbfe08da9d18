"""Plugins: names -> entry points, lazily, each on its own, and no two of one name unnoticed.

In: the metadata of the installed distributions. Out: `Plugin` records, which are only names; `load` alone
imports what a record points to. Whatever goes wrong in there becomes a `PluginError` of two lines.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rllab.errors import PluginError, UnknownName

METHOD_GROUPS = ("rllab.agents", "rllab.generative", "rllab.supervised")
"""The groups of methods; a method's name is unique across all three."""

GROUPS = (
    *METHOD_GROUPS,
    "rllab.envs",
    "rllab.vector_envs",
    "rllab.datasets",
    "rllab.texts",
    "rllab.callbacks",
    "rllab.loggers",
    "rllab.commands",
)

_BASES = {
    **dict.fromkeys(METHOD_GROUPS, "rllab.algorithm.Algorithm"),
    "rllab.vector_envs": "gymnasium.vector.VectorEnv",
    "rllab.datasets": "rllab.data.Source",
    "rllab.texts": "rllab.text.TextSource",
    "rllab.callbacks": "rllab.callbacks.Callback",
    "rllab.loggers": "rllab.logger.Writer",
    "rllab.commands": "click.Command",
}
"""What the plugins of a group are made of, by name: looking it up imports it."""

HUB = "rllab"
"""Our own distribution, which brings in its methods by the same door as any other."""


@dataclass(frozen=True, order=True)
class Plugin:
    """An entry point: what is known of a plugin without importing it.

    Attributes:
        name: what it is called on the command line.
        group: the entry-point group, such as "rllab.agents".
        value: where it is, `package.module:attribute`.
        distribution: the name of the distribution that has it, as pip knows it.
        version: the version of that distribution; empty if it does not say.
    """

    name: str
    group: str
    value: str
    distribution: str
    version: str

    @property
    def full_name(self) -> str:
        """Return `name@distribution`, which no other distribution can have."""
        return f"{self.name}@{self.distribution}"

    @property
    def origin(self) -> str:
        """Return the distribution and its version, as in "rllab 0.1.0"."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def is_well_formed(self) -> bool:
        """Whether the value has the form `package.module:attribute`."""
        return _split(self.value) is not None


# --- from metadata alone --------------------------------------------------------------------------


def find(groups: str | Iterable[str] = GROUPS) -> list[Plugin]:
    """Return the plugins of a group, or of several, sorted by name; nothing is imported."""
    wanted = set(_as_tuple(groups))
    return sorted({plugin for plugin in _scan() if plugin.group in wanted})


def names(groups: str | Iterable[str]) -> list[str]:
    """Return the names of the plugins of a group, or of several, sorted, each once."""
    return sorted({plugin.name for plugin in find(groups)})


def clashes(plugins: Iterable[Plugin]) -> set[Plugin]:
    """Return those of `plugins` that share their name with another: among methods, or within one group."""
    by_name: dict[tuple[str, str], set[Plugin]] = {}
    for plugin in plugins:
        space = "method" if plugin.group in METHOD_GROUPS else plugin.group
        by_name.setdefault((space, plugin.name), set()).add(plugin)
    return {plugin for namesakes in by_name.values() if len(namesakes) > 1 for plugin in namesakes}


def get(groups: str | Iterable[str], name: str, kind: str = "method") -> Plugin:
    """Return the plugin called `name`, or `name@distribution`; it is not imported.

    Args:
        groups: where to look: a group or several, among which the name must be unique.
        name: as the user wrote it.
        kind: what it is called in messages.

    Raises:
        UnknownName: if there is none, with the nearest names.
        PluginError: if two have the name, with how to say which.
    """
    plugins = find(groups)
    found = [plugin for plugin in plugins if plugin.name == name]
    if not found and "@" in name:
        short, _, distribution = name.rpartition("@")
        namesakes = [plugin for plugin in plugins if plugin.name == short]
        found = [plugin for plugin in namesakes if _normal(plugin.distribution) == _normal(distribution)]
        if namesakes and not found:
            raise PluginError(
                f"the {kind} {short!r} is not of {distribution!r}, but of "
                f"{_list(sorted({plugin.origin for plugin in namesakes}))}",
                f"Say {_list([plugin.full_name for plugin in namesakes], 'or')}.",
            )
    match found:
        case [plugin]:
            return plugin
        case []:
            raise UnknownName(kind, name, [plugin.name for plugin in plugins], "`rllab list` shows what there is.")
    raise _ambiguous(found, kind)


def method(name: str) -> Plugin:
    """Return the method called `name`, of whatever kind it is; see `get`."""
    return get(METHOD_GROUPS, name)


def extras(distribution: str) -> dict[str, list[str]]:
    """Return the extras of an installed distribution and what each of them wants on this machine."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:  # it comes with tensorboard; without it there is less to say, and nothing breaks
        return {}
    try:
        metadata = importlib.metadata.metadata(distribution)
        texts = metadata.get_all("Requires-Dist") or []
        found: dict[str, list[str]] = {extra: [] for extra in metadata.get_all("Provides-Extra") or []}
    except (importlib.metadata.PackageNotFoundError, OSError, UnicodeError, KeyError, ValueError):
        return {}
    for text in texts:
        with contextlib.suppress(InvalidRequirement):
            wanted = Requirement(text)
            inner = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
            marker = wanted.marker
            if marker is not None and not marker.evaluate({"extra": ""}):
                for extra in (extra for extra in found if marker.evaluate({"extra": extra})):
                    found[extra].append(wanted.name + inner)
    return found


# --- by import ------------------------------------------------------------------------------------


def load(plugin: Plugin | str, name: str | None = None) -> object:
    """Import what an entry point names and return it: `load(plugin)`, or `load(group, name)`.

    What it prints meanwhile goes to stderr, so that results on stdout stay readable for programs.

    Raises:
        PluginError: if it cannot be imported, for whatever reason: the distribution, the cause and the mend.
    """
    if isinstance(plugin, str):
        if name is None:
            raise TypeError("load takes a Plugin, or a group and a name")
        kind = "method" if plugin in METHOD_GROUPS else plugin.rpartition(".")[2].removesuffix("s")
        plugin = get(plugin, name, kind)
    try:
        return _import(plugin)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(
            f"the plugin {plugin.name!r} of {plugin.origin} cannot be used: {_cause(plugin, error)}",
            _mend(plugin, error),
        ) from error


def subclass(group: str, name: str, kind: str, base: type[Any]) -> type[Any]:
    """Import a plugin that has to be a subclass.

    Args:
        group: where to look.
        name: as the user wrote it.
        kind: what it is called in messages.
        base: what it has to be.

    Raises:
        PluginError: if there is none, it cannot be imported, or it is something else.
    """
    plugin = get(group, name, kind)
    found = load(plugin)
    if not (isinstance(found, type) and issubclass(found, base)):
        named = f"{base.__module__}.{base.__qualname__}"
        raise PluginError(f"the plugin {plugin.name!r} of {plugin.distribution} is no {named}")
    return found


def check(plugin: Plugin) -> str | None:
    """Import a plugin; return the cause and the mend in one line if that fails, None if all is well."""
    try:
        found = load(plugin)
    except PluginError as error:
        reason = error.__cause__ or error
        return f"{_cause(plugin, reason)}. {_mend(plugin, reason)}"
    if plugin.group not in _BASES:
        return None
    module, _, name = _BASES[plugin.group].rpartition(".")
    base = getattr(importlib.import_module(module), name)
    fits = isinstance(found, base) or (isinstance(found, type) and issubclass(found, base))
    return None if fits else f"{plugin.value} is no {_BASES[plugin.group]}. {_mend(plugin, TypeError())}"


def _import(plugin: Plugin) -> object:
    parts = _split(plugin.value)
    if parts is None:
        raise ValueError(plugin.value)
    with contextlib.redirect_stdout(sys.stderr):
        found: object = importlib.import_module(parts[0])
        for attribute in parts[1].split("."):
            found = getattr(found, attribute)
    return found


def _cause(plugin: Plugin, error: BaseException) -> str:
    if not plugin.is_well_formed:
        return f"its entry point {plugin.value!r} is not of the form package.module:attribute"
    match error:
        case ModuleNotFoundError() if error.name and not _is_own(plugin, error.name):
            return f"it needs the module {error.name!r}, which is not installed"
        case SystemExit():
            return f"it calls sys.exit({error.code!r}) when it is imported"
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the plugin's own exception class may be broken as well
        text = ""
    text = text if len(text) <= 200 else text[:199] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _mend(plugin: Plugin, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = _normal(error.name.partition(".")[0])
        for extra, requirements in extras(plugin.distribution).items():
            if extra != "dev" and missing in (_normal(name.partition("[")[0]) for name in requirements):
                return f"Install it with `pip install '{plugin.distribution}[{extra}]'`."
    if _normal(plugin.distribution) == HUB:
        return f"Mend it with `pip install --upgrade {plugin.distribution}`."
    return (
        f"Mend it with `pip install --upgrade {plugin.distribution}`, "
        f"or remove it with `pip uninstall {plugin.distribution}`."
    )


def _is_own(plugin: Plugin, module: str) -> bool:
    """Whether a missing module is the one that the entry point names, or a package on the way to it."""
    parts = _split(plugin.value)
    return parts is not None and f"{parts[0]}.".startswith(f"{module}.")


# --- reading metadata -----------------------------------------------------------------------------


def _scan() -> Iterator[Plugin]:
    """Yield the entry points of all distributions in all groups of ours.

    `importlib.metadata.entry_points` reads the metadata of every distribution there is, and a single damaged
    one makes it raise. Here only those that mention rllab are looked at, and what cannot be read is passed
    over.
    """
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        name = _name_if_ours(distribution)
        if name is None or _normal(name) in seen:
            continue
        seen.add(_normal(name))
        try:
            # the same distribution may lie on sys.path twice: the first is the one that Python imports
            distribution = importlib.metadata.distribution(name)
            version = str(distribution.metadata["Version"] or "")
            text = distribution.read_text("entry_points.txt") or ""
        except (importlib.metadata.PackageNotFoundError, OSError, UnicodeError, KeyError, ValueError):
            continue
        for group, key, value in _parse(text):
            if group.startswith("rllab."):
                yield Plugin(key, group, value, name, version)


def _name_if_ours(distribution: importlib.metadata.Distribution) -> str | None:
    """Return the name of a distribution with entry points for rllab; None for others and for damaged ones."""
    try:
        if "[rllab." not in (distribution.read_text("entry_points.txt") or ""):
            return None
        return distribution.metadata["Name"] or None
    except (OSError, UnicodeError, KeyError, ValueError):
        return None


def _parse(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (group, name, value) from the text of an entry_points.txt, passing over lines that are none."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            if key.strip():
                yield group, key.strip(), value.strip()


def _split(value: str) -> tuple[str, str] | None:
    """Return the module and the attribute that an entry point names, None if it is not of that form."""
    match = re.fullmatch(r"(\w+(?:\.\w+)*)\s*:\s*(\w+(?:\.\w+)*)\s*(?:\[.*\])?", value)
    return (match[1], match[2]) if match else None


def _ambiguous(found: list[Plugin], kind: str) -> PluginError:
    distributions = {_normal(plugin.distribution) for plugin in found}
    places = [f"{plugin.origin} ({plugin.group}: {plugin.value})" for plugin in found]
    if len(distributions) == len(found):
        hint = f"Say which: {_list([plugin.full_name for plugin in found], 'or')}."
    else:
        hint = "One distribution has it twice: upgrade it, remove it, or tell its authors."
    return PluginError(f"{len(found)} plugins are called {found[0].name!r} ({kind}): {_list(places)}", hint)


def _as_tuple(groups: str | Iterable[str]) -> tuple[str, ...]:
    return (groups,) if isinstance(groups, str) else tuple(groups)


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _list(items: Iterable[str], conjunction: str = "and") -> str:
    *first, last = items
    return f"{', '.join(first)} {conjunction} {last}" if first else last
