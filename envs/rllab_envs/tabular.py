"""Environments with so few states that their dynamics are a table, as in Gymnasium's toy text.

In: `P[s][a]`, a list of (probability, next state, reward, terminated). Out: an environment that draws from it, alone
or many at once, and what follows from the table: the optimal values and a policy that reaches them.

The optimal values are those of Bellman's equation (Bellman, "Dynamic Programming", 1957), here with the end of an
episode written out:

    V(s) = max_a sum_k p_k * (r_k + gamma * V(s_k))        (no second term where outcome k terminates)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete

from rllab_envs.base import Environment, discrete, number
from rllab_envs.vector import Moved, NativeVectorEnv

Outcome: TypeAlias = tuple[float, int, float, bool]
"""Probability, next state, reward, terminated."""
Table: TypeAlias = dict[int, dict[int, list[Outcome]]]
Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]


class Arrays(NamedTuple):
    """`P` as arrays (states, actions, outcomes); with fewer outcomes than others, the last one fills up."""

    probabilities: Floats
    next_states: Integers
    rewards: Floats
    terminated: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, table: Table) -> Arrays:
        """Return a table as arrays."""
        most = max(len(outcomes) for actions in table.values() for outcomes in actions.values())

        def column(i: int, dtype: Any, filled: bool = True) -> npt.NDArray[Any]:
            return np.array(
                [
                    [[o[i] for o in outcomes] + [outcomes[-1][i] * filled] * (most - len(outcomes)) for outcomes in row]
                    for row in (actions.values() for actions in table.values())
                ],
                dtype,
            )

        return cls(column(0, np.float64, False), column(1, np.int64), column(2, np.float64), column(3, np.bool_))


def merged(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return outcomes in which those that lead to the same are one; those of probability 0 are left out."""
    together: dict[tuple[int, float, bool], float] = {}
    for probability, state, reward, terminated in outcomes:
        if probability:
            result = state, reward, terminated
            together[result] = together.get(result, 0.0) + probability
    return [(probability, *result) for result, probability in together.items()]


class TableEnv(Environment):
    """An environment that draws what happens from a table.

    Args:
        table: what follows each action in each state.
        starts: states in which an episode may begin, each as likely.
        actions: the names of the actions.
        arrows: a sign for each, for tables and pictures of policies.
        shape: rows and columns of the cells that the states are, row by row.
        render_mode: "ansi", "rgb_array" or None.

    Attributes:
        P: `P[s][a]`, a list of (probability, next state, reward, terminated).
        state: the present one.
        last_action: what led to it; None at the start.
        shape: values (states,) become a map by `values.reshape(env.shape)`.
    """

    changing: ClassVar[tuple[str, ...]] = ("state", "last_action")

    def __init__(
        self,
        table: Table,
        starts: Sequence[int],
        *,
        actions: Sequence[str],
        arrows: str,
        shape: tuple[int, int],
        render_mode: str | None,
    ) -> None:
        super().__init__(render_mode)
        self.P = table
        self.starts = tuple(starts)
        self.actions = tuple(actions)
        self.arrows = arrows
        self.shape = shape
        self.observation_space = Discrete(len(table))
        self.action_space = Discrete(len(actions))
        self.state = self.starts[0]
        self.last_action: int | None = None
        self.is_random = any(len(outcomes) > 1 for row in table.values() for outcomes in row.values())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Begin an episode in one of the starts."""
        super().reset(seed=seed, options=options)
        chosen = int(self.np_random.random() * len(self.starts)) if len(self.starts) > 1 else 0
        self.state, self.last_action = self.starts[chosen], None
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Draw what follows an action.

        Raises:
            ValueError: for an action that there is not.
        """
        chosen = discrete(type(self).__name__, action, len(self.actions))
        outcomes = self.P[self.state][chosen]
        _, state, reward, terminated = outcomes[-1]
        if self.is_random:
            drawn, reached = self.np_random.random(), 0.0
            for outcome in outcomes:
                reached += outcome[0]
                if drawn < reached:
                    _, state, reward, terminated = outcome
                    break
        self.state, self.last_action = state, chosen
        return state, reward, terminated, False, {}

    def cell(self, state: int) -> tuple[int, int]:
        """Return the row and the column of a state."""
        row, column = divmod(int(state), self.shape[1])
        return row, column

    # --- what follows from the table

    @cached_property
    def arrays(self) -> Arrays:
        """`P` as arrays."""
        return Arrays.of(self.P)

    def action_values(self, values: npt.ArrayLike, gamma: float) -> Floats:
        """Return the value of each action, if `values` are those of the states: (states, actions)."""
        going_on = gamma * ~self.arrays.terminated  # (states, actions, outcomes)
        after = self.arrays.rewards + going_on * np.asarray(values, np.float64)[self.arrays.next_states]
        result: Floats = (self.arrays.probabilities * after).sum(2)
        return result

    def optimal_values(self, gamma: float) -> Floats:
        """Return the optimal value of each state, exact to about 1e-12 / (1 - gamma): (states,).

        A limit of steps is no part of the dynamics: the values are those without one.

        Args:
            gamma: discount from 0 to 1; with 1, they are expected returns.

        Raises:
            ValueError: for another discount, or 1 where a step is paid more than nothing: who goes on for ever would
                have more than any number.
        """
        gamma = number("gamma", gamma, 0, 1)
        if gamma == 1 and (self.arrays.rewards[~self.arrays.terminated] > 0).any():
            raise ValueError("gamma is below 1 where a step has a positive reward: values would be infinite")
        values: Floats = np.zeros(len(self.P))
        while True:
            before, values = values, self.action_values(values, gamma).max(1)
            if np.abs(values - before).max() <= 1e-13 * max(1.0, np.abs(values).max()):
                return values

    def optimal_policy(self, gamma: float) -> Integers:
        """Return the best action in each state, the first one of equals: (states,).

        With gamma 1, where steps cost nothing, waiting is as good as anything, and the policy may do nothing else.
        """
        q = self.action_values(self.optimal_values(gamma), gamma)
        chosen: Integers = (q > q.max(1, keepdims=True) - 1e-9).argmax(1)
        return chosen

    @cached_property
    def _best(self) -> list[int]:
        return [int(action) for action in self.optimal_policy(0.999)]

    def heuristic(self, observation: Any) -> int:
        """Return the action that leads to the highest return: that of the optimal policy with gamma 0.999."""
        return self._best[int(observation)]


class TableVectorEnv(NativeVectorEnv):
    """Environments that draw from one table, at once.

    Args:
        model: one of them.
        num_envs: how many.
        max_episode_steps: steps after which an episode is cut off; None: no limit.
    """

    changing: ClassVar[tuple[str, ...]] = ("states", "last_actions")

    def __init__(self, model: TableEnv, num_envs: int, max_episode_steps: int | None) -> None:
        super().__init__(model, num_envs, max_episode_steps)
        self.states = np.full(num_envs, model.starts[0], np.int64)
        self.last_actions = np.full(num_envs, -1, np.int64)
        self._table = model
        self._starts = np.array(model.starts)
        # numbers drawn are compared with all but the last: one above all is the last's, whatever was rounded
        self._bounds = model.arrays.probabilities.cumsum(2)[:, :, :-1]

    def _begin(self, rows: Integers) -> None:
        chosen: Any = 0
        if len(self._starts) > 1:
            chosen = (self.np_random.random(len(rows)) * len(self._starts)).astype(np.int64)
        self.states[rows], self.last_actions[rows] = self._starts[chosen], -1

    def _move(self, actions: npt.NDArray[Any]) -> Moved:
        place: tuple[Any, ...] = (self.states, actions)
        outcome: Any = 0
        if self._table.is_random:
            drawn = self.np_random.random(self.num_envs)
            outcome = (drawn[:, None] >= self._bounds[place]).sum(1)
        arrays, place = self._table.arrays, (*place, outcome)
        self.states, self.last_actions = arrays.next_states[place], actions.astype(np.int64)
        return arrays.rewards[place], arrays.terminated[place]

    def _look(self, rows: Integers) -> npt.NDArray[Any]:
        return self.states[rows]

    def _show(self, row: int) -> None:
        last = int(self.last_actions[row])
        self._table.state, self._table.last_action = int(self.states[row]), None if last < 0 else last
