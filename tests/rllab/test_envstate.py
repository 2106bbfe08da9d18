import itertools
import os
import sys
from collections import deque
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import WrapperSpec

from rllab import checkpoint, envstate, plugins
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.vectorenv import VectorEnv


class Walk(gymnasium.Env):
    """A random walk that ends when it leaves -3...3; the base of the toys below."""

    observation_space = spaces.Box(-10, 10, (1,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.begin()
        return self.look(), {}

    def step(self, action):
        self.move((2 * action - 1) * self.np_random.random())
        at = float(self.look()[0])
        return self.look(), at, abs(at) > 3, False, {}

    def begin(self):
        self.at = 0.0

    def move(self, by):
        self.at += by

    def look(self):
        return np.array([self.at])


class Keeper(Walk):
    """Keeps its own state, and hides it from everyone else."""

    def __init__(self):
        store: dict[str, Any] = {}
        self.begin = lambda: store.update(at=0.0)
        self.move = lambda by: store.update(at=store["at"] + by)
        self.look = lambda: np.array([store["at"]])
        self.state_dict = lambda: {"at": store["at"], "generator": self.np_random}
        self.load_state_dict = self._load
        self._store = lambda: store

    def _load(self, state):
        self._store().update(at=state["at"])
        self.np_random.bit_generator.state = state["generator"].bit_generator.state


class Secretive(Walk):
    """Has its state in a closure."""

    def __init__(self):
        at = 0.0

        def begin():
            nonlocal at
            at = 0.0

        def move(by):
            nonlocal at
            at += by

        self.begin, self.move, self.look = begin, move, lambda: np.array([at])


class Unseedable(Secretive):
    """Draws from the operating system."""

    def step(self, action):
        self.move(os.urandom(1)[0] / 100)
        return super().step(action)


class Crowded(Walk):
    """Lists, deques, sets, dicts, plain objects, two names for one array, a view, a circle of references."""

    START = np.zeros(2)

    class Walker:
        def __init__(self, by):
            self.by = by

    def begin(self):
        self.cells = self.START  # shared with the class: must not be written to
        self.cells = self.cells + np.array([0.0, 1.0])
        self.alias = {"cells": self.cells}
        self.view = self.cells[:1]
        self.trail = deque([0.0], maxlen=3)
        self.walkers = []
        self.seen = {0}
        self.pair = (self.walkers, [1, (2, 3)])
        self.name = np.array(["left", "right"])
        self.me = self

    def move(self, by):
        self.walkers.append(self.Walker(by))
        self.view[0] += self.pair[0][-1].by + 0.01 * len(self.trail) * self.trail[0]
        self.trail.append(by)
        self.seen.add(int(10 * by))

    def look(self):
        return self.me.alias["cells"][:1] + 0.001 * len(self.seen)


class Global(Walk):
    """Draws from NumPy's global generator, whose state is in every checkpoint."""

    def move(self, by):
        self.at += by * np.random.random()


NORMALISED = (
    WrapperSpec("S", "gymnasium.wrappers:FrameStackObservation", {"stack_size": 3, "padding_type": "reset"}),
    WrapperSpec("N", "gymnasium.wrappers:NormalizeObservation", {"epsilon": 1e-8}),
    WrapperSpec("R", "gymnasium.wrappers:NormalizeReward", {"gamma": 0.9, "epsilon": 1e-8}),
)
KNOWN = [
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "Pendulum-v1",
    "FrozenLake-v1",
    "Taxi",
    "Blackjack-v1",
    "CliffWalking",
]
TOYS = {
    "Walk-v0": "attributes",
    "Crowded-v0": "attributes",
    "Global-v0": "attributes",
    "Keeper-v0": "own",
    "Secretive-v0": "replay",
    "Unseedable-v0": "restart",
    "Normalised-v0": "attributes",
}


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    monkeypatch.setattr(plugins, "names", lambda groups: [])
    before = dict(gymnasium.registry)
    for toy in (Walk, Crowded, Global, Keeper, Secretive, Unseedable):
        gymnasium.register(f"{toy.__name__}-v0", toy, max_episode_steps=30)
    cart_pole = "gymnasium.envs.classic_control:CartPoleEnv"
    gymnasium.register("Normalised-v0", cart_pole, max_episode_steps=30, additional_wrappers=NORMALISED)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def make(name: str, num_envs: int = 2) -> VectorEnv:
    task = EnvironmentTask.open(name, EnvironmentConfig(max_episode_steps=60), seed=0)
    return task.make(num_envs, np.random.SeedSequence(7))


def through_a_file(state: Any, tmp_path: Any) -> Any:
    checkpoint.save(tmp_path / "step-1", weights={}, state=state, note={})
    return checkpoint.load_state(tmp_path / "step-1")


def play(envs: VectorEnv, steps: int, seed: int) -> list[Any]:
    space, answers = envs.action_space, []
    space.seed(seed)
    for _ in range(steps):
        actions = np.stack([space.sample() for _ in range(envs.num_envs)])
        answers.append(tuple(envs.step(actions)))
    return answers


@pytest.mark.parametrize("name", [*KNOWN, *[name for name, way in TOYS.items() if way != "restart"]])
def test_a_state_goes_through_a_checkpoint_and_on_as_if_never_stopped(name, tmp_path):
    np.random.seed(0)
    envs = make(name)
    envs.reset()
    assert envs.strategy is not None
    assert envs.strategy.name == TOYS.get(name, "attributes")
    play(envs, 37, seed=1)
    state = through_a_file(envs.state_dict(), tmp_path)
    globals_then = np.random.get_state()
    expected = play(envs, 250, seed=2)

    resumed = make(name)
    resumed.load_state_dict(state)
    assert resumed.restarted == 0
    np.random.set_state(globals_then)
    assert envstate.same(play(resumed, 250, seed=2), expected)
    assert sum(len(answer[-1]) for answer in expected) > 0


def left_and_resumed(name):
    """Return environments after a few steps, and others that were given their state."""
    envs, resumed = make(name), make(name)
    envs.reset()
    play(envs, 4, seed=1)
    resumed.load_state_dict(envs.state_dict())
    return envs, resumed


def test_what_cannot_be_kept_begins_again_and_says_so():
    envs, resumed = left_and_resumed("Unseedable-v0")
    assert envs.strategy is not None
    assert envs.strategy.name == "restart"
    assert resumed.restarted == 2
    assert resumed.starts.tolist() == [True, True]
    assert resumed.observations.tolist() == [[0.0], [0.0]]


def test_a_restarted_episode_is_not_the_first_one_again():
    _, resumed = left_and_resumed("Unseedable-v0")
    firsts = [env.unwrapped.np_random.random() for env in resumed._envs]
    again = make("Unseedable-v0")
    again.reset()
    assert set(firsts).isdisjoint(env.unwrapped.np_random.random() for env in again._envs)


def test_a_replay_that_ends_elsewhere_is_not_taken():
    envs = make("Secretive-v0")
    envs.reset()
    play(envs, 3, seed=1)
    state = envs.state_dict()
    before = state["environments"][1]["record"]["nodes"]
    arrays = [node for node in before if "array" in node and node["array"].dtype == np.float64]
    arrays[-1]["array"] += 1e-12
    resumed = make("Secretive-v0")
    resumed.load_state_dict(state)
    assert resumed.restarted == 1


def test_running_returns_and_lengths_of_the_episode_are_kept():
    envs, resumed = left_and_resumed("Walk-v0")
    assert resumed._returns == envs._returns
    assert resumed._lengths == envs._lengths
    np.testing.assert_array_equal(resumed.observations, envs.observations)


def test_a_snapshot_shares_nothing_with_the_environment():
    envs = make("Crowded-v0", 1)
    envs.reset()
    play(envs, 2, seed=1)
    first = envs.state_dict()
    copied = repr(first)
    play(envs, 20, seed=2)
    assert repr(first) == copied


def test_taking_a_state_disturbs_nothing():
    one, other = make("Crowded-v0"), make("Crowded-v0")
    one.reset()
    other.reset()
    for k in range(4):
        one.state_dict()
        assert envstate.same(play(one, 9, seed=k), play(other, 9, seed=k))


@pytest.mark.parametrize("name", ["Crowded-v0", "Global-v0", "Secretive-v0"])
def test_the_choice_moves_no_global_generator_and_no_constant_of_the_class(name):
    before = np.random.get_state()[1].copy()
    task = EnvironmentTask.open(name, EnvironmentConfig(), seed=0)
    envstate.choose(task.make_one, 0)
    assert np.array_equal(before, np.random.get_state()[1])
    assert Crowded.START.tolist() == [0.0, 0.0]


def test_a_generator_that_copies_share_is_put_back():
    shared = np.random.default_rng(5)

    class Sharing(Walk):
        def __init__(self):
            self.shared = shared

        def move(self, by):
            self.at += by * self.shared.random()

    before = shared.bit_generator.state
    assert envstate.choose(Sharing, 0).name == "attributes"
    assert shared.bit_generator.state == before


def test_an_environment_that_raises_in_the_trial_is_left_for_the_training_to_report():
    class Broken(Walk):
        def step(self, action):
            raise OSError("broken")

    assert envstate.choose(Broken, 0).name == "restart"


def test_an_environment_that_ends_the_program_in_the_trial_is_left_for_the_training_to_report():
    class Quitting(Walk):
        def step(self, action):
            sys.exit(0)

    assert envstate.choose(Quitting, 0).name == "restart"


def test_the_choice_is_the_same_on_a_slow_machine(monkeypatch):
    """What the attributes lack shows after 100 steps only, which would be late if the trial were timed."""

    class Late(Walk):
        def __init__(self):
            hidden = 0.0

            def move(by):
                nonlocal hidden
                hidden += abs(by) / 1000
                self.steps += 1
                self.at = hidden if self.steps > 100 else 0.0

            def forget():
                nonlocal hidden
                hidden = 0.0

            self.move, self.forget = move, forget

        def begin(self):
            self.forget()
            self.steps, self.at = 0, 0.0

    quick = envstate.choose(Late, 0).name
    clock = itertools.count(0, 0.02)  # each look at it costs 20 ms
    monkeypatch.setattr(envstate.time, "monotonic", lambda: next(clock))
    assert envstate.choose(Late, 0).name == quick == "replay"


def test_a_trial_that_is_cut_short_proves_nothing_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(envstate, "TRIAL_SECONDS", 0.0)
    assert envstate.choose(Walk, 0).name == "restart"
    assert "too slow to prove" in caplog.text
