from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeLimit
from rllab_envs.catch import Catch, CatchVector
from rllab_envs.corridor import Corridor, CorridorVector
from rllab_envs.gridworld import GridWorld, GridWorldVector

from rllab.environments import EnvironmentConfig, EnvironmentTask

CASES: list[tuple[Any, Any, dict[str, Any], int | None]] = [
    (Catch, CatchVector, {}, None),
    (Catch, CatchVector, {"drift": 0.4}, 7),
    (Corridor, CorridorVector, {"length": 4}, 6),
    (Corridor, CorridorVector, {"length": 5, "slip": 0.3}, None),
    (GridWorld, GridWorldVector, {"slip": 0.3}, 20),
    (GridWorld, GridWorldVector, {"map": "S.S/.P./S.G"}, 9),
    (GridWorld, GridWorldVector, {"map": "S#S/.../S.G", "slip": 0.5}, None),
]
cases = pytest.mark.parametrize(("single", "native", "options", "limit"), CASES)


def limited(env: gymnasium.Env[Any, Any], limit: int | None) -> gymnasium.Env[Any, Any]:
    return env if limit is None else TimeLimit(env, limit)


@cases
def test_a_vector_of_one_does_the_same_as_the_single_environment_with_the_same_seed(single, native, options, limit):
    env, envs = limited(single(**options), limit), native(1, limit, **options)
    np.testing.assert_array_equal(envs.reset(seed=4)[0][0], env.reset(seed=4)[0])
    rng, ends = np.random.default_rng(1), 0
    for _ in range(400):
        action = int(rng.integers(env.action_space.n))
        observation, reward, terminated, truncated, _ = env.step(action)
        observations, rewards, *flags, infos = envs.step(np.array([action]))
        assert (rewards[0], flags[0][0], flags[1][0]) == (reward, terminated, truncated)
        if terminated or truncated:
            ends += 1
            np.testing.assert_array_equal(infos["final_obs"][0], observation)
            assert infos["_final_obs"].tolist() == [True]
            observation, _ = env.reset()
        else:
            assert infos == {}
        np.testing.assert_array_equal(observations[0], observation)
        assert observations.dtype == envs.observation_space.dtype == env.observation_space.dtype
        assert observations in envs.observation_space
    assert ends > 5


class Drawn:
    """A generator that notes what it draws."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.draws: list[np.ndarray] = []

    def random(self, size: Any) -> np.ndarray:
        self.draws.append(self.rng.random(size))
        return self.draws[-1]


class Given:
    """A generator that draws what it is given."""

    def __init__(self) -> None:
        self.numbers: list[float] = []

    def random(self) -> float:
        return self.numbers.pop(0)


@cases
def test_each_row_does_what_a_single_environment_does_with_the_same_draws(single, native, options, limit):
    n = 7
    envs, drawn = native(n, limit, **options), Drawn(0)
    singles = [limited(single(**options), limit) for _ in range(n)]
    givens = [Given() for _ in range(n)]
    envs.np_random = drawn
    for env, given in zip(singles, givens, strict=True):
        env.unwrapped.np_random = given

    def hand_out(rows: Any, numbers: np.ndarray) -> None:
        for row, some in zip(rows, numbers, strict=True):
            givens[row].numbers += np.atleast_1d(some).tolist()

    observations, _ = envs.reset()
    begins_by_lot = bool(drawn.draws)
    if begins_by_lot:
        hand_out(range(n), drawn.draws.pop())
    for i, env in enumerate(singles):
        np.testing.assert_array_equal(env.reset()[0], observations[i])
    rng = np.random.default_rng(2)
    for _ in range(120):
        actions = rng.integers(singles[0].action_space.n, size=n)
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        ended = np.flatnonzero(terminated | truncated)
        for numbers in drawn.draws:  # one for each row to move, then some for each row that begins again
            hand_out(ended if numbers is drawn.draws[-1] and begins_by_lot and len(ended) else range(n), numbers)
        drawn.draws.clear()
        for i, env in enumerate(singles):
            observation, *rest = env.step(int(actions[i]))
            assert rest[:3] == [rewards[i], terminated[i], truncated[i]]
            if i in ended:
                np.testing.assert_array_equal(infos["final_obs"][i], observation)
                observation, _ = env.reset()
            np.testing.assert_array_equal(observations[i], observation)
            assert givens[i].numbers == []
        if len(ended):
            assert np.flatnonzero(infos["_final_obs"]).tolist() == ended.tolist()


@cases
def test_a_loaded_state_goes_on_as_if_never_stopped(single, native, options, limit):
    envs, twin = native(3, limit, **options), native(3, limit, **options)
    envs.reset(seed=0)
    envs.action_space.seed(1)
    for _ in range(5):
        envs.step(envs.action_space.sample())
    state = envs.state_dict()
    for _ in range(2):
        envs.load_state_dict(state)
        twin.load_state_dict(state)
        for _ in range(30):
            actions = envs.action_space.sample()
            np.testing.assert_array_equal(actions, twin.action_space.sample())
            for mine, other in zip(envs.step(actions)[:4], twin.step(actions)[:4], strict=True):
                np.testing.assert_array_equal(mine, other)
    with pytest.raises(ValueError, match="of 3 environments, not of 2"):
        native(2, limit, **options).load_state_dict(state)


@cases
def test_nothing_handed_out_is_written_to_later(single, native, options, limit):
    envs = native(4, limit, **options)
    kept = [envs.reset(seed=0)[0]]
    copies = [kept[0].copy()]
    for _ in range(40):
        observations, rewards, terminated, truncated, infos = envs.step(np.zeros(4, np.int64))
        kept += [observations, rewards, terminated, truncated, *infos.values()]
        copies += [array.copy() for array in kept[len(copies) :]]
    for array, before in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("name", ["Catch-v0", "Corridor-v0", "GridWorld-v0"])
def test_gymnasium_makes_them_of_the_spec_with_its_limit(name):
    spec = EnvironmentTask.open(name, EnvironmentConfig(), seed=0).spec
    envs: Any = gymnasium.make_vec(spec, num_envs=3, render_mode="ansi")
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.max_episode_steps == spec.max_episode_steps
    assert envs.single_observation_space == gymnasium.make(spec).observation_space
    envs.reset(seed=0)
    frames = envs.render()
    assert [type(frame) for frame in frames] == [str] * 3
    envs.close()


def test_each_environment_of_a_vector_is_drawn_as_it_is():
    envs = CorridorVector(3, length=4, render_mode="ansi")
    envs.reset(seed=0)
    envs.step(np.array([1, 0, 1]))
    envs.step(np.array([1, 0, 0]))
    assert envs.render() == ("..@G  right", "@..G  left", "@..G  left")
    games = CatchVector(2, render_mode="rgb_array")
    games.reset(seed=1)
    assert (games.render()[0] != games.render()[1]).any()


def test_mistakes_are_said():
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        CatchVector(2).step(np.zeros(2, int))
    envs = CatchVector(2)
    envs.reset(seed=0)
    for wrong in ([0, 3], [-1, 0], [0], [0, 0, 0]):
        with pytest.raises(ValueError, match="expected 2 actions from 0 to 2"):
            envs.step(np.array(wrong))
    with pytest.raises(ValueError, match="num_envs is a whole number of at least 1, not 0"):
        CatchVector(0)
    with pytest.raises(ValueError, match="max_episode_steps"):
        CorridorVector(2, 0)
