"""The baseline: always the most frequent class, or the mean. Any other score means something only beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rllab.algorithm import Metrics
from rllab.config import Config
from rllab.data import DatasetTask
from rllab.supervised import SupervisedModel


class MajorityConfig(Config):
    """The most frequent class of the training part, or the mean of its targets; there is nothing to choose."""


class Answer(nn.Module):
    """The same numbers for every input; a buffer of a module, so that they are saved with the weights."""

    numbers: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("numbers", torch.zeros(size))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the numbers for each of the inputs (n, *shape): (n, size)."""
        return self.numbers.expand(len(inputs), -1)


class Majority(SupervisedModel):
    """Predicts the same for every input: the shares of the classes, or the mean."""

    Config = MajorityConfig

    def __init__(self, config: MajorityConfig, task: DatasetTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.answer = Answer(max(len(self.classes), 1)).to(device)

    def step(self) -> Metrics:
        """Count the classes, or take the mean."""
        targets = self.train.targets
        shares = torch.bincount(targets, minlength=len(self.classes)) / len(targets) if self.classes else targets.mean()
        self.answer.numbers.copy_(shares)
        self.count += len(targets)
        return {}

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the shares of the classes (n, classes), or the mean (n,)."""
        answers: Tensor = self.answer(inputs)
        return answers if self.classes else answers.squeeze(1)
