"""Perceptron: Rosenblatt's rule.

Rosenblatt, "The perceptron: a probabilistic model for information storage and organization in the brain",
Psychological Review 65 (1958). That it ends where a line can separate the classes: Novikoff (1962).
More than two classes, by one weight vector each: Duda & Hart, "Pattern Classification and Scene Analysis" (1973), 5.12.

    repeat until an epoch goes by without an error
        for each x of class y, with a 1 added for the bias
            two classes, y = -1 or 1:   if y w'x <= 0:                        w <- w + lr y x
            more of them:               if another class c has w_c'x >= w_y'x, the highest of them:
                                                                              w_y <- w_y + lr x,  w_c <- w_c - lr x
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from rllab.algorithm import Metrics
from rllab.config import Config
from rllab.data import DatasetTask
from rllab.minibatches import epoch_order
from rllab.supervised import SupervisedModel, input_size

_log = logging.getLogger("rllab")


class PerceptronConfig(Config):
    """Hyperparameters of the perceptron (Rosenblatt, 1958)."""

    epochs: PositiveInt = 100
    """Passes over the training part, unless one without an error comes earlier."""

    lr: PositiveFloat = 1.0
    """Step size; the weights begin at 0, so that it scales them and changes no prediction."""


class Perceptron(SupervisedModel):
    """A line, or a plane, that is turned towards each example on its wrong side."""

    Config = PerceptronConfig
    config: PerceptronConfig
    predicts = frozenset({"classes"})
    probabilistic = False
    reductions = {"train/errors": "last"}

    def __init__(self, config: PerceptronConfig, task: DatasetTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        rows = len(self.classes) if len(self.classes) > 2 else 1
        self.linear = nn.Linear(input_size(task), rows).to(device).requires_grad_(False)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def step(self) -> Metrics:
        """Go through the training part once."""
        inputs = self.vectors(self.train.inputs)
        x = torch.cat([inputs, torch.ones(len(inputs), 1, device=inputs.device)], 1).cpu().numpy()  # (N, numbers + 1)
        y = self.train.targets.cpu().numpy()
        w = torch.cat([self.linear.weight, self.linear.bias[:, None]], 1).cpu().numpy()  # (classes or 1, numbers + 1)
        order: np.ndarray = epoch_order(len(y), self.streams.sequence("order", self.count // len(y))).numpy()
        errors = self.two(w[0], x, 2 * y - 1, order) if len(self.classes) == 2 else self.several(w, x, y, order)
        new = torch.from_numpy(w)
        self.linear.weight.copy_(new[:, :-1])
        self.linear.bias.copy_(new[:, -1])
        self.count += len(y)
        if not errors:
            self.converged = "an epoch went by without an error: the classes are separated"
        if errors and self.count >= self.budget:
            _log.warning(
                "the perceptron has not converged: %d errors in the last of %d epochs. More --epochs may help; "
                "where no line separates the classes, nothing but other features does",
                *(errors, self.config.epochs),
            )
        return {"train/errors": float(errors), "train/accuracy": 1 - errors / len(y)}

    def two(self, w: np.ndarray, x: np.ndarray, y: np.ndarray, order: np.ndarray) -> int:
        """Apply the rule for classes -1 and 1 to `w`, in place; return how many errors there were."""
        errors, lr = 0, self.config.lr
        for i in order:
            if y[i] * (w @ x[i]) <= 0:
                w += lr * y[i] * x[i]
                errors += 1
        return errors

    def several(self, w: np.ndarray, x: np.ndarray, y: np.ndarray, order: np.ndarray) -> int:
        """Apply the rule for several classes to `w`, in place; return how many errors there were."""
        errors, lr = 0, self.config.lr
        for i in order:
            scores = w @ x[i]
            own = scores[y[i]]
            scores[y[i]] = -np.inf
            other = scores.argmax()
            if scores[other] >= own:
                w[y[i]] += lr * x[i]
                w[other] -= lr * x[i]
                errors += 1
        return errors

    def vectors(self, inputs: Tensor) -> Tensor:
        """Return inputs (n, *shape) scaled, as vectors (n, numbers)."""
        scaled: Tensor = self.scaler(inputs)
        return scaled.reshape(len(inputs), -1)

    def predict(self, inputs: Tensor) -> Tensor:
        """Return w'x for each class, (n, classes); of two classes -w'x and w'x."""
        scores: Tensor = self.linear(self.vectors(inputs))
        return torch.cat([-scores, scores], 1) if len(self.classes) == 2 else scores

    def filters(self) -> Tensor:
        """Return what the inputs are weighed by: (classes, *shape), or of two classes (1, *shape)."""
        return self.linear.weight.detach().reshape(-1, *self.shape)
