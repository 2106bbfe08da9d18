"""Names and raw values -> a Plan: everything resolved and checked that can be checked before training.

In: the name of a method and a target, and options from a command line, a call, a file, variables or the method's
presets. Out: a `Plan`, with validated configurations, the opened task, and the source of each value.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllab import backends, device, plugins
from rllab.algorithm import Algorithm
from rllab.callbacks import Callback, EarlyStopping, Evaluate, StopWhen, WriteLine
from rllab.config import Config, Layer, flag, plain, read_toml, resolve, to_text, variables
from rllab.environments import EnvironmentTask
from rllab.errors import PluginError, UsageError, did_you_mean, one_line
from rllab.logger import JsonLinesWriter, Logger, MediaWriter, Writer
from rllab.plugins import Plugin
from rllab.runfolder import RunFolder
from rllab.runoptions import HOW, KEPT, PLACES, RunOptions
from rllab.task import Task

# --- what a method takes --------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """A method plugin, loaded, and the options it takes for a target."""

    plugin: Plugin
    algorithm: type[Algorithm]

    @property
    def name(self) -> str:
        """Return its name on the command line."""
        return self.plugin.name

    def task_options(self, target: str) -> dict[str, str]:
        """Return the options of a target by name, with the task's own names; one that clashes gets `task_` added."""
        taken = set(self.algorithm.Config.model_fields) | set(RunOptions.model_fields)
        fields = self.algorithm.Task.config_class(target).model_fields
        return {f"task_{name}" if name in taken else name: name for name in fields}

    def option_names(self, target: str) -> set[str]:
        """Return the names of all options of `rllab run METHOD TARGET`."""
        return {*self.algorithm.Config.model_fields, *self.task_options(target), *RunOptions.model_fields}

    def presets(self) -> dict[str, dict[str, Any]]:
        """Return the presets of the method by name: the TOML file beside its module."""
        module = inspect.getsourcefile(self.algorithm)
        file = Path(module).with_suffix(".toml") if module else None
        if file is None or not file.is_file():
            return {}
        with file.open("rb") as opened:
            return tomllib.load(opened)


def load_method(name: str) -> Method:
    """Import a method.

    Raises:
        PluginError: if there is none of that name, or it cannot be imported, or is no `Algorithm`.
    """
    plugin = plugins.method(name)
    algorithm = plugins.load(plugin)
    if not (isinstance(algorithm, type) and issubclass(algorithm, Algorithm)):
        raise PluginError(f"the plugin {plugin.name!r} of {plugin.distribution} is no rllab.Algorithm")
    if missing := sorted(getattr(algorithm, "__abstractmethods__", ())):
        raise PluginError(
            f"the method {plugin.name!r} of {plugin.distribution} lacks {', '.join(missing)}",
            f"{algorithm.__name__} has to have what {algorithm.__mro__[1].__name__} leaves open.",
        )
    if clash := sorted(set(algorithm.Config.model_fields) & set(RunOptions.model_fields)):
        raise PluginError(
            f"the method {plugin.name!r} of {plugin.distribution} has options that every run has: {', '.join(clash)}",
            "They have to be called something else in its Config.",
        )
    return Method(plugin, algorithm)


# --- planning -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A run that could start: everything resolved and checked."""

    method: Method
    task: Task
    config: Config
    options: RunOptions
    sources: dict[str, str]
    given: dict[str, str]

    @property
    def algorithm_class(self) -> type[Algorithm]:
        """Return the class of the method."""
        return self.method.algorithm

    def sections(self) -> list[tuple[str, dict[str, Any]]]:
        """Return all values in the sections of config.toml: a comment, and values by option name."""
        own = self.method.task_options(self.task.name)
        task = plain(self.task.config)
        options = plain(self.options)
        return [
            (
                f"rllab run {self.method.name} {self.task.name} --config config.toml",
                {"method": self.method.name, "task": self.task.name, "seed": self.options.seed},
            ),
            (f"Hyperparameters of {self.method.name}", plain(self.config)),
            (f"The {self.task.kind}", {option: task[name] for option, name in own.items()}),
            ("How it is run", {name: options[name] for name in KEPT}),
        ]


def plan(method: str, target: str, values: Mapping[str, Any] | None = None, *, source: str = "option") -> Plan:
    """Resolve and check a run without starting it.

    Args:
        method: name of the method.
        target: name of the environment or dataset.
        values: raw values by option name; their source is called `source`.
        source: what run.json says of where `values` came from.

    Raises:
        RllabError: that says what is wrong and what would be right.
    """
    return plan_method(load_method(method), target, values, source=source)


def plan_method(
    loaded: Method, target: str, values: Mapping[str, Any] | None = None, *, source: str = "option"
) -> Plan:
    """Do what `plan` does, for a method that is loaded already."""
    if not isinstance(target, str):
        raise UsageError(f"the target is the name of an environment or dataset, not a {type(target).__name__}")
    given = dict(values or {})
    names = loaded.option_names(target)
    for name in given:
        if name not in names:
            raise UsageError(
                f"{loaded.name} has no option {flag(name)}.",
                did_you_mean(name, names) or f"`rllab run {loaded.name} --help` lists them.",
            )
    layers = [*variables(sorted(names)), Layer(source, given)]
    file = resolve(layers).values.get("config")
    if file is not None:
        layers.insert(0, _file_layer(Path(file), loaded, target, names))
    chosen = resolve(layers).values.get("preset")
    layers.insert(0, _preset_layer(loaded, target, chosen))
    values, sources = resolve(layers)
    planned = _checked(loaded, target, values, sources, given)
    check_how(planned)
    return planned


def _file_layer(file: Path, method: Method, target: str, names: set[str]) -> Layer:
    values = read_toml(file)
    for key, expected in (("method", method.name), ("task", target)):
        found = values.pop(key, expected)
        if found != expected and key == "method":
            raise UsageError(f"{file} has options of {found}, not of {expected}")
    for name in values:
        if name not in names:
            raise UsageError(f"{file}: {method.name} has no option {name}.", did_you_mean(name, names))
    return Layer(str(file), values)


def _preset_layer(method: Method, target: str, chosen: str | None) -> Layer:
    presets = method.presets()
    name = chosen if chosen is not None else target
    if chosen == "none" or (chosen is None and target not in presets):
        return Layer("preset", {})
    if name not in presets:
        known = ", ".join(presets) or "none"
        raise UsageError(f"{method.name} has no preset {name!r}; there are: {known}", did_you_mean(name, presets))
    known_options = {*method.algorithm.Config.model_fields, *method.task_options(target)}
    for key in presets[name]:
        if key not in known_options:
            module = inspect.getsourcefile(method.algorithm)
            file = Path(module).with_suffix(".toml") if module else "its presets"
            what = "is an option of the run, not of the method" if key in RunOptions.model_fields else "is no option"
            raise PluginError(
                f"{file}, the presets of {method.plugin.full_name}: {key} in [{name}] {what}",
                did_you_mean(key, known_options),
            )
    return Layer(f"preset {name}", presets[name])


def _checked(
    method: Method, target: str, values: Mapping[str, Any], sources: dict[str, str], given: Mapping[str, Any]
) -> Plan:
    """Validate values, open the task, and ask the method whether it takes it."""
    algorithm = method.algorithm
    own = method.task_options(target)
    config = algorithm.Config.parse({n: v for n, v in values.items() if n in algorithm.Config.model_fields}, sources)
    how = {"pictures_every": algorithm.pictures_every, **values}
    options = RunOptions.parse({n: v for n, v in how.items() if n in RunOptions.model_fields}, sources)
    if options.resume != "never" and options.run_dir is None:
        raise UsageError(f"--resume {options.resume} needs --run-dir, the folder to go on with")
    of_task = {own[name]: value for name, value in values.items() if name in own}
    task_config = algorithm.Task.config_class(target).parse(
        of_task, {own[n]: s for n, s in sources.items() if n in own}
    )
    task = algorithm.Task.open(target, task_config, seed=options.seed)
    if (reason := algorithm.refusal(config, task)) is not None:
        raise UsageError(f"{method.name} cannot be trained on {target}: {reason}", _way_out(method, config, task))
    by_hand = {n: to_text(v) for n, v in given.items() if n not in HOW | PLACES | {"seed"}}
    return Plan(method, task, config, options, sources, by_hand)


def _way_out(method: Method, config: Config, task: Task) -> str | None:
    """Return what else a refused method can be trained on, and which others of its kind take the task."""
    targets, methods = method.algorithm.alternatives(config), methods_for(task, method.plugin.group)
    ways = [
        getattr(task, "way_out", None),
        f"It can be trained on {', '.join(targets)}." if targets else "",
        f"Methods that take {task.name}: {', '.join(methods)}." if methods else "",
    ]
    return " ".join(filter(None, ways)) or None


def methods_for(task: Task, group: str) -> list[str]:
    """Return the names of the methods of a group that take a task with their defaults; all are imported."""
    found = []
    for plugin in plugins.find(group):
        try:
            algorithm = load_method(plugin.full_name).algorithm
            if isinstance(task, algorithm.Task) and algorithm.refusal(algorithm.Config.parse({}), task) is None:
                found.append(plugin.name)
        except (Exception, SystemExit):  # noqa: BLE001 - a broken plugin is passed over: this is a hint only
            continue
    return found


def check_how(planned: Plan) -> None:
    """Raise what would only come up when training starts: plugins, a device, a film, or epochs that are not there."""
    algorithm, options = planned.algorithm_class, planned.options
    make_logger(planned)
    make_callbacks(planned)
    device.select(options.device, algorithm.work(planned.config, planned.task))
    if isinstance(planned.task, EnvironmentTask) and planned.task.config.env_backend == "native":
        backends.check_native(planned.task, partly=getattr(algorithm, "steps_partly", False))
    if options.record:
        _check_recording(planned)
    if algorithm.epoch is Algorithm.epoch:
        for name in ("log_every", "eval_every", "checkpoint_every", "pictures_every"):
            if getattr(options, name).unit == "epoch":
                raise UsageError(
                    f"{flag(name)} {getattr(options, name)}: {planned.method.name} has no epochs",
                    f"Write {algorithm.unit}, or like 5% or 30s.",
                )


def _check_recording(planned: Plan) -> None:
    """Raise what would keep the end of a run from being recorded."""
    from rllab import recording  # it builds on agents, and they on nothing that is planned

    if not isinstance(planned.task, EnvironmentTask):
        raise UsageError(f"--record: {planned.method.name} is no agent, and plays no episodes", "Leave --record out.")
    recording.check(planned.task)


def reopen(folder: RunFolder, changes: Mapping[str, Any] | None = None) -> Plan:
    """Return the plan of an existing run; presets and variables are not read again.

    Raises:
        UsageError: for a change of something that makes the run what it is.
    """
    folder.check()
    info = folder.info
    method = load_method(f"{info['method']}@{info['plugin']['distribution']}")
    target = _target(method, info)
    own = method.task_options(target)
    clash = {name: option for option, name in own.items()}
    for name in info["task_config"]:
        if name not in clash:
            raise UsageError(
                f"{info['task']} is no longer what the run was made with: it takes no {flag(name)} now",
                f"If it is a file or a folder: is it still there? The run began in {info.get('began_in', '?')}.",
            )
    values = {**info["config"], **{clash[n]: v for n, v in info["task_config"].items()}, **info["options"]}
    for name in changes or {}:
        if name not in method.option_names(target):
            raise UsageError(f"there is no option {flag(name)}.", did_you_mean(name, HOW))
        if name not in HOW:
            raise UsageError(
                f"{flag(name)} makes this run what it is, and cannot be changed when it is resumed",
                f"Start a new one: `rllab run {info['method']} {info['task']} {flag(name)} ...`.",
            )
    values |= dict(changes or {})
    sources = {**info["sources"], **dict.fromkeys(changes or {}, "resume")}
    return _checked(method, target, values, sources, {})


def _target(method: Method, info: Mapping[str, Any]) -> str:
    """Return the target of an existing run; the path of a file or folder also from another working folder."""
    name, began_in = str(info["task"]), info.get("began_in")
    if began_in is None or name in method.algorithm.Task.names() or Path(name).expanduser().exists():
        return name
    there = Path(began_in) / name
    return str(there) if there.exists() else name


# --- what a plan is trained with -------------------------------------------------------------------


def make_logger(planned: Plan) -> Logger:
    """Return the logger of a plan, its writers not yet opened; metrics.jsonl and media/ are always among them."""
    writers: dict[str, Writer] = {"jsonl": JsonLinesWriter(), "media": MediaWriter()}
    for name in planned.options.logger:
        if name not in {"jsonl", "media", "none"}:
            writers[name] = _plugin("rllab.loggers", name, Writer)
    return Logger(writers, planned.algorithm_class.reductions)


def make_callbacks(planned: Plan) -> list[Callback]:
    """Return the callbacks of a plan in their order, but for progress and checkpoints."""
    options = planned.options
    added = [_plugin("rllab.callbacks", name, Callback) for name in options.callback]
    stop: list[Callback] = [StopWhen(options.stop_when, options.log_every)] if options.stop_when else []
    if options.patience:
        selection = planned.algorithm_class.selection(planned.task)
        if selection is None:
            raise UsageError("--patience needs a validation part to watch", "--validation-share 0.1 splits one off.")
        stop.append(EarlyStopping(selection, options.patience))
    return [*stop, Evaluate(options.eval_every), WriteLine(options.log_every), *added]


def _plugin(group: str, name: str, base: type[Any]) -> Any:
    """Return an instance of a callback or logger plugin."""
    plugin = plugins.get(group, name, group.rpartition(".")[2].removesuffix("s"))
    made = plugins.load(plugin)
    if not (isinstance(made, type) and issubclass(made, base)):
        raise PluginError(f"the plugin {name!r} in {group} is no rllab.{base.__name__}")
    try:
        return made()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"the plugin {plugin.name!r} of {plugin.origin} cannot be used: {type(error).__name__}: {one_line(error)}"
        ) from error
