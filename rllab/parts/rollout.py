"""Rollouts: T steps of n environments side by side, which a policy took and then learns from."""

from __future__ import annotations

from typing import Any

import numpy as np

from rllab.vectorenv import Transition


class Rollout:
    """Preallocated arrays (T, n, ...), which each rollout fills anew.

    Args:
        steps: T, of each environment.
        num_envs: n.
        observation_shape: of one observation.
        observation_dtype: of one observation.
        action_shape: of one action as the policy draws it, not clipped to what the environment takes.
        action_dtype: of it.

    Attributes:
        observations: (T + 1, n, *observation): what was acted on, and last what the rollout came to.
        starts: (T + 1, n) whether an episode starts with that observation.
        actions: (T, n, *action)
        rewards: (T, n) float32
        terminated: (T, n) bool
        truncated: (T, n) bool
        final_values: (T, n) float32: the value of the true final observation where an episode was truncated, else 0.
    """

    def __init__(
        self,
        steps: int,
        num_envs: int,
        observation_shape: tuple[int, ...],
        observation_dtype: Any,
        action_shape: tuple[int, ...] = (),
        action_dtype: Any = np.int64,
    ) -> None:
        self.steps, self.num_envs = steps, num_envs
        self.observations = np.zeros((steps + 1, num_envs, *observation_shape), observation_dtype)
        self.starts = np.zeros((steps + 1, num_envs), bool)
        self.actions = np.zeros((steps, num_envs, *action_shape), action_dtype)
        self.rewards = np.zeros((steps, num_envs), np.float32)
        self.terminated = np.zeros((steps, num_envs), bool)
        self.truncated = np.zeros((steps, num_envs), bool)
        self.final_values = np.zeros((steps, num_envs), np.float32)

    def __len__(self) -> int:
        return self.steps * self.num_envs

    def look(self, t: int, observations: np.ndarray, starts: np.ndarray) -> None:
        """Keep what there is to see before step t, or after the last one."""
        self.observations[t] = observations
        self.starts[t] = starts

    def add(self, t: int, actions: np.ndarray, moved: Transition) -> None:
        """Keep what was done at step t, and what came of it; where an episode was truncated, `final_values` is due."""
        self.actions[t] = actions
        self.rewards[t] = moved.rewards
        self.terminated[t] = moved.terminated
        self.truncated[t] = moved.truncated
        self.final_values[t] = 0

    @property
    def ended(self) -> np.ndarray:
        """Return whether an episode ended with a step, (T, n)."""
        return self.terminated | self.truncated

    def next_values(self, values: np.ndarray) -> np.ndarray:
        """Return the values of the true next observations, (T, n).

        Args:
            values: (T + 1, n), of `observations`; where an episode ended these show the beginning of the next one.
        """
        return np.where(self.truncated, self.final_values, values[1:])
