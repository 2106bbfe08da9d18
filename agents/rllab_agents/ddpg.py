"""DDPG: deep deterministic policy gradient, Q-learning where the best action is a network's output.

Lillicrap et al., "Continuous control with deep reinforcement learning", ICLR (2016).

    repeat
        act with a = pi(s) + noise, store (s, a, r, s', terminal) in the replay buffer
        sample a batch;  y = r + gamma * Q_target(s', pi_target(s'))      (no second term where s' is terminal)
        critic   descend  (Q(s, a) - y)^2
        policy   descend  -Q(s, pi(s))                                    through the action: dQ/da * dpi/dtheta
        Q_target <- (1 - tau) Q_target + tau Q,  pi_target likewise

Actions and noise are in [-1, 1], to which every environment's are scaled. The paper's noise, an Ornstein-Uhlenbeck
process, is `--noise-correlation 0.85 --action-noise 0.2`; independent noise does as well (Fujimoto et al., 2018), and
is the default. As in later implementations there is no batch normalisation and no weight decay of the critic, and
observations and actions go into the critic's first layer together. TD3 is this page with three changes.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.parts.arrays import Numbers
from rllab.parts.networks import infer, mlp
from rllab.parts.optim import GradientSteps
from rllab.parts.replay import Batch
from rllab.parts.schedules import scheduled
from rllab.parts.squashed import squash
from rllab.parts.twins import Critics, polyak
from rllab_agents.off_policy import OffPolicyAgent, OffPolicyConfig, averaged, connections


class DDPGConfig(OffPolicyConfig):
    """Hyperparameters of DDPG (Lillicrap et al., 2016)."""

    hidden: tuple[PositiveInt, ...] = (400, 300)
    lr: PositiveFloat = 1e-3

    action_noise: NonNegativeFloat = 0.1
    """Standard deviation of what is added to actions scaled to [-1, 1], to explore."""

    noise_correlation: float = Field(default=0.0, ge=0, lt=1)
    """How much of the last noise of an episode stays in the next; 0: independent noise."""


class DDPG(OffPolicyAgent):
    """Deep deterministic policy gradient."""

    Config = DDPGConfig
    config: DDPGConfig
    num_critics: ClassVar[int] = 1

    @classmethod
    def work(cls, config: DDPGConfig, task: EnvironmentTask) -> float:
        """Return the multiply-adds of a gradient step.

        A pass forward counts 1 and one backward 2. Policy: forward for s' and for s, backward. Critic: target, forward
        and backward for its loss, and forward and backward to the actions alone for the policy's, by the first critic.
        """
        policy, critic = connections(config, task, critic=False), connections(config, task, critic=True)
        return config.batch_size * (4 * policy + (4 * cls.num_critics + 2) * critic)

    def __init__(self, config: DDPGConfig, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        size, actions = self.vectors.size, self.bounds.size
        self.actor = mlp(size, config.hidden, actions, config.activation).to(device)  # before the tanh
        self.critics = Critics(size, actions, config.hidden, config.activation, self.num_critics).to(device)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)

    def setup(self) -> None:
        """Make the replay buffer and the optimisers."""
        super().setup()
        config = self.config
        options: dict[str, Any] = {"optimizer": config.optimizer, "lr": config.lr, "fast": config.fast}
        self.critic_steps = GradientSteps(self.critics, **options, max_grad_norm=config.max_grad_norm)
        self.actor_steps = GradientSteps(self.actor, **options, max_grad_norm=config.max_grad_norm)
        self.noise = np.zeros((config.num_envs, self.bounds.size), np.float32)  # the last that was added

    # --- acting

    def best(self, observations: np.ndarray) -> np.ndarray:
        """Return the policy's actions, (n, actions) in [-1, 1]."""
        actions: np.ndarray = np.tanh(infer(self.actor, self.inputs(observations)))
        return actions

    def next_noise(self, noise: np.ndarray, starts: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Return what is added to the next actions, (n, actions): correlation * noise + std * normal.

        With a correlation it is an Ornstein-Uhlenbeck process with theta = 1 - correlation, which begins at each
        episode's start, where `starts` (n,) says so.
        """
        kept = self.config.noise_correlation * np.where(starts[:, None], 0, noise)
        return (kept + self.config.action_noise * normal).astype(np.float32)

    def act(
        self,
        observations: np.ndarray,
        memory: Any = None,
        starts: np.ndarray | None = None,
        *,
        deterministic: bool,
    ) -> tuple[np.ndarray, Any]:
        """Take the policy's action; if not deterministic, with noise as in training, which is the memory."""
        actions = self.best(observations)
        if not deterministic:
            normal = torch.randn(*actions.shape).numpy()
            memory = np.zeros_like(actions) if memory is None else memory
            memory = self.next_noise(memory, np.zeros(len(actions), bool) if starts is None else starts, normal)
            actions = (actions + memory).clip(-1, 1)
        return self.bounds.from_unit(actions), memory

    def explore(self, observations: np.ndarray) -> np.ndarray:
        """Return actions with noise, or random ones before learning starts, (n, actions) in [-1, 1]."""
        if self.count < self.config.learning_starts:
            return self.random_actions()
        normal = self.rng.standard_normal(self.noise.shape, np.float32)
        self.noise = self.next_noise(self.noise, self.envs.starts, normal)
        return (self.best(observations) + self.noise).clip(-1, 1)

    # --- learning

    def step(self) -> Metrics:
        """Take one step in every environment, and the gradient steps that are due."""
        metrics, gradient_steps = self.take(self.explore(self.envs.observations))
        if gradient_steps:
            lr = scheduled(self.config.lr, self.config.schedule, self.progress)
            metrics |= averaged([self.learn(lr) for _ in range(gradient_steps)])
            metrics["train/lr"] = lr
        return metrics

    @np.errstate(all="ignore")  # the optimiser finds a loss that is not finite
    def learn(self, lr: float) -> Metrics:
        """Take one gradient step of critic and policy on a fresh batch; the targets follow."""
        batch = self.batch()
        observations = self.inputs(batch.observations)  # (B, size)
        value_loss = self.update_critics(observations, batch.actions, self.targets(batch), lr)
        policy_loss = self.update_policy(observations, lr)
        self.update_targets()
        return {"train/value_loss": value_loss, "train/policy_loss": policy_loss}

    @torch.no_grad()
    def targets(self, batch: Batch) -> Numbers:
        """Return y = r + gamma * Q_target(s', pi_target(s')), without the second term where s' is terminal, (B,)."""
        observations = self.inputs(batch.next_observations)
        actions = self.smoothed(squash(self.target_actor(observations)))  # (B, actions)
        q = self.target_critics.smallest(observations, actions)  # (B,)
        assert q.shape == batch.rewards.shape == batch.terminated.shape
        return batch.rewards + batch.discounts(self.config.gamma) * q

    def smoothed(self, actions: Numbers) -> Numbers:
        """Return the target policy's actions (B, actions) as they are; TD3 adds noise."""
        return actions

    def update_critics(self, observations: Numbers, actions: Numbers, y: Numbers, lr: float) -> Numbers:
        """Descend (Q_i(s, a) - y)^2, the mean over the batch, the sum over the critics, if there are several."""
        error = self.critic_steps.forward(observations, actions) - y  # (critics, B)
        assert error.shape == (self.num_critics, *y.shape)
        loss = (error**2).mean(1).sum()
        self.critic_steps.descend(loss, 2 * error / len(y), lr=lr)
        return loss

    def update_policy(self, observations: Numbers, lr: float) -> Numbers:
        """Descend -Q(s, pi(s)), a mean over the batch; of several critics the first is asked.

        Through the action: dQ/da * dpi/dtheta, and da/du = 1 - a^2 for a = tanh(u).
        """
        actions = squash(self.actor_steps.forward(observations))  # (B, actions)
        q, slope = self.critics.slope(observations, actions, first=1)  # (B,), (B, actions)
        loss = -q.mean()
        self.actor_steps.descend(loss, -slope * (1 - actions**2) / len(q), lr=lr)
        return loss

    def update_targets(self) -> None:
        """Move both target networks towards the online ones."""
        polyak(self.target_critics, self.critics, self.config.tau)
        polyak(self.target_actor, self.actor, self.config.tau)
