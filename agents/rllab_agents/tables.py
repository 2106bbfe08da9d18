"""What tabular methods share: observations as numbers of states, the table of values, acting on it.

A method that learns from experience adds one thing to `TableAgent`: `update`, which takes a step in every
environment and changes the table.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from gymnasium import Space, spaces
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from rllab.agent import Agent, AgentConfig, episode_metrics
from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.parts.schedules import Schedule, linear, scheduled
from rllab.vectorenv import Episode, Transition

LARGEST = 20_000_000
"""Values in a table, at most: 160 MB."""
STEPS_PER_CALL = 100
"""Env steps in one call of `step`: each is so quick that the trainer's work between two would count."""
LOOKING = 2_000
"""Random env steps that tell the bounds of an observation that has none."""


class TableConfig(AgentConfig):
    """Hyperparameters of learning a table of action values."""

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount of a reward one step later."""

    lr: PositiveFloat = Field(default=0.1, le=1)
    """Step size alpha: the share of an error by which a value is moved."""

    schedule: Schedule = "constant"
    """How the step size goes on: constant, linear or cosine to 0 at the end, or onecycle, up and then down."""

    initial: float = 0.0
    """Value of every action before its first update; a high one has all of them tried (optimism)."""

    exploration_fraction: float = Field(default=0.5, ge=0, le=1)
    """Share of training over which epsilon falls from 1 to --final-epsilon; 0: it is that from the start."""

    final_epsilon: float = Field(default=0.1, ge=0, le=1)
    """Share of random actions after that."""

    bins: tuple[PositiveInt, ...] = ()
    """Intervals of equal width that each number of a Box observation is cut into: one number for all, or one each."""

    low: tuple[float, ...] = ()
    """Where the lowest intervals of a Box observation begin; none: at its bounds, or where random actions lead."""

    high: tuple[float, ...] = ()
    """Where the highest intervals of a Box observation end; none: at its bounds, or where random actions lead."""

    @model_validator(mode="after")
    def _bounds_are_pairs(self) -> Self:
        if len(self.low) != len(self.high):
            raise ValueError(
                f"--low has {len(self.low)} numbers and --high {len(self.high)}: one each, or none of both"
            )
        if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError("--low is not below --high everywhere")
        if self.low and not self.bins:
            raise ValueError("--low and --high are the bounds of --bins, which are missing: --bins 20")
        return self


# --- observations as numbers of states ----------------------------------------------------------------


class Cells(nn.Module):
    """Turns observations into numbers of states, 0 to n - 1.

    Discrete spaces, and several of them side by side, are counted through, the last one fastest. A Box is cut into
    cells of equal size; what lies outside belongs to the outermost.

    Attributes:
        sizes: how many values each part of an observation has.
        n: how many states.
        low: where the lowest intervals of a Box begin; with `high` a buffer, so that it is saved with the weights.
        high: where the highest intervals end.
        unknown: the parts of a Box whose bounds have to be found; see `look`.
    """

    low: Tensor
    high: Tensor

    def __init__(self, space: Space[Any], config: TableConfig | None = None) -> None:
        super().__init__()
        self.space = space
        config = config or TableConfig()
        self.sizes = sizes_of(space, config.bins)
        self.n = math.prod(self.sizes)
        self._last = np.array(self.sizes) - 1
        self._strides = np.array([math.prod(self.sizes[part + 1 :]) for part in range(len(self.sizes))])
        self.unknown: tuple[int, ...] = ()
        low, high = np.zeros(len(self.sizes)), np.ones(len(self.sizes))
        if isinstance(space, spaces.Box):
            given = config.low and (config.low, config.high)
            ends = given or (space.low.ravel().astype(float), space.high.ravel().astype(float))
            low, high = (np.resize(end, len(self.sizes)) for end in ends)
            # 1e30: some environments write the largest float32 for none
            self.unknown = tuple(np.flatnonzero((np.abs(low) > 1e30) | (np.abs(high) > 1e30)).tolist())
            low[[*self.unknown]], high[[*self.unknown]] = 0, 1
        self.register_buffer("low", torch.from_numpy(low))
        self.register_buffer("high", torch.from_numpy(high))

    def look(self, observations: np.ndarray) -> None:
        """Set the bounds that are unknown to the lowest and highest values among observations (n, *shape)."""
        seen = np.asarray(observations, float).reshape(len(observations), -1)
        for part in self.unknown:
            low, high = float(seen[:, part].min()), float(seen[:, part].max())
            self.low[part], self.high[part] = (low, high) if high > low else (low - 0.5, low + 0.5)

    def states(self, observations: Any) -> np.ndarray:
        """Return the states (n,) of a batch of observations, as a `VectorEnv` gives them."""
        match self.space:
            case spaces.Discrete(start=start):
                numbers: np.ndarray = observations - start
                return numbers
            case spaces.Box():
                low, high = self.low.numpy(), self.high.numpy()
                shares = (observations.reshape(len(observations), -1) - low) / (high - low)  # (n, parts), 0 to 1
                inside = np.minimum(np.maximum(shares * (self._last + 1), 0), self._last)
                parts = inside.astype(np.int64)
            case spaces.MultiDiscrete(start=start):
                parts = (observations - start).reshape(len(observations), -1)
            case spaces.Tuple(spaces=inner):
                parts = np.stack([part - one.start for part, one in zip(observations, inner, strict=True)], 1)  # type: ignore[attr-defined]
            case _:
                parts = observations.reshape(len(observations), -1)
        states: np.ndarray = parts @ self._strides
        return states


def sizes_of(space: Space[Any], bins: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many values each part of an observation has; () if it is of a space without numbers of states."""
    match space:
        case spaces.Discrete(n=n):
            return (int(n),)
        case spaces.MultiDiscrete(nvec=nvec):
            return tuple(map(int, nvec.ravel()))
        case spaces.MultiBinary():
            return (2,) * math.prod(space.shape)
        case spaces.Tuple(spaces=inner) if all(isinstance(one, spaces.Discrete) for one in inner):
            return tuple(sizes_of(one, ())[0] for one in inner)
        case spaces.Box():
            number = math.prod(space.shape)
            return bins * number if len(bins) == 1 else bins if len(bins) == number else ()
    return ()


# --- the table ----------------------------------------------------------------------------------------


class Table(nn.Module):
    """The values Q(s, a) of all states and actions, and how often each was updated; buffers, so saved as weights.

    Float64, and on the CPU whatever the device of the run: one value is looked up at a time.
    """

    values: Tensor
    visits: Tensor

    def __init__(self, states: int, actions: int, initial: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("values", torch.full((states, actions), initial, dtype=torch.float64))
        self.register_buffer("visits", torch.zeros(states, actions, dtype=torch.int64))

    @property
    def q(self) -> np.ndarray:
        """Return the values (states, actions), sharing their memory."""
        q: np.ndarray = self.values.numpy()
        return q

    @property
    def n(self) -> np.ndarray:
        """Return the numbers of updates (states, actions), sharing their memory."""
        n: np.ndarray = self.visits.numpy()
        return n

    def greedy(self, states: np.ndarray) -> np.ndarray:
        """Return the actions of highest value (n,) in states (n,); of several the first."""
        actions: np.ndarray = self.q[states].argmax(1)
        return actions


def any_best(values: np.ndarray, draw: float) -> int:
    """Return an action of the highest value (actions,): of several the one that `draw`, from 0 to 1, falls on."""
    best = np.flatnonzero(values == values.max())
    return int(best[int(draw * len(best))])


# --- agents -------------------------------------------------------------------------------------------


class TableAgent(Agent):
    """A method that learns a table of action values from experience."""

    reductions = {"train/epsilon": "last", "train/lr": "last"}

    @classmethod
    def refusal(cls, config: TableConfig, task: EnvironmentTask) -> str | None:
        """Return why there is no table for `task`: it needs few states, and discrete actions."""
        space, actions = task.observation_space, task.action_space
        if not isinstance(actions, spaces.Discrete):
            return f"it takes Discrete actions, not {actions}"
        if isinstance(space, spaces.Box):
            number = math.prod(space.shape)
            alike = len(config.bins) < 2 and config.bins != (1,)  # the same number of intervals, two or more
            if alike and 2.0 ** min(number, 99) * int(actions.n) > LARGEST:
                return f"observations of {number} numbers are too many for a table; take dqn"
            if not config.bins:
                return f"it takes observations of {number} real numbers only cut into intervals: --bins 20"
            for name, given in (("bins", len(config.bins)), ("low", len(config.low) or 1)):
                if given not in {1, number}:
                    return f"--{name} has {given} values, and an observation {number}: give one for each"
        elif config.bins:
            return f"--bins is for Box observations, and these are {space}"
        if not (sizes := sizes_of(space, config.bins)):
            return f"it takes Discrete and Box observations, and several Discrete ones, not {space}"
        if (values := math.prod(map(float, sizes)) * int(actions.n)) > LARGEST:
            return f"its table would have {values:.3g} values, more than {LARGEST:,}; take fewer --bins, or dqn"
        return None

    @classmethod
    def work(cls, config: TableConfig, task: EnvironmentTask) -> float:
        """Return the multiply-adds of an update: one for each action."""
        return float(spaces.flatdim(task.action_space))

    def __init__(self, config: TableConfig, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        assert isinstance(task.action_space, spaces.Discrete)
        self.first_action = int(task.action_space.start)
        self.num_actions = int(task.action_space.n)
        self.cells = Cells(task.observation_space, config)
        self.table = Table(self.cells.n, self.num_actions, config.initial)

    def setup(self) -> None:
        """Make the environments; where observations have no bounds, look how far random actions lead.

        Those steps are taken in an environment of their own, and do not count.
        """
        super().setup()
        self.rng = self.streams.numpy("exploration")
        if self.cells.unknown:
            rng = np.random.default_rng(self.streams.sequence("bounds"))
            envs = self.task.make(1, self.streams.sequence("bounds", 1), keep_state=False)
            envs.reset()
            actions = rng.integers(self.num_actions, size=LOOKING) + self.first_action
            self.cells.look(np.concatenate([envs.step([action]).next_observations for action in actions]))
            envs.close()
        self.states = self.cells.states(self.envs.observations)

    # --- acting

    def act(
        self, observations: Any, memory: Any = None, starts: np.ndarray | None = None, *, deterministic: bool
    ) -> tuple[np.ndarray, None]:
        """Take the action of highest value; if not deterministic, a random one now and then, as at training's end."""
        actions = self.table.greedy(self.cells.states(observations))
        if not deterministic:
            random = torch.rand(len(actions)).numpy() < self.config.final_epsilon
            actions = np.where(random, torch.randint(self.num_actions, (len(actions),)).numpy(), actions)
        return actions + self.first_action, None

    @property
    def epsilon(self) -> float:
        """Return the share of random actions at this moment of training."""
        return linear(1.0, self.config.final_epsilon, self.config.exploration_fraction, self.progress)

    @property
    def alpha(self) -> float:
        """Return the step size at this moment of training."""
        return scheduled(self.config.lr, self.config.schedule, self.progress)

    def explore(self, states: np.ndarray) -> np.ndarray:
        """Return epsilon-greedy actions (n,), counted from 0; of several with the highest value any."""
        q, epsilon, draws = self.table.q, self.epsilon, self.rng.random((len(states), 2))
        actions = []
        for state, (chance, which) in zip(states.tolist(), draws.tolist(), strict=True):
            actions.append(any_best(q[state], which) if chance >= epsilon else int(which * self.num_actions))
        return np.array(actions)

    # --- learning

    def step(self) -> Metrics:
        """Take env steps, each with its update: many in one call."""
        errors: list[float] = []
        episodes: list[Episode] = []
        until = min(self.count + STEPS_PER_CALL, self.budget)
        while self.count < until:
            moved, found = self.update()
            errors += found
            episodes += moved.episodes
        return {
            "train/td_error": float(np.abs(errors).mean()),
            "train/epsilon": self.epsilon,
            "train/lr": self.alpha,
            **episode_metrics(episodes),
        }

    @abstractmethod
    def update(self) -> tuple[Transition, list[float]]:
        """Take one step in every environment, and learn from it; return it and the errors of the values."""

    def take(self, actions: np.ndarray) -> tuple[Transition, np.ndarray]:
        """Step every environment by actions (n,), counted from 0; return what came of it, and the states reached.

        The states reached are the true ones at the end of an episode; `states` are those to act in next.
        """
        moved = self.envs.step(actions + self.first_action)
        self.count += self.envs.num_envs
        reached = self.cells.states(moved.next_observations)
        self.states = self.cells.states(self.envs.observations) if moved.episodes else reached
        return moved, reached

    def pictures(self, *, final: bool = True) -> Mapping[str, Any]:
        """Return the values and the greedy policy as a picture."""
        from rllab_agents.table_pictures import of_table

        with self.undisturbed():
            return of_table(self.task, self.cells, self.table, f"after {self.count:,} env steps")
