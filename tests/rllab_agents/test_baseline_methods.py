from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from rllab_agents.heuristic import Heuristic

from rllab import experiment, planning
from rllab.agent import Agent
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.testing import check_algorithm


class Parts(gymnasium.Env):
    """Observations and actions of several parts; an episode has three steps."""

    observation_space = spaces.Dict(at=spaces.Discrete(4), noise=spaces.Box(0, 1, (2,)))
    action_space = spaces.Dict(go=spaces.Discrete(2), hard=spaces.Box(0, 1, (1,)))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.look(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.at += 1
        return self.look(), float(action["go"]), self.at == 3, False, {}

    def look(self):
        return {"at": self.at, "noise": self.np_random.random(2, np.float32)}


@pytest.fixture(autouse=True, scope="module")
def environment() -> Iterator[None]:
    gymnasium.register("baseline-test/Parts-v0", Parts)
    yield
    del gymnasium.registry["baseline-test/Parts-v0"]


def agent_for(method: str, environment: str, **options: Any) -> Agent:
    agent, _ = experiment.build(planning.plan(method, environment, {"device": "cpu", **options}))
    assert isinstance(agent, Agent)
    return agent


def test_random_actions_are_as_random_in_an_evaluation() -> None:
    """Of a cart pushed at random, episodes last 22 steps on average; of one always pushed to one side, 9."""
    agent = agent_for("random", "CartPole-v1")
    for deterministic in (True, False):
        measured = agent.evaluate(100, deterministic=deterministic)
        assert 18 < measured["eval/return"] < 27
        assert measured["eval/deterministic"] == float(deterministic)


def test_the_random_actions_of_two_environments_and_of_two_steps_differ() -> None:
    agent = agent_for("random", "Pendulum-v1")
    observations, memory, seen = np.zeros((3, 3), np.float32), None, []
    for _ in range(4):
        actions, memory = agent.act(observations, memory, deterministic=True)
        seen += actions.ravel().tolist()
    assert len(set(seen)) == 12


def test_playing_counts_steps_and_reports_episodes() -> None:
    agent = agent_for("random", "baseline-test/Parts-v0", num_envs=2)
    agent.setup()
    metrics = [agent.step() for _ in range(3)]
    agent.close()
    assert agent.count == 6
    assert metrics[:2] == [{}, {}]
    assert metrics[2]["train/length"] == 3
    assert agent.evaluate(4)["eval/length"] == 3


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
def test_random_keeps_the_contract(environment: str) -> None:
    check_algorithm("random", environment, steps=20, eval_episodes=3, max_episode_steps=20)


def test_a_heuristic_is_asked_about_each_observation() -> None:
    agent = agent_for("heuristic", "Corridor-v0", env_kwarg="length=4")
    assert agent.act(np.array([0, 1, 2]), deterministic=True)[0].tolist() == [1, 1, 1]
    assert agent.evaluate(2)["eval/length"] == 3


def test_the_rule_knows_the_options_of_the_environment() -> None:
    pytest.importorskip("Box2D")
    agent = agent_for("heuristic", "LunarLander-v3", env_kwarg="continuous=true")
    actions, _ = agent.act(np.zeros((1, 8), np.float32), deterministic=True)
    assert actions.shape == (1, 2)
    assert actions.dtype == np.float32


def test_where_there_is_no_heuristic_those_that_have_one_are_named() -> None:
    task = EnvironmentTask.open("CartPole-v1", EnvironmentConfig(), seed=0)
    config = Heuristic.Config.parse({})
    assert Heuristic.refusal(config, task) == "it has no heuristic"
    assert {"Corridor-v0", "GridWorld-v0", "LunarLander-v3"} <= set(Heuristic.alternatives(config))


@pytest.mark.parametrize("environment", ["GridWorld-v0", "Bandit-v0"])
def test_heuristic_keeps_the_contract(environment: str) -> None:
    check_algorithm("heuristic", environment, steps=20, eval_episodes=3)
