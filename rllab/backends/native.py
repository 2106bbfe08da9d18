"""Native vectors: environments that someone has written as one, usually in NumPy.

In: a `gymnasium.vector.VectorEnv` in SAME_STEP mode, found by the spec of an environment (`vector_entry_point`) or as a
plugin of the environment's name (entry-point group `rllab.vector_envs`, which comes first). It is made with
`num_envs`, `max_episode_steps` (if there is a limit) and the options of `--env-kwarg`; it may have
`state_dict()` and `load_state_dict()`, so that a resumed run goes on in the middle of its episodes, and `faster_from`,
the number of environments from which it is measured to be faster than a loop. Out: a `VectorEnv`.

In NEXT_STEP mode, the default of Gymnasium, the step after an end ignores the action and pays 0. Such a row is no step,
and no other environment can wait for it: a native vector in this mode is refused. How to adapt one is in
`rllab_envs.cartpole`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode

from rllab import plugins
from rllab.envstate import STRATEGIES
from rllab.errors import one_line
from rllab.seeding import preserved_globals
from rllab.state import State, Stateful, UncapturedState
from rllab.vectorenv import FAULTS, Episode, Transition, VectorEnv, two_seeds

if TYPE_CHECKING:
    from rllab.environments import EnvironmentTask

PLUGIN_GROUP = "rllab.vector_envs"

Native: TypeAlias = gymnasium.vector.VectorEnv[Any, Any, Any]


def native_vector(task: EnvironmentTask) -> Native | str:
    """Return the native vector of a task, of one environment, or in a few words why there is none to be had."""
    if task.wrappers:
        return f"{' and '.join(task.wrappers)} is for single environments"
    creator = _creator(task)
    if creator is None:
        return "there is none for it"
    try:
        made: Native = _make(task, creator, 1)
    except FAULTS as error:
        return f"it cannot be made: {type(error).__name__}: {one_line(error)}"
    made.close()
    mode = made.metadata.get("autoreset_mode")
    if mode is not AutoresetMode.SAME_STEP:
        return f"Gymnasium's steps by {mode}, where some steps are none" if mode else "it does not say how it resets"
    if (made.single_observation_space, made.single_action_space) != (task.observation_space, task.action_space):
        return f"it has other spaces: {made.single_observation_space} and {made.single_action_space}"
    return made


def _creator(task: EnvironmentTask) -> Callable[..., Native] | None:
    if task.spec.id in plugins.names(PLUGIN_GROUP):
        found: Any = plugins.load(PLUGIN_GROUP, task.spec.id)
    else:
        found = task.spec.vector_entry_point
    return load_env_creator(found) if isinstance(found, str) else found  # type: ignore[return-value]


def _make(task: EnvironmentTask, creator: Callable[..., Native], num_envs: int) -> Native:
    limit = {} if task.max_episode_steps is None else {"max_episode_steps": task.max_episode_steps}
    return creator(num_envs=num_envs, **limit, **task.spec.kwargs)


class NativeEnvs(VectorEnv):
    """Environments stepped by a native vector, with one random stream for all of them.

    Args, attributes and errors are those of `VectorEnv`; `task` is one for which `native_vector` has found something.
    """

    backend = "native"

    def __init__(
        self, task: EnvironmentTask, num_envs: int, seeds: np.random.SeedSequence, *, keep_state: bool = True
    ) -> None:
        super().__init__(task, num_envs, seeds, keep_state=keep_state)
        self._task = task
        self._native: Native | None = None
        self._sums = np.zeros(num_envs)
        self._steps = np.zeros(num_envs, np.int64)

    @property
    def starts(self) -> npt.NDArray[np.bool_]:
        """Return where `observations` are the first of an episode: (num_envs,) bool."""
        starts: npt.NDArray[np.bool_] = self._steps == 0
        return starts

    def reset(self) -> Any:
        """Begin new episodes everywhere; the first call seeds the random stream."""
        seed = None
        if self._native is None:
            seed = self._seeds[0][0]
            self._open()
        self.observations = self._begin(seed)
        return self.observations

    def step(self, actions: Any, active: Sequence[int] | None = None) -> Transition:
        """Step all environments.

        Raises:
            ValueError: if only some are to be stepped.
            RunFailed: if the vector raises, or gives a reward or an observation that is not finite.
        """
        if active is not None:
            raise ValueError("a native vector cannot step some of its environments while others wait")
        native = self._native
        assert native is not None
        if len(actions) != self.num_envs:
            raise ValueError(f"{len(actions)} actions for {self.num_envs} environments")
        try:
            seen, paid, ended, cut, infos = native.step(np.array(actions, self.action_space.dtype))
            observations = self._batch(seen)
            rewards = np.array(paid, np.float32)
            terminated = np.array(ended, bool)
            truncated = np.array(cut, bool) & ~terminated
            over = terminated | truncated
            rows = over.nonzero()[0] if over.any() else ()
            next_observations = observations
            if len(rows):
                if not np.array_equal(infos["_final_obs"], over):
                    raise ValueError("final observations elsewhere than where episodes ended")
                next_observations = observations.copy()
                next_observations[rows] = np.stack([infos["final_obs"][row] for row in rows])
        except FAULTS as error:
            raise self._failure(error, self._in_all(f"step {self._total // self.num_envs + 1}")) from error
        self._sums += paid
        self._steps += 1
        self._total += self.num_envs
        self._check_rows(rewards, next_observations, observations)
        episodes: list[Episode] = []
        if len(rows):
            episodes = list(map(Episode, self._sums[rows].tolist(), self._steps[rows].tolist()))
            self._sums[rows], self._steps[rows] = 0.0, 0
        self.observations = observations
        return Transition(next_observations, rewards, terminated, truncated, episodes)

    def close(self) -> None:
        """Close the environments; `reset` makes new ones, with the same seed."""
        native, self._native = self._native, None
        self._envs = [] if native is None else [native]  # type: ignore[list-item]  # it is closed as one
        super().close()

    # --- state

    def state_dict(self) -> State:
        """Return the state of all environments: plain data and arrays.

        Raises:
            UncapturedState: if they were made with `keep_state=False`.
        """
        if not self._keep_state:
            raise UncapturedState("these environments were made with keep_state=False")
        if self.strategy is None or self._native is None:
            return {"strategy": None}
        return {
            "backend": self.backend,
            "strategy": self.strategy.name,
            "native": self._native.state_dict() if isinstance(self._native, Stateful) else {},
            "observations": self.observations.copy(),
            "returns": self._sums.copy(),
            "lengths": self._steps.copy(),
            "total": self._total,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on where `state` was taken; `restarted` says how many episodes have to begin again.

        Raises:
            UncapturedState: if the state is of another number of environments, or of another backend.
        """
        self.close()
        self.restarted = 0
        if state["strategy"] is None:
            return
        self._check_state(state, self.backend, len(state["lengths"]))
        self._total = state["total"]
        with preserved_globals():
            self._open()
            assert isinstance(self._native, gymnasium.vector.VectorEnv)
            if not isinstance(self._native, Stateful):
                self.observations = self._begin(two_seeds(np.random.SeedSequence([*self._seeds[0], self._total]))[0])
                self.restarted = self.num_envs
                return
            self._begin(self._seeds[0][0])
            self._native.load_state_dict(copy.deepcopy(state["native"]))
        self.observations = np.array(state["observations"])
        self._sums, self._steps = np.array(state["returns"]), np.array(state["lengths"])

    # --- parts

    def _open(self) -> None:
        creator = _creator(self._task)
        assert creator is not None
        self._native = _make(self._task, creator, self.num_envs)
        assert self._native.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP
        if self._keep_state:
            self.strategy = STRATEGIES["own" if isinstance(self._native, Stateful) else "restart"]

    def _begin(self, seed: int | None) -> Any:
        assert self._native is not None
        self._sums[:], self._steps[:] = 0.0, 0
        try:
            observations = self._batch(self._native.reset(seed=seed)[0])
        except FAULTS as error:
            raise self._failure(error, self._in_all("at a reset")) from error
        self._check_rows(None, observations)
        return observations

    def _batch(self, seen: Any) -> Any:
        """Return observations as an array of their own, whatever the vector does with its."""
        batch = np.array(seen, self.observation_space.dtype, order="C")
        if batch.shape != (self.num_envs, *self._shape):
            raise ValueError(f"observations of shape {batch.shape}, not {(self.num_envs, *self._shape)}")
        return batch

    def _check_rows(self, rewards: Any, *batches: Any) -> None:
        """Raise RunFailed that names the first environment with a number that is not finite."""
        for what, batch in (("a reward", rewards), *(("an observation", batch) for batch in batches)):
            if batch is None or batch.dtype.kind != "f":
                continue
            flat = batch.reshape(-1)
            if math.isfinite(np.vdot(flat, flat)):  # a sum of squares that is too large is looked at again
                continue
            for i, row in enumerate(batch):
                if not np.isfinite(row).all():
                    raise self._not_finite(what, row, self._where(i, int(self._steps[i])))

    def _in_all(self, when: str) -> str:
        return f"native vector of {self.num_envs} environments, {when}"
