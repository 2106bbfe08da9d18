from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rllab_agents.c51 import C51, C51Config

from rllab import experiment, planning
from rllab.errors import UsageError
from rllab.parts.replay import Batch


class Corridor(gymnasium.Env):
    """Five cells in a row; the last one pays 1 and ends the episode."""

    observation_space = spaces.Discrete(5)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(4))
        return self.at, {}

    def step(self, action):
        self.at = max(0, self.at + (1 if action else -1))
        return self.at, float(self.at == 4), self.at == 4, False, {}


@pytest.fixture(autouse=True, scope="module")
def environments() -> Iterator[None]:
    gymnasium.register("c51-test/Corridor-v0", Corridor)
    yield
    del gymnasium.registry["c51-test/Corridor-v0"]


MADE: list[C51] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def agent_for(target: str = "c51-test/Corridor-v0", **options: Any) -> C51:
    """Return an agent that is set up."""
    values = {"preset": "none", "device": "cpu", "timesteps": 100, "learning_starts": 0, "hidden": "8", **options}
    agent, _ = experiment.build(planning.plan("c51", target, values))
    agent.setup()
    assert isinstance(agent, C51)
    MADE.append(agent)
    return agent


def by_hand(**options: Any) -> C51:
    """Return an agent with the atoms 0, 1 and 2, whose networks give the same everywhere.

    p(0) = (1/2, 1/2, 0) with the mean 1/2, p(1) = (0, 1, 0) with 1;
    p_target(0) = (0, 1/2, 1/2) with 3/2, p_target(1) = (1/4, 3/4, 0) with 3/4.
    """
    agent = agent_for(hidden="none", gamma=0.5, batch_size=2, num_atoms=3, v_min=0, v_max=2, **options)
    never = -1e4
    online = [0.0, 0.0, never, never, 0.0, never]
    target = [never, 0.0, 0.0, 0.0, float(np.log(3)), never]
    with torch.no_grad():
        for network, logits in ((agent.q, online), (agent.target, target)):
            network[0].weight.zero_()  # type: ignore[index,union-attr,operator]
            network[0].bias.copy_(torch.tensor(logits))  # type: ignore[index,union-attr,operator]
    return agent


def batch(reward: float = 0.5, terminated: float = 0.0) -> Batch:
    """Return one transition by action 0 twice."""
    zeros = torch.zeros(2, dtype=torch.int64)
    return Batch(zeros, zeros, torch.full((2,), reward), zeros, torch.full((2,), terminated))


def targets(agent: C51, transitions: Batch) -> list[float]:
    with torch.no_grad():
        m = agent.targets(transitions, agent.next_q(transitions))
    assert m.shape == (2, agent.config.num_atoms)
    assert torch.equal(m[0], m[1])
    result: list[float] = m[0].tolist()
    return result


def test_the_target_is_the_projected_distribution_of_the_best_action_of_the_target_network() -> None:
    """Action 0; from 1 and 2 by 0.5 + 0.5 z to 1 and 1.5, half and half: (0, 1/2 + 1/4, 1/4)."""
    assert targets(by_hand(), batch()) == pytest.approx([0, 0.75, 0.25])


def test_with_double_the_online_network_chooses_and_the_target_network_rates() -> None:
    """Action 1: 1/4 at 0 and 3/4 at 1 go to 0.5 and 1."""
    assert targets(by_hand(double=True), batch()) == pytest.approx([0.125, 0.125 + 0.75, 0])


@pytest.mark.parametrize("double", [False, True])
def test_a_terminal_state_leaves_the_reward_alone(double: bool) -> None:
    assert targets(by_hand(double=double), batch(reward=0.75, terminated=1.0)) == pytest.approx([0.25, 0.75, 0])


def test_several_steps_discount_the_atoms_as_often() -> None:
    """gamma^2 = 1/4: from 1 and 2 by 0.5 + z / 4 to 0.75 and 1."""
    changed = batch()._replace(steps=torch.full((2,), 2.0))
    assert targets(by_hand(), changed) == pytest.approx([0.125, 0.375 + 0.5, 0])


def test_actions_are_rated_by_their_expectation() -> None:
    agent = by_hand(final_epsilon=0)
    observations = np.zeros(3, np.int64)
    assert agent.act(observations, deterministic=True)[0].tolist() == [1, 1, 1]
    with torch.no_grad():
        q = agent.distributions(agent.q(agent.inputs(torch.from_numpy(observations)))) @ agent.z
    assert q.tolist() == [[0.5, 1.0]] * 3


@pytest.mark.parametrize("options", [{}, {"dueling": True, "prioritized": True, "n_step": 2, "double": True}])
def test_a_gradient_step_is_the_one_that_autograd_takes(options: dict[str, Any]) -> None:
    agent = agent_for(batch_size=8, optimizer="sgd", max_grad_norm=0, learning_starts=99, num_atoms=7, **options)
    for _ in range(20):
        agent.step()
    if agent.config.prioritized:
        agent.replay.update(agent.replay.sample(8, np.random.default_rng(0), 0.5), torch.arange(8) + 0.5)
    drawn = agent.replay.sample(8, np.random.default_rng(1), 0.5)
    weights = torch.ones(8) if drawn.weights is None else drawn.weights
    with torch.no_grad():
        m = agent.targets(drawn, agent.next_q(drawn))
    logits = agent.q(agent.inputs(drawn.observations)).view(8, 2, 7)[torch.arange(8), drawn.actions]
    expected = (weights * torch.nn.functional.cross_entropy(logits, m, reduction="none")).mean()
    gradients = torch.autograd.grad(expected, list(agent.q.parameters()))
    moved = [p.detach() - 0.1 * g for p, g in zip(agent.q.parameters(), gradients, strict=True)]
    with torch.no_grad():
        torch.testing.assert_close(agent.descend(drawn, m, 0.1), expected.detach())
    for parameter, value in zip(agent.q.parameters(), moved, strict=True):
        torch.testing.assert_close(parameter.detach(), value)


def test_priorities_are_divergences() -> None:
    agent = by_hand(prioritized=True, priority_alpha=1, learning_starts=99)
    agent.step()
    drawn = agent.replay.sample(2, np.random.default_rng(0), 0.4)._replace(actions=torch.zeros(2, dtype=torch.int64))
    with torch.no_grad():
        agent.descend(drawn, torch.tensor([[0.25, 0.75, 0.0]] * 2), 0.0)
    divergence = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    assert agent.replay._tree[np.zeros(1, int)] == pytest.approx(divergence, rel=1e-4)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"v_min": 5, "v_max": 5}, "--v-min 5 is not below --v-max 5"),
        ({"v_min": 20}, "--v-min 20 is not below --v-max 10"),
        ({"num_atoms": 1}, "--num-atoms 1: should be greater than or equal to 2"),
        ({"loss": "huber"}, "there is no option --loss"),
    ],
)
def test_a_configuration_that_cannot_work_is_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        C51Config.parse(values)


@pytest.mark.parametrize("switches", [{}, {"double": True, "dueling": True, "n_step": 2, "prioritized": True}])
def test_it_finds_the_values_of_a_corridor(switches: dict[str, Any]) -> None:
    """As value iteration does: with a discount of 0.9 a cell is worth 0.9 ** (3 - s), one step at a time.

    Several steps follow what was played, which is half random at the least: their values are a little lower.
    """
    agent = agent_for(
        hidden="none",
        timesteps=1200,
        train_every=3,
        gamma=0.9,
        lr=0.2,
        schedule="linear",
        batch_size=32,
        target_every=20,
        exploration_fraction=1.0,
        final_epsilon=0.3,
        max_episode_steps=20,
        num_atoms=21,
        v_min=0,
        v_max=1,
        **switches,
    )
    while agent.count < agent.budget:
        agent.step()
    with torch.no_grad():
        q = (agent.distributions(agent.q(agent.inputs(torch.arange(4)))) @ agent.z).numpy()
    right = np.array([0.729, 0.81, 0.9, 1.0])
    np.testing.assert_allclose(q[:, 1], right, atol=0.25 if switches else 0.08)
    assert agent.act(np.arange(4), deterministic=True)[0].tolist() == [1, 1, 1, 1]
