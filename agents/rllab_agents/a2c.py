"""A2C: advantage actor-critic, with many environments in step.

Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", ICML (2016), there with a thread for each
environment; in step as in Wu et al., "Scalable trust-region method for deep reinforcement learning using
Kronecker-factored approximation", NeurIPS (2017).

    repeat
        act by pi(a|s) for T steps in each of n environments
        R_t = r_t + gamma R_(t+1), and R_T = V(s_T);   A_t = R_t - V(s_t)      (with --gae-lambda below 1: GAE)
        take a gradient step on   - mean A_t log pi(a_t|s_t)  +  c_v mean (R_t - V(s_t))^2  -  c_e mean H(pi(.|s_t))
"""

from __future__ import annotations

import torch
from pydantic import PositiveFloat

from rllab.algorithm import Metrics
from rllab.parts.losses import squared
from rllab.parts.optim import OptimizerName
from rllab.parts.policy_losses import normalised, policy_gradient
from rllab.parts.schedules import scheduled
from rllab_agents.actor_critic import ActorCriticAgent, ActorCriticConfig


class A2CConfig(ActorCriticConfig):
    """Hyperparameters of A2C (Mnih et al., 2016)."""

    optimizer: OptimizerName = "rmsprop"

    lr: PositiveFloat = 7e-4


class A2C(ActorCriticAgent):
    """Advantage actor-critic."""

    Config = A2CConfig
    config: A2CConfig

    def step(self) -> Metrics:
        """Collect a rollout and take one gradient step on it."""
        lr = scheduled(self.config.lr, self.config.schedule, self.progress)
        metrics = self.collect()
        metrics |= self.learn(lr)
        self.policy.notice(self.rollout.observations[:-1])
        return metrics

    @torch.no_grad()
    def learn(self, lr: float) -> Metrics:
        """Take a gradient step on the rollout, whose T * n steps are B rows."""
        config, distribution = self.config, self.policy.distribution
        inputs, actions = self.experience()
        outputs, values = self.optimizer.forward(inputs)  # (B, outputs), (B,)
        advantages, returns = self.estimates(values)  # (B,) both
        if config.normalize_advantages:
            advantages = normalised(advantages)

        log_probs, entropy = distribution.evaluate(outputs, actions)  # (B,) both
        policy_loss, slope = policy_gradient(log_probs, advantages)
        value_loss, value_slope = squared(values - returns)
        loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy.mean()
        by_outputs = distribution.gradient(outputs, actions, slope, -config.entropy_coef / len(slope))  # (B, outputs)
        self.optimizer.descend(loss, (by_outputs, config.value_coef * value_slope), lr=lr)
        return {
            "train/loss": loss,
            "train/policy_loss": policy_loss,
            "train/value_loss": value_loss,
            "train/entropy": entropy.mean(),
            "train/lr": lr,
        }
