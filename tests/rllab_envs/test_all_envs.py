import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from rllab_envs.base import Environment

from rllab import envstate, plugins
from rllab.environments import PLUGIN_GROUP, EnvironmentConfig, EnvironmentTask
from rllab.errors import UsageError

NAMES = [
    "Bandit-v0",
    "Catch-v0",
    "Corridor-v0",
    "GridWorld-v0",
    "ProbeAction-v0",
    "ProbeConstant-v0",
    "ProbeDelay-v0",
    "ProbeObservation-v0",
    "ProbeTruncation-v0",
]
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *[(name, {}) for name in NAMES],
    ("Bandit-v0", {"arms": 30, "drift": 0.1, "pulls": 7, "instance": 3}),
    ("Catch-v0", {"drift": 0.5}),
    ("Corridor-v0", {"length": 25, "slip": 0.1}),
    ("GridWorld-v0", {"map": "S.#S/..P./...G", "slip": 0.4}),
    ("ProbeAction-v0", {"contextual": True, "continuous": True}),
    ("ProbeDelay-v0", {"steps": 4, "continuous": True}),
    ("ProbeTruncation-v0", {"limit": 3}),
]
IDS = [f"{name}-{'-'.join(options)}".strip("-") for name, options in OPTIONS]
every = pytest.mark.parametrize(("name", "options"), OPTIONS, ids=IDS)


def open_task(name: str, **options: Any) -> EnvironmentTask:
    return EnvironmentTask.open(name, EnvironmentConfig(env_kwarg=options), seed=0)


def test_these_are_all_there_are():
    assert set(NAMES) <= set(plugins.names(PLUGIN_GROUP))


@every
def test_gymnasium_finds_nothing_wrong(name, options):
    task = open_task(name, **options)
    made: Any = plugins.load(PLUGIN_GROUP, name)
    with warnings.catch_warnings():
        if "continuous" in options and name == "ProbeAction-v0":  # its bounds are not alike on purpose
            warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        check_env(made(**options), skip_render_check=True)
        check_env(gymnasium.make(task.spec).unwrapped)  # each render mode, too


@every
def test_its_state_is_kept_by_itself(name, options):
    assert envstate.choose(open_task(name, **options).make_one, seed=5).name == "own"


@every
def test_a_loaded_state_goes_on_as_if_never_stopped_and_is_not_changed_by_that(name, options):
    task = open_task(name, **options)
    first, second = task.make_one().unwrapped, task.make_one().unwrapped
    assert isinstance(first, Environment)
    assert isinstance(second, Environment)
    first.reset(seed=1)
    first.action_space.seed(2)
    first.step(first.action_space.sample())
    first.reset()
    state = first.state_dict()
    for _ in range(2):  # the state is plain data of its own: it can be loaded again
        first.load_state_dict(state)
        second.load_state_dict(state)
        for _ in range(5):
            action, other = first.action_space.sample(), second.action_space.sample()
            assert envstate.same(action, other)
            answers = first.step(action), second.step(action)
            assert envstate.same(answers[0][0], answers[1][0])
            assert answers[0][1:4] == answers[1][1:4]
            if answers[0][2] or answers[0][3]:
                assert envstate.same(first.reset()[0], second.reset()[0])
    assert second.text() == first.text()


@every
def test_pictures_are_of_one_size_that_films_take_and_follow_what_happens(name, options):
    env = open_task(name, **options).make_one(render_mode="rgb_array")
    env.reset(seed=0)
    before: Any = env.render()
    env.step(env.action_space.sample() if "Corridor" not in name and "Grid" not in name else 1)
    after: Any = env.render()
    assert before.shape == after.shape
    assert before.dtype == np.uint8
    assert all(size % 2 == 0 and size >= 32 for size in before.shape[:2])
    assert (before != after).any()
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 3


@pytest.mark.parametrize("name", NAMES)
def test_rendering_without_a_mode_says_so_and_another_mode_is_refused(name):
    made: Any = plugins.load(PLUGIN_GROUP, name)
    env = made()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
    with pytest.raises(ValueError, match="'ansi' or 'rgb_array'"):
        made(render_mode="human")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Bandit-v0", {"arms": 1}, "arms is a whole number from 2 to 1000, not 1"),
        ("Bandit-v0", {"noise": -1}, "noise is a number of at least 0, not -1"),
        ("Bandit-v0", {"instance": 0.5}, "instance is a whole number of at least 0, not 0.5"),
        ("Bandit-v0", {"pulls": True}, "pulls is a whole number"),
        ("Catch-v0", {"drift": 2}, "drift is a number from 0 to 1, not 2"),
        ("Catch-v0", {"drift": float("nan")}, "drift is a number from 0 to 1, not nan"),
        ("Corridor-v0", {"length": 101}, "length is a whole number from 2 to 100, not 101"),
        ("Corridor-v0", {"slip": "much"}, "slip is a number from 0 to 0.5, not 'much'"),
        ("GridWorld-v0", {"step_reward": "low"}, "step_reward is a number, not 'low'"),
        ("GridWorld-v0", {"map": "no-such"}, "or the name of one: default, russell-norvig, four-rooms"),
        ("GridWorld-v0", {"map": 3}, "map is the name of one"),
        ("ProbeDelay-v0", {"steps": 1}, "steps is a whole number from 2 to 100, not 1"),
        ("ProbeTruncation-v0", {"limit": 1}, "limit is a whole number of at least 2, not 1"),
        ("ProbeAction-v0", {"continuous": 1}, "continuous is true or false, not 1"),
    ],
)
def test_a_wrong_option_is_refused_with_what_would_be_right(name, options, message):
    with pytest.raises(UsageError) as error:
        open_task(name, **options)
    assert message in str(error.value)


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'length'"):
        open_task("Corridor-v0", lenght=4)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("Probe")] + ["ProbeAction-v0"])
def test_a_heuristic_reaches_the_highest_return(name):
    env = open_task(name).make_one()
    rule: Any = env.unwrapped
    best = {"Bandit-v0": rule.__dict__.get("_means", np.zeros(1)).max(), "GridWorld-v0": 1 - 7 * 0.04}
    returns = []
    for episode in range(10):
        observation, _ = env.reset(seed=episode)
        total, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, info = env.step(rule.heuristic(observation))
            total, over = total + info.get("mean", reward), terminated or truncated
        returns.append(total)
    np.testing.assert_allclose(returns, best.get(name, 1.0))


def test_limits_and_native_vectors_of_the_classes_are_known():
    assert open_task("GridWorld-v0").max_episode_steps == 200
    assert open_task("Corridor-v0").max_episode_steps == 200
    assert open_task("Catch-v0").max_episode_steps is None
    assert open_task("Catch-v0").spec.vector_entry_point == "rllab_envs.catch:CatchVector"
    assert open_task("Bandit-v0").spec.vector_entry_point is None
    env = open_task("Corridor-v0", length=3).make_one()
    env.reset(seed=0)
    for step in range(1, 201):
        _, _, terminated, truncated, _ = env.step(0)
        assert (terminated, truncated) == (False, step == 200)


@pytest.mark.parametrize("name", NAMES)
def test_every_episode_ends_by_a_limit_or_by_itself(name):
    task = open_task(name)
    assert (task.max_episode_steps is None) == task.metadata.get("ends_by_itself", False)
    env = task.make_one()
    env.reset(seed=0)
    assert any(terminated or truncated for _, _, terminated, truncated, _ in (env.step(0) for _ in range(200)))


def test_the_registry_of_gymnasium_is_left_alone():
    assert not set(NAMES) & set(gymnasium.registry)
