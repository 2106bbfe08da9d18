"""QR-DQN: deep Q-learning that learns quantiles of the distribution of returns.

Dabney, Rowland, Bellemare & Munos, "Distributional Reinforcement Learning with Quantile Regression", AAAI (2018).

    theta_i(s, a)   estimate of the quantile tau_i = (2 i - 1) / (2 N) of the return;  Q(s, a) = mean of theta(s, a)

    sample a batch from the replay buffer
    a* = argmax_a' Q_target(s', a')
    y_j = r + gamma * theta_target_j(s', a*)                                      (r alone where s' is terminal)
    u_ij = y_j - theta_i(s, a)
    take a gradient step on the sum over i of the mean over j of |tau_i - 1{u_ij < 0}| huber(u_ij)

Everything else is DQN's: how it acts, the replay buffer, the target network, and --double, --dueling, --n-step and
--prioritized, whose priorities are the losses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from rllab.environments import EnvironmentTask
from rllab.parts.distributional import midpoints, quantile_huber
from rllab.parts.networks import infer
from rllab.parts.replay import Batch
from rllab_agents.dqn import DQN, QNetworkConfig


class QRDQNConfig(QNetworkConfig):
    """Hyperparameters of QR-DQN (Dabney et al., 2018)."""

    num_quantiles: PositiveInt = 200
    """Quantiles that are estimated for each action."""


class QRDQN(DQN):
    """Deep Q-learning of quantiles."""

    Config = QRDQNConfig
    transient = DQN.transient | {"tau"}
    in_arrays = False

    @classmethod
    def atoms(cls, config: QRDQNConfig) -> int:
        """Return how many numbers the network gives for an action."""
        return config.num_quantiles

    def __init__(self, config: QRDQNConfig, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.tau = midpoints(config.num_quantiles).to(device)

    def greedy(self, observations: np.ndarray) -> np.ndarray:
        """Return the actions of highest expectation, (n,), counted from 0."""
        quantiles = infer(self.q, self.inputs(torch.from_numpy(observations).to(self.device)))
        actions: np.ndarray = quantiles.reshape(-1, self.num_actions, len(self.tau)).mean(2).argmax(1)
        return actions

    def quantiles(self, outputs: Tensor) -> Tensor:
        """Return what the network gives by action, (batch, actions, quantiles)."""
        return outputs.view(len(outputs), self.num_actions, -1)

    def targets(self, batch: Batch, next_q: Tensor) -> Tensor:
        """Return y = r + gamma * theta_target(s', a*), without the second term where s' is terminal: (batch, N)."""
        theta = self.quantiles(next_q)  # (batch, actions, quantiles)
        chooses = self.quantiles(self.q(self.inputs(batch.next_observations))) if self.config.double else theta
        best = chooses.mean(2).argmax(1)  # (batch,)
        theta = theta[torch.arange(len(best), device=self.device), best]  # (batch, quantiles)
        return batch.rewards[:, None] + batch.discounts(self.config.gamma)[:, None] * theta

    def descend(self, batch: Batch, y: Tensor, lr: float) -> Tensor:
        """Take a gradient step on the quantile loss between theta(s, a) and y; return it, a mean over the batch."""
        theta = self.quantiles(self.optimizer.forward(self.inputs(batch.observations)))
        chosen = torch.arange(len(theta), device=self.device), batch.actions
        losses, slopes = quantile_huber(theta[chosen], y, self.tau, batch.weights)  # (batch,), (batch, quantiles)
        assert losses.shape == (self.config.batch_size,)
        gradient = torch.zeros_like(theta)
        gradient[chosen] = slopes  # 0 for the actions not taken
        loss = (losses if batch.weights is None else batch.weights * losses).mean()
        self.optimizer.descend(loss, gradient.flatten(1), lr=lr)
        self.replay.update(batch, losses)
        return loss
