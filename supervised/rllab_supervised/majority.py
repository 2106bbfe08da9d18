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


class Majority(SupervisedModel):
    """Predicts the same for every input: the shares of the classes, or the mean."""

    Config = MajorityConfig

    def __init__(self, config: MajorityConfig, task: DatasetTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.answer = nn.ParameterList([nn.Parameter(torch.zeros(max(len(self.classes), 1)), requires_grad=False)])
        self.answer.to(device)

    def step(self) -> Metrics:
        """Count."""
        targets = self.train.targets
        shares = torch.bincount(targets, minlength=len(self.classes)) / len(targets) if self.classes else targets.mean()
        self.answer[0].copy_(shares)
        self.count += len(targets)
        return {}

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the shares of the classes (n, classes), or the mean (n,)."""
        answers = self.answer[0].expand(len(inputs), -1)
        return answers if self.classes else answers.squeeze(1)
