"""GenerativeModel: what every model that draws something new adds to an Algorithm.

Two kinds draw: an `ImageModel` images like those of a dataset, a `TextModel` characters like those of a text.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from rllab import stopping
from rllab.algorithm import Algorithm, Metrics, Objective
from rllab.data import DatasetTask, Part, datasets_for
from rllab.errors import UsageError, did_you_mean
from rllab.minibatches import Minibatches
from rllab.parts.optim import OptimizerConfig, Share
from rllab.parts.schedules import scheduled
from rllab.supervised import refuses_shape
from rllab.text import TextTask

_CHUNK = 500
"""Images that are drawn at once."""


class GenerativeConfig(OptimizerConfig):
    """Hyperparameters of every generative model."""

    ema: Share = 0.0
    """Measure and draw with an exponential moving average of the weights that keeps this much at a step; 0: none."""


class GenerativeModel(Algorithm):
    """A method that learns a distribution, and draws from it."""

    refuses_sampling: ClassVar[str | None] = None
    """Why nothing can be drawn from it; None: it can."""
    reductions = {"train/lr": "last"}

    config: Any

    @property
    def lr(self) -> float:
        """Return the step size that the schedule has now."""
        return scheduled(self.config.lr, self.config.schedule, self.count / self.budget)

    @classmethod
    def _selection(cls, objective: Objective, *, validated: bool) -> Objective | None:
        """Return an objective as it is measured on the validation part: the test part picks nothing."""
        return Objective(objective.metric.replace("eval/", "validation/"), objective.maximize) if validated else None


# --- images ---------------------------------------------------------------------------------------


class ImageConfig(GenerativeConfig):
    """Hyperparameters of models of images."""

    epochs: PositiveInt = 20
    """Passes over the training part."""

    batch_size: PositiveInt = 128
    """Examples in a gradient step; the last batch of an epoch may be smaller."""


class Pixels(nn.Module):
    """Brings images to [0, 1]: bytes by 255, other numbers by the lowest and highest of the training part.

    Args:
        inputs: (N, *shape) of the training part.
    """

    low: Tensor
    width: Tensor

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        low, high = (0.0, 255.0) if inputs.dtype is torch.uint8 else (float(inputs.min()), float(inputs.max()))
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("width", torch.tensor(high - low if high > low else 1.0))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return images (n, *shape) in [0, 1]; those of another part may lie outside, and are cut off."""
        return ((inputs - self.low) / self.width).clamp_(0, 1)


class ImageModel(GenerativeModel):
    """A model of the images of a dataset.

    A subclass says how to learn from `batch()` in `step`, what to measure of a part in `measure`, and how to `draw`.

    Attributes:
        shape: of an image, (channels, height, width).
        classes: names of the classes; may be none.
        pixels: brings the dataset's inputs to [0, 1]; saved with the weights.
        train: the training part, on the device, from `setup` on.
    """

    Task = DatasetTask
    unit = "examples"
    transient: ClassVar[frozenset[str]] = frozenset({"shape", "classes", "train", "minibatches"})

    task: DatasetTask
    train: Part

    def __init__(self, config: Any, task: DatasetTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.shape = task.shape
        self.classes = task.classes
        self.pixels = Pixels(task.data.train.inputs).to(device)

    @classmethod
    def refusal(cls, config: Any, task: DatasetTask) -> str | None:
        """Return why it cannot learn the inputs of `task`."""
        if (reason := refuses_shape(task, 3, "images")) is not None:
            return reason
        if task.config.scale in {"standard", "center"}:
            return f"it needs pixels from 0 to 1, and --scale {task.config.scale} makes others; write --scale minmax"
        if getattr(config, "conditional", False) and not task.classes:
            return f"--conditional is by the class, and {task.name} has none"
        return None

    @classmethod
    def alternatives(cls, config: Any) -> list[str]:
        """Return the names of the datasets that it takes."""
        return datasets_for(lambda task: cls.refusal(config, task) is None)

    @classmethod
    def selection(cls, task: DatasetTask) -> Objective | None:
        """Return the objective on the validation part, if there is one."""
        return cls._selection(cls.objective(task), validated="validation" in task.data.parts)

    @property
    def budget(self) -> int:
        """Examples to learn from: those of all epochs."""
        return int(self.config.epochs) * len(self.task.data.train)

    @property
    def epoch(self) -> int:
        """Examples of one pass over the training part."""
        return len(self.task.data.train)

    @property
    def when(self) -> str:
        """How far training is, in words, such as "after 2.5 epochs"."""
        epochs = self.count / self.epoch
        return f"after {epochs:.4g} {'epoch' if epochs == 1 else 'epochs'}"

    @property
    def conditional(self) -> bool:
        """Whether it draws an image of a class that is asked for."""
        return bool(getattr(self.config, "conditional", False))

    def setup(self) -> None:
        """Move the training part to the device."""
        self.train = self.task.data.train.to(self.device)
        self.minibatches = Minibatches(len(self.train), self.config.batch_size, self.streams, self.device)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the next minibatch: images (B, *shape) in [0, 1], and numbers of their classes (B,)."""
        rows = self.minibatches.rows(self.count)
        images: Tensor = self.pixels(self.train.inputs.index_select(0, rows))
        return images, self.train.targets.index_select(0, rows)

    # --- measuring

    @abstractmethod
    def measure(self, part: Part, name: str) -> Metrics:
        """Return the metrics of a part, their names beginning with `name`, without disturbing anything."""

    def validate(self) -> Metrics:
        """Measure on the way: on the validation part, or without one on the test part, which picks nothing."""
        validation = self.task.data.parts.get("validation")
        if validation is not None:
            return self.measure(validation, "validation")
        return self.measure(self.task.data.parts["test"], "eval")

    def evaluate(self) -> Metrics:
        """Measure on the test part, and on the validation part if there is one."""
        measured = self.measure(self.task.data.parts["test"], "eval")
        return (self.validate() if "validation" in self.task.data.parts else {}) | measured

    # --- drawing

    @abstractmethod
    def draw(self, n: int, labels: Tensor | None, generator: torch.Generator) -> Tensor:
        """Draw some images at once; called in evaluation mode, without gradients.

        Args:
            n: how many.
            labels: numbers of their classes (n,), on the device, if `conditional`.
            generator: for what is random, on the CPU.

        Returns:
            (n, *shape) in [0, 1].
        """

    def sample(
        self, n: int, *, labels: Tensor | None = None, seed: int = 0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw images; nothing is disturbed.

        Args:
            n: how many.
            labels: numbers of their classes (n,); None: if `conditional`, each class about as often.
            seed: the same draws the same.
            generator: for what is random, on the CPU; without it one is made of `seed`.

        Returns:
            (n, *shape) in [0, 1], on the CPU.

        Raises:
            UsageError: if it cannot draw, or not by class.
        """
        if self.refuses_sampling is not None:
            raise UsageError(self.refuses_sampling)
        if labels is not None and not self.conditional:
            raise UsageError("this model was not trained by class", "Train one with --conditional.")
        if labels is None and self.conditional:
            labels = torch.arange(n) % len(self.classes)
        generator = torch.Generator().manual_seed(seed) if generator is None else generator
        drawn = []
        with self.undisturbed():
            for start in range(0, n, _CHUNK):
                stopping.check()
                chosen = None if labels is None else labels[start : start + _CHUNK].to(self.device)
                drawn.append(self.draw(min(_CHUNK, n - start), chosen, generator).cpu())
        return torch.cat(drawn)

    def label(self, name: str) -> int:
        """Return the number of a class.

        Raises:
            UsageError: if there is none of that name.
        """
        if name in self.classes:
            return self.classes.index(name)
        known = f"The classes are: {', '.join(self.classes[:20])}{', ...' if len(self.classes) > 20 else ''}."
        near = did_you_mean(name, self.classes)
        raise UsageError(f"{self.task.name} has no class {name!r}", near or (known if self.classes else None))


# --- texts ----------------------------------------------------------------------------------------


class TextModel(GenerativeModel):
    """A model of the characters of a text: of each, given those before it."""

    Task = TextTask
    unit = "characters"

    task: TextTask

    @classmethod
    def objective(cls, task: TextTask) -> Objective:
        """Return the mean negative log-likelihood of a character of the held-out tail, in nats."""
        return Objective("eval/nats_per_character", maximize=False)

    @classmethod
    def selection(cls, task: TextTask) -> Objective | None:
        """Return the same on the validation part, if there is one."""
        return cls._selection(cls.objective(task), validated=task.text.validation is not None)

    @abstractmethod
    def stream(
        self, prime: str = "", *, temperature: float = 1.0, top_k: int = 0, rng: np.random.Generator
    ) -> Iterator[str]:
        """Write on, one character after the other, without an end; nothing is disturbed.

        Args:
            prime: what comes before; not repeated. Empty: a new line comes before, or what a text may begin with.
            temperature: logits are divided by this; 0: always the most probable character.
            top_k: choose among the so many most probable characters; 0: among all.
            rng: for the choices.

        Raises:
            UsageError: for a character that the vocabulary lacks, a temperature below 0, a `top_k` below 0.
        """

    def sample(
        self,
        n: int,
        prime: str = "",
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
        rng: np.random.Generator | None = None,
    ) -> str:
        """Return the next n characters of `stream`; without `rng` a generator is made of `seed`."""
        rng = np.random.default_rng(seed) if rng is None else rng
        return "".join(islice(self.stream(prime, temperature=temperature, top_k=top_k, rng=rng), n))
