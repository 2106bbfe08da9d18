"""What steps several environments: a loop in this process, a native vector, or worker processes.

In: a task, a number of environments and what `--env-backend` says. Out: a `VectorEnv`. All three mean the same to an
agent: the next observation, the true final one where an episode ended, and no row that is not a real step.

| backend | random streams | for |
|---|---|---|
| loop (`rllab.vectorenv`) | one for each environment | everything; every evaluation |
| native (`rllab.backends.native`) | one for all | many environments that someone has written in NumPy as one |
| workers (`rllab.backends.workers`) | those of the loop | steps of milliseconds, on several cores |

`auto` takes a native vector from that number of environments on from which it is measured to be faster (the class says
so itself, in `faster_from`), else the loop; workers never by itself, as it does not know how long a step takes.

Thousands of environment steps a second, loop and native, one thread of a slow core (AMD EPYC):

| environments | CartPole-v1 | Catch-v0 | Corridor-v0 | GridWorld-v0 |
|---|---|---|---|---|
| 1 | 84, 16 | 153, 25 | 205, 46 | 201, 46 |
| 8 | 120, 126 | 270, 192 | 388, 386 | 385, 367 |
| 16 | 126, 228 | 285, 370 | 393, 648 | 397, 721 |
| 64 | 121, 701 | 299, 1184 | 388, 2156 | 364, 2219 |
| 256 | 112, 2331 | 290, 2558 | 317, 6474 | 250, 6388 |

So these say `faster_from = 16`. Workers take 0.1 to 0.3 ms a step more than what their environments take, whatever
these are: about 9 thousand steps of 8 CartPoles a second, from 2 processes. `rllab doctor --calibrate METHOD ENV`
measures all of them within a training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from rllab.backends.native import NativeEnvs, native_vector
from rllab.backends.workers import WorkerEnvs
from rllab.errors import UsageError
from rllab.vectorenv import VectorEnv

if TYPE_CHECKING:
    from rllab.environments import EnvironmentTask

Backend: TypeAlias = Literal["loop", "native", "workers"]


def resolve(task: EnvironmentTask, num_envs: int, *, partly: bool = False) -> Backend:
    """Return what is to step the environments of a task.

    Args:
        task: its `config.env_backend` is what the user asked for; `backend`, if set, what `auto` came to before.
        num_envs: how many.
        partly: whether some will be stepped while others wait, which a native vector cannot do.

    Raises:
        UsageError: if what was asked for cannot be had.
    """
    asked: Any = task.config.env_backend
    if asked == "auto" and task.backend is not None:
        asked = task.backend  # a run that is resumed goes on as it began
    if asked == "native":
        check_native(task, partly=partly)
    if asked != "auto":
        return asked  # type: ignore[no-any-return]
    found = native_vector(task)
    if partly or isinstance(found, str):
        return "loop"
    faster_from = getattr(found, "faster_from", None)
    return "native" if faster_from is not None and num_envs >= faster_from else "loop"


def check_native(task: EnvironmentTask, *, partly: bool = False) -> None:
    """Raise UsageError if a task has no native vector that can be taken."""
    found = "the method lets some environments wait for others, which it cannot" if partly else native_vector(task)
    if isinstance(found, str):
        raise UsageError(
            f"--env-backend native: {task.name} cannot be stepped by a native vector: {found}",
            "Take --env-backend auto or loop; workers if its steps take milliseconds.",
        )


def make(
    task: EnvironmentTask, backend: Backend, num_envs: int, seeds: np.random.SeedSequence, *, keep_state: bool = True
) -> VectorEnv:
    """Return a vector of environments that `backend` steps.

    Args:
        task: what makes the environments.
        backend: as `resolve` returned it.
        num_envs: how many.
        seeds: where their random streams are spawned from.
        keep_state: whether `state_dict` will be asked for.
    """
    match backend:
        case "native":
            return NativeEnvs(task, num_envs, seeds, keep_state=keep_state)
        case "workers":
            return WorkerEnvs(task, num_envs, seeds, keep_state=keep_state)
    return VectorEnv(task, num_envs, seeds, keep_state=keep_state)
