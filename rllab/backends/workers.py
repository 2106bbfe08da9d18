"""Worker processes: a share of the environments in each, for steps that take milliseconds.

In: what makes one environment, which is sent to the workers, so it must be picklable; an `EnvironmentTask` is, by its
name and options. Out: a `VectorEnv`. Each worker steps its share by the loop of `rllab.vectorenv`, with the same random
streams: whatever the number of workers, observations, rewards and errors are those of the loop, bit for bit.

That is also why it is not `gymnasium.vector.AsyncVectorEnv`: in SAME_STEP mode that does the same, but it has a process
and a message for each environment, cannot leave some of them alone, and hangs when a worker has died.

Measured on two busy slow cores: the first vector of a process waits 4 to 6 s for a server that imports torch and
rllab, each further one 0.15 s (a fresh interpreter for each worker, "spawn": 4 s for each). Then 8 CartPoles make 9,000
steps a second with two workers, 2,600 with AsyncVectorEnv's eight; 2 of them 2,900 and 4,200.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import time
import traceback
import weakref
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch

from rllab import device, envstate
from rllab.envstate import Strategy
from rllab.errors import PluginError, RllabError, RunFailed, UsageError, one_line
from rllab.seeding import Streams, global_state, set_global_state
from rllab.state import State, UncapturedState
from rllab.vectorenv import EnvSource, Transition, VectorEnv

CLOSING_SECONDS = 5.0
"""How long a worker may take to close its environments before it is killed."""

logger = logging.getLogger("rllab")


class _Worker(NamedTuple):
    """A process, the pipe to it, and which environments are its share."""

    process: Any
    connection: Connection
    share: range


class WorkerEnvs(VectorEnv):
    """Environments stepped by worker processes.

    Args:
        source: what makes them; it is sent to the workers.
        num_envs: how many.
        seeds: where their random streams are spawned from, those of the loop.
        keep_state: whether `state_dict` will be asked for.
        processes: how many workers; as many as there are cores by default, and no more than environments.

    Raises:
        UsageError: if the source cannot be sent to another process.
        RunFailed: if a worker dies.
    """

    backend = "workers"

    def __init__(
        self,
        source: EnvSource,
        num_envs: int,
        seeds: np.random.SeedSequence,
        *,
        keep_state: bool = True,
        processes: int | None = None,
    ) -> None:
        super().__init__(source, num_envs, seeds, keep_state=keep_state)
        self._processes = min(num_envs, processes or device.cpus())
        self._workers: list[_Worker] = []
        self._parts: list[Any] = []  # the observations of each share
        if num_envs == 1:
            logger.warning("--env-backend workers with one environment: it only costs time, the loop is faster")

    def reset(self) -> Any:
        """Begin new episodes everywhere; the first call starts the workers and seeds each environment."""
        if not self._workers:
            if self._keep_state and self.strategy is None:
                self.strategy = envstate.choose(self._source.make_one, self._seeds[0][0])
            self._start()
        self._lengths = [0] * self.num_envs
        self._parts = self._ask_all("reset")
        self.observations = _joined(self._parts)
        return self.observations

    def step(self, actions: Any, active: Sequence[int] | None = None) -> Transition:
        """Step the environments.

        Args:
            actions: (num_envs, ...), in the environment's own terms.
            active: which environments to step, in ascending order, or None for all.
        """
        given = self._rows(actions)
        chosen = self._all if active is None else active
        asked: list[tuple[int, str, Any]] = []
        for index, (_, _, share) in enumerate(self._workers):
            rows = None if active is None else [i - share.start for i in active if i in share]
            if rows is None or rows:
                asked.append((index, "step", (given[share.start : share.stop], rows)))
        answers = self._ask(asked)
        for (index, _, _), (transition, observations) in zip(asked, answers, strict=True):
            self._parts[index] = transition.next_observations if observations is None else observations
        moved = [transition for transition, _ in answers]
        whole = Transition(
            _joined([part.next_observations for part in moved]),
            np.concatenate([part.rewards for part in moved]),
            np.concatenate([part.terminated for part in moved]),
            np.concatenate([part.truncated for part in moved]),
            [episode for part in moved for episode in part.episodes],
        )
        for i, over in zip(chosen, (whole.terminated | whole.truncated).tolist(), strict=True):
            self._lengths[i] = 0 if over else self._lengths[i] + 1
        self._total += len(chosen)
        self.observations = _joined(self._parts)
        return whole

    def close(self) -> None:
        """Close the environments and end the workers; `reset` makes new ones, with the same seeds."""
        workers, self._workers = self._workers, []
        for worker in workers:
            with suppress(OSError, ValueError):
                worker.connection.send_bytes(_pickled(("close", ())))
            worker.connection.close()
        deadline = time.monotonic() + CLOSING_SECONDS
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    # --- state

    def state_dict(self) -> State:
        """Return the state of all environments: plain data and arrays.

        Raises:
            UncapturedState: if they were made with `keep_state=False`.
        """
        if not self._keep_state:
            raise UncapturedState("these environments were made with keep_state=False")
        if self.strategy is None or not self._workers:
            return {"strategy": None}
        return {
            "backend": self.backend,
            "strategy": self.strategy.name,
            "shares": self._ask_all("state"),
            "lengths": list(self._lengths),
            "total": self._total,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on where `state` was taken, with as many workers; `restarted` says how many episodes begin again.

        Raises:
            UncapturedState: if the state is of another number of environments, or of another backend.
        """
        self.close()
        self.restarted = 0
        if state["strategy"] is None:
            return
        self._check_state(state, self.backend, len(state["lengths"]))
        self.strategy = envstate.STRATEGIES[state["strategy"]]
        self._total = state["total"]
        self._processes = len(state["shares"])
        self._start()
        answers = self._ask([(index, "load", (share,)) for index, share in enumerate(state["shares"])])
        self._parts = [observations for observations, _, _ in answers]
        self._lengths = [length for _, lengths, _ in answers for length in lengths]
        self.restarted = sum(restarted for _, _, restarted in answers)
        self.observations = _joined(self._parts)

    # --- workers

    def _start(self) -> None:
        """Start the workers, each with its share of the environments, not yet reset."""
        try:
            pickle.dumps(self._source)
        except Exception as error:
            raise UsageError(
                f"{self._source.name} cannot be sent to worker processes: {one_line(error)}",
                "Take --env-backend loop, or make it a class of a module that can be imported.",
            ) from error
        bounds = np.linspace(0, self.num_envs, self._processes + 1).astype(int).tolist()
        context = _context()
        _pools.add(self)
        for start, stop in itertools.pairwise(bounds):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), name="rllab-environments")
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours, range(start, stop)))
        strategy = self.strategy.name if self.strategy else None
        shares = [(self._source, self._seeds, worker.share, self._keep_state, strategy) for worker in self._workers]
        try:
            self._ask([(index, "open", share) for index, share in enumerate(shares)])
        except BaseException:
            self.close()
            raise

    def _ask_all(self, name: str) -> list[Any]:
        return self._ask([(index, name, ()) for index in range(len(self._workers))])

    def _ask(self, asked: list[tuple[int, str, Any]]) -> list[Any]:
        """Send each worker its request, and return what they answer; all have answered when one's error is raised."""
        answers: list[Any] = []
        failure: tuple[RllabError, str] | None = None
        for index, name, arguments in asked:
            try:
                self._workers[index].connection.send_bytes(_pickled((name, arguments)))
            except OSError as error:
                raise self._death(self._workers[index], name) from error
        for index, name, _ in asked:
            try:
                failed, answer = _unpickled(self._workers[index].connection.recv_bytes())
            except (EOFError, OSError) as error:
                raise self._death(self._workers[index], name) from error
            if failed and failure is None:
                failure = _KINDS.get(answer[0], RunFailed)(*answer[1:3]), answer[3]
            answers.append(answer)
        if failure is not None:
            raise failure[0] from _InWorker(failure[1])
        return answers

    def _death(self, worker: _Worker, doing: str) -> RunFailed:
        worker.process.join(1.0)
        code = worker.process.exitcode
        with suppress(ValueError):
            code = signal.Signals(-(code or 0)).name
        first, last = worker.share.start, worker.share.stop - 1
        at = f"step {self._total // self.num_envs + 1} of each" if doing == "step" else f"at {doing!r}"
        which = f"environment {first}" if first == last else f"environments {first} to {last}"
        hint = 'In a script of your own, train below `if __name__ == "__main__":`.' if doing == "open" else None
        return RunFailed(
            f"{self._source.name} ({which} of {self.num_envs}, {at}): the worker process died ({code})", hint
        )


_KINDS: dict[int, type[RllabError]] = {kind.exit_code: kind for kind in (RunFailed, UsageError, PluginError)}


class _InWorker(Exception):
    """The traceback of an error in a worker, as a text."""


_pools: weakref.WeakSet[WorkerEnvs] = weakref.WeakSet()


@atexit.register  # after `multiprocessing` has registered its own, so before that waits for the workers
def _close_pools() -> None:
    for pool in list(_pools):
        pool.close()


def _context() -> Any:
    """Return how processes are started: by a server that has imported everything already, where there is one.

    Not by a plain fork, which copies locks that threads of torch may hold.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "rllab.environments"])
    return context


def _joined(parts: Sequence[Any]) -> Any:
    """Return batches of several shares as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(_joined(items) for items in zip(*parts, strict=True))
    return np.concatenate(parts)


# --- in a worker ----------------------------------------------------------------------------------


class _Share(VectorEnv):
    """Some of the environments, in a worker."""

    def __init__(
        self, source: EnvSource, seeds: list[tuple[int, int]], share: range, keep_state: bool, strategy: str | None
    ) -> None:
        super().__init__(source, len(share), np.random.SeedSequence(0), keep_state=keep_state)
        self._seeds = seeds[share.start : share.stop]
        self._first, self._of = share.start, len(seeds)
        self.strategy: Strategy | None = envstate.STRATEGIES[strategy] if strategy else None
        Streams(self._seeds[0][0]).seed_globals()  # some environments draw from them

    def answer(self, name: str, arguments: Any) -> Any:
        """Return what a request is answered."""
        match name:
            case "reset":
                return self.reset()
            case "step":
                transition = self.step(*arguments)
                same = self.observations is transition.next_observations
                return transition, None if same else self.observations
            case "state":
                return self.state_dict() | {"globals": global_state()}
            case "load":
                self.load_state_dict(arguments[0])
                set_global_state(arguments[0]["globals"])
                return self.observations, self._lengths, self.restarted
        raise AssertionError(name)


def _serve(connection: Connection) -> None:
    """Answer requests until there is nobody any more who sends them."""
    # Ctrl-C and a batch system's end go to all processes: the parent decides, and the workers end when it does
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logger.setLevel(logging.ERROR)  # the parent has said it already
    torch.set_num_threads(1)
    share: _Share | None = None
    with connection, suppress(EOFError, OSError):  # the parent is gone
        while True:
            request = connection.recv_bytes()
            try:
                name, arguments = _unpickled(request)
                if name == "close":
                    break
                if name == "open":
                    share, answer = _Share(*arguments), None
                else:
                    assert share is not None
                    answer = share.answer(name, arguments)
                failed = False
            except BaseException as error:  # noqa: BLE001 - the parent raises it
                failed, answer = True, _described(error)
            connection.send_bytes(_pickled((failed, answer)))
    if share is not None:
        share.close()


def _described(error: BaseException) -> tuple[int, str, str | None, str]:
    """Return what the parent needs to raise an error: exit code, message, hint and traceback."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, RllabError):
        return error.exit_code, error.message, error.hint, trace
    message = f"a worker process ({os.getpid()}) raised {type(error).__name__}: {one_line(error)}"
    return RunFailed.exit_code, message, None, trace


# --- what goes through a pipe ---------------------------------------------------------------------


def _pickled(message: Any) -> bytes:
    return pickle.dumps(message, pickle.HIGHEST_PROTOCOL)


def _unpickled(message: bytes) -> Any:
    return pickle.loads(message)  # noqa: S301 - it comes from this program's own other end
