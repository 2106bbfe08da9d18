"""PPO: proximal policy optimisation.

Schulman et al., "Proximal Policy Optimization Algorithms" (2017), with the details that make it work from Andrychowicz
et al., "What Matters for On-Policy Deep Actor-Critic Methods?", ICLR (2021).

    repeat
        act by pi_old(a|s) for T steps in each of n environments
        estimate advantages A_t by GAE;   R_t = A_t + V_old(s_t)
        several times, for each minibatch:
            r_t = pi(a_t|s_t) / pi_old(a_t|s_t)
            take a gradient step on   - mean min(r_t A_t, clip(r_t, 1 - epsilon, 1 + epsilon) A_t)        (equation 7)
                                      + c_v mean (R_t - V(s_t))^2  -  c_e mean H(pi(.|s_t))               (equation 9)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from rllab.algorithm import Metrics
from rllab.parts.policy_losses import clipped_surrogate, clipped_values, normalised
from rllab.parts.schedules import Schedule, scheduled
from rllab_agents.actor_critic import ActorCriticAgent, ActorCriticConfig


class PPOConfig(ActorCriticConfig):
    """Hyperparameters of PPO (Schulman et al., 2017)."""

    rollout_steps: PositiveInt = 256

    batch_size: PositiveInt = 64
    """Steps in a minibatch; it divides the rollout, --num-envs times --rollout-steps."""

    update_epochs: PositiveInt = 10
    """Passes over a rollout."""

    gae_lambda: float = Field(default=0.95, ge=0, le=1)

    normalize_advantages: bool = True
    """Shift and scale the advantages of each minibatch to mean 0 and variance 1."""

    clip_range: PositiveFloat = 0.2
    """Epsilon: beyond 1 - epsilon and 1 + epsilon, a ratio of probabilities earns nothing more."""

    clip_schedule: Schedule = "constant"
    """How epsilon goes on, as --schedule does for the step size."""

    value_clip_range: NonNegativeFloat = 0.0
    """How far from its old value V(s) may move with profit, in units of (normalised) returns; 0: any distance."""

    target_kl: NonNegativeFloat = 0.0
    """Leave a rollout before the step after which the policy would be 1.5 times this far from the old one; 0: never."""

    recurrent: Literal["none", "lstm"] = "none"
    """Memory before actor and critic: an LSTM, which both share. Minibatches are then whole sequences."""

    lstm_size: PositiveInt = 64
    """Units of the LSTM."""

    @model_validator(mode="after")
    def _minibatches_fit(self) -> Self:
        rollout = self.num_envs * self.rollout_steps
        said = f"the rollout of --num-envs {self.num_envs} times --rollout-steps {self.rollout_steps} = {rollout} steps"
        part = self.rollout_steps if self.recurrent == "lstm" else 1  # what is not divided
        if self.batch_size > rollout:
            raise ValueError(f"--batch-size {self.batch_size} is larger than {said}: say {rollout} or less")
        if rollout % self.batch_size == 0 and self.batch_size % part == 0:
            return self
        right = [size for size in range(part, rollout + 1, part) if rollout % size == 0]
        near = min(right, key=lambda size: abs(size - self.batch_size))
        if rollout % self.batch_size:
            raise ValueError(f"--batch-size {self.batch_size} does not divide {said}: {near} would")
        raise ValueError(
            f"--batch-size {self.batch_size} is not made of whole sequences of --rollout-steps "
            f"{self.rollout_steps}, which --recurrent lstm wants: {near} would be"
        )


METRICS = (
    "train/loss",
    "train/policy_loss",
    "train/value_loss",
    "train/entropy",
    "train/kl",
    "train/clip_fraction",
)


class Batch(NamedTuple):
    """Steps to learn from, `B` of them."""

    inputs: Tensor
    """(B, ...)"""
    starts: Tensor
    """(B,) whether an episode starts there"""
    actions: Tensor
    """(B, *action)"""
    log_probs: Tensor
    """(B,) log pi_old(a|s)"""
    values: Tensor
    """(B,) V_old(s)"""
    advantages: Tensor
    """(B,)"""
    returns: Tensor
    """(B,)"""

    def rows(self, rows: np.ndarray) -> Batch:
        """Return some of the steps."""
        index = torch.from_numpy(rows).to(self.values.device)
        return Batch(*(tensor.index_select(0, index) for tensor in self))


class PPO(ActorCriticAgent):
    """Proximal policy optimisation."""

    Config = PPOConfig
    config: PPOConfig
    reductions = {"train/lr": "last", "train/clip_range": "last"}

    @staticmethod
    def lstm_units(config: PPOConfig) -> int:
        """Return the units of the LSTM; 0 for none."""
        return config.lstm_size if config.recurrent == "lstm" else 0

    @classmethod
    def batch(cls, config: PPOConfig) -> int:
        """Return how many rows a gradient step takes."""
        return config.batch_size

    def setup(self) -> None:
        """Make what training needs, and the stream that shuffles minibatches."""
        super().setup()
        self.shuffle = self.streams.numpy("minibatches")

    def step(self) -> Metrics:
        """Collect a rollout and learn from it."""
        config = self.config
        lr = scheduled(config.lr, config.schedule, self.progress)
        clip_range = scheduled(config.clip_range, config.clip_schedule, self.progress)
        metrics = self.collect()
        metrics |= self.learn(self.look_back(), lr, clip_range)
        self.policy.notice(self.rollout.observations[:-1])
        return metrics | {"train/lr": lr, "train/clip_range": clip_range}

    def look_back(self) -> Batch:
        """Return the steps of the rollout, with what the networks that took them say of them."""
        inputs, actions = self.experience()
        starts = torch.from_numpy(self.rollout.starts[:-1].reshape(-1)).to(self.device)
        outputs, values = self.policy.look_back(inputs, self.first_memory, starts)
        log_probs, _ = self.policy.distribution.evaluate(outputs, actions)
        return Batch(inputs, starts, actions, log_probs, values, *self.estimates(values))

    @torch.no_grad()
    def learn(self, batch: Batch, lr: float, clip_range: float) -> Metrics:
        """Take gradient steps on minibatches, until the epochs are over or the policy is too far from the old one."""
        taken: list[Tensor] = []
        for _ in range(self.config.update_epochs):
            for minibatch, memory in self.minibatches(batch):
                metrics = self.descend(minibatch, memory, lr, clip_range)
                if metrics is None:
                    return self.summary(taken)
                taken.append(metrics)
        return self.summary(taken)

    def minibatches(self, batch: Batch) -> Iterator[tuple[Batch, Tensor | None]]:
        """Go through the steps in a new order, `batch_size` at a time.

        With an LSTM a minibatch is whole sequences of some environments, and comes with the memory they begin with.
        """
        size, steps, n = self.config.batch_size, self.rollout.steps, self.rollout.num_envs
        if size == steps * n:
            yield batch, self.first_memory
        elif self.first_memory is not None:
            for envs in self.shuffle.permutation(n).reshape(-1, size // steps):
                rows = np.arange(steps)[:, None] * n + envs  # (T, environments of this minibatch)
                yield batch.rows(rows.reshape(-1)), self.first_memory[:, torch.from_numpy(envs)]
        else:
            shuffled = batch.rows(self.shuffle.permutation(steps * n))
            parts = zip(*(torch.split(tensor, size) for tensor in shuffled), strict=True)
            yield from ((Batch(*part), None) for part in parts)

    def descend(self, batch: Batch, memory: Tensor | None, lr: float, clip_range: float) -> Tensor | None:
        """Take a gradient step; return what `METRICS` names, or None, and no step, where --target-kl is passed."""
        config, distribution = self.config, self.policy.distribution
        outputs, values = self.optimizer.forward(batch.inputs, memory, batch.starts)  # (B, outputs), (B,)
        log_probs, entropy = distribution.evaluate(outputs, batch.actions)  # (B,) both
        log_ratio = log_probs - batch.log_probs  # (B,)
        kl = (log_ratio.expm1() - log_ratio).mean()  # Schulman, "Approximating KL Divergence" (2020)
        if config.target_kl and kl.item() > 1.5 * config.target_kl:
            return None

        advantages = normalised(batch.advantages) if config.normalize_advantages else batch.advantages
        policy_loss, slope = clipped_surrogate(log_ratio, advantages, clip_range)
        value_loss, value_slope = clipped_values(values, batch.values, batch.returns, config.value_clip_range)
        loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy.mean()
        by_outputs = distribution.gradient(outputs, batch.actions, slope, -config.entropy_coef / len(slope))
        self.optimizer.descend(loss, (by_outputs, config.value_coef * value_slope), lr=lr)
        clipped = (log_ratio.expm1().abs() > clip_range).float().mean()
        return torch.stack([loss, policy_loss, value_loss, entropy.mean(), kl, clipped])

    def summary(self, taken: list[Tensor]) -> Metrics:
        """Return the means over the gradient steps that were taken, and how many those were."""
        means = torch.stack(taken).mean(0)
        return {**dict(zip(METRICS, means, strict=True)), "train/updates": float(len(taken))}
