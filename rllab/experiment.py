"""Plan + run folder = a trained run: what `run` and `resume` call.

start()   a Plan -> a new run folder, trained
resume()  a run folder -> trained further
adopt()   a Plan, and a model that was trained elsewhere -> a run folder, finished
"""

from __future__ import annotations

import errno
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from rllab import checkpoint, device, runfolder, stopping
from rllab.agent import Agent
from rllab.algorithm import Algorithm
from rllab.callbacks import Callback, Checkpoint, Pictures
from rllab.config import flag, plain, write_toml
from rllab.errors import CheckpointError, RllabError, RunFailed, UsageError
from rllab.generative import GenerativeModel
from rllab.logger import Logger
from rllab.planning import Plan, check_how, make_callbacks, make_logger, reopen
from rllab.provenance import provenance
from rllab.recording import Recorder
from rllab.runfolder import RunFolder
from rllab.runoptions import HOW, KEPT
from rllab.seeding import Streams, set_global_state
from rllab.state import State, UncapturedState
from rllab.stopping import StopRequested
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
        with folder.held():
            checkpoint.recover(folder.checkpoints)
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
    extend: float | None = None,
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
    if (changed := changed_data(planned, folder)) is not None:
        raise UsageError(changed, "Bring them back as they were, or start a new run.")
    with folder.held():
        if extend is None and folder.info["status"] == "finished":
            return folder, Status("finished", str(folder.info["reason"]))
        found = _newest_sound(folder)
        if extend is not None:
            planned = _extended(planned, extend)
        status = _train(planned, folder, found, watch)
    return folder, status


def adopt(planned: Plan, algorithm: Algorithm, *, name: str, metrics: Mapping[str, float]) -> RunFolder:
    """Return a finished run of a model that another program has trained; it is no more trained here.

    Args:
        planned: the options it has.
        algorithm: the model, with its weights and the units it was trained for as `count`.
        name: of the run folder, before the seed.
        metrics: its evaluation.
    """
    parent = planned.options.runs_dir / planned.task.slug / planned.method.name
    folder = RunFolder.create(parent, runfolder.run_name(planned.options.seed, {}, name), _info(planned))
    now, count = runfolder.now(), algorithm.count
    with folder.held():
        folder.write(folder.config_file, write_toml(planned.sections()))
        line = {"step": count, "time": 0.0, **metrics}
        folder.write(folder.metrics_file, json.dumps(line) + "\n" if metrics else "")
        checkpoint.save(
            folder.checkpoints / checkpoint.name_of(count),
            weights=algorithm.weights(),
            state=None,
            note={"schema": runfolder.SCHEMA, **_identity(planned), "step": count},
        )
        folder.update(
            status="finished",
            reason="trained elsewhere, and imported",
            started=now,
            ended=now,
            totals={"steps": count, "seconds": 0.0},
            best=None,
            metrics=dict(metrics),
        )
    return folder


def changed_data(planned: Plan, folder: RunFolder) -> str | None:
    """Return that the data are no longer those of the run, None if they are."""
    before = folder.info.get("data")
    if before is None or planned.task.digest == before:
        return None
    return f"the data of {planned.task.name} are not those that {folder.path} was made with: they have changed since"


def _same_run(folder: RunFolder, planned: Plan) -> None:
    """Raise UsageError if the run in a folder is not the planned one."""
    if differing := _differences(folder.info, _identity(planned)):
        listed = ", ".join(f"{name} ({there} there, {now} now)" for name, there, now in differing[:3])
        raise UsageError(
            f"the run in {folder.path} is another one: it differs in {listed}", "Choose another --run-dir."
        )


def _identity(planned: Plan) -> dict[str, Any]:
    """Return what makes a run what it is, as run.json and the manifests of checkpoints have it."""
    return {
        "method": planned.method.name,
        "task": planned.task.name,
        "seed": planned.options.seed,
        "config": plain(planned.config),
        "task_config": plain(planned.task.config),
    }


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return name and both values of whatever two identities differ in."""
    pairs = [(name, one.get(name), other.get(name)) for name in ("method", "task", "seed")]
    for part in ("config", "task_config"):
        values = one.get(part, {}), other.get(part, {})
        pairs += [(name, values[0].get(name), values[1].get(name)) for name in {**values[0], **values[1]}]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _extended(planned: Plan, extend: float) -> Plan:
    """Return the plan with a larger budget."""
    name = planned.algorithm_class.budget_option
    if name not in type(planned.config).model_fields:
        raise UsageError(f"--extend {extend}: {planned.method.name} is fitted once, and has no budget to be extended")
    if extend <= getattr(planned.config, name):
        raise UsageError(f"--extend {extend}: the run has {flag(name)} {getattr(planned.config, name)} already")
    config = type(planned.config).parse({**planned.config.model_dump(), name: extend})
    return replace(planned, config=config, sources={**planned.sources, name: "extend"})


Found: TypeAlias = tuple[Path, dict[str, Any], State]
"""A checkpoint that verified: its folder, its manifest and its state."""


def _newest_sound(folder: RunFolder) -> Found:
    """Return the newest checkpoint that verifies, and its state; damaged ones are passed over with a warning.

    Raises:
        CheckpointError: if there is none.
    """
    damaged: list[str] = []
    checkpoint.recover(folder.checkpoints)
    for step in checkpoint.steps(folder.checkpoints):
        path = folder.checkpoints / checkpoint.name_of(step)
        try:
            manifest = checkpoint.verify(path)
            state = checkpoint.load_state(path, manifest)
        except CheckpointError as error:
            damaged.append(error.message)
            _log.warning("%s; the one before it is used", error.message)
            continue
        check_note(path, manifest, folder)
        return path, manifest, state
    reason = "; ".join(damaged) or f"there is no checkpoint in {folder.checkpoints}"
    raise CheckpointError(reason, "Nothing can be resumed: start the run anew.")


def check_note(path: Path, manifest: Mapping[str, Any], folder: RunFolder) -> None:
    """Raise CheckpointError if a checkpoint was made by another run than the folder's."""
    for name, theirs, ours in _differences(manifest, folder.info):
        if name == "method":
            raise CheckpointError(f"the checkpoint {path} is of {theirs}, the run is of {ours}")
        if name != folder.info.get("budget_option") and name not in {"timesteps", "epochs"}:
            raise CheckpointError(f"the checkpoint {path} is of another run: {name} {theirs} instead of {ours}")


# --- training -------------------------------------------------------------------------------------


def _info(planned: Plan) -> dict[str, Any]:
    """Return what run.json says of a plan before it has run."""
    options = plain(planned.options)
    objective = planned.algorithm_class.objective(planned.task)
    return {
        "schema": runfolder.SCHEMA,
        "status": "new",
        **_identity(planned),
        "data": planned.task.digest,
        "began_in": str(Path.cwd()),
        "unit": planned.algorithm_class.unit,
        "budget_option": planned.algorithm_class.budget_option,
        "draws": _draws(planned.algorithm_class),
        "objective": {"metric": objective.metric, "maximize": objective.maximize},
        "options": {name: options[name] for name in (*KEPT, "seed", "device", "deterministic")},
        "sources": planned.sources,
        **provenance(planned.method.plugin),
    }


def _draws(method: type[Algorithm]) -> bool:
    """Return whether `rllab sample` can draw from the trained model."""
    return issubclass(method, GenerativeModel) and method.refuses_sampling is None


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


def _train(planned: Plan, folder: RunFolder, found: Found | None, watch: Watch | None) -> Status:
    """Train in a folder that is held, from the start or from a checkpoint; keep run.json true."""
    before = {name: folder.info.get(name) for name in ("status", "reason", "ended")}
    started = {"resumed": runfolder.now()} if found else {"started": runfolder.now()}
    logger, saver = make_logger(planned), _saver(planned, folder)
    trainer: Trainer | None = None
    loaded = found is None
    with stopping.on_signals():
        try:
            folder.update(status="running", reason=None, ended=None, **started, **runfolder.process())
            algorithm = _ready(planned, folder, as_it_began=found is not None)
            options = planned.options
            pictures = Pictures(options.pictures_every, folder, asked="pictures_every" in planned.sources)
            # after the last checkpoint: a film takes its time, and nothing is lost with it
            films = [Recorder(folder)] if options.record else []
            watching = watch(planned, folder) if watch else ()
            callbacks = [*make_callbacks(planned), *watching, pictures, saver, *films]
            max_time = options.max_time.seconds if options.max_time else None
            trainer = Trainer(algorithm, logger, callbacks, stop_after=options.stop_after, max_time=max_time)
            trainer.state_dict()  # neither may a callback have an attribute that cannot be kept
            if found is not None:
                _load(trainer, saver, found)
                _note_resumed(planned, folder, trainer)
                loaded = True
            logger.open(folder, resumed_at=trainer.count if found else None)
            status = trainer.run()
            _conclude(folder, status, trainer, saver, logger)
        except StopRequested as request:  # it came before the first step: what is there stays as it is
            status = Status("stopped", str(request))
            folder.update(status=status.state, reason=status.reason, ended=runfolder.now())
        except BaseException as error:
            status = Status("failed", str(error).split("\n")[0] or type(error).__name__)
            if isinstance(error, KeyboardInterrupt):
                status = Status("stopped", "interrupted without saving")
            with suppress(Exception):  # the first error is the one to tell
                if loaded:
                    _conclude(folder, status, trainer, saver, logger)
                else:  # a run that could not be resumed is what it was
                    folder.update(**before)
            if (named := _named(error, trainer, folder)) is not error:
                raise named from error
            raise
    return status


def _ready(planned: Plan, folder: RunFolder, *, as_it_began: bool) -> Algorithm:
    """Return the algorithm, set up, after writing down where it was placed."""
    algorithm, choice = build(planned, threads=folder.info["device"]["threads"] if as_it_began else None)
    folder.update(
        device={
            "name": choice.device,
            "threads": choice.threads,
            "precision": choice.precision,
            "reason": choice.reason,
        }
    )
    _note_captions(algorithm, folder)
    if as_it_began and isinstance(algorithm, Agent):
        algorithm.task.backend = folder.info.get("env_backend")
    stopping.check()
    algorithm.setup()
    if isinstance(algorithm, Agent) and algorithm.envs.strategy is not None:
        folder.update(environment_state=algorithm.envs.strategy.name, env_backend=algorithm.envs.backend)
        if algorithm.task.max_episode_steps is None and not algorithm.task.metadata.get("ends_by_itself"):
            _log.warning(
                "%s has no time limit: if episodes do not end by themselves, an evaluation never ends; "
                "--max-episode-steps sets one",
                algorithm.task.name,
            )
    stopping.check()
    algorithm.state_dict()  # an attribute that cannot be kept is an error now, not at the first checkpoint
    return algorithm


def _note_captions(algorithm: Algorithm, folder: RunFolder) -> None:
    """Write down what the numbers are; of a resumed run, say so if they are no longer what they were."""
    before = folder.info.get("captions") or {}
    if before and isinstance(algorithm, Agent):
        return  # baselines, which do not change
    captions = dict(algorithm.captions)
    for name, was in before.items():
        if captions.get(name, was) != was:
            _log.warning(
                "%s is now measured in another way (%s) than before (%s): do not compare", name, captions[name], was
            )
            break
    if captions:
        folder.update(captions=captions)


def _conclude(
    folder: RunFolder, status: Status, trainer: Trainer | None, saver: Checkpoint | None, logger: Logger
) -> None:
    """Close the logger and write down how the run ended, also if closing fails."""
    totals = {"steps": trainer.count, "seconds": round(trainer.seconds, 3)} if trainer else {}
    best = None
    if saver and saver.objective and saver.best is not None:
        best = {"step": saver.best_step, "value": saver.best, "metric": saver.objective.metric}
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


def _load(trainer: Trainer, saver: Checkpoint, found: Found) -> None:
    """Bring trainer and algorithm to a checkpoint."""
    path, manifest, state = found
    try:
        weights = checkpoint.load_weights(path, manifest)
        trainer.algorithm.load_state_dict({"weights": weights, "state": state["algorithm"]})
        trainer.load_state_dict(state["trainer"])
    except (UncapturedState, ValueError, KeyError) as error:
        raise CheckpointError(f"the checkpoint {path} does not fit this version of the method: {error}") from error
    set_global_state(state["globals"])
    state.clear()  # it has been copied: a replay buffer is there once
    saver.last = path


def _note_resumed(planned: Plan, folder: RunFolder, trainer: Trainer) -> None:
    """Write down what a resumed run changed: a larger budget, episodes that had to begin again."""
    if plain(planned.config) != folder.info["config"]:
        trainer.carry_on()
        folder.update(config=plain(planned.config), sources=planned.sources)
        folder.write(folder.config_file, write_toml(planned.sections()))
    algorithm = trainer.algorithm
    if isinstance(algorithm, Agent) and algorithm.envs.restarted:
        restarted = algorithm.envs.restarted
        folder.update(restarted_episodes=folder.info.get("restarted_episodes", 0) + restarted)
        _log.warning("%d episodes begin anew: the state of this environment cannot be kept", restarted)


def _saver(planned: Plan, folder: RunFolder) -> Checkpoint:
    options = planned.options
    return Checkpoint(
        options.checkpoint_every,
        folder,
        planned.algorithm_class.selection(planned.task),
        keep=options.keep,
        note={"schema": runfolder.SCHEMA, **_identity(planned)},
        share=1.0 if "checkpoint_every" in planned.sources else 0.05,
    )


_DISK = {errno.ENOSPC, errno.EROFS, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""What a full, broken or read-only disk says."""


def _named(error: BaseException, trainer: Trainer | None, folder: RunFolder) -> BaseException:
    """Return an error with the step it came at, and what is left to go on from."""
    if device.is_out_of_memory(error):
        error = device.explain_out_of_memory(error)
    if isinstance(error, SystemExit):  # pygame's environments do so when their window is closed
        error = RunFailed(f"sys.exit({error.code if error.code is not None else ''}) was called while training")
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
