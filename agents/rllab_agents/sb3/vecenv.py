"""Our environments as stable-baselines3 takes them.

In: a `VectorEnv`, which seeds each environment by a stream of its own, tells true final observations, and can keep
its state. Out: a `VecEnv`, so that all of that holds for the library's algorithms too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from rllab.environments import EnvironmentTask
from rllab.vectorenv import Episode, VectorEnv


class VectorEnvAdapter(VecEnv):
    """A `VectorEnv` with the interface of stable-baselines3.

    It is made before there are environments, as the library's networks only ask for spaces.

    Args:
        task: whose environments they are.
        num_envs: how many.
        seed: of the action space, from which the library draws random actions.

    Attributes:
        envs: what is stepped; to be set before the first `reset`.
        episodes: those that have ended, until somebody takes them.
    """

    envs: VectorEnv

    def __init__(self, task: EnvironmentTask, num_envs: int, seed: int) -> None:
        space = copy.deepcopy(task.action_space)  # a generator of its own
        self.first_action = 0
        if isinstance(space, spaces.Discrete) and space.start:  # the library counts actions from 0
            self.first_action = int(space.start)
            space = spaces.Discrete(space.n)
        space.seed(seed)
        super().__init__(num_envs, task.observation_space, space)
        self.episodes: list[Episode] = []
        self._task = task
        self._spare: gymnasium.Env[Any, Any] | None = None

    def reset(self) -> VecEnvObs:
        """Return the observations to begin with; the environments were reset when they were made."""
        return _own(self.envs.observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step, (num_envs, ...)."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step; where an episode ended, `infos` have its true last observation and whether it was cut off."""
        actions = self._actions + self.first_action if self.first_action else self._actions
        moved = self.envs.step(actions)
        dones = moved.terminated | moved.truncated
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        for i in np.flatnonzero(dones).tolist():
            infos[i]["TimeLimit.truncated"] = bool(moved.truncated[i])
            infos[i]["terminal_observation"] = _row(moved.next_observations, i)
        self.episodes += moved.episodes
        return _own(self.envs.observations), moved.rewards, dones, infos

    def take_episodes(self) -> list[Episode]:
        """Return the episodes that have ended since the last call."""
        episodes, self.episodes = self.episodes, []
        return episodes

    def close(self) -> None:
        """Close the spare environment; the others belong to the agent."""
        if self._spare is not None:
            self._spare.close()

    # --- what the library asks of single environments

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute for each environment; nothing is drawn while training."""
        if attr_name == "render_mode":
            return [None] * self._count(indices)
        return [self._one().get_wrapper_attr(attr_name)] * self._count(indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: environments are alike, and what they are is the task's."""
        raise AttributeError(f"{attr_name}: environments are changed by the options of the task only")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method that depends on its arguments alone, such as `compute_reward` for hindsight replay."""
        result = self._one().get_wrapper_attr(method_name)(*method_args, **method_kwargs)
        return [result] * self._count(indices)

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return that nothing the library knows of is around an environment: episodes are counted by rllab."""
        return [False] * self._count(indices)

    def _one(self) -> gymnasium.Env[Any, Any]:
        if self._spare is None:
            self._spare = self._task.make_one()
        return self._spare

    def _count(self, indices: VecEnvIndices) -> int:
        if indices is None:
            return self.num_envs
        return len(list(indices)) if isinstance(indices, Iterable) else 1


def _own(observations: Any) -> VecEnvObs:
    """Return observations in a dict of their own, as the library reshapes what is in it."""
    return dict(observations) if isinstance(observations, dict) else observations


def _row(observations: Any, i: int) -> Any:
    return {key: part[i] for key, part in observations.items()} if isinstance(observations, dict) else observations[i]
