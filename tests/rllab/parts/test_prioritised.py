from typing import Any

import numpy as np
import pytest
import torch

from rllab.parts.prioritised import PrioritisedReplay, SumTree
from rllab.parts.replay import Batch, ReplayBuffer

# --- the tree -----------------------------------------------------------------------------------------------


def test_a_number_is_found_by_how_far_along_the_sum_it_lies() -> None:
    """Of 1, 2, 0 and 3 the first ends at 1, the second at 3, the fourth at 6; the third is never found."""
    tree = SumTree(4)
    tree.set(np.arange(4), np.array([1.0, 2.0, 0.0, 3.0]))
    assert tree.total == 6
    assert tree.find(np.array([0, 0.9, 1, 2.9, 3, 5.9])).tolist() == [0, 0, 1, 1, 3, 3]


@pytest.mark.parametrize("size", [1, 63, 64, 65, 4096, 5000, 300_000])
def test_a_tree_finds_what_a_running_sum_finds(size: int) -> None:
    """The numbers are whole, so that sums are exact in any order."""
    rng = np.random.default_rng(size)
    numbers, tree = np.zeros(size), SumTree(size)
    for _ in range(5):
        places = rng.integers(size, size=min(size, 100))
        values = rng.integers(0, 5, size=len(places)).astype(float)
        for place, value in zip(places, values, strict=True):
            numbers[place] = value  # the last of several stays
        tree.set(places, values)
        assert tree.total == numbers.sum()
        if tree.total:
            distances = rng.random(200) * tree.total
            expected = np.searchsorted(numbers.cumsum(), distances, side="right")
            assert tree.find(distances).tolist() == expected.tolist()
        np.testing.assert_array_equal(tree[places], numbers[places])


def test_what_is_zero_is_never_found_whatever_rounding_does() -> None:
    tree, rng = SumTree(10_000), np.random.default_rng(0)
    places = rng.permutation(10_000)[:37]
    for _ in range(50):
        tree.set(places, rng.random(37) * 10.0 ** rng.integers(-9, 9, 37))
        ends = np.array([0.0, np.nextafter(tree.total, 0), tree.total])
        found = tree.find(np.concatenate([rng.random(500) * tree.total, ends]))
        assert set(found) <= set(places)


def test_a_tree_that_is_loaded_is_the_same() -> None:
    tree, other, rng = SumTree(5000), SumTree(5000), np.random.default_rng(0)
    tree.set(np.arange(5000), rng.random(5000))
    other.load_state_dict(tree.state_dict())
    distances = rng.random(1000) * tree.total
    assert other.total == tree.total
    assert other.find(distances).tolist() == tree.find(distances).tolist()


# --- the buffer ---------------------------------------------------------------------------------------------


def buffer(size: int = 4, alpha: float = 1.0, **options: Any) -> PrioritisedReplay:
    return PrioritisedReplay(ReplayBuffer(size, (), np.float32), alpha, **options)


def add(replay: PrioritisedReplay, *numbers: float) -> None:
    """Add transitions that are told apart by their observation."""
    n = np.array(numbers)
    replay.add(n, np.zeros(len(n)), n, n, np.zeros(len(n)))


def report(replay: PrioritisedReplay, rows: list[int], errors: list[float]) -> None:
    replay.update(replay.replay.take(np.array(rows))._replace(rows=torch.tensor(rows)), torch.tensor(errors))


def counts(replay: PrioritisedReplay, draws: int = 4000) -> list[float]:
    """Return the share of each transition among those drawn."""
    rng = np.random.default_rng(0)
    drawn = torch.cat([replay.sample(8, rng, 0.0).rewards for _ in range(draws // 8)])
    return [float((drawn == n).float().mean()) for n in range(len(replay))]


@pytest.mark.parametrize(
    ("alpha", "shares"),
    [(1.0, [0.1, 0.2, 0.3, 0.4]), (2.0, [1 / 30, 4 / 30, 9 / 30, 16 / 30]), (0.0, [0.25, 0.25, 0.25, 0.25])],
)
def test_transitions_come_in_proportion_to_their_error_to_the_power_of_alpha(alpha: float, shares: list[float]) -> None:
    replay = buffer(alpha=alpha, eps=0)
    add(replay, 0, 1, 2, 3)
    report(replay, [0, 1, 2, 3], [0.1, -0.2, 0.3, -0.4])
    assert counts(replay) == pytest.approx(shares, abs=0.02)


def test_of_each_equal_part_of_the_sum_one_is_drawn() -> None:
    """With priorities 1, 1, 2 and 4, each of 8 parts lies within a transition: 1, 1, 2 and 4 draws, always."""
    replay = buffer(eps=0)
    add(replay, 0, 1, 2, 3)
    report(replay, [0, 1, 2, 3], [1, 1, 2, 4])
    for seed in range(20):
        drawn = replay.sample(8, np.random.default_rng(seed), 0.0)
        assert drawn.rewards.tolist() == [0, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_weights_make_up_for_it_that_some_come_more_often(beta: float) -> None:
    """P = 1/8, 1/8, 1/4, 1/2 and N = 4, so (N P)^-1 = 2, 2, 1, 1/2; divided by the largest: 1, 1, 1/2, 1/4."""
    replay = buffer(eps=0)
    add(replay, 0, 1, 2, 3)
    report(replay, [0, 1, 2, 3], [1, 1, 2, 4])
    weights = replay.sample(8, np.random.default_rng(0), beta).weights
    assert weights is not None
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([w**beta for w in [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]])


def test_with_beta_1_weights_make_a_weighted_mean_that_of_all_transitions() -> None:
    """Before they are divided by the largest, the mean of weight times value is that of the values, 1.5."""
    replay, rng = buffer(), np.random.default_rng(1)
    add(replay, 0, 1, 2, 3)
    report(replay, [0, 1, 2, 3], [0.3, 2.0, 0.7, 1.1])
    total, norm = 0.0, 0.0
    for _ in range(3000):
        drawn = replay.sample(4, rng, 1.0)
        assert drawn.weights is not None
        p = (drawn.rewards == 1).float() * 2.0 + (drawn.rewards == 0).float() * 0.3
        p += (drawn.rewards == 2).float() * 0.7 + (drawn.rewards == 3).float() * 1.1
        largest = float((4.1 / 4 / p).max())
        total += float((drawn.weights * largest * drawn.rewards).sum())
        norm += 4
    assert total / norm == pytest.approx(1.5, abs=0.03)


def test_a_new_transition_has_the_highest_priority_so_far() -> None:
    replay = buffer(eps=0)
    add(replay, 0)
    report(replay, [0], [0.5])  # below the 1 that is the highest before anything is known
    add(replay, 1)
    report(replay, [0, 1], [5.0, 0.5])
    add(replay, 2)
    report(replay, [0], [0.5])  # the highest there has been stays
    add(replay, 3)
    assert replay._tree[np.arange(4)].tolist() == [0.5, 0.5, 5.0, 5.0]
    add(replay, 4)  # in the place of the first
    assert replay._tree[np.arange(4)].tolist() == [5.0, 0.5, 5.0, 5.0]


def test_an_error_of_zero_leaves_a_transition_a_chance() -> None:
    replay = buffer(eps=1e-6)
    add(replay, 0, 1)
    report(replay, [0, 1], [0.0, 1.0])
    assert replay._tree[np.array([0])][0] == 1e-6


def test_the_last_error_of_a_transition_that_was_drawn_twice_counts() -> None:
    replay = buffer(eps=0)
    add(replay, 0, 1)
    report(replay, [0, 0, 1], [3.0, 0.25, 1.0])
    assert replay._tree[np.arange(2)].tolist() == [0.25, 1.0]


def test_only_what_is_filled_is_drawn() -> None:
    replay = buffer(size=1000)
    add(replay, 0, 1, 2)
    assert set(replay.sample(300, np.random.default_rng(0), 0.4).rewards.tolist()) == {0, 1, 2}


def test_a_batch_knows_its_rows_in_every_part() -> None:
    replay = buffer(size=10)
    add(replay, *range(10))
    drawn = replay.sample(6, np.random.default_rng(0), 0.4)
    assert drawn.rows is not None
    assert drawn.rows.tolist() == drawn.rewards.tolist()
    parts: list[Batch] = list(drawn.split(4))
    assert [None if part.rows is None else len(part.rows) for part in parts] == [4, 2]
    assert [None if part.weights is None else len(part.weights) for part in parts] == [4, 2]


def test_a_buffer_that_is_loaded_goes_on_in_the_same_way() -> None:
    replay, other = buffer(5), buffer(5)
    add(replay, 0, 1, 2)
    report(replay, [0, 1, 2], [3.0, 0.1, 7.0])
    other.load_state_dict(replay.state_dict())
    for each in (replay, other):
        add(each, 3, 4, 5)
    drawn = [each.sample(50, np.random.default_rng(0), 0.4) for each in (replay, other)]
    for one, two in zip(*drawn, strict=True):
        assert one is two is None or torch.equal(one, two)
