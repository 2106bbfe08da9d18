"""Configurations: typed, documented values, and where each of them came from.

In: layers of raw values (preset, file, environment variable, command line). Out: one validated, frozen
`Config`, with the layer each value was taken from. A Config class is the only place where an option is
listed: its type, default and help become the command line, the documentation and the file `config.toml`.
"""

from __future__ import annotations

import os
import tomllib
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, Union, get_args, get_origin

import tomlkit
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from rllab.errors import UsageError, did_you_mean

VARIABLE_PREFIX = "RLLAB_OPTION_"


class Config(BaseModel):
    """Base of all configurations; the docstring under a field is its help text.

    A subclass that changes only the default of a field keeps its help text.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        inherited = False
        for name, field in cls.model_fields.items():
            if field.description is None:
                bases = (base for base in cls.__mro__[1:] if issubclass(base, Config) and base is not Config)
                found = (base.model_fields[name].description for base in bases if name in base.model_fields)
                field.description = next(filter(None, found), None)
                inherited |= field.description is not None
        if inherited:
            cls.model_rebuild(force=True)

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, values: Any) -> Any:
        """Read text as a command line, a variable or a file has it: "none" for None, "64,64" for several values."""
        if not isinstance(values, Mapping):
            return values
        fields = cls.model_fields
        return {n: from_text(fields[n], value) if n in fields else value for n, value in values.items()}

    @classmethod
    def parse(cls, values: Mapping[str, Any], sources: Mapping[str, str] | None = None) -> Self:
        """Validate `values`.

        Args:
            values: raw values by name.
            sources: where each came from, to be named where one is wrong.

        Raises:
            UsageError: that says what is wrong and what would be right.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UsageError(explain(error, cls, sources or {})) from None


class Layer(NamedTuple):
    """Raw values of one origin, such as ("preset CartPole-v1", {"lr": 0.001})."""

    source: str
    values: Mapping[str, Any]


class Resolved(NamedTuple):
    """Raw values after all layers, and the source of each."""

    values: dict[str, Any]
    sources: dict[str, str]


def resolve(layers: Iterable[Layer]) -> Resolved:
    """Lay `layers` over one another, the later over the earlier."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer in layers:
        values.update(layer.values)
        sources.update(dict.fromkeys(layer.values, layer.source))
    return Resolved(values, sources)


def flag(name: str) -> str:
    """Return the command-line form of an option's name: `buffer_size` -> `--buffer-size`."""
    return "--" + name.replace("_", "-")


_TYPED = {"option", "command line", "resume"}
"""Sources of values that the user has just typed."""


def explain(error: ValidationError, config: type[Config], sources: Mapping[str, str]) -> str:
    """Return a validation error in words: a line for each value that is wrong, with what would be right."""
    return "\n".join(_explain_one(dict(details), config, sources) for details in error.errors(include_url=False))


def _explain_one(details: dict[str, Any], config: type[Config], sources: Mapping[str, str]) -> str:
    name = str(details["loc"][0]) if details["loc"] else ""
    if sources.get(name, "option") not in _TYPED:
        return f"{sources[name]}: {_explain_one(details, config, {})}"
    if details["type"] == "extra_forbidden":
        return " ".join(filter(None, [f"there is no option {flag(name)}.", did_you_mean(name, config.model_fields)]))
    if details["type"] == "missing":
        return f"{flag(name)} is needed"
    message = str(details["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if not name:
        return message
    default = config.model_fields[name].get_default(call_default_factory=True) if name in config.model_fields else None
    given = details["input"]
    shown = f"{flag(name)} {given}" if not isinstance(given, Mapping) else flag(name)
    return f"{shown}: {message}" + (f" (default: {to_text(default)})" if default is not None else "")


# --- types ----------------------------------------------------------------------------------------


def alternatives(field: FieldInfo) -> list[Any]:
    """Return the types a field allows: [int, NoneType] for `int | None`."""
    union = get_origin(field.annotation) in (Union, types.UnionType)
    return list(get_args(field.annotation)) if union else [field.annotation]


def is_several(field: FieldInfo) -> bool:
    """Whether a field holds several values: a tuple, a list or a dict."""
    return any((get_origin(kind) or kind) in (tuple, list, dict) for kind in alternatives(field))


def from_text(field: FieldInfo, value: Any) -> Any:
    """Return text, or several texts, as the raw value of a field; what is no text is returned unchanged."""
    kinds = alternatives(field)
    if types.NoneType in kinds and value in ("none", ("none",), ["none"]):
        return None
    if is_several(field):
        if isinstance(value, int | float):
            return [value]
        texts = (value,) if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            return value
        if dict in [get_origin(kind) or kind for kind in kinds]:
            return {} if list(texts) == ["none"] else texts
        return [part.strip() for text in texts for part in text.split(",") if part.strip() not in {"", "none"}]
    literals = [literal for kind in kinds if get_origin(kind) is Literal for literal in get_args(kind)]
    return next((literal for literal in literals if str(literal) == value), value)


# --- text and TOML --------------------------------------------------------------------------------


def to_text(value: Any) -> str:
    """Return a value as it would be written on the command line."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case tuple() | list():
            return ",".join(map(to_text, value)) or "none"
        case dict():
            return ",".join(f"{key}={to_text(item)}" for key, item in value.items()) or "none"
    return str(value)


def plain(config: Config) -> dict[str, Any]:
    """Return the values of a config as JSON would have them."""
    return config.model_dump(mode="json")


def read_toml(path: Path) -> dict[str, Any]:
    """Read options from a TOML file, such as the `config.toml` of a run.

    Raises:
        UsageError: if it cannot be read, or is no TOML.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no valid TOML: {error}") from None
    return {name.replace("-", "_"): value for name, value in values.items()}


def write_toml(sections: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """Return options as TOML text; each section is a comment line and its values. None is written as "none"."""
    document = tomlkit.document()
    for comment, values in sections:
        if not values:
            continue
        document.add(tomlkit.comment(comment))
        for name, value in values.items():
            document.add(name, _to_toml(value))
        document.add(tomlkit.nl())
    return tomlkit.dumps(document)


def _to_toml(value: Any) -> Any:
    if value is None:
        return tomlkit.item("none")
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        for key, item in value.items():
            table.append(key, _to_toml(item))
        return table
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        for item in value:
            array.append(_to_toml(item))
        return array
    return tomlkit.item(value)


def variables(names: Iterable[str]) -> list[Layer]:
    """Return a layer for each `RLLAB_OPTION_<NAME>` variable that is set for one of `names`."""
    found = ((name, VARIABLE_PREFIX + name.upper()) for name in names)
    return [Layer(variable, {name: os.environ[variable]}) for name, variable in found if variable in os.environ]
