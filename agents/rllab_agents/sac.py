"""SAC: soft actor-critic, which maximises return and entropy together.

Haarnoja et al., "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with a Stochastic Actor",
ICML (2018), and "Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905 (2018), for the temperature.

    repeat
        act by sampling a ~ pi(.|s), store (s, a, r, s', terminal) in the replay buffer
        sample a batch;  a' ~ pi(.|s'),  y = r + gamma * (min_i Q_target_i(s', a') - alpha * log pi(a'|s'))
                                                                  (no second term where s' is terminal)
        critics      descend  1/2 (Q_i(s, a) - y)^2
        policy       descend  alpha * log pi(a|s) - min_i Q_i(s, a)       with a = tanh(mean(s) + std(s) * noise)
        temperature  descend  log alpha * (entropy of pi - target entropy)
        Q_target <- (1 - tau) Q_target + tau Q

Actions, their densities and so the entropy are those in [-1, 1], to which every environment's are scaled: a target
entropy of -1 for each dimension means the same whatever units the environment has.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.parts import squashed
from rllab.parts.arrays import Numbers, alike
from rllab.parts.backprop import Passes
from rllab.parts.networks import infer, mlp
from rllab.parts.optim import GradientSteps
from rllab.parts.replay import Batch
from rllab.parts.schedules import scheduled
from rllab.parts.twins import Critics, polyak
from rllab_agents.off_policy import OffPolicyAgent, OffPolicyConfig, averaged, connections


class SACConfig(OffPolicyConfig):
    """Hyperparameters of SAC (Haarnoja et al., 2018)."""

    alpha: float | None = Field(default=None, ge=0)
    """Temperature: what a nat of entropy is worth in reward; none: learned, to keep the target entropy."""

    initial_alpha: PositiveFloat = 1.0
    """Temperature at the start, where it is learned."""

    target_entropy: float | None = None
    """Entropy of the policy to keep, in nats, of actions scaled to [-1, 1]; none: -1 for each dimension."""


class Temperature(nn.Module):
    """The weight of the entropy; its logarithm is learned, so that it stays positive.

    With autograd a step of this one number takes as long as one of thousands: its way back is written out.
    """

    takes_arrays = True

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.tensor(math.log(alpha)))

    def forward(self) -> Tensor:
        """Return log alpha."""
        return self.log_alpha

    def written_out(self, gradients: Sequence[Tensor]) -> Passes:
        """Return itself, as its own two passes."""
        (self._gradient,) = gradients
        return self

    def backward(self, gradient: Numbers) -> None:
        """Hand on the gradient by log alpha."""
        self._gradient.fill_(float(gradient))


class SAC(OffPolicyAgent):
    """Soft actor-critic with two critics and a learned temperature."""

    Config = SACConfig
    config: SACConfig
    reductions = {"train/lr": "last", "train/alpha": "last"}

    @classmethod
    def work(cls, config: SACConfig, task: EnvironmentTask) -> float:
        """Return the multiply-adds of a gradient step.

        A pass forward counts 1 and one backward 2. Policy: forward for s' and for s, backward. Each critic: target,
        forward and backward for its loss, forward and backward to the actions alone, which is 1, for the policy's.
        """
        policy, critic = connections(config, task, critic=False, outputs=2), connections(config, task, critic=True)
        return config.batch_size * (4 * policy + 2 * 6 * critic)

    def __init__(self, config: SACConfig, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        size, actions = self.vectors.size, self.bounds.size
        self.actor = mlp(size, config.hidden, 2 * actions, config.activation).to(device)  # mean and log std
        self.critics = Critics(size, actions, config.hidden, config.activation).to(device)
        self.target = copy.deepcopy(self.critics).requires_grad_(False)
        self.temperature = Temperature(config.initial_alpha).to(device) if config.alpha is None else None
        self.target_entropy = -float(actions) if config.target_entropy is None else config.target_entropy

    def setup(self) -> None:
        """Make the replay buffer and the optimisers."""
        super().setup()
        config = self.config
        options: dict[str, Any] = {"optimizer": config.optimizer, "lr": config.lr, "fast": config.fast}
        self.critic_steps = GradientSteps(self.critics, **options, max_grad_norm=config.max_grad_norm)
        self.actor_steps = GradientSteps(self.actor, **options, max_grad_norm=config.max_grad_norm)
        self.temperature_steps = GradientSteps(self.temperature, **options) if self.temperature is not None else None

    # --- acting

    def outputs(self, observations: np.ndarray) -> np.ndarray:
        """Return the policy's mean and log standard deviation before they are squashed, (n, 2 * actions)."""
        return infer(self.actor, self.inputs(observations))

    def act(
        self,
        observations: np.ndarray,
        memory: Any = None,
        starts: np.ndarray | None = None,
        *,
        deterministic: bool,
    ) -> tuple[np.ndarray, None]:
        """Take the squashed mean; if not deterministic, a sample of the policy, as in training."""
        outputs = self.outputs(observations)
        if deterministic:
            return self.bounds.from_unit(squashed.mode(outputs)), None
        noise = torch.randn(len(observations), self.bounds.size).numpy()
        return self.bounds.from_unit(squashed.act(outputs, noise)), None

    def explore(self, observations: np.ndarray) -> np.ndarray:
        """Return samples of the policy, or of anything before learning starts, (n, actions) in [-1, 1]."""
        if self.count < self.config.learning_starts:
            return self.random_actions()
        noise = self.rng.standard_normal((len(observations), self.bounds.size), np.float32)
        return squashed.act(self.outputs(observations), noise)

    # --- learning

    @property
    def alpha(self) -> Tensor:
        """Return the temperature, a 0-d tensor without a graph."""
        if self.temperature is None:
            return torch.tensor(self.config.alpha, device=self.device)
        return self.temperature.log_alpha.detach().exp()

    def step(self) -> Metrics:
        """Take one step in every environment, and the gradient steps that are due."""
        metrics, gradient_steps = self.take(self.explore(self.envs.observations))
        if gradient_steps:
            lr = scheduled(self.config.lr, self.config.schedule, self.progress)
            metrics |= averaged([self.learn(lr) for _ in range(gradient_steps)])
            metrics |= {"train/lr": lr, "train/alpha": self.alpha}
        return metrics

    @np.errstate(all="ignore")  # the optimiser finds a loss that is not finite
    def learn(self, lr: float) -> Metrics:
        """Take one gradient step on a fresh batch: the critics, the policy, the temperature; targets follow."""
        batch = self.batch()
        observations = self.inputs(batch.observations)  # (B, size)
        alpha = alike(self.alpha, observations)
        value_loss = self.update_critics(observations, batch.actions, self.targets(batch, alpha), lr)
        policy_loss, entropy = self.update_policy(observations, alpha, lr)
        if self.temperature_steps is not None:
            self.update_temperature(self.temperature_steps, entropy, lr)
        polyak(self.target, self.critics, self.config.tau)
        return {"train/value_loss": value_loss, "train/policy_loss": policy_loss, "train/entropy": entropy}

    @torch.no_grad()
    def targets(self, batch: Batch, alpha: Numbers) -> Numbers:
        """Return y = r + gamma * (min_i Q_target_i(s', a') - alpha * log pi(a'|s')), (B,)."""
        observations = self.inputs(batch.next_observations)
        drawn = squashed.sample(self.actor(observations), self.normal(observations))
        q = self.target.smallest(observations, drawn.actions)  # (B,)
        assert q.shape == drawn.log_probs.shape == batch.rewards.shape == batch.terminated.shape
        soft = q - alpha * drawn.log_probs  # (B,)
        return batch.rewards + batch.discounts(self.config.gamma) * soft  # the discount is 0 where s' is terminal

    def update_critics(self, observations: Numbers, actions: Numbers, y: Numbers, lr: float) -> Numbers:
        """Descend 1/2 (Q_i(s, a) - y)^2, the mean over the batch, the sum over the critics."""
        error = self.critic_steps.forward(observations, actions) - y  # (2, B)
        assert error.shape == (2, *y.shape)
        loss = 0.5 * (error**2).mean(1).sum()
        self.critic_steps.descend(loss, error / len(y), lr=lr)
        return loss

    def update_policy(self, observations: Numbers, alpha: Numbers, lr: float) -> tuple[Numbers, Numbers]:
        """Descend alpha * log pi(a|s) - min_i Q_i(s, a), a mean over the batch; return it, and the policy's entropy.

        Both terms lead to the policy's outputs through a = tanh(mean + std * noise), the second by dQ/da.
        """
        outputs = self.actor_steps.forward(observations)  # mean and log std, (B, 2 * actions)
        drawn = squashed.sample(outputs, self.normal(observations))
        q, slope = self.critics.slope(observations, drawn.actions)  # (B,), (B, actions)
        assert q.shape == drawn.log_probs.shape
        loss = (alpha * drawn.log_probs - q).mean()
        self.actor_steps.descend(loss, drawn.gradient(-slope / len(q), alpha / len(q)), lr=lr)
        return loss, -drawn.log_probs.mean()

    def update_temperature(self, steps: GradientSteps, entropy: Numbers, lr: float) -> None:
        """Descend log alpha * (entropy - target entropy): too much entropy lowers alpha, too little raises it."""
        slope = entropy - self.target_entropy
        steps.descend(steps.forward() * slope, slope, lr=lr)
