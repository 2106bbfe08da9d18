"""C51: deep Q-learning that learns the distribution of returns, on 51 atoms.

Bellemare, Dabney & Munos, "A Distributional Perspective on Reinforcement Learning", ICML (2017).

    z_1 ... z_N   atoms, evenly spaced from v_min to v_max
    p(s, a)       their probabilities: a softmax of what the network gives;  Q(s, a) = sum over i of z_i p_i(s, a)

    sample a batch from the replay buffer
    a* = argmax_a' Q_target(s', a')
    m  = projection of r + gamma * z, with the probabilities p_target(s', a*), onto the atoms
         (without the second term where s' is terminal)
    take a gradient step on the cross-entropy - sum over i of m_i log p_i(s, a)

Everything else is DQN's: how it acts, the replay buffer, the target network, and --double, --dueling, --n-step and
--prioritized. All of these with C51 are Rainbow (Hessel et al., AAAI 2018) but for its noisy networks: `--preset
rainbow`. Priorities are the Kullback-Leibler divergence of p from m, as there.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from rllab.environments import EnvironmentTask
from rllab.parts.distributional import categorical_loss, entropy, project
from rllab.parts.networks import infer
from rllab.parts.replay import Batch
from rllab_agents.dqn import DQN, QNetworkConfig


class C51Config(QNetworkConfig):
    """Hyperparameters of C51 (Bellemare et al., 2017)."""

    num_atoms: int = Field(default=51, ge=2)
    """Atoms of the distribution."""

    v_min: float = -10.0
    """The lowest atom: about the lowest discounted return that can be."""

    v_max: float = 10.0
    """The highest atom: about the highest discounted return that can be."""

    @model_validator(mode="after")
    def _support_is_an_interval(self) -> Self:
        if self.v_min >= self.v_max:
            raise ValueError(f"--v-min {self.v_min:g} is not below --v-max {self.v_max:g}")
        return self


class C51(DQN):
    """Deep Q-learning of a categorical distribution."""

    Config = C51Config
    transient = DQN.transient | {"support", "z"}
    in_arrays = False

    @classmethod
    def atoms(cls, config: C51Config) -> int:
        """Return how many numbers the network gives for an action."""
        return config.num_atoms

    def __init__(self, config: C51Config, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.support = np.linspace(config.v_min, config.v_max, config.num_atoms, dtype=np.float32)
        self.z = torch.from_numpy(self.support).to(device)

    def greedy(self, observations: np.ndarray) -> np.ndarray:
        """Return the actions of highest expectation, (n,), counted from 0."""
        logits = infer(self.q, self.inputs(torch.from_numpy(observations).to(self.device)))
        logits = logits.reshape(-1, self.num_actions, len(self.support))  # (n, actions, atoms)
        p = np.exp(logits - logits.max(2, keepdims=True))
        actions: np.ndarray = (p @ self.support / p.sum(2)).argmax(1)
        return actions

    def distributions(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of the atoms, (batch, actions, atoms), from what the network gives."""
        return outputs.view(len(outputs), self.num_actions, -1).softmax(2)

    def targets(self, batch: Batch, next_q: Tensor) -> Tensor:
        """Return m, the distribution of r + gamma * Z(s', a*) on the atoms, (batch, atoms)."""
        p = self.distributions(next_q)  # (batch, actions, atoms)
        chooses = self.distributions(self.q(self.inputs(batch.next_observations))) if self.config.double else p
        best = (chooses @ self.z).argmax(1)  # (batch,)
        p = p[torch.arange(len(best), device=self.device), best]  # (batch, atoms)
        return project(p, batch.rewards, batch.discounts(self.config.gamma), self.z)

    def descend(self, batch: Batch, y: Tensor, lr: float) -> Tensor:
        """Take a gradient step on the cross-entropy between m and p(s, a); return it, a mean over the batch."""
        logits = self.optimizer.forward(self.inputs(batch.observations))
        logits = logits.view(len(logits), self.num_actions, -1)  # (batch, actions, atoms)
        chosen = torch.arange(len(logits), device=self.device), batch.actions
        losses, slopes = categorical_loss(logits[chosen], y, batch.weights)  # (batch,), (batch, atoms)
        assert losses.shape == (self.config.batch_size,)
        gradient = torch.zeros_like(logits)
        gradient[chosen] = slopes  # 0 for the actions not taken
        loss = (losses if batch.weights is None else batch.weights * losses).mean()
        self.optimizer.descend(loss, gradient.flatten(1), lr=lr)
        self.replay.update(batch, losses - entropy(y))
        return loss
