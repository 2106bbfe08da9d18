"""Plan + run folder = a trained run: what `run` and `resume` call.

start()   a Plan -> a new run folder, trained
resume()  a run folder -> trained further
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rllab import checkpoint, device, runfolder
from rllab.agent import Agent
from rllab.algorithm import Algorithm
from rllab.callbacks import Callback, Checkpoint
from rllab.config import flag, plain, write_toml
from rllab.errors import CheckpointError, RllabError, RunFailed, UsageError
from rllab.logger import Logger
from rllab.planning import Plan, check_how, make_callbacks, make_logger, reopen
from rllab.provenance import provenance
from rllab.runfolder import RunFolder
from rllab.runoptions import HOW, KEPT
from rllab.seeding import Streams, set_global_state
from rllab.state import State, UncapturedState
from rllab.trainer import Status, Trainer

_log = logging.getLogger("rllab")

# --- starting and resuming ------------------------------------------------------------------------


Watch = Callable[["Plan", RunFolder], Sequence[Callback]]
"""Makes the callbacks that show progress, once the run folder is known."""


def start(planned: Plan, watch: Watch | None = None) -> tuple[RunFolder, Status]:
    """Train a plan in a new run folder; with `--resume` go on with the one that is there.

    Args:
        planned: what to run.
        watch: makes the callbacks that show progress.

    Returns:
        The run folder, and how the run ended.
    """
    options = planned.options
    if options.run_dir is not None and options.resume != "never" and (options.run_dir / "run.json").is_file():
        folder = RunFolder(options.run_dir)
        _same_run(folder, planned)
        if options.resume == "must" or checkpoint.steps(folder.checkpoints):
            return resume(folder, {n: getattr(options, n) for n in HOW if n in planned.sources}, watch=watch)
        return _afresh(planned, folder, watch)  # it was killed before its first checkpoint
    if options.resume == "must":
        raise CheckpointError(f"--resume must: there is no run in {options.run_dir}")
    info = _info(planned)
    if options.run_dir is not None:
        folder = RunFolder.create_exactly(options.run_dir, info)
    else:
        parent = options.runs_dir / planned.task.slug / planned.method.name
        folder = RunFolder.create(parent, runfolder.run_name(options.seed, planned.given, options.name), info)
    return _afresh(planned, folder, watch)


def _afresh(planned: Plan, folder: RunFolder, watch: Watch | None) -> tuple[RunFolder, Status]:
    """Train from the start. run.json comes first, so that a kill at any moment leaves what `--resume auto` takes."""
    with folder.held():
        folder.update(**_info(planned))
        folder.write(folder.config_file, write_toml(planned.sections()))
        return folder, _train(planned, folder, None, watch)


def resume(
    folder: RunFolder,
    changes: Mapping[str, Any] | None = None,
    *,
    extend: int | None = None,
    watch: Watch | None = None,
) -> tuple[RunFolder, Status]:
    """Go on with a run from its newest sound checkpoint; a finished one is left as it is.

    Args:
        folder: the run.
        changes: raw values of options about how it is run.
        extend: a larger budget, in the units of the method.
        watch: makes the callbacks that show progress.
    """
    planned = reopen(folder, changes)
    check_how(planned)
    with folder.held():
        if extend is None and folder.info["status"] == "finished":
            return folder, Status("finished", str(folder.info["reason"]))
        found, state = _newest_sound(folder)
        if extend is not None:
            planned = _extended(planned, folder, extend)
        status = _train(planned, folder, (found, state), watch)
    return folder, status


def _same_run(folder: RunFolder, planned: Plan) -> None:
    """Raise UsageError if the run in a folder is not the planned one."""
    new = _info(planned)
    old = {**folder.info["config"], **folder.info["task_config"]}
    asked = {**new["config"], **new["task_config"]}
    for name in ("method", "task", "seed"):
        old[name], asked[name] = folder.info[name], new[name]
    if differing := [name for name in asked if asked[name] != old.get(name)]:
        listed = ", ".join(f"{name} ({old.get(name)} there, {asked[name]} now)" for name in differing[:3])
        raise UsageError(
            f"the run in {folder.path} is another one: it differs in {listed}", "Choose another --run-dir."
        )


def _extended(planned: Plan, folder: RunFolder, extend: int) -> Plan:
    """Return the plan with a larger budget, which run.json and config.toml then say too."""
    name = "timesteps" if "timesteps" in type(planned.config).model_fields else "epochs"
    if extend <= getattr(planned.config, name):
        raise UsageError(f"--extend {extend}: the run has {flag(name)} {getattr(planned.config, name)} already")
    config = type(planned.config).parse({**planned.config.model_dump(), name: extend})
    longer = replace(planned, config=config, sources={**planned.sources, name: "extend"})
    folder.update(config=plain(config), sources=longer.sources)
    folder.write(folder.config_file, write_toml(longer.sections()))
    return longer


def _newest_sound(folder: RunFolder) -> tuple[Path, State]:
    """Return the newest checkpoint that verifies, and its state; damaged ones are passed over with a warning.

    Raises:
        CheckpointError: if there is none.
    """
    damaged: list[str] = []
    checkpoint.recover(folder.checkpoints)
    for step in checkpoint.steps(folder.checkpoints):
        path = folder.checkpoints / checkpoint.name_of(step)
        try:
            state = checkpoint.load_state(path)
        except CheckpointError as error:
            damaged.append(error.message)
            _log.warning("%s; the one before it is used", error.message)
            continue
        check_note(path, folder)
        return path, state
    reason = "; ".join(damaged) or f"there is no checkpoint in {folder.checkpoints}"
    raise CheckpointError(reason, "Nothing can be resumed: start the run anew.")


def check_note(path: Path, folder: RunFolder) -> None:
    """Raise CheckpointError if a checkpoint was made by another run than the folder's."""
    note = checkpoint.verify(path)
    expected = _note(folder.info)
    if note.get("method") != expected["method"]:
        raise CheckpointError(f"the checkpoint {path} is of {note.get('method')}, the run is of {expected['method']}")
    theirs, ours = ({**n.get("config", {}), **n.get("task_config", {})} for n in (note, expected))
    differing = [n for n in ours if theirs.get(n) != ours[n] and n not in {"timesteps", "epochs"}]
    if differing or note.get("task") != expected["task"] or note.get("seed") != expected["seed"]:
        what = ", ".join(f"{n} {theirs.get(n)} instead of {ours[n]}" for n in differing[:3]) or "task or seed"
        raise CheckpointError(f"the checkpoint {path} is of another run: {what}")


# --- training -------------------------------------------------------------------------------------


def _info(planned: Plan) -> dict[str, Any]:
    """Return what run.json says of a plan before it has run."""
    options = plain(planned.options)
    objective = planned.algorithm_class.objective(planned.task)
    return {
        "schema": runfolder.SCHEMA,
        "status": "new",
        "method": planned.method.name,
        "task": planned.task.name,
        "seed": planned.options.seed,
        "unit": planned.algorithm_class.unit,
        "objective": {"metric": objective.metric, "maximize": objective.maximize},
        "config": plain(planned.config),
        "task_config": plain(planned.task.config),
        "options": {name: options[name] for name in (*KEPT, "seed", "device", "deterministic")},
        "sources": planned.sources,
        **provenance(planned.method.plugin),
    }


def _note(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of the run it belongs to."""
    names = ("method", "task", "seed", "config", "task_config")
    return {"schema": runfolder.SCHEMA, **{name: info[name] for name in names}}


def build(planned: Plan, *, threads: int | None = None) -> tuple[Algorithm, device.Choice]:
    """Return the algorithm of a plan, its networks initialised but not set up, and where it was placed.

    Args:
        planned: what to build.
        threads: how many to use, for a run that has to go on bit for bit as it began.
    """
    work = planned.algorithm_class.work(planned.config, planned.task)
    choice = device.select(planned.options.device, work, threads=threads)
    placed: torch.device = device.apply(choice, deterministic=planned.options.deterministic)
    streams = Streams(planned.options.seed)
    streams.seed_globals()
    algorithm = planned.algorithm_class(planned.config, planned.task, device=placed, streams=streams)
    if isinstance(algorithm, Agent):
        algorithm.evaluation_episodes = planned.options.eval_episodes
    return algorithm, choice


def _train(planned: Plan, folder: RunFolder, found: tuple[Path, State] | None, watch: Watch | None) -> Status:
    """Train in a folder that is held, from the start or from a checkpoint; keep run.json true."""
    started = {"resumed": runfolder.now()} if found else {"started": runfolder.now()}
    folder.update(status="running", reason=None, ended=None, **started, **runfolder.process())
    status = Status("failed", "it did not start")
    trainer: Trainer | None = None
    logger = make_logger(planned)
    saver: Checkpoint | None = None
    try:
        algorithm, choice = build(planned, threads=folder.info["device"]["threads"] if found else None)
        folder.update(device={"name": choice.device, "threads": choice.threads, "reason": choice.reason})
        algorithm.setup()
        algorithm.state_dict()  # an attribute that cannot be kept is an error now, not at the first checkpoint
        saver = _saver(planned, folder)
        trainer = Trainer(
            algorithm,
            logger,
            [*make_callbacks(planned), *(watch(planned, folder) if watch else ()), saver],
            stop_after=planned.options.stop_after,
            max_time=planned.options.max_time.seconds if planned.options.max_time else None,
        )
        resumed_at = _load(trainer, *found) if found else None
        logger.open(folder, resumed_at=resumed_at)
        status = trainer.run()
        _conclude(folder, status, trainer, saver, logger)
    except BaseException as error:
        status = Status("failed", str(error).split("\n")[0] or type(error).__name__)
        if isinstance(error, KeyboardInterrupt):
            status = Status("stopped", "interrupted without saving")
        with suppress(Exception):  # the first error is the one to tell
            _conclude(folder, status, trainer, saver, logger)
        if (named := _named(error, trainer, folder)) is not error:
            raise named from error
        raise
    return status


def _conclude(
    folder: RunFolder, status: Status, trainer: Trainer | None, saver: Checkpoint | None, logger: Logger
) -> None:
    """Close the logger and write down how the run ended, also if closing fails."""
    totals = {"steps": trainer.count, "seconds": round(trainer.seconds, 3)} if trainer else {}
    best = {"step": saver.best_step, "value": saver.best} if saver and saver.best is not None else None
    try:
        logger.close(status.state)
    finally:
        folder.update(
            status=status.state,
            reason=status.reason,
            ended=runfolder.now(),
            totals=totals,
            best=best,
            metrics={name: value if math.isfinite(value) else None for name, value in logger.latest.items()},
        )


def _load(trainer: Trainer, path: Path, state: State) -> int:
    """Bring trainer and algorithm to a checkpoint; return its step."""
    try:
        trainer.algorithm.load_state_dict({"weights": checkpoint.load_weights(path), "state": state["algorithm"]})
    except (UncapturedState, ValueError, KeyError) as error:
        raise CheckpointError(f"the checkpoint {path} does not fit this version of the method: {error}") from error
    trainer.load_state_dict(state["trainer"])
    set_global_state(state["globals"])
    return trainer.count


def _saver(planned: Plan, folder: RunFolder) -> Checkpoint:
    options = planned.options
    return Checkpoint(
        options.checkpoint_every,
        folder,
        planned.algorithm_class.objective(planned.task),
        keep=options.keep,
        note=_note(folder.info),
        share=1.0 if "checkpoint_every" in planned.sources else 0.05,
    )


_DISK = {errno.ENOSPC, errno.EROFS, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""What a full, broken or read-only disk says."""


def _named(error: BaseException, trainer: Trainer | None, folder: RunFolder) -> BaseException:
    """Return an error with the step it came at, and what is left to go on from."""
    if device.is_out_of_memory(error):
        error = device.explain_out_of_memory(error)
    if isinstance(error, OSError) and error.errno in _DISK:
        error = RunFailed(f"cannot write to {folder.path}: {error.strerror}", "Mend that, then `rllab resume` it.")
    if not isinstance(error, RunFailed) or trainer is None:
        return error
    at = "" if " at step " in error.message else f" (at step {trainer.count})"
    steps = checkpoint.steps(folder.checkpoints)
    last = folder.checkpoints / checkpoint.name_of(steps[0]) if steps else None
    left = f"The last good checkpoint is {last}." if last else "There is no checkpoint yet."
    failed: RllabError = RunFailed(error.message + at, " ".join(filter(None, [error.hint, left])))
    return failed
