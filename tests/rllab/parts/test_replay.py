from typing import Any

import numpy as np
import pytest
import torch

from rllab.parts.replay import Batch, ReplayBuffer


def buffer(size: int = 5) -> ReplayBuffer:
    return ReplayBuffer(size, (2,), np.float32)


def add(replay: ReplayBuffer, *numbers: int) -> None:
    """Add transitions that can be told apart: number n has the observation (n, -n), action 10 n and so on."""
    n = np.array(numbers)
    observations = np.stack([n, -n], 1)
    replay.add(observations, 10 * n, 0.5 * n, observations + 100, n % 2 == 0)


def held(replay: ReplayBuffer) -> list[int]:
    """Return the transitions by their number, in the order of the ring."""
    return [int(reward * 2) for reward in replay.state_dict()["rewards"]]


def test_a_ring_fills_up_and_then_overwrites_the_oldest() -> None:
    replay = buffer(3)
    for n in (1, 2):
        add(replay, n)
    assert (len(replay), held(replay)) == (2, [1, 2])
    for n in (3, 4):
        add(replay, n)
    assert (len(replay), held(replay)) == (3, [4, 2, 3])


def test_several_at_once_wrap_around_the_end() -> None:
    replay = buffer(5)
    add(replay, 1, 2, 3)
    add(replay, 4, 5, 6)  # two at the end, one at the beginning
    assert held(replay) == [6, 2, 3, 4, 5]
    add(replay, 7, 8, 9)
    assert held(replay) == [6, 7, 8, 9, 5]


def test_several_that_end_exactly_at_the_end_go_on_at_the_beginning() -> None:
    replay = buffer(4)
    add(replay, 1, 2)
    add(replay, 3, 4)
    assert (len(replay), held(replay)) == (4, [1, 2, 3, 4])
    add(replay, 5)
    assert held(replay) == [5, 2, 3, 4]


def test_of_more_than_it_holds_the_last_stay() -> None:
    replay = buffer(2)
    add(replay, 1, 2, 3, 4, 5)
    assert sorted(held(replay)) == [4, 5]


def test_the_parts_of_a_transition_stay_together() -> None:
    replay = buffer(4)
    for start in range(1, 30, 3):
        add(replay, start, start + 1, start + 2)
    batch = replay.sample(200, np.random.default_rng(0))
    n = batch.actions / 10
    assert torch.equal(batch.observations, torch.stack([n, -n], 1))
    assert torch.equal(batch.rewards, 0.5 * n)
    assert torch.equal(batch.next_observations, torch.stack([n, -n], 1) + 100)
    assert torch.equal(batch.terminated, (n % 2 == 0).float())
    assert set(n.tolist()) == {27, 28, 29, 30}


def test_a_batch_has_the_shapes_and_types_that_losses_expect() -> None:
    replay = ReplayBuffer(3, (4, 2), np.uint8, (2,), np.float32)
    replay.add(np.ones((1, 4, 2)), np.ones((1, 2)), np.ones(1), np.ones((1, 4, 2)), np.ones(1))
    batch = replay.sample(7, np.random.default_rng(0))
    assert [tuple(part.shape) for part in batch if part is not None] == [(7, 4, 2), (7, 2), (7,), (7, 4, 2), (7,)]
    assert batch.steps is batch.weights is batch.rows is None
    assert batch.observations.dtype == torch.uint8
    assert batch.rewards.dtype == batch.terminated.dtype == batch.actions.dtype == torch.float32


def test_sampling_is_uniform_over_what_is_filled() -> None:
    replay = buffer(100)
    add(replay, *range(10))
    rewards = replay.sample(10_000, np.random.default_rng(0)).rewards * 2
    counts = torch.bincount(rewards.long(), minlength=10)
    assert len(counts) == 10  # nothing from the part that is not filled
    # chi-squared with 9 degrees of freedom stays below 27.9 with probability 0.999
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 27.9


def test_a_batch_does_not_change_when_the_ring_goes_on() -> None:
    replay = buffer(1)
    add(replay, 1)
    batch = replay.sample(1, np.random.default_rng(0))
    add(replay, 2)
    assert batch.rewards.item() == 0.5


def test_the_ring_does_not_change_with_the_arrays_it_was_given() -> None:
    replay, observations = buffer(2), np.ones((1, 2))
    replay.add(observations, np.ones(1), np.ones(1), observations, np.ones(1))
    observations[:] = 9
    assert replay.state_dict()["observations"].tolist() == [[1, 1]]


def test_a_batch_splits_into_smaller_ones_row_by_row() -> None:
    replay = buffer(50)
    add(replay, *range(50))
    drawn = replay.sample(6, np.random.default_rng(0))
    parts = list(drawn.split(2))
    assert [len(part.rewards) for part in parts] == [2, 2, 2]
    for whole, pieces in zip(drawn[:5], zip(*[part[:5] for part in parts], strict=True), strict=True):
        assert torch.equal(torch.cat(pieces), whole)
    assert {part[5:] for part in parts} == {(None, None, None)}


@pytest.mark.parametrize("size", [6, 7])
def test_a_batch_that_is_not_larger_than_its_parts_is_one(size: int) -> None:
    replay = buffer(50)
    add(replay, *range(50))
    drawn = replay.sample(6, np.random.default_rng(0))
    (part,) = drawn.split(size)
    assert part is drawn


def test_the_last_part_has_the_rows_that_are_left() -> None:
    replay = buffer(50)
    add(replay, *range(50))
    drawn = replay.sample(5, np.random.default_rng(0))
    parts = list(drawn.split(2))
    assert [len(part.rewards) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.observations for part in parts]), drawn.observations)


@pytest.mark.parametrize("added", [0, 3, 5, 7])
def test_only_the_filled_part_is_saved_and_the_ring_goes_on_from_it(added: int) -> None:
    replay, other = buffer(5), buffer(5)
    for n in range(added):
        add(replay, n)
    state: dict[str, Any] = {k: np.copy(v) if isinstance(v, np.ndarray) else v for k, v in replay.state_dict().items()}
    assert len(state["observations"]) == min(added, 5)
    other.load_state_dict(state)
    for ring in (replay, other):
        add(ring, 50, 51)
    assert held(other) == held(replay)
    rows = [ring.sample(20, np.random.default_rng(1)).actions.tolist() for ring in (replay, other)]
    assert rows[0] == rows[1]


# --- several steps ------------------------------------------------------------------------------------------


def walk(n_step: int, rewards: list[float], **ends: int) -> ReplayBuffer:
    """Return a buffer with one episode: its states are 0, 1, 2, ...; `ends` says after which step it ended, and how."""
    replay = ReplayBuffer(10, (), np.float32, n_step=n_step, gamma=0.5)
    for t, reward in enumerate(rewards):
        flags = (np.array([ends.get(name) == t]) for name in ("terminated", "truncated"))
        replay.add(np.array([t]), np.array([t]), np.array([reward]), np.array([t + 1]), *flags)
    return replay


def parts(batch: Batch) -> list[list[float]]:
    """Return rewards, next observations, and discounts for gamma = 1/2."""
    return [batch.rewards.tolist(), batch.next_observations.tolist(), batch.discounts(0.5).tolist()]


def test_three_steps_by_hand() -> None:
    """From 0: 8 + 4 / 2 + 2 / 4 = 10.5 and on from 3 with 1/8; the last ones have fewer steps to go."""
    drawn = walk(3, [8, 4, 2, 1]).take(np.arange(4))
    assert parts(drawn) == [[10.5, 5.25, 2.5, 1], [3, 4, 4, 4], [1 / 8, 1 / 8, 1 / 4, 1 / 2]]
    assert (drawn.observations.tolist(), drawn.actions.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 3])


def test_several_steps_stop_at_a_terminal_state_which_has_no_value() -> None:
    drawn = walk(3, [8, 4, 2, 1], terminated=1).take(np.arange(4))
    assert parts(drawn) == [[10, 4, 2.5, 1], [2, 2, 4, 4], [0, 0, 1 / 4, 1 / 2]]


def test_several_steps_stop_at_a_truncation_and_go_on_from_its_final_observation() -> None:
    drawn = walk(3, [8, 4, 2, 1], truncated=1).take(np.arange(4))
    assert parts(drawn) == [[10, 4, 2.5, 1], [2, 2, 4, 4], [1 / 4, 1 / 2, 1 / 4, 1 / 2]]


def test_one_step_discounts_once_and_not_after_the_end() -> None:
    drawn = walk(1, [8, 4], terminated=1).take(np.arange(2))
    assert drawn.steps is None
    assert parts(drawn) == [[8, 4], [1, 2], [1 / 2, 0]]


@pytest.mark.parametrize("n_step", [2, 5])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_several_steps_are_those_that_a_loop_over_episodes_takes(num_envs: int, n_step: int) -> None:
    """Of several environments, with both kinds of ends, several times around a ring that 3 does not divide."""
    rng, gamma = np.random.default_rng(0), 0.8
    replay = ReplayBuffer(20, (), np.float64, n_step=n_step, gamma=gamma)
    added: list[tuple[int, float, float, float, bool, bool]] = []  # environment, state, reward, next, both ends
    for step in range(60):
        ended = rng.random(num_envs) < 0.2
        terminated = ended & (rng.random(num_envs) < 0.5)
        states, rewards = 100.0 * np.arange(num_envs) + step, rng.normal(size=num_envs)
        replay.add(states, np.zeros(num_envs), rewards, states + 0.5, terminated, ended & ~terminated)
        added += zip(range(num_envs), states, rewards, states + 0.5, terminated, ended, strict=True)
        added = added[-20:]
        drawn = replay.take(np.arange(len(replay)))
        assert drawn.steps is not None
        got = {
            state: row
            for state, *row in zip(*(part.tolist() for part in (drawn.observations, *drawn[2:6])), strict=True)  # type: ignore[union-attr]
        }
        assert len(got) == len(added)
        for first, (env, state, *_) in enumerate(added):
            total, k = 0.0, 0
            for other, _, reward, after, last, end in added[first:]:
                if other == env and k < n_step:
                    total += gamma**k * reward
                    k += 1
                    found = [pytest.approx(total, abs=1e-6), after, float(last), k]
                    if end:
                        break
            assert got[state] == found


def test_a_buffer_of_several_steps_is_saved_with_its_ends() -> None:
    replay, other = walk(3, [8, 4, 2, 1], truncated=1), ReplayBuffer(10, (), np.float32, n_step=3, gamma=0.5)
    other.load_state_dict(replay.state_dict())
    assert parts(other.take(np.arange(4))) == parts(replay.take(np.arange(4)))


def test_several_steps_need_to_know_where_episodes_end_and_which_environment_a_row_is_of() -> None:
    replay = ReplayBuffer(10, (), np.float32, n_step=2)
    ones = np.ones(2, bool)
    with pytest.raises(ValueError, match="2 transitions after 0"):
        replay.add(ones, ones, ones, ones, ones)
    replay.add(ones, ones, ones, ones, ones, ones)
    with pytest.raises(ValueError, match="1 transitions after 2: one of each environment is added at a time"):
        replay.add(*[ones[:1]] * 6)
