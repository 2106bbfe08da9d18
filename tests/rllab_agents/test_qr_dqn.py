from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rllab_agents.qr_dqn import QRDQN, QRDQNConfig

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
    gymnasium.register("qr-test/Corridor-v0", Corridor)
    yield
    del gymnasium.registry["qr-test/Corridor-v0"]


MADE: list[QRDQN] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def agent_for(target: str = "qr-test/Corridor-v0", **options: Any) -> QRDQN:
    """Return an agent that is set up."""
    values = {"preset": "none", "device": "cpu", "timesteps": 100, "learning_starts": 0, "hidden": "8", **options}
    agent, _ = experiment.build(planning.plan("qr-dqn", target, values))
    agent.setup()
    assert isinstance(agent, QRDQN)
    MADE.append(agent)
    return agent


def by_hand(**options: Any) -> QRDQN:
    """Return an agent with two quantiles, whose networks give the same everywhere.

    theta(0) = (1, 3) with the mean 2, theta(1) = (0, 6) with 3;
    theta_target(0) = (2, 8) with 5, theta_target(1) = (4, 4) with 4.
    """
    agent = agent_for(hidden="none", gamma=0.5, batch_size=2, num_quantiles=2, **options)
    with torch.no_grad():
        for network, theta in ((agent.q, [1.0, 3.0, 0.0, 6.0]), (agent.target, [2.0, 8.0, 4.0, 4.0])):
            network[0].weight.zero_()  # type: ignore[index,union-attr,operator]
            network[0].bias.copy_(torch.tensor(theta))  # type: ignore[index,union-attr,operator]
    return agent


def batch(reward: float = 0.5, terminated: float = 0.0) -> Batch:
    """Return one transition by action 0 twice."""
    zeros = torch.zeros(2, dtype=torch.int64)
    return Batch(zeros, zeros, torch.full((2,), reward), zeros, torch.full((2,), terminated))


def targets(agent: QRDQN, transitions: Batch) -> list[float]:
    with torch.no_grad():
        y = agent.targets(transitions, agent.next_q(transitions))
    assert y.shape == (2, agent.config.num_quantiles)
    assert torch.equal(y[0], y[1])
    result: list[float] = y[0].tolist()
    return result


def test_the_target_has_the_quantiles_of_the_best_action_of_the_target_network() -> None:
    assert targets(by_hand(), batch()) == [0.5 + 1, 0.5 + 4]


def test_with_double_the_online_network_chooses_and_the_target_network_rates() -> None:
    assert targets(by_hand(double=True), batch()) == [0.5 + 2, 0.5 + 2]


@pytest.mark.parametrize("double", [False, True])
def test_a_terminal_state_leaves_the_reward_alone(double: bool) -> None:
    assert targets(by_hand(double=double), batch(terminated=1.0)) == [0.5, 0.5]


def test_several_steps_discount_the_quantiles_as_often() -> None:
    assert targets(by_hand(), batch()._replace(steps=torch.full((2,), 2.0))) == [0.5 + 0.5, 0.5 + 2]


def test_the_loss_by_hand() -> None:
    """theta = (1, 3), y = (1.5, 4.5), tau = (1/4, 3/4).

    u = 0.5 and 3.5 for the first: 1/4 (0.125 + 3) / 2; u = -1.5 and 1.5 for the second: (1/4 + 3/4) 1 / 2.
    """
    agent = by_hand()
    with torch.no_grad():
        loss = agent.descend(batch(), agent.targets(batch(), agent.next_q(batch())), 0.0)
    assert loss.item() == pytest.approx(3.125 / 8 + 0.5)


def test_actions_are_rated_by_their_mean() -> None:
    assert by_hand().act(np.zeros(3, np.int64), deterministic=True)[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("options", [{}, {"dueling": True, "prioritized": True, "n_step": 2, "double": True}])
def test_a_gradient_step_is_the_one_that_autograd_takes(options: dict[str, Any]) -> None:
    agent = agent_for(batch_size=8, optimizer="sgd", max_grad_norm=0, learning_starts=99, num_quantiles=7, **options)
    for _ in range(20):
        agent.step()
    if agent.config.prioritized:
        agent.replay.update(agent.replay.sample(8, np.random.default_rng(0), 0.5), torch.arange(8) + 0.5)
    drawn = agent.replay.sample(8, np.random.default_rng(1), 0.5)
    weights = torch.ones(8) if drawn.weights is None else drawn.weights
    with torch.no_grad():
        y = agent.targets(drawn, agent.next_q(drawn))
    theta = agent.q(agent.inputs(drawn.observations)).view(8, 2, 7)[torch.arange(8), drawn.actions]
    u = y[:, None, :] - theta[:, :, None]
    huber = torch.nn.functional.huber_loss(u, torch.zeros_like(u), reduction="none")
    losses = ((agent.tau[:, None] - (u < 0).float()).abs() * huber).mean(2).sum(1)
    expected = (weights * losses).mean()
    gradients = torch.autograd.grad(expected, list(agent.q.parameters()))
    moved = [p.detach() - 0.1 * g for p, g in zip(agent.q.parameters(), gradients, strict=True)]
    with torch.no_grad():
        torch.testing.assert_close(agent.descend(drawn, y, 0.1), expected.detach())
    for parameter, value in zip(agent.q.parameters(), moved, strict=True):
        torch.testing.assert_close(parameter.detach(), value)
    if agent.config.prioritized:
        assert drawn.rows is not None
        found = agent.replay._tree[drawn.rows.numpy()]  # type: ignore[union-attr]
        np.testing.assert_allclose(found, (losses.detach().numpy() + 1e-6) ** 0.6, rtol=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_quantiles": 0}, "--num-quantiles 0: should be greater than 0"),
        ({"loss": "huber"}, "there is no option --loss"),
    ],
)
def test_a_configuration_that_cannot_work_is_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        QRDQNConfig.parse(values)


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
        num_quantiles=5,
        **switches,
    )
    while agent.count < agent.budget:
        agent.step()
    with torch.no_grad():
        q = agent.quantiles(agent.q(agent.inputs(torch.arange(4)))).mean(2).numpy()
    right = np.array([0.729, 0.81, 0.9, 1.0])
    np.testing.assert_allclose(q[:, 1], right, atol=0.25 if switches else 0.08)
    assert agent.act(np.arange(4), deterministic=True)[0].tolist() == [1, 1, 1, 1]
