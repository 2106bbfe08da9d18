"""Returns and advantages: what the rewards of a rollout say about its states and actions.

Everything is an array (T, n): T steps of n environments side by side; episodes may end anywhere in it. Two masks tell
how: `terminated` cuts the value (nothing comes after a terminal state), `terminated | truncated` cuts the trace (what
comes next belongs to another episode). Where an episode was truncated or the rollout stopped, the value of the state
that was reached stands for the rewards that were not seen; that is why `next_values` are those of the true next
observations, also where an episode ended.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def rewards_to_go(rewards: Array, ended: Array, gamma: float, after: Array | float = 0.0) -> Array:
    """Return the discounted rewards from each step to the end of its episode, (T, n).

        G_t = r_t + gamma G_(t+1), and r_t where the episode ends

    Args:
        rewards: (T, n); where an episode is truncated, gamma times the value of what it came to may be added.
        ended: (T, n) whether the episode ends with that step.
        gamma: the discount.
        after: (n,) what G is after the last step, where no episode ends.
    """
    returns = np.empty_like(rewards)
    goes_on = gamma * ~ended  # (T, n)
    following: Any = after
    for t in reversed(range(len(rewards))):
        following = returns[t] = rewards[t] + goes_on[t] * following
    return returns


def discounted_so_far(rewards: Array, ended: Array, gamma: float, before: Array | float = 0.0) -> tuple[Array, Array]:
    """Return the discounted sum of the rewards up to each step of its episode, (T, n), and it for the step after, (n,).

        R_t = gamma R_(t-1) + r_t, which begins at 0 in each episode

    Args:
        rewards: (T, n).
        ended: (T, n) whether the episode ends with that step.
        gamma: the discount.
        before: (n,) the sum before the first step, as this function returned it.
    """
    sums = np.empty_like(rewards)
    so_far: Any = before
    for t in range(len(rewards)):
        sums[t] = gamma * so_far + rewards[t]
        so_far = sums[t] * ~ended[t]
    return sums, so_far


def gae(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    gamma: float,
    lambda_: float,
) -> Array:
    """Return generalised advantage estimates (Schulman et al., 2016, equations 11 and 16), (T, n).

        delta_t = r_t + gamma V(s_(t+1)) - V(s_t)       the second term 0 where s_(t+1) is terminal
        A_t = delta_t + gamma lambda A_(t+1)            the second term 0 where an episode or the rollout ends

    The returns for the critic are `A_t + V(s_t)`, with these A_t, not with normalised ones.

    Args:
        rewards: (T, n).
        values: (T, n), V(s_t).
        next_values: (T, n), V(s_(t+1)), of the true next observation also where an episode ended.
        terminated: (T, n) whether s_(t+1) is terminal.
        truncated: (T, n) whether the episode was cut off there.
        gamma: the discount.
        lambda_: 0 for one-step differences, 1 for all rewards up to the end.
    """
    deltas = rewards + gamma * ~terminated * next_values - values  # (T, n)
    trace = gamma * lambda_ * ~(terminated | truncated)  # (T, n)
    advantages = np.empty_like(deltas)
    following: Any = 0.0
    for t in reversed(range(len(deltas))):
        following = advantages[t] = deltas[t] + trace[t] * following
    return advantages


def lambda_returns(
    rewards: Array, next_values: Array, terminated: Array, truncated: Array, gamma: float, lambda_: float
) -> Array:
    """Return lambda-returns (Sutton & Barto, 2018, equation 12.18 by recursion), (T, n).

        G_t = r_t + gamma ((1 - lambda) V(s_(t+1)) + lambda G_(t+1))

    Where an episode or the rollout ends V(s_(t+1)) takes the place of both, and 0 where s_(t+1) is terminal. They are
    `gae(...) + values`.

    Args:
        rewards: (T, n).
        next_values: (T, n), of the true next observations.
        terminated: (T, n).
        truncated: (T, n).
        gamma: the discount.
        lambda_: 0 for one step, 1 for all rewards up to the end.
    """
    bootstrap = ~terminated * next_values  # (T, n)
    goes_on = lambda_ * ~(terminated | truncated)  # (T, n)
    returns = np.empty_like(bootstrap)
    following: Any = bootstrap[-1]
    for t in reversed(range(len(rewards))):
        returns[t] = rewards[t] + gamma * ((1 - goes_on[t]) * bootstrap[t] + goes_on[t] * following)
        following = returns[t]
    return returns


def n_step_returns(
    rewards: Array, next_values: Array, terminated: Array, truncated: Array, gamma: float, n_step: int
) -> Array:
    """Return n-step returns (Sutton & Barto, 2018, equation 7.1), (T, n).

        G_t = r_t + gamma r_(t+1) + ... + gamma^(N-1) r_(t+N-1) + gamma^N V(s_(t+N))

    with N = `n_step`, or fewer where the episode or the rollout ends earlier; V is 0 at a terminal state.

    Args:
        rewards: (T, n).
        next_values: (T, n), of the true next observations.
        terminated: (T, n).
        truncated: (T, n).
        gamma: the discount.
        n_step: rewards in a return, at least 1.

    Raises:
        ValueError: for an `n_step` below 1.
    """
    if n_step < 1:
        raise ValueError(f"a return has at least 1 reward, not {n_step}")
    stops = terminated | truncated  # (T, n)
    bootstrap = ~terminated * next_values  # (T, n)
    returns = rewards + gamma * bootstrap  # of one step
    for _ in range(min(n_step, len(rewards)) - 1):  # from those of k steps, those of k + 1
        returns[:-1] = rewards[:-1] + gamma * np.where(stops[:-1], bootstrap[:-1], returns[1:])
    return returns
