"""TD3: twin delayed DDPG, three cures for critics that believe too much in their policy.

Fujimoto, van Hoof & Meger, "Addressing Function Approximation Error in Actor-Critic Methods", ICML (2018).

    repeat
        act with a = pi(s) + noise, store (s, a, r, s', terminal) in the replay buffer
        sample a batch
        a' = pi_target(s') + clip(noise, -c, c), cut to the bounds        target smoothing: near actions, near values
        y = r + gamma * min_i Q_target_i(s', a')                          twin critics: the smaller estimate
                                                                          (no second term where s' is terminal)
        critics  descend  (Q_1(s, a) - y)^2 + (Q_2(s, a) - y)^2
        at every d-th gradient step                                       delay: first the critics settle
            policy  descend  -Q_1(s, pi(s))
            Q_target <- (1 - tau) Q_target + tau Q,  pi_target likewise

Everything else is DDPG's (ddpg.py): networks, acting, exploring, the losses. Actions, noise and its clip are in
[-1, 1], to which every environment's actions are scaled, however its bounds lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveInt

from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.parts.arrays import Numbers
from rllab_agents.ddpg import DDPG, DDPGConfig
from rllab_agents.off_policy import connections


class TD3Config(DDPGConfig):
    """Hyperparameters of TD3 (Fujimoto et al., 2018)."""

    policy_delay: PositiveInt = 2
    """Gradient steps of the critics for one of the policy and of the target networks."""

    target_noise: NonNegativeFloat = 0.2
    """Standard deviation of what is added to the target policy's actions, scaled to [-1, 1]."""

    target_noise_clip: NonNegativeFloat = 0.5
    """That noise is cut to between minus this and this."""


class TD3(DDPG):
    """Twin delayed DDPG."""

    Config = TD3Config
    config: TD3Config  # pyright: ignore[reportIncompatibleVariableOverride]
    num_critics = 2

    @classmethod
    def work(cls, config: Any, task: EnvironmentTask) -> float:
        """Return the multiply-adds of a gradient step, a mean of those with and without one of the policy."""
        policy, critic = connections(config, task, critic=False), connections(config, task, critic=True)
        size: int = config.batch_size
        delay: int = config.policy_delay
        return size * (policy + 2 * 4 * critic + (3 * policy + 2 * critic) / delay)

    def __init__(self, config: TD3Config, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.critic_updates = 0

    @np.errstate(all="ignore")  # the optimiser finds a loss that is not finite
    def learn(self, lr: float) -> Metrics:
        """Take one gradient step of the critics on a fresh batch; at every d-th, policy and targets follow."""
        batch = self.batch()
        observations = self.inputs(batch.observations)  # (B, size)
        metrics: Metrics = {}
        metrics["train/value_loss"] = self.update_critics(observations, batch.actions, self.targets(batch), lr)
        self.critic_updates += 1
        if self.critic_updates % self.config.policy_delay == 0:
            metrics["train/policy_loss"] = self.update_policy(observations, lr)
            self.update_targets()
        return metrics

    def smoothed(self, actions: Numbers) -> Numbers:
        """Return the target policy's actions (B, actions) with noise, cut to the bounds."""
        clip = self.config.target_noise_clip
        noise = (self.config.target_noise * self.normal(actions)).clip(-clip, clip)
        return (actions + noise).clip(-1, 1)
