import gymnasium
import numpy as np
import pytest
from rllab_envs.catch import Catch, CatchVector


def at(column: int, basket: int, drift: float = 0.0, row: int = 0) -> Catch:
    env = Catch(drift)
    env.reset(seed=0)
    env.row, env.column, env.basket = row, column, basket
    return env


def test_the_pixels_are_a_fruit_and_a_basket_three_wide():
    env = Catch()
    seen = set()
    for seed in range(300):
        pixels, _ = env.reset(seed=seed)
        assert (pixels.shape, pixels.dtype) == ((10, 10), np.float32)
        assert (pixels.sum(), pixels[0].sum(), pixels[9].sum()) == (4, 1, 3)
        middle = int(pixels[9].argmax()) + 1
        np.testing.assert_array_equal(np.flatnonzero(pixels[9]), [middle - 1, middle, middle + 1])
        seen.add((int(pixels[0].argmax()), middle))
    assert {column for column, _ in seen} == set(range(9))
    assert {middle for _, middle in seen} == set(range(1, 9))


def test_the_fruit_falls_a_row_a_step_and_the_ninth_step_alone_is_paid():
    env = at(column=4, basket=5)
    for step in range(1, 10):
        pixels, reward, terminated, truncated, _ = env.step(1)
        assert pixels[step, 4] == 1
        assert (reward, terminated, truncated) == (float(step == 9), step == 9, False)
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.step(1)


@pytest.mark.parametrize(("column", "reward"), [(2, -1.0), (3, 1.0), (4, 1.0), (5, 1.0), (6, -1.0)])
def test_a_fruit_is_caught_by_any_of_the_three_pixels(column, reward):
    assert at(column, basket=4, row=8).step(1)[1:3] == (reward, True)


def test_the_last_move_counts_and_walls_stop_the_basket():
    assert at(column=2, basket=4, row=8).step(0)[1] == 1.0
    env = at(column=0, basket=2)
    assert [env.step(0) and env.basket for _ in range(3)] == [1, 1, 1]
    env = at(column=0, basket=7)
    assert [env.step(2) and env.basket for _ in range(3)] == [8, 8, 8]


def test_random_actions_catch_as_many_as_the_docstring_says():
    basket = np.full(10, 1 / 8)
    basket[[0, 9]] = 0
    for _ in range(9):
        moved = np.zeros(10)
        for middle in range(1, 9):
            for to in (max(middle - 1, 1), middle, min(middle + 1, 8)):
                moved[to] += basket[middle] / 3
        basket = moved
    exact = np.mean([basket[max(fruit - 1, 0) : fruit + 2].sum() for fruit in range(9)])
    assert f"{exact:.1%}" == "31.9%"
    assert f"{2 * exact - 1:.2f}" == "-0.36"

    envs = CatchVector(256)
    envs.reset(seed=0)
    rng, caught = np.random.default_rng(0), []
    for step in range(1, 9 * 40 + 1):
        _, rewards, terminated, _, _ = envs.step(rng.integers(3, size=256))
        assert terminated.all() == (step % 9 == 0)
        caught += (rewards[terminated] == 1).tolist()
    assert len(caught) == 256 * 40
    assert abs(np.mean(caught) - exact) < 0.02


def test_the_heuristic_catches_every_fruit_whatever_way_it_drifts():
    places = {(column, basket) for column in range(9) for basket in range(1, 9)}
    for row in range(9):
        after = set()
        for column, basket in places:
            action = Catch().heuristic(at(column, basket, row=row)._pixels())
            moved = min(max(basket + action - 1, 1), 8)
            after |= {(min(max(column + aside, 0), 9), moved) for aside in (-1, 0, 1)}
        places = after
    assert all(abs(column - basket) <= 1 for column, basket in places)


def test_drift_is_as_frequent_as_asked_for_and_to_both_sides_alike():
    env = Catch(drift=0.6)
    env.reset(seed=0)
    asides = []
    for _ in range(3000):
        env.row, env.column = 0, 5
        env.step(1)
        asides.append(env.column - 5)
    for aside, share in ((-1, 0.3), (0, 0.4), (1, 0.3)):
        assert abs(asides.count(aside) / 3000 - share) < 0.04
    for column, allowed in ((0, {0, 1}), (9, {8, 9})):
        ends = set()
        for _ in range(50):
            env.row, env.column = 0, column
            env.step(1)
            ends.add(env.column)
        assert ends == allowed


def test_the_text_shows_fruit_and_basket():
    env = at(column=2, basket=5)
    lines = env.text().splitlines()
    assert (lines[0], lines[9]) == ("..o.......", "....===...")
    env = at(column=5, basket=5, row=8)
    env.step(1)
    assert env.text().splitlines()[9] == "....=@=..."
