from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rllab_agents.cem import CEM, Policies

from rllab import experiment, planning
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.errors import UsageError
from rllab.testing import check_algorithm


class Lever(gymnasium.Env):
    """Pays how far up it is pulled, between its bounds; an episode has `length` steps."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Box(np.array([-1, 2], np.float32), np.array([3, 4], np.float32))

    def __init__(self, length: int = 1) -> None:
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.at += 1
        return np.ones(1, np.float32), float(action[0]), self.at == self.length, False, {}


class Picture(Lever):
    """A lever in front of a white wall."""

    observation_space = spaces.Box(0, 255, (40, 40, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full((40, 40, 3), 255, np.uint8), {}

    def step(self, action):
        return np.full((40, 40, 3), 255, np.uint8), *super().step(action)[1:]


@pytest.fixture(autouse=True, scope="module")
def lever() -> Iterator[None]:
    gymnasium.register("cem-test/Lever-v0", Lever)
    gymnasium.register("cem-test/Picture-v0", Picture)
    yield
    del gymnasium.registry["cem-test/Lever-v0"], gymnasium.registry["cem-test/Picture-v0"]


MADE: list[CEM] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def agent_for(environment: str = "cem-test/Lever-v0", **options: Any) -> CEM:
    agent, _ = experiment.build(planning.plan("cem", environment, {"preset": "none", "device": "cpu", **options}))
    agent.setup()
    assert isinstance(agent, CEM)
    MADE.append(agent)
    return agent


# --- one generation -----------------------------------------------------------------------------------------


def test_the_next_generation_is_drawn_around_the_best_of_this_one() -> None:
    """The reward rises with weight + bias of the first output, so the 3 of 10 with the highest sum are the elite."""
    agent = agent_for(population=10, elite=0.3, noise=0.5, initial_std=2, noise_fraction=1, timesteps=100)
    drawn = 2 * np.random.default_rng(agent.streams.sequence("exploration")).standard_normal((10, 4))
    best = drawn[np.argsort(-(drawn[:, 0] + drawn[:, 2]))[:3]]
    metrics = agent.step()
    assert agent.count == 10
    np.testing.assert_allclose(agent.policies.mean.numpy(), best.mean(0))
    np.testing.assert_allclose(agent.policies.std.numpy(), np.sqrt(best.var(0) + 0.5 * 0.9))  # a tenth is over
    assert float(metrics["train/elite_return"]) > float(metrics["train/return"])


@pytest.mark.parametrize(("count", "noise"), [(0, 0.8), (25, 0.4), (50, 0.0), (100, 0.0)])
def test_the_noise_at_start_middle_and_end(count: int, noise: float) -> None:
    agent = agent_for(timesteps=100, noise=0.8, noise_fraction=0.5)
    agent.count = count
    assert agent.noise == pytest.approx(noise)


def test_every_policy_plays_the_same_number_of_whole_episodes() -> None:
    agent = agent_for(population=7, episodes=3, env_kwarg="length=5", timesteps=1000)
    metrics = agent.step()
    assert agent.count == 7 * 3 * 5
    assert metrics["train/length"] == 5
    assert agent.envs.starts.all()


def test_it_learns_to_pull_the_lever_up() -> None:
    agent = agent_for(timesteps=2000)
    while agent.count < agent.budget:
        agent.step()
    assert float(agent.evaluate(1)["eval/return"]) > 2.9


# --- the policies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hidden", "activation"), [((), "tanh"), ((5,), "tanh"), ((4, 3), "relu")])
def test_each_policy_is_the_network_of_its_own_parameters(hidden: tuple[int, ...], activation: str) -> None:
    sizes = [3, *hidden, 2]
    policies = Policies(sizes, activation, 1.0)
    rng = np.random.default_rng(0)
    theta, inputs = rng.normal(size=(6, policies.size)), rng.normal(size=(6, 3))
    found = policies.outputs(theta, inputs)
    for row in range(6):
        layers: list[Any] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [
                torch.nn.Linear(fan_in, fan_out, dtype=torch.float64),
                torch.nn.Tanh() if activation == "tanh" else torch.nn.ReLU(),
            ]
        network = torch.nn.Sequential(*layers[:-1])
        torch.nn.utils.vector_to_parameters(torch.from_numpy(theta[row]), network.parameters())
        np.testing.assert_allclose(found[row], network(torch.from_numpy(inputs[row])).detach().numpy(), atol=1e-12)


def test_actions_of_a_box_lie_between_its_bounds() -> None:
    """No output is the middle, and a large one the bound: of [-1, 3] and of [2, 4]."""
    agent = agent_for()
    observations, theta = np.ones((3, 1), np.float32), np.zeros((3, 4))
    theta[1], theta[2] = 50, -50
    assert agent.actions(theta, observations).tolist() == [[1, 3], [3, 4], [-1, 2]]


def test_a_sampled_policy_stays_the_same_for_an_episode() -> None:
    agent = agent_for()
    observations = np.ones((2, 1), np.float32)
    first, memory = agent.act(observations, None, np.array([True, True]), deterministic=False)
    second, memory = agent.act(observations, memory, np.array([False, True]), deterministic=False)
    assert (first[0] == second[0]).all()
    assert (first[1] != second[1]).all()


def test_images_are_flattened() -> None:
    agent = agent_for("cem-test/Picture-v0", population=4, elite=0.5)
    assert agent.policies.sizes == [40 * 40 * 3, 2]
    assert np.isfinite(float(agent.step()["train/return"]))


# --- where it fits ------------------------------------------------------------------------------------------


def test_actions_without_bounds_are_refused() -> None:
    task = EnvironmentTask.open("cem-test/Lever-v0", EnvironmentConfig(), seed=0)
    config = CEM.Config.parse({})
    assert CEM.refusal(config, task) is None
    task.action_space = spaces.Box(-np.inf, np.inf, (2,))
    assert str(CEM.refusal(config, task)).startswith("it takes Box actions with finite bounds, not Box(-inf")
    task.action_space = spaces.MultiBinary(3)
    assert CEM.refusal(config, task) == "it takes Discrete and Box actions, not MultiBinary(3)"


def test_an_elite_of_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--elite 0.01 of --population 20 is 0 policies: it has to be at least 0.05"):
        CEM.Config.parse({"population": 20, "elite": 0.01})


@pytest.mark.parametrize(("environment", "options"), [("CartPole-v1", {}), ("Pendulum-v1", {"hidden": "4"})])
def test_it_keeps_the_contract(environment: str, options: dict[str, Any]) -> None:
    check_algorithm(
        "cem", environment, steps=2, population=4, eval_episodes=2, max_episode_steps=30, elite=0.5, **options
    )
