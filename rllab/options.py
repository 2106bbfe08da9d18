"""A Config class -> Click options: type, range, default and help all come from the field."""

from __future__ import annotations

import types
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
import click
from pydantic.fields import FieldInfo

from rllab.config import Config, alternatives, flag, is_several, to_text

_NAMES = {int: "INTEGER", float: "FLOAT", str: "TEXT", bool: "BOOLEAN"}
_OTHER_NAMES = {"Path": "PATH", "Interval": "INTERVAL", "Condition": "CONDITION"}


class SectionedOption(click.Option):
    """An option that stands under a heading of its own in the help."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help lists options by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, a heading for each section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def options_of(
    config: type[Config],
    section: str,
    *,
    names: dict[str, str] | None = None,
    only: frozenset[str] | None = None,
) -> list[click.Option]:
    """Return a Click option for each field of `config`.

    Args:
        config: the class.
        section: heading in the help.
        names: the fields to take by option name, where that is another one; all fields by default.
        only: names of the fields to take.
    """
    names = names if names is not None else {name: name for name in config.model_fields}
    return [
        _option(option, config.model_fields[field], section)
        for option, field in names.items()
        if only is None or field in only
    ]


def given(ctx: click.Context) -> dict[str, Any]:
    """Return the values that were given on the command line, by name."""
    return {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }


def target_among(args: list[str], known: Collection[str], options: Sequence[click.Option], ctx: click.Context) -> str:
    """Return the target among arguments whose options are not all known yet; "" if there is none.

    Args:
        args: what was written after the command's name.
        known: names of targets; else it is the first argument that belongs to no option.
        options: those that are known; others may take a value, which nothing tells from an argument.
        ctx: the command's.
    """
    trial = click.Command(None, params=list(options), add_help_option=False)
    lenient: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True}
    with trial.make_context(None, list(args), parent=ctx.parent, resilient_parsing=True, **lenient) as parsed:
        plain = [argument for argument in parsed.args if not argument.startswith("-")]
    return next((argument for argument in plain if argument in known), plain[0] if plain else "")


def _option(name: str, field: FieldInfo, section: str) -> click.Option:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    shared: dict[str, Any] = {
        "section": section,
        "default": None,
        "help": (field.description or "") + ("" if default in (None, (), {}) else f"  [default: {to_text(default)}]"),
    }
    if _kinds(field) == [bool]:
        return SectionedOption([f"{flag(name)}/{flag('no_' + name)}", name], **shared)
    if choices := _choices(field):
        return SectionedOption([flag(name), name], type=click.Choice(choices), **shared)
    return SectionedOption(
        [flag(name), name], metavar=_metavar(field), type=click.STRING, multiple=is_several(field), **shared
    )


def _kinds(field: FieldInfo) -> list[Any]:
    return [kind for kind in alternatives(field) if kind is not types.NoneType]


def _choices(field: FieldInfo) -> list[str]:
    kinds = _kinds(field)
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        none = ["none"] if len(kinds) < len(alternatives(field)) else []
        return [*map(str, get_args(kinds[0])), *none]
    return []


def _metavar(field: FieldInfo) -> str:
    """Return the type in words, with its range: `FLOAT > 0`."""
    kind = _kinds(field)[0]
    origin = get_origin(kind) or kind
    if origin is dict:
        return "KEY=VALUE"
    constraints = list(field.metadata)
    if origin is Annotated:  # as in `PositiveInt | None`
        origin, *constraints = get_args(kind)
    if origin in (tuple, list):
        inner = get_args(kind)[0]
        constraints = []
        if hasattr(inner, "__metadata__"):
            metadata = [part.metadata if isinstance(part, FieldInfo) else [part] for part in inner.__metadata__]
            inner, constraints = get_args(inner)[0], [part for parts in metadata for part in parts]
        text = f"{_type_name(inner)},..."
    else:
        text = _type_name(origin)
    return " ".join([text, *_bounds(constraints)])


def _type_name(kind: Any) -> str:
    return _NAMES.get(kind) or _OTHER_NAMES.get(getattr(kind, "__name__", ""), "TEXT")


def _bounds(constraints: list[Any]) -> list[str]:
    found = []
    for constraint in constraints:
        match constraint:
            case annotated_types.Gt(gt=bound):
                found.append(f"> {bound}")
            case annotated_types.Ge(ge=bound):
                found.append(f">= {bound}")
            case annotated_types.Lt(lt=bound):
                found.append(f"< {bound}")
            case annotated_types.Le(le=bound):
                found.append(f"<= {bound}")
    return [" and ".join(found)] if found else []
