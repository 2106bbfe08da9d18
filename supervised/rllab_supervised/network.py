"""What the networks share: minibatches, the loss, gradient steps, and when to stop.

    repeat, for every epoch in a new order of the training part
        take the next minibatch (x, y);  z = f(x)
        classes:  loss = mean of -log softmax(z)_y     numbers:  loss = mean of (z - y)^2, y standardised
        take a gradient step on the loss

A method says in `build` what its network is, and in `prepare` what it wants its inputs to look like.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from rllab.algorithm import Metrics
from rllab.data import DatasetTask
from rllab.minibatches import Minibatches
from rllab.parts.layers import Layer, layers, multiply_adds, walk
from rllab.parts.losses import cross_entropy, squared
from rllab.parts.optim import GradientSteps, OptimizerConfig, Share
from rllab.parts.schedules import scheduled
from rllab.supervised import SupervisedModel

PATIENCE = 10
"""Epochs in a row without progress after which --tolerance ends the run."""

_SCALED_ONCE = 2**24
"""Numbers in all inputs up to which they are scaled before training, and not batch by batch: 64 MiB."""


class NetworkConfig(OptimizerConfig):
    """Hyperparameters of every network."""

    epochs: PositiveInt = 20
    """Passes over the training part."""

    batch_size: PositiveInt = 64
    """Examples in a gradient step; the last batch of an epoch may be smaller."""

    dropout: Share = 0.0
    """Share of the units before a dense layer that is dropped in training, the inputs apart."""

    tolerance: NonNegativeFloat = 0.0
    """Stop when the mean loss of an epoch has got no better by more than this for 10 epochs; 0: never."""


class Standardised(nn.Module):
    """Numbers in units of the standard deviation around the mean; both are saved with the weights.

    Args:
        targets: (N,) of the training part.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, targets: Tensor) -> None:
        super().__init__()
        deviation = targets.double().std(correction=0).float()
        self.register_buffer("mean", targets.double().mean().float())
        self.register_buffer("deviation", torch.where(deviation > 0, deviation, 1.0))

    def forward(self, targets: Tensor) -> Tensor:
        """Return targets in these units."""
        return (targets - self.mean) / self.deviation

    def inverse(self, outputs: Tensor) -> Tensor:
        """Return what is in these units as targets."""
        return outputs * self.deviation + self.mean


class NetworkModel(SupervisedModel):
    """A network that is trained by gradient steps on minibatches.

    The batch that comes next follows from `count` alone, so that a run can be resumed in the middle of an epoch.

    Attributes:
        network: from prepared inputs to logits (n, classes), or for numbers (n, 1).
        standardised: the targets' mean and deviation; none for classes.
    """

    config: Any
    reductions = {"train/lr": "last"}
    transient: ClassVar[frozenset[str]] = SupervisedModel.transient | {"scaled", "inputs", "targets", "minibatches"}

    @classmethod
    @abstractmethod
    def build(cls, config: Any, shape: tuple[int, ...], outputs: int) -> nn.Sequential:
        """Return the network.

        Args:
            config: an instance of `Config`.
            shape: of one input as the dataset has it.
            outputs: how many.
        """

    def prepare(self, inputs: Tensor) -> Tensor:
        """Return inputs (n, *shape) as the network takes them: scaled, and in its shape."""
        scaled: Tensor = self.scaler(inputs)
        return self.arrange(scaled)

    @staticmethod
    def arrange(inputs: Tensor) -> Tensor:
        """Return scaled inputs (n, *shape) in the shape that the network takes."""
        return inputs

    @classmethod
    def work(cls, config: Any, task: DatasetTask) -> float:
        """Return the multiply-adds of a gradient step, of which the backward pass takes two thirds."""
        with torch.device("meta"):
            network = cls.build(config, task.shape, max(len(task.classes), 1))
            inputs = cls.arrange(torch.zeros(1, *task.shape))
        return 3.0 * float(config.batch_size) * multiply_adds(network, inputs)

    def __init__(self, config: Any, task: DatasetTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.network = self.build(config, task.shape, max(len(task.classes), 1)).to(device)
        self.standardised = None if task.classes else Standardised(task.data.train.targets).to(device)
        self.best_loss = float("inf")
        self.waited = 0

    def setup(self) -> None:
        """Make the optimiser, and have the training part at hand."""
        super().setup()
        self.optimizer = GradientSteps.of(self.network, self.config)
        self.loss_sum = torch.zeros((), device=self.device)  # over the epoch
        inputs, targets = self.train.inputs, self.train.targets
        self.scaled = inputs.numel() <= _SCALED_ONCE
        self.inputs = self.scaler(inputs) if self.scaled else inputs
        self.targets = self.standardised(targets) if self.standardised is not None else targets
        self.minibatches = Minibatches(len(targets), self.config.batch_size, self.streams, self.device)

    # --- learning

    @torch.no_grad()
    def step(self) -> Metrics:
        """Take a gradient step on the next minibatch."""
        lr = scheduled(self.config.lr, self.config.schedule, self.count / self.budget)
        rows = self.minibatches.rows(self.count)
        inputs, targets = self.inputs.index_select(0, rows), self.targets.index_select(0, rows)
        if not self.scaled:
            inputs = self.scaler(inputs)
        outputs = self.optimizer.forward(self.arrange(inputs))  # (B, classes), or (B, 1)
        if self.classes:
            loss, gradient = cross_entropy(outputs, targets)
            right = (outputs.argmax(1) == targets).mean(dtype=torch.float32)
            metrics: Metrics = {"train/loss": loss, "train/lr": lr, "train/accuracy": right}
        else:
            loss, slopes = squared(outputs.squeeze(1) - targets)
            gradient = slopes[:, None]
            metrics = {"train/loss": loss, "train/lr": lr}
        self.optimizer.descend(loss, gradient, lr=lr)
        self.count += len(rows)
        if self.config.tolerance:
            self.watch(loss, len(rows))
        return metrics

    def watch(self, loss: Tensor, size: int) -> None:
        """Add a loss to that of the epoch; at its end see whether it got better by more than the tolerance."""
        self.loss_sum.add_(loss, alpha=size)
        if self.count % self.epoch:
            return
        mean = self.loss_sum.item() / self.epoch
        self.loss_sum.zero_()
        self.waited = 0 if mean < self.best_loss - self.config.tolerance else self.waited + 1
        self.best_loss = min(self.best_loss, mean)
        if self.waited >= PATIENCE:
            tolerance = self.config.tolerance
            self.converged = f"--tolerance {tolerance:g}: the loss of an epoch got no better than {self.best_loss:.4g}"

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """Return probabilities of the classes (n, classes), or numbers (n,)."""
        outputs: Tensor = self.network(self.prepare(inputs))
        if self.standardised is not None:
            return self.standardised.inverse(outputs.squeeze(1))
        return outputs.softmax(1)

    # --- looking into it

    def layers(self) -> list[Layer]:
        """Return the network layer by layer: name, shape of the output, parameters, receptive field."""
        return layers(self.network, self.prepare(torch.zeros(1, *self.shape, device=self.device)))

    def feature_maps(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return what each hidden layer makes of inputs (n, *shape), by its name: (n, *shape of the layer)."""
        found = {name: outputs for name, _, outputs in walk(self.network, self.prepare(inputs))}
        return {name: outputs for name, outputs in found.items() if name != "output"}

    def filters(self) -> Tensor | None:
        """Return the weights of the first layer, (units, *shape), to be looked at; None if they are no picture."""
        return None
