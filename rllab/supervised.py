"""SupervisedModel: what every predictor adds to an Algorithm."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rllab import stopping
from rllab.algorithm import Algorithm, Metrics, Objective
from rllab.data import DatasetTask, Part, datasets_for, describe_shape
from rllab.parts import metrics
from rllab.parts.normalise import Scaler

_CHUNK = 1000
"""Items that are predicted at once."""


class SupervisedModel(Algorithm):
    """A method that predicts the target of an item: a class, or a number.

    A subclass says how to `predict`, and in `step` how to learn from `self.train`, which `setup` makes.

    Attributes:
        shape: of one input.
        classes: names of the classes; none for regression.
        scaler: scales inputs as --scale says; its numbers are saved with the weights.
        train: the training part, on the device, from `setup` on.
        tested: at which count the test part was last measured, and what was predicted, which pictures show again.
    """

    Task = DatasetTask
    unit = "examples"
    transient: ClassVar[frozenset[str]] = frozenset({"shape", "classes", "train", "tested"})

    predicts: ClassVar[frozenset[Literal["classes", "numbers"]]] = frozenset({"classes", "numbers"})
    """What it can predict."""
    probabilistic: ClassVar[bool] = True
    """Whether `predict` returns probabilities of the classes; otherwise only the highest counts."""

    task: DatasetTask
    train: Part

    def __init__(self, config: Any, task: DatasetTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.shape = task.shape
        self.classes = task.classes
        self.scaler = Scaler(task.data.train.inputs, task.config.scale).to(device)
        self.tested: tuple[int, Tensor] | None = None

    @classmethod
    def refusal(cls, config: Any, task: DatasetTask) -> str | None:
        """Return why it cannot predict the targets of `task`."""
        if task.classes and "classes" not in cls.predicts:
            return f"it predicts numbers, and {task.name} has {len(task.classes)} classes"
        if not task.classes and "numbers" not in cls.predicts:
            return f"it predicts classes, and the target of {task.name} is a number ({task.data.target})"
        return None

    @classmethod
    def alternatives(cls, config: Any) -> list[str]:
        """Return the names of the datasets that it takes."""
        return datasets_for(lambda task: cls.refusal(config, task) is None)

    @classmethod
    def objective(cls, task: DatasetTask) -> Objective:
        """Return the accuracy on the test part, or for numbers the root mean squared error."""
        return Objective("eval/accuracy", maximize=True) if task.classes else Objective("eval/rmse", maximize=False)

    @classmethod
    def selection(cls, task: DatasetTask) -> Objective | None:
        """Return the same on the validation part: the test part picks nothing."""
        if "validation" not in task.data.parts:
            return None
        metric, maximize = cls.objective(task)
        return Objective(metric.replace("eval/", "validation/"), maximize)

    @property
    def budget(self) -> int:
        """Examples to learn from: those of all epochs."""
        return int(getattr(self.config, "epochs", 1)) * len(self.task.data.train)

    @property
    def epoch(self) -> int:
        """Examples of one pass over the training part."""
        return len(self.task.data.train)

    def setup(self) -> None:
        """Move the training part to the device."""
        self.train = self.task.data.train.to(self.device)

    @abstractmethod
    def predict(self, inputs: Tensor) -> Tensor:
        """Predict the targets of inputs.

        Args:
            inputs: (n, *shape), as the dataset has them: not scaled.

        Returns:
            (n, classes), of which the highest is the predicted one, probabilities if `probabilistic`; or (n,) numbers.
        """

    # --- measuring

    def evaluate(self, part: Part | None = None) -> Metrics:
        """Measure on the test part, and on the validation part if there is one; or on another `part` alone."""
        if part is not None:
            return self.measure(part, "eval")
        return self.validate() | self.measure(self.task.data.parts["test"], "eval")

    def validate(self) -> Metrics:
        """Measure on the validation part; {} without one."""
        part = self.task.data.validation
        return self.measure(part, "validation") if part is not None and len(part) else {}

    def measure(self, part: Part, name: str) -> Metrics:
        """Return the metrics of a part, their names beginning with `name`; a baseline is among them."""
        outputs = self.outputs(part)
        if part is self.task.data.test:
            self.tested = self.count, outputs
        train, targets = self.task.data.train.targets, part.targets
        if self.classes:
            matrix = metrics.confusion(outputs.argmax(1), targets, len(self.classes))
            found = metrics.classification(matrix, self.classes)
            found |= {"loss": metrics.log_loss(outputs, targets)} if self.probabilistic else {}
            found["majority_accuracy"] = metrics.majority(train, targets, len(self.classes))
        else:
            found = metrics.regression(outputs, targets)
            found["mean_rmse"] = metrics.regression(train.mean().expand(len(targets)), targets)["rmse"]
        return {f"{name}/{metric}": value for metric, value in found.items()}

    def outputs(self, part: Part) -> Tensor:
        """Return the predictions of all items of a part, on the CPU, without disturbing anything."""
        found = []
        with self.undisturbed():
            for chunk in part.chunks(_CHUNK):
                stopping.check()
                found.append(self.predict(chunk.inputs.to(self.device)).cpu())
        return torch.cat(found)

    # --- looking at it

    def feature_maps(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return what each hidden layer makes of inputs (n, *shape), by its name: (n, *shape of the layer)."""
        return {}

    def filters(self) -> Tensor | None:
        """Return what the first layer weighs inputs by, (units, *shape), or kernels; None if there is no such thing."""
        return None

    def importances(self) -> Tensor | None:
        """Return how much each number of an input counts, in the inputs' shape; None if there is no such thing."""
        return None

    def pictures(self, *, final: bool = True) -> Mapping[str, Any]:
        """Return pictures of what was learned, and at the end of how it does on the test part.

        Args:
            final: whether the run ends here; before that, the validation part stands in for the test part.
        """
        from rllab import pictures

        return pictures.of_predictor(self, final=final)


def input_size(task: DatasetTask) -> int:
    """Return how many numbers there are in one input, for methods that flatten it."""
    return int(torch.Size(task.shape).numel())


def refuses_shape(task: DatasetTask, dimensions: int, what: str) -> str | None:
    """Return why inputs of `task` are not what a method takes, or None if they are.

    Args:
        task: the dataset.
        dimensions: of the inputs' shape.
        what: what such inputs are called, such as "images".
    """
    if len(task.shape) == dimensions:
        return None
    return f"it takes {what}, and the inputs of {task.name} are {describe_shape(task.shape)}"
