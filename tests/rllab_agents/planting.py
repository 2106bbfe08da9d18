"""Faults to plant into methods (see `probing`): each takes an agent that is set up, and breaks one thing of it.

Some are planted into what every method looks at, the environments and the discount; others into the one place of
a method where such a fault is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from probing import Plant
from rllab_agents import a2c, actor_critic, ppo, reinforce, sac

from rllab.parts import squashed
from rllab.parts.losses import squared
from rllab.parts.returns import gae, rewards_to_go
from rllab.vectorenv import Transition

Patch = pytest.MonkeyPatch

# --- in the environments, whatever the method ---------------------------------------------------------


def in_steps(change: Callable[[Any, Transition], Transition]) -> Plant:
    """Return what changes what the environments say of a step."""

    def plant(agent: Any, patch: Patch) -> None:
        step = agent.envs.step
        patch.setattr(agent.envs, "step", lambda *given: change(agent.envs, step(*given)))

    plant.__name__ = change.__name__
    return plant


@in_steps
def truncation_is_termination(envs: Any, moved: Transition) -> Transition:
    """One flag for both ends, and no value beyond it."""
    none = np.zeros_like(moved.truncated)
    return moved._replace(terminated=moved.terminated | moved.truncated, truncated=none)


@in_steps
def termination_is_truncation(envs: Any, moved: Transition) -> Transition:
    """One flag for both ends, and the value of what comes beyond it."""
    none = np.zeros_like(moved.terminated)
    return moved._replace(terminated=none, truncated=moved.terminated | moved.truncated)


@in_steps
def next_episode_is_next(envs: Any, moved: Transition) -> Transition:
    """An episode that is cut off goes on with the first observation of the next one."""
    return moved._replace(next_observations=envs.observations, truncated=np.zeros_like(moved.truncated))


def rewards_one_step_late(agent: Any, patch: Patch) -> None:
    """Each step has the reward of the one before."""
    last = np.zeros(agent.envs.num_envs, np.float32)

    def late(envs: Any, moved: Transition) -> Transition:
        nonlocal last
        before, last = last, moved.rewards
        return moved._replace(rewards=before)

    in_steps(late)(agent, patch)


class NextStep:
    """Environments as Gymnasium's own vectors step them: the step after an end is a reset, whose reward is 0."""

    def __init__(self, envs: Any) -> None:
        self._envs = envs
        self._over = np.zeros(envs.num_envs, bool)
        self.observations = envs.observations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._envs, name)

    def step(self, actions: Any) -> Transition:
        """Step those whose episode goes on; the others begin a new one."""
        n = self._envs.num_envs
        going = np.flatnonzero(~self._over)
        observations, rewards = self._envs.observations.copy(), np.zeros(n, np.float32)
        terminated, truncated = np.zeros(n, bool), np.zeros(n, bool)
        moved = self._envs.step(actions, going.tolist())
        observations[going], rewards[going] = moved.next_observations, moved.rewards
        terminated[going], truncated[going] = moved.terminated, moved.truncated
        self._over, self.observations = terminated | truncated, observations
        return Transition(observations, rewards, terminated, truncated, moved.episodes)


def resets_are_steps(agent: Any, patch: Patch) -> None:
    """What a vector in Gymnasium's NEXT_STEP mode gives is learned from, row by row."""
    agent.envs = NextStep(agent.envs)


def no_discount(agent: Any, patch: Patch) -> None:
    """Gamma is 1."""
    agent.config = agent.config.model_copy(update={"gamma": 1.0})


# --- in the gradients ---------------------------------------------------------------------------------


class Uphill:
    """Gradient steps in the wrong direction."""

    def __init__(self, steps: Any) -> None:
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)

    def __call__(self, loss: Any, *, lr: float) -> Any:
        return self._steps(loss, lr=-lr)

    def descend(self, loss: Any, gradient: Any, *, lr: float = 0.01) -> Any:
        """Go up."""
        return self._steps.descend(loss, gradient, lr=-lr)


def uphill(name: str) -> Plant:
    """Return what turns an optimiser round, by the name of an agent's attribute."""

    def plant(agent: Any, patch: Patch) -> None:
        setattr(agent, name, Uphill(getattr(agent, name)))

    plant.__name__ = "uphill"
    return plant


def advantages_are_costs(agent: Any, patch: Patch) -> None:
    """The sign of the policy gradient's loss alone is wrong."""
    for module, name in ((a2c, "policy_gradient"), (reinforce, "policy_gradient"), (ppo, "clipped_surrogate")):
        loss = getattr(module, name)
        patch.setattr(module, name, lambda *given, loss=loss: tuple(-part for part in loss(*given)))


def other_actions(agent: Any, patch: Patch) -> None:
    """Advantages and targets stand beside the action that another environment took."""
    if hasattr(agent, "replay"):
        add = agent.replay.add
        patch.setattr(agent.replay, "add", lambda seen, actions, *more: add(seen, np.roll(actions, 1, 0), *more))
        return
    distribution = agent.policy.distribution if hasattr(agent.policy, "distribution") else agent.distribution
    for name in ("evaluate", "gradient"):
        right = getattr(distribution, name)
        patch.setattr(
            distribution, name, lambda out, actions, *more, right=right: right(out, actions.roll(1, 0), *more)
        )


# --- in experience and targets ------------------------------------------------------------------------


def observations_after(agent: Any, patch: Patch) -> None:
    """The value of what is seen after a step is learned in place of that of what was seen before it."""
    if hasattr(agent, "replay"):
        add = agent.replay.add
        patch.setattr(
            agent.replay, "add", lambda seen, acts, rewards, after, *ends: add(after, acts, rewards, after, *ends)
        )
        return
    experience = agent.experience

    def shifted() -> Any:
        _, actions = experience()
        after = agent.rollout.observations[1:]
        return agent.policy.prepare(after.reshape(-1, *after.shape[2:])), actions

    patch.setattr(agent, "experience", shifted)


def column_against_row(agent: Any, patch: Patch) -> None:
    """Values (B, 1) minus targets (B,) are (B, B): each value is drawn to all targets.

    Where the loss is squared its slope is that of the error from the mean of the targets, which is planted where
    a gradient is written out and would not have the right shape.
    """
    if hasattr(agent, "q"):

        def descend(batch: Any, y: Any, lr: float) -> Any:
            q = torch.as_tensor(agent.optimizer.forward(agent.inputs(batch.observations)))
            chosen = torch.nn.functional.one_hot(torch.as_tensor(batch.actions), q.shape[1])  # (B, actions)
            error = (q * chosen).sum(1, keepdim=True) - torch.as_tensor(y)  # (B, B)
            loss, slope = squared(error)
            gradient = chosen * slope.mean(1, keepdim=True)
            agent.optimizer.descend(loss, gradient.numpy() if agent.optimizer.takes_arrays else gradient, lr=lr)
            return loss

        patch.setattr(agent, "descend", descend)
    elif hasattr(agent, "critics"):
        targets = agent.targets
        patch.setattr(agent, "targets", lambda *given: 0 * (y := targets(*given)) + y.mean())
    elif hasattr(agent, "learn_values"):
        learn = agent.learn_values
        patch.setattr(agent, "learn_values", lambda x, returns: learn(x, returns.mean().expand_as(returns).clone()))
    else:
        estimates = agent.estimates

        def estimated(values: Any) -> Any:
            advantages, returns = estimates(values)
            return advantages, returns.mean().expand_as(returns)

        patch.setattr(agent, "estimates", estimated)


def targets_stand_still(agent: Any, patch: Patch) -> None:
    """The target networks stay as they were at the start."""
    for name in ("update_target", "update_targets"):
        if hasattr(agent, name):
            patch.setattr(agent, name, lambda *_: None)
    patch.setattr(sac, "polyak", lambda *_: None)


def sums_go_on(agent: Any, patch: Patch) -> None:
    """REINFORCE's returns go on over the ends of episodes."""
    patch.setattr(
        reinforce,
        "rewards_to_go",
        lambda rewards, ended, gamma: rewards_to_go(rewards, np.zeros_like(ended), gamma),
    )


def baseline_is_added(agent: Any, patch: Patch) -> None:
    """Advantages are returns plus values."""
    patch.setattr(actor_critic, "gae", lambda rewards, values, *more: gae(rewards, -values, *more))


def traces_go_on(agent: Any, patch: Patch) -> None:
    """GAE's trace is cut by terminations alone; the values after a truncation are right."""

    def uncut(rewards: Any, v: Any, after: Any, terminated: Any, truncated: Any, gamma: float, lambda_: float) -> Any:
        rewards, after = rewards + gamma * truncated * after, np.where(truncated, 0, after)
        return gae(rewards, v, after, terminated, np.zeros_like(truncated), gamma, lambda_)

    patch.setattr(actor_critic, "gae", uncut)


def discount_of_one_step(agent: Any, patch: Patch) -> None:
    """The value after n steps is discounted as if it came after one."""
    targets = agent.targets
    patch.setattr(agent, "targets", lambda batch, next_q: targets(batch._replace(steps=None), next_q))


def n_steps_cross_truncations(agent: Any, patch: Patch) -> None:
    """Only terminations end the sum of n rewards."""
    add = agent.replay.add
    patch.setattr(agent.replay, "add", lambda *given: add(*given[:-1], np.zeros_like(given[-1])))


# --- of continuous actions ----------------------------------------------------------------------------


def bounds_are_forgotten(agent: Any, patch: Patch) -> None:
    """Actions in [-1, 1] are what the environment gets."""
    patch.setattr(agent.bounds, "from_unit", lambda actions: actions)


class Unsquashed(squashed.Sample):
    """Actions whose density is taken for that of the Gaussian before it is squashed, and so is its gradient."""

    def gradient(self, by_actions: Any, by_log_probs: Any) -> Any:
        """Return the gradient by the outputs, (B, 2 A)."""
        by_u = by_actions * (1 - self.actions**2)  # (B, A)
        return np.concatenate([by_u, (by_u * self.deviation - by_log_probs) * self.inside], 1)


def no_tanh_correction(agent: Any, patch: Patch) -> None:
    """The density is that of the Gaussian before it is squashed."""
    sample = squashed.sample

    def unsquashed(outputs: Any, noise: Any) -> Any:
        log_std = outputs[:, noise.shape[1] :].clip(*squashed.LOG_STD)  # (B, A)
        log_probs = (-0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(1)  # (B,)
        return Unsquashed(*sample(outputs, noise)._replace(log_probs=log_probs))

    patch.setattr(squashed, "sample", unsquashed)


def entropy_costs(agent: Any, patch: Patch) -> None:
    """The targets have the log-probability's sign wrong."""
    targets = agent.targets
    patch.setattr(agent, "targets", lambda batch, alpha: targets(batch, -alpha))
