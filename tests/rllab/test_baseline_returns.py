import sys
import types
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rllab import baselines, plugins
from rllab.baselines import baseline_returns, heuristic_of, random_actions, rows, seeded, with_heuristic
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.errors import PluginError
from rllab.seeding import global_state
from rllab.testing import first_difference


class Coins(gymnasium.Env):
    """Pays 1 for the action that is shown; an episode has `length` steps, 0 for no end."""

    observation_space = spaces.Discrete(4)
    action_space = spaces.Discrete(4)

    def __init__(self, length: int = 5) -> None:
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.shown = 0, int(self.np_random.integers(4))
        return self.shown, {}

    def step(self, action):
        paid, self.at, self.shown = float(action == self.shown), self.at + 1, int(self.np_random.integers(4))
        return self.shown, paid, self.at == self.length, False, {}


class Clever(Coins):
    def heuristic(self, observation):
        return observation


class Global(Coins):
    """Draws from a global generator, as some environments do."""

    def step(self, action):
        np.random.random()
        return super().step(action)


KINDS = (Coins, Clever, Global)


@pytest.fixture(autouse=True, scope="module")
def environments() -> Iterator[None]:
    for kind in KINDS:
        gymnasium.register(f"baselines-test/{kind.__name__}-v0", kind)
    yield
    for kind in KINDS:
        del gymnasium.registry[f"baselines-test/{kind.__name__}-v0"]


def task_of(name: str, **options: Any) -> EnvironmentTask:
    name = f"baselines-test/{name}-v0" if "-" not in name else name
    return EnvironmentTask.open(name, EnvironmentConfig(**options), seed=0)


def returns(
    name: str, seed: int = 0, *, episodes: int = 20, max_steps: int = 10_000, **options: Any
) -> dict[str, float]:
    return baseline_returns(task_of(name, **options), np.random.SeedSequence(seed), episodes, max_steps)


# --- what they reach ----------------------------------------------------------------------------------------


def test_random_actions_and_the_rule_are_measured_by_whole_episodes() -> None:
    """Of four actions one pays: 1.25 of 5 on average, and 5 for who takes it."""
    found = returns("Clever", episodes=200)
    assert found["random"] == pytest.approx(1.25, abs=0.2)
    assert found["heuristic"] == 5
    assert list(returns("Coins")) == ["random"]


def test_the_same_seeds_give_the_same_numbers_and_others_others() -> None:
    seeds, task = np.random.SeedSequence(3, spawn_key=(1,)), task_of("Coins")
    first, second = (baseline_returns(task, seeds, 7) for _ in range(2))
    assert first == second
    assert first != baseline_returns(task, np.random.SeedSequence(3, spawn_key=(2,)), 7)


def test_no_global_generator_moves() -> None:
    before = global_state()
    returns("Global")
    assert first_difference(before, global_state()) is None


def test_no_more_steps_are_taken_than_allowed_and_an_unfinished_episode_does_not_count() -> None:
    assert returns("Clever", env_kwarg={"length": 5}, max_steps=14)["heuristic"] == 5
    assert returns("Clever", env_kwarg={"length": 0}, max_steps=100) == {}


def test_the_limit_of_the_environment_holds() -> None:
    assert returns("Clever", max_episode_steps=3)["heuristic"] == 3


def test_gymnasiums_lander_brings_a_rule() -> None:
    pytest.importorskip("Box2D")
    found = returns("LunarLander-v3", episodes=2)
    assert found["heuristic"] > 0 > found["random"]


# --- where rules are found ----------------------------------------------------------------------------------


def test_a_rule_is_a_method_of_the_environment() -> None:
    rule = heuristic_of(task_of("Clever"))
    assert rule is not None
    assert rule(3) == 3
    assert heuristic_of(task_of("Coins")) is None


def test_a_rule_is_a_function_of_the_environments_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("baselines_test_module")
    exec("def heuristic(env, observation):\n    return env.unwrapped.length + observation", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Coins, "__module__", module.__name__)
    rule = heuristic_of(task_of("Coins"))
    assert rule is not None
    assert rule(2) == 7


def test_a_rule_does_not_know_what_to_make_of_stacked_observations() -> None:
    assert heuristic_of(task_of("Clever", frame_stack=2)) is None


def test_those_that_have_one_are_named_and_a_broken_plugin_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(plugin: Any) -> Any:
        if plugin.name == "Broken-v0":
            raise PluginError("it is broken")
        return Clever if plugin.name == "Clever-v0" else Coins

    found = [
        plugins.Plugin(name, "rllab.envs", "somewhere:Env", "somebody", "1")
        for name in ("Broken-v0", "Clever-v0", "Coins-v0")
    ]
    monkeypatch.setattr(baselines.plugins, "find", lambda group: found)
    monkeypatch.setattr(baselines.plugins, "load", load)
    assert with_heuristic() == ["Clever-v0", "LunarLander-v3", "LunarLanderContinuous-v3"]


# --- actions and observations of any space ------------------------------------------------------------------

SPACES = [
    spaces.Discrete(5, start=-2),
    spaces.Box(-1, 2, (2, 3)),
    spaces.Box(-np.inf, np.inf, (2,)),
    spaces.MultiBinary(4),
    spaces.MultiDiscrete([2, 3]),
    spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(0, 1, (1,))),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_actions_are_drawn_from_any_space_and_follow_from_the_seed(space: Any) -> None:
    first, again, other = (random_actions(seeded(space, np.random.SeedSequence(seed)), 6) for seed in (1, 1, 2))
    assert len(first) == 6
    assert all(space.contains(action) for action in first)
    assert first_difference(list(first), list(again)) is None
    assert first_difference(list(first), list(other)) is not None


def test_a_batch_of_observations_becomes_one_for_each_environment() -> None:
    batch = {"a": np.array([1, 2]), "b": (np.array([[3], [4]]), np.array([5, 6]))}
    assert rows(batch) == [{"a": 1, "b": ([3], 5)}, {"a": 2, "b": ([4], 6)}]
    assert [row.tolist() for row in rows(np.arange(6).reshape(2, 3))] == [[0, 1, 2], [3, 4, 5]]
