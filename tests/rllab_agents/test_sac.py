import math
from collections.abc import Iterator
from typing import Any

import boxes
import numpy as np
import pytest
import torch
from rllab_agents.sac import SAC, SACConfig

from rllab.errors import UsageError
from rllab.parts.replay import Batch


@pytest.fixture(autouse=True, scope="module")
def environments() -> Iterator[None]:
    with boxes.registered():
        yield


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    boxes.close()


def agent_for(environment: str = "Clock", **options: Any) -> SAC:
    agent = boxes.agent_for("sac", environment, **options)
    assert isinstance(agent, SAC)
    return agent


# --- the losses, by hand ------------------------------------------------------------------------------------


def by_hand(**options: Any) -> SAC:
    """Return an agent with Q = (s + 2 a, 3 s - a), Q_target = (4 s + a, s + 5 a), and a policy N(0.5 s, 1)."""
    agent = agent_for(hidden="none", gamma=0.5, batch_size=2, optimizer="sgd", **options)
    with torch.no_grad():
        for network, slopes in ((agent.critics, [[1, 2], [3, -1]]), (agent.target, [[4, 1], [1, 5]])):
            network.weights[0].copy_(torch.tensor(slopes)[:, None])
            network.biases[0].zero_()
        agent.actor[0].weight.copy_(torch.tensor([[0.5], [0.0]]))
        agent.actor[0].bias.zero_()
    return agent


def no_noise(agent: SAC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(*shape))


def log_density(u: float) -> float:
    """Return the log-probability of tanh(u) where u is the mean and the standard deviation 1."""
    return -0.5 * math.log(2 * math.pi) - math.log(1 - math.tanh(u) ** 2)


def batch(terminated: float = 0.0) -> Batch:
    """Return one transition twice: from 1 by action 0.5 with reward 1 to 2."""
    return Batch(
        observations=torch.ones(2, 1),
        actions=torch.full((2, 1), 0.5),
        rewards=torch.ones(2),
        next_observations=torch.full((2, 1), 2.0),
        terminated=torch.full((2,), terminated),
    )


def arrays(drawn: Batch) -> Batch:
    return drawn.numpy()


def tensors(drawn: Batch) -> Batch:
    return drawn


AS = pytest.mark.parametrize("given", [arrays, tensors])
"""A batch is in arrays where the networks take them, as here, but tensors are right anywhere."""
PATHS = pytest.mark.parametrize(("given", "fast"), [(arrays, True), (tensors, True), (tensors, False)])


@AS
def test_the_target_is_the_smaller_target_value_and_the_entropy(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In s' = 2 the action is tanh(1), the values 8 + tanh(1) and 2 + 5 tanh(1), of which the second is smaller."""
    agent = by_hand()
    no_noise(agent, monkeypatch)
    y = agent.targets(given(batch()), 0.2)
    expected = 1 + 0.5 * (2 + 5 * math.tanh(1) - 0.2 * log_density(1))
    assert y.tolist() == pytest.approx([expected, expected])
    assert not getattr(y, "requires_grad", False)


@AS
def test_a_terminal_state_has_neither_value_nor_entropy(given: Any) -> None:
    assert by_hand().targets(given(batch(terminated=1.0)), 0.2).tolist() == [1, 1]


@PATHS
def test_the_critics_descend_half_the_squared_error_summed_over_both(given: Any, fast: bool) -> None:
    """Q(1, 0.5) = (2, 2.5); against y = 1 the loss is 1/2 (1 + 1.5^2), and its slopes are (1, 1.5) times (s, a)."""
    agent = by_hand(fast=fast)
    drawn = given(batch())
    others = [p.clone() for p in (*agent.actor.parameters(), *agent.target.parameters())]
    loss = agent.update_critics(drawn.observations, drawn.actions, drawn.rewards, 0.1)
    assert float(loss) == pytest.approx(0.5 * (1 + 2.25))
    found = agent.critics.weights[0].detach().flatten().tolist()
    assert found == pytest.approx([1 - 0.1, 2 - 0.05, 3 - 0.15, -1 - 0.075])
    assert agent.critics.biases[0].flatten().tolist() == pytest.approx([-0.1, -0.15])
    assert all(map(torch.equal, others, [*agent.actor.parameters(), *agent.target.parameters()]))


@PATHS
def test_the_policy_descends_the_cost_of_its_density_less_the_smaller_value(
    given: Any, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In s = 1 the action is tanh(0.5), the values 1 + 2 tanh(0.5) = 1.92 and 3 - tanh(0.5) = 2.54."""
    agent = by_hand(fast=fast)
    no_noise(agent, monkeypatch)
    critics = [p.clone() for p in agent.critics.parameters()]
    loss, entropy = agent.update_policy(given(batch()).observations, 0.2, 0.1)
    a = math.tanh(0.5)
    assert float(loss) == pytest.approx(0.2 * log_density(0.5) - (1 + 2 * a))
    assert float(entropy) == pytest.approx(-log_density(0.5))
    # by the mean u: 0.2 * 2 a - 2 (1 - a^2), through u = 0.5 s; by the log standard deviation -0.2, as the noise is 0
    slope = 0.4 * a - 2 * (1 - a**2)
    assert agent.actor[0].weight.flatten().tolist() == pytest.approx([0.5 - 0.1 * slope, 0.02])
    assert all(map(torch.equal, critics, agent.critics.parameters()))  # nothing leaks into them


@pytest.mark.parametrize("part", ["rewards", "terminated"])
def test_a_column_instead_of_a_vector_is_caught_before_it_broadcasts(part: str) -> None:
    drawn = batch().numpy()
    with pytest.raises(AssertionError):
        by_hand().targets(drawn._replace(**{part: np.ones((2, 1), np.float32)}), 0.2)
    with pytest.raises(AssertionError):
        by_hand().update_critics(drawn.observations, drawn.actions, np.ones((2, 1), np.float32), 0.1)


# --- the temperature ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("entropy", "change"), [(2.0, -1), (-1.0, 0), (-3.0, 1)])
def test_too_much_entropy_lowers_the_temperature_and_too_little_raises_it(
    entropy: float, change: int, fast: bool
) -> None:
    """With a target of -1 the gradient by log alpha is the entropy + 1, and a step of 0.1 goes against it."""
    agent = agent_for(initial_alpha=0.5, optimizer="sgd", fast=fast)
    assert agent.target_entropy == -1
    assert agent.temperature is not None
    assert agent.temperature_steps is not None
    agent.update_temperature(agent.temperature_steps, torch.tensor(entropy), 0.1)
    assert agent.temperature.log_alpha.item() == pytest.approx(math.log(0.5) - 0.1 * (entropy + 1))
    assert np.sign(agent.alpha.item() - 0.5) == change


def test_the_temperature_is_learned_by_its_logarithm_and_stays_positive() -> None:
    agent = agent_for(initial_alpha=0.5, optimizer="sgd")
    assert agent.temperature_steps is not None
    for _ in range(3):
        agent.update_temperature(agent.temperature_steps, np.float32(9), 1.0)
    assert agent.alpha.item() == pytest.approx(0.5 * math.exp(-30), rel=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_a_fixed_temperature_stays(alpha: float) -> None:
    agent = agent_for(alpha=alpha)
    for _ in range(5):
        metrics = agent.step()
    assert float(metrics["train/alpha"]) == pytest.approx(alpha)
    assert agent.temperature is None


def test_the_target_entropy_is_minus_the_number_of_dimensions_or_what_was_asked_for() -> None:
    assert agent_for().target_entropy == -1
    assert agent_for(target_entropy=-0.3).target_entropy == -0.3


# --- acting -------------------------------------------------------------------------------------------------


def test_the_units_of_the_actions_change_nothing_but_what_is_played() -> None:
    one, other = agent_for("Clock"), agent_for("Unit")
    for agent in (one, other):
        for _ in range(10):
            agent.step()
    states = [agent.replay.state_dict()["actions"] for agent in (one, other)]
    assert states[0][0] == states[1][0]
    assert one.target_entropy == other.target_entropy
    observations = np.ones((3, 1), np.float32)
    for agent in (one, other):
        outputs = agent.outputs(observations)
        played, _ = agent.act(observations, deterministic=True)
        np.testing.assert_allclose(agent.bounds.to_unit(played), np.tanh(outputs[:, :1]), atol=1e-6)


def test_before_learning_starts_actions_are_uniform_and_then_the_policys() -> None:
    agent = agent_for(num_envs=4000, learning_starts=4000, timesteps=20_000, buffer_size=8000, train_every=20_000)
    with torch.no_grad():
        agent.actor[-1].bias.copy_(torch.tensor([1.0, -20.0]))
        agent.actor[-1].weight.zero_()
    agent.step()
    agent.step()
    first, then = np.split(agent.replay.state_dict()["actions"], 2)
    assert np.histogram(first, 4, (-1, 1))[0] == pytest.approx([1000] * 4, rel=0.15)
    np.testing.assert_allclose(then, math.tanh(1), atol=1e-5)


def test_acting_is_the_squashed_mean_or_a_sample() -> None:
    agent = agent_for()
    with torch.no_grad():
        agent.actor[-1].weight.zero_()
        agent.actor[-1].bias.copy_(torch.tensor([0.5, math.log(0.3)]))
    observations = np.ones((20_000, 1), np.float32)
    best, _ = agent.act(observations, deterministic=True)
    assert best.shape == (20_000, 1)
    np.testing.assert_allclose(best, 2 + 4 * math.tanh(0.5), rtol=1e-6)
    samples, _ = agent.act(observations, deterministic=False)
    u = np.arctanh((samples - 2) / 4)
    assert u.mean() == pytest.approx(0.5, abs=0.01)
    assert u.std() == pytest.approx(0.3, abs=0.01)


# --- the target networks ------------------------------------------------------------------------------------


def test_the_target_begins_as_the_critics_are_and_follows_them_by_tau_alone() -> None:
    agent = agent_for(tau=0.25, optimizer="sgd", lr=0.1)
    target, online = list(agent.target.parameters()), list(agent.critics.parameters())
    assert all(torch.equal(a, b) for a, b in zip(target, online, strict=True))
    before = [p.clone() for p in target]
    agent.step()
    for old, new, ours in zip(before, target, online, strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * ours)
        assert not new.requires_grad
    assert any(not torch.equal(a, b) for a, b in zip(before, target, strict=True))


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha": -1}, "--alpha -1: should be greater than or equal to 0"),
        ({"initial_alpha": 0}, "--initial-alpha 0: should be greater than 0"),
    ],
)
def test_a_configuration_that_cannot_work_is_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SACConfig.parse(values)


# --- it learns ----------------------------------------------------------------------------------------------


def test_it_finds_the_action_for_what_it_sees() -> None:
    agent = agent_for("Target", timesteps=300, learning_starts=60, hidden="32", lr=2e-2, batch_size=64, tau=0.1)
    while agent.count < agent.budget:
        agent.step()
    seen = np.array([[-0.5], [0.0], [0.5], [1.0], [1.8]], np.float32)
    actions, _ = agent.act(seen, deterministic=True)
    np.testing.assert_allclose(actions, 3 * seen, atol=1.0)
    assert agent.alpha.item() < 1
