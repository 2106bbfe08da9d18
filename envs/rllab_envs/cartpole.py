"""Gymnasium's native vector of CartPole, with rows that are all real steps (entry-point group `rllab.vector_envs`).

Gymnasium's class resets in NEXT_STEP mode: where an episode has ended, the next step ignores the action, pays 0 and
gives the first observation of a new episode. Here that reset comes at the end of the same step, as in SAME_STEP mode:
the equations of motion, the rewards and the random numbers are Gymnasium's own.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode

from rllab_envs.base import generator, generator_state

Array: TypeAlias = npt.NDArray[Any]


class CartPoleVector(CartPoleVectorEnv):
    """Many cart-poles at once, each reset in the step that ends its episode.

    A vector of one draws the same numbers as `CartPole-v1` with the same seed, and does the same.

    Attributes:
        faster_from: the number of them from which they are faster than a loop over single ones.
    """

    metadata: dict[str, Any] = {**CartPoleVectorEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
    faster_from: ClassVar[int] = 16

    state: Any
    """(4, num_envs): position, velocity, angle and angular velocity."""

    def step(self, action: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Step every cart-pole; the final observations are in `infos["final_obs"]`, where `infos["_final_obs"]`."""
        observations, rewards, terminated, truncated, infos = super().step(action)
        ended = self.prev_done
        if not ended.any():
            return observations, rewards, terminated, truncated, infos
        final, observations = observations, observations.copy()
        self.state[:, ended] = self.np_random.uniform(self.low, self.high, (4, int(ended.sum())))
        self.steps[ended] = 0
        self.prev_done = np.zeros(self.num_envs, bool)  # so that the next step is a real one everywhere
        observations[ended] = self.state[:, ended].T
        return observations, rewards, terminated, truncated, {"final_obs": final, "_final_obs": ended}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes, as plain data that shares nothing with the environments."""
        return {
            "state": None if self.state is None else self.state.copy(),
            "steps": self.steps.copy(),
            "bounds": (self.low, self.high),
            "generator": None if self._np_random is None else generator_state(self._np_random),
            "seed": self._np_random_seed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, of as many environments.

        Raises:
            ValueError: if they were more or fewer.
        """
        if len(state["steps"]) != self.num_envs:
            raise ValueError(f"the state is of {len(state['steps'])} environments, not of {self.num_envs}")
        self.state = None if state["state"] is None else np.array(state["state"])
        self.steps = np.array(state["steps"])
        self.prev_done = np.zeros(self.num_envs, bool)
        self.low, self.high = state["bounds"]
        self._np_random = None if state["generator"] is None else generator(state["generator"])
        self._np_random_seed = state["seed"]
