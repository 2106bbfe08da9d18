import time

import numpy as np
import pytest

from rllab.parts.returns import discounted_so_far, gae, lambda_returns, n_step_returns, rewards_to_go


def column(*numbers: float) -> np.ndarray:
    """Return steps of one environment, (T, 1)."""
    return np.array(numbers, np.float32)[:, None]


def flags(*where: int, steps: int = 5) -> np.ndarray:
    """Return (T, 1), true at the steps named."""
    array = np.zeros((steps, 1), bool)
    array[list(where)] = True
    return array


REWARDS = column(1, 2, 3, 4, 5)
VALUES = column(10, 20, 30, 40, 50)
NEXT = column(20, 30, 40, 50, 60)


# --- by hand --------------------------------------------------------------------------------------


def test_rewards_to_go_are_summed_from_the_end_and_begin_anew_in_each_episode() -> None:
    returns = rewards_to_go(REWARDS, flags(2), gamma=0.5)
    # 3;  2 + 3/2;  1 + 3.5/2;  then 5;  4 + 5/2
    assert returns[:, 0].tolist() == [2.75, 3.5, 3, 6.5, 5]


def test_rewards_to_go_take_what_comes_after_the_last_step() -> None:
    assert rewards_to_go(column(1, 1), flags(steps=2), 0.5, after=np.array([4.0]))[:, 0].tolist() == [2.5, 3]
    assert rewards_to_go(column(1, 1), flags(1, steps=2), 0.5, after=np.array([4.0]))[:, 0].tolist() == [1.5, 1]


def test_discounted_sums_so_far_go_on_over_rollouts_and_begin_anew_after_an_end() -> None:
    sums, after = discounted_so_far(REWARDS, flags(2), gamma=0.5)
    assert sums[:, 0].tolist() == [1, 2.5, 4.25, 4, 7]
    assert discounted_so_far(column(1), flags(steps=1), 0.5, after)[0].tolist() == [[4.5]]
    _, after = discounted_so_far(column(1), flags(0, steps=1), 0.5, after)
    assert after.tolist() == [0]


def test_gae_of_five_steps() -> None:
    advantages = gae(REWARDS, VALUES, NEXT, flags(), flags(), gamma=0.5, lambda_=0.5)
    # delta = r + V'/2 - V: 1, -3, -7, -11, -15;  A = delta + A'/4
    assert advantages[:, 0].tolist() == [
        1 + (-3 + (-7 + (-11 - 15 / 4) / 4) / 4) / 4,
        -3 + (-7 + (-11 - 15 / 4) / 4) / 4,
        -7 + (-11 - 15 / 4) / 4,
        -11 - 15 / 4,
        -15,
    ]


def test_a_terminal_state_has_no_value_and_cuts_the_trace() -> None:
    advantages = gae(REWARDS, VALUES, NEXT, flags(2), flags(), gamma=0.5, lambda_=0.5)
    third = 3 - 30  # no V' and no A'
    assert advantages[2, 0] == third
    assert advantages[1, 0] == -3 + third / 4


def test_truncation_bootstraps_from_the_final_observation_and_cuts_the_trace() -> None:
    next_values = NEXT.copy()
    next_values[2] = 100  # of the final observation; the next row of VALUES is of another episode
    advantages = gae(REWARDS, VALUES, next_values, flags(), flags(2), gamma=0.5, lambda_=0.5)
    third = 3 + 100 / 2 - 30  # V' but no A'
    assert advantages[2, 0] == third
    assert advantages[1, 0] == -3 + third / 4


def test_termination_wins_over_truncation() -> None:
    both = gae(REWARDS, VALUES, NEXT, flags(2), flags(2), 0.9, 0.8)
    assert np.array_equal(both, gae(REWARDS, VALUES, NEXT, flags(2), flags(), 0.9, 0.8))


def test_n_step_returns_stop_at_an_end_and_still_bootstrap_a_truncation() -> None:
    arguments = (REWARDS, NEXT, flags(1), flags(3))
    assert n_step_returns(*arguments, gamma=0.5, n_step=1)[:, 0].tolist() == [11, 2, 23, 29, 35]
    # 1 + 2/2 (terminal);  2;  3 + 4/2 + 50/4;  4 + 50/2;  5 + 60/2
    assert n_step_returns(*arguments, gamma=0.5, n_step=2)[:, 0].tolist() == [2, 2, 17.5, 29, 35]
    assert n_step_returns(*arguments, gamma=0.5, n_step=9)[:, 0].tolist() == [2, 2, 17.5, 29, 35]


def test_a_return_of_no_reward_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 reward, not 0"):
        n_step_returns(REWARDS, NEXT, flags(), flags(), 0.5, 0)


# --- against the definitions, one step at a time --------------------------------------------------


@pytest.fixture
def rollout() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    terminated, truncated = (rng.random((12, 3)) < 0.15 for _ in range(2))
    return {
        "rewards": rng.normal(size=(12, 3)),
        "next_values": rng.normal(size=(12, 3)),
        "terminated": terminated,
        "truncated": truncated & ~terminated,
    }


def return_of(rollout: dict[str, np.ndarray], t: int, i: int, n_step: int, gamma: float) -> float:
    """Return the n-step return by its definition."""
    total = 0.0
    for k in range(n_step):
        total += gamma**k * rollout["rewards"][t + k, i]
        ends = rollout["terminated"][t + k, i] or rollout["truncated"][t + k, i] or t + k == 11
        if ends or k == n_step - 1:
            value = 0 if rollout["terminated"][t + k, i] else rollout["next_values"][t + k, i]
            return float(total + gamma ** (k + 1) * value)
    raise AssertionError


@pytest.mark.parametrize("n_step", [1, 2, 5, 12, 20])
def test_n_step_returns_are_as_defined(rollout: dict[str, np.ndarray], n_step: int) -> None:
    expected = [[return_of(rollout, t, i, n_step, 0.9) for i in range(3)] for t in range(12)]
    assert np.allclose(n_step_returns(**rollout, gamma=0.9, n_step=n_step), expected)


def lambda_return_of(rollout: dict[str, np.ndarray], t: int, i: int, lambda_: float) -> float:
    """Return (1 - lambda) sum of lambda^(n-1) G^(n), and the last G with all the weight that is left."""
    length = 1
    while not (rollout["terminated"] | rollout["truncated"])[t + length - 1, i] and t + length < 12:
        length += 1
    parts = [(1 - lambda_) * lambda_ ** (n - 1) * return_of(rollout, t, i, n, 0.9) for n in range(1, length)]
    return sum(parts) + lambda_ ** (length - 1) * return_of(rollout, t, i, length, 0.9)


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 0.95, 1.0])
def test_lambda_returns_are_as_defined_and_gae_is_what_they_exceed_the_values_by(
    rollout: dict[str, np.ndarray], lambda_: float
) -> None:
    expected = np.array([[lambda_return_of(rollout, t, i, lambda_) for i in range(3)] for t in range(12)])
    assert np.allclose(lambda_returns(**rollout, gamma=0.9, lambda_=lambda_), expected)
    values = np.random.default_rng(1).normal(size=(12, 3))
    goes_on = ~(rollout["terminated"] | rollout["truncated"])[:-1]
    values[1:] = np.where(goes_on, rollout["next_values"][:-1], values[1:])  # the same states
    assert np.allclose(gae(values=values, **rollout, gamma=0.9, lambda_=lambda_) + values, expected)


def test_two_thousand_steps_take_milliseconds() -> None:
    ones, never = np.ones((2048, 8), np.float32), np.zeros((2048, 8), bool)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        gae(ones, ones, ones, never, never, 0.99, 0.95)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.1
