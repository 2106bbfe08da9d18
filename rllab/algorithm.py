"""Algorithm: the contract between a method and everything that drives it.

A method is one class in one file: a `Config`, networks in `__init__`, what training needs in `setup`, one
iteration in `step`, a measurement in `evaluate`. The trainer, the logger and the checkpoints need no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rllab import state as states
from rllab.config import Config
from rllab.seeding import Streams, preserved_globals
from rllab.state import State
from rllab.task import Task

Metrics: TypeAlias = dict[str, float | Tensor]
"""Flat names to numbers, such as {"train/loss": 0.3}: floats, or detached 0-d tensors, which are not moved to
the host before they are written."""

Reduction: TypeAlias = Literal["mean", "last", "sum"]


class Objective(NamedTuple):
    """The metric that decides which of two runs, or two checkpoints of one, is better."""

    metric: str
    maximize: bool

    def at_least_as_good(self, value: float, best: float | None) -> bool:
        """Whether `value` is as good as `best` or better; anything is better than None, nothing is worse than NaN."""
        if value != value:
            return False
        return best is None or (value >= best if self.maximize else value <= best)


class Algorithm(ABC):
    """A method that learns: the base of agents, generative models and predictors.

    Args:
        config: the hyperparameters, an instance of `Config`.
        task: what to train on.
        device: where the networks and their inputs live; chosen by the device manager.
        streams: the run's random streams.

    Everything on `self` is part of a checkpoint: modules as weights, all else as state (see `rllab.state`).
    Nothing of the state may live in a local variable between two calls of `step`.
    """

    Config: ClassVar[type[Config]]
    """The hyperparameters; they become command-line options."""
    Task: ClassVar[type[Task]]
    """What the method trains on."""
    unit: ClassVar[str]
    """What `count` and `budget` are in: "env steps", "examples", "characters"."""
    budget_option: ClassVar[str] = "epochs"
    """The hyperparameter that says how long to train."""
    transient: ClassVar[frozenset[str]] = frozenset()
    """Attributes that are no part of the state: caches, and what `setup` makes anew."""
    reductions: ClassVar[Mapping[str, Reduction]] = {}
    """How a metric's values since the last line become one; the mean if it is not listed."""
    pictures_every: ClassVar[str] = "100%"
    """How often pictures are drawn unless --pictures-every says: 100%, at the end; less, and they become films."""

    def __init__(self, config: Any, task: Any, *, device: torch.device, streams: Streams) -> None:
        self.config = config
        self.task = task
        self.device = device
        self.streams = streams
        self.count = 0
        self.converged = None

    # --- asked before anything starts

    @classmethod
    def refusal(cls, config: Any, task: Any) -> str | None:
        """Return why this cannot be trained on `task`, or None if it can."""
        return None

    @classmethod
    def alternatives(cls, config: Any) -> list[str]:
        """Return the names of tasks that it could be trained on, to tell who named another; [] if unknown."""
        return []

    @classmethod
    @abstractmethod
    def objective(cls, task: Any) -> Objective:
        """Return the metric that decides, and its direction."""

    @classmethod
    def selection(cls, task: Any) -> Objective | None:
        """Return the metric that picks the best checkpoint; None: nothing is picked."""
        return cls.objective(task)

    @classmethod
    def work(cls, config: Any, task: Any) -> float | None:
        """Return about how many multiply-adds one update takes, from which `--device auto` decides; None: unknown."""
        return None

    # --- training

    count: int
    """Units trained so far."""
    converged: str | None
    """Set by `step` when there is nothing left to learn, although the budget is not used up: why; the run ends."""

    @property
    @abstractmethod
    def budget(self) -> int:
        """Units asked for."""

    @property
    def epoch(self) -> int | None:
        """Units of one pass over the data, None where there is no such thing."""
        return None

    def setup(self) -> None:
        """Make what only training needs: training environments or data, optimisers, buffers."""

    @abstractmethod
    def step(self) -> Metrics:
        """Do one natural iteration of the method, advance `count`, return what is worth logging (or {})."""

    @abstractmethod
    def evaluate(self) -> Metrics:
        """Measure on held-out episodes or data; change nothing, not even the state of a random generator."""

    @property
    def captions(self) -> Mapping[str, str]:
        """Return what has to stand beside the numbers of a metric, by its name, such as "nats, static binarisation"."""
        return {}

    def validate(self) -> Metrics | None:
        """Measure before the end what may decide when to stop; None: what `evaluate` measures."""
        return None

    def pictures(self, *, final: bool = True) -> Mapping[str, Any]:
        """Return what there is to look at, by name: arrays (height, width, 3) of uint8, PIL images, or texts.

        Args:
            final: whether the run ends here; before that, what is kept for the end is not looked at.
        """
        return {}

    def close(self) -> None:
        """Free what `setup` took, such as environments."""

    # --- state

    def state_dict(self) -> State:
        """Return everything needed to go on as if never stopped: {"weights": tensors by name, "state": the rest}.

        Raises:
            UncapturedState: for an attribute that cannot be kept; the message names it.
        """
        return {"weights": self.weights(), "state": states.collect(self, self._skipped())}

    def load_state_dict(self, state: State) -> None:
        """Go back to a state; tensors and arrays are filled in place. To be called after `setup`."""
        states.load_weights(self, state["weights"])
        states.restore_into(self, state["state"], self._skipped())

    def weights(self) -> dict[str, Tensor]:
        """Return what acting, sampling and predicting need, by name; not copied."""
        return states.weights(self)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load what acting, sampling and predicting need; `setup` need not have been called."""
        states.load_weights(self, weights, strict=False)

    def _skipped(self) -> frozenset[str]:
        return self.transient | {"config", "task", "device"}

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Run a block in evaluation mode without gradients, and leave modes and random streams as they were."""
        modules = [part for module in states.modules(self).values() for part in module.modules()]
        modes = [part.training for part in modules]
        streams = self.streams.state_dict()
        try:
            with preserved_globals(), torch.no_grad():
                for part in modules:
                    part.training = False
                yield
        finally:
            self.streams.load_state_dict(streams)
            for part, mode in zip(modules, modes, strict=True):
                part.training = mode
