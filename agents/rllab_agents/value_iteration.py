"""Value iteration: the optimal values of an environment whose dynamics are known, without taking a step in it.

Bellman, "Dynamic Programming", Princeton (1957); Sutton & Barto, "Reinforcement Learning: An Introduction", 2nd
edition (2018), section 4.4.

    V <- 0
    repeat, a sweep over all states s:
        Q(s, a) <- sum over s', r of p(s', r | s, a) * [r + gamma * V(s')]       (no V(s') where s' is terminal)
        V(s) <- max_a Q(s, a)
    until no value changed by more than `tolerance`

The dynamics are Gymnasium's table P[s][a], a list of (probability, s', r, terminated); with it come FrozenLake,
CliffWalking, Taxi, and our own Corridor and GridWorld. A sweep shrinks the distance to the optimal values by gamma.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field, PositiveFloat, PositiveInt

from rllab.agent import Agent
from rllab.algorithm import Metrics
from rllab.config import Config
from rllab.environments import EnvironmentTask
from rllab_agents.tables import Cells, Table


class ValueIterationConfig(Config):
    """Hyperparameters of value iteration (Bellman, 1957)."""

    sweeps: PositiveInt = 10_000
    """Sweeps over all states, at most."""

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount of a reward one step later."""

    tolerance: PositiveFloat = 1e-9
    """It ends when no value changed by more in a sweep."""


class Dynamics(NamedTuple):
    """A table P[s][a] as arrays, of all transitions (t,) one after the other."""

    rows: np.ndarray
    """Where each one starts: s * actions + a."""
    probabilities: np.ndarray
    next_states: np.ndarray
    rewards: np.ndarray
    goes_on: np.ndarray
    """0 where it terminates, else 1."""

    @classmethod
    def of(cls, table: Any, states: spaces.Discrete, actions: spaces.Discrete) -> Dynamics:
        """Read the table P[s][a] of an environment with these observations and actions."""
        first_state, first_action, number = int(states.start), int(actions.start), int(actions.n)
        found = [
            (s * number + a, probability, s_next - first_state, reward, not terminated)
            for s in range(int(states.n))
            for a in range(number)
            for probability, s_next, reward, terminated in table[s + first_state][a + first_action]
        ]
        rows, probabilities, next_states, rewards, goes_on = map(np.array, zip(*found, strict=True))
        return cls(rows, probabilities.astype(float), next_states, rewards.astype(float), goes_on.astype(float))

    def q(self, values: np.ndarray, gamma: float, actions: int) -> np.ndarray:
        """Return Q (states, actions): what one step brings, with V (states,) to follow."""
        each = self.probabilities * (self.rewards + gamma * self.goes_on * values[self.next_states])  # (t,)
        return np.bincount(self.rows, each, len(values) * actions).reshape(len(values), actions)


class ValueIteration(Agent):
    """Value iteration from the table of transitions that an environment brings."""

    Config = ValueIterationConfig
    config: ValueIterationConfig
    unit = "sweeps"
    budget_option = "sweeps"
    reductions = {"train/residual": "last"}
    transient: ClassVar[frozenset[str]] = Agent.transient | {"dynamics"}

    @classmethod
    def refusal(cls, config: ValueIterationConfig, task: EnvironmentTask) -> str | None:
        """Return why it cannot plan in `task`: it needs its table of transitions."""
        for space in (task.observation_space, task.action_space):
            if not isinstance(space, spaces.Discrete):
                return f"it takes Discrete observations and actions, not {space}"
        return None if _table(task) is not None else "it has no table P[s][a] of transitions; try q-learning"

    @classmethod
    def work(cls, config: ValueIterationConfig, task: EnvironmentTask) -> float:
        """Return about how many multiply-adds a sweep takes; NumPy does them on one thread."""
        return float(spaces.flatdim(task.action_space))

    @property
    def budget(self) -> int:
        """Sweeps asked for."""
        return self.config.sweeps

    def __init__(
        self, config: ValueIterationConfig, task: EnvironmentTask, *, device: torch.device, streams: Any
    ) -> None:
        super().__init__(config, task, device=device, streams=streams)
        assert isinstance(task.action_space, spaces.Discrete)
        self.first_action = int(task.action_space.start)
        self.cells = Cells(task.observation_space)
        self.table = Table(self.cells.n, int(task.action_space.n))

    def setup(self) -> None:
        """Read the dynamics; no environment is stepped."""
        self.envs = self.task.make(1, self.streams.sequence("environments"))
        self.envs.reset()
        assert isinstance(self.observation_space, spaces.Discrete)
        assert isinstance(self.action_space, spaces.Discrete)
        self.dynamics = Dynamics.of(_table(self.task), self.observation_space, self.action_space)

    def act(
        self, observations: Any, memory: Any = None, starts: np.ndarray | None = None, *, deterministic: bool
    ) -> tuple[np.ndarray, None]:
        """Take the action of highest value; the optimal policy has nothing random."""
        return self.table.greedy(self.cells.states(observations)) + self.first_action, None

    def step(self) -> Metrics:
        """Do one sweep over all states."""
        q = self.table.q  # (states, actions)
        values = q.max(1)  # (states,)
        q[:] = self.dynamics.q(values, self.config.gamma, q.shape[1])
        self.table.n[:] += 1
        self.count += 1
        residual = float(np.abs(q.max(1) - values).max())
        if residual <= self.config.tolerance:
            self.converged = f"no value changed by more than {self.config.tolerance:g} in the last sweep"
        return {"train/residual": residual}

    def pictures(self, *, final: bool = True) -> Mapping[str, Any]:
        """Return the values and the greedy policy as a picture."""
        from rllab_agents.table_pictures import of_table

        with self.undisturbed():
            return of_table(self.task, self.cells, self.table, f"after {self.count:,} sweeps")


def _table(task: EnvironmentTask) -> Any:
    """Return the table P[s][a] of an environment, None if it has none."""
    env = task.make_one()
    try:
        return getattr(env.unwrapped, "P", None)
    finally:
        env.close()
