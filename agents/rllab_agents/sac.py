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
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.parts import squashed
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
    """The weight of the entropy; its logarithm is learned, so that it stays positive."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.tensor(math.log(alpha)))


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
        """Make the replay buffer, the optimisers and the stream of the noise in gradient steps."""
        super().setup()
        config = self.config
        self.noise_rng = self.streams.torch("noise", self.device)
        options: dict[str, Any] = {"optimizer": config.optimizer, "lr": config.lr, "fast": config.fast}
        self.critic_steps = GradientSteps(self.critics, **options, max_grad_norm=config.max_grad_norm)
        self.actor_steps = GradientSteps(self.actor, **options, max_grad_norm=config.max_grad_norm)
        self.temperature_steps = GradientSteps(self.temperature, **options) if self.temperature is not None else None

    # --- acting

    def outputs(self, observations: np.ndarray) -> np.ndarray:
        """Return the policy's mean and log standard deviation before they are squashed, (n, 2 * actions)."""
        return infer(self.actor, self.inputs(torch.from_numpy(observations).to(self.device)))

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

    def learn(self, lr: float) -> Metrics:
        """Take one gradient step on a fresh batch: the critics, the policy, the temperature; targets follow."""
        batch = self.replay.sample(self.config.batch_size, self.replay_rng)
        observations = self.inputs(batch.observations)  # (B, size)
        alpha = self.alpha

        value_loss = self.value_loss(observations, batch.actions, self.targets(batch, alpha))
        self.critic_steps(value_loss, lr=lr)
        policy_loss, entropy = self.policy_loss(observations, alpha)
        self.actor_steps(policy_loss, lr=lr)
        if self.temperature_steps is not None:
            self.temperature_steps(self.temperature_loss(entropy), lr=lr)
        polyak(self.target, self.critics, self.config.tau)
        return {
            "train/value_loss": value_loss.detach(),
            "train/policy_loss": policy_loss.detach(),
            "train/entropy": entropy,
        }

    def sample(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions a ~ pi(.|s), (B, actions), and log pi(a|s), (B,), differentiable by the policy."""
        noise = torch.randn(len(observations), self.bounds.size, generator=self.noise_rng, device=self.device)
        return squashed.sample(self.actor(observations), noise)  # its outputs: mean and log std, (B, 2 * actions)

    @torch.no_grad()
    def targets(self, batch: Batch, alpha: Tensor) -> Tensor:
        """Return y = r + gamma * (min_i Q_target_i(s', a') - alpha * log pi(a'|s')), (B,)."""
        observations = self.inputs(batch.next_observations)
        actions, log_probs = self.sample(observations)
        q = self.target(observations, actions).amin(0)  # (B,), of (2, B)
        assert q.shape == log_probs.shape == batch.rewards.shape == batch.terminated.shape
        soft: Tensor = q - alpha * log_probs  # (B,)
        return batch.rewards + batch.discounts(self.config.gamma) * soft  # the discount is 0 where s' is terminal

    def value_loss(self, observations: Tensor, actions: Tensor, y: Tensor) -> Tensor:
        """Return 1/2 (Q_i(s, a) - y)^2, the mean over the batch, the sum over the critics."""
        error: Tensor = self.critics(observations, actions) - y  # (2, B)
        assert error.shape == (2, *y.shape)
        return 0.5 * error.square().mean(1).sum()

    def policy_loss(self, observations: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha * log pi(a|s) - min_i Q_i(s, a), a mean over the batch, and the policy's entropy."""
        actions, log_probs = self.sample(observations)
        q = self.critics.by_actions(observations, actions).amin(0)  # (B,), of (2, B)
        assert q.shape == log_probs.shape
        return (alpha * log_probs - q).mean(), -log_probs.detach().mean()

    def temperature_loss(self, entropy: Tensor) -> Tensor:
        """Return log alpha * (entropy - target entropy): too much entropy lowers alpha, too little raises it."""
        assert self.temperature is not None
        return self.temperature.log_alpha * (entropy - self.target_entropy)
