import math
from collections.abc import Iterator
from typing import Any

import boxes
import numpy as np
import pytest
import torch
from boxes import agent_for
from rllab_agents.ddpg import DDPG, DDPGConfig
from rllab_agents.td3 import TD3, TD3Config

from rllab import planning
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


def by_hand(method: str = "td3", **options: Any) -> Any:
    """Return an agent with Q = (s + 2 a, 3 s - a), Q_target = (4 s + a, s + 5 a), of DDPG the first of each.

    The policy is tanh(0.5 s), its target tanh(s).
    """
    agent = agent_for(method, hidden="none", gamma=0.5, batch_size=2, optimizer="sgd", **options)
    k = agent.num_critics
    with torch.no_grad():
        for network, slopes in ((agent.critics, [[1, 2], [3, -1]]), (agent.target_critics, [[4, 1], [1, 5]])):
            network.weights[0].copy_(torch.tensor(slopes[:k])[:, None])
            network.biases[0].zero_()
        for policy, slope in ((agent.actor, 0.5), (agent.target_actor, 1.0)):
            policy[0].weight.fill_(slope)
            policy[0].bias.zero_()
    return agent


def batch(size: int = 2, terminated: float = 0.0) -> Batch:
    """Return one transition several times: from 1 by action 0.5 with reward 1 to 2."""
    return Batch(
        observations=torch.ones(size, 1),
        actions=torch.full((size, 1), 0.5),
        rewards=torch.ones(size),
        next_observations=torch.full((size, 1), 2.0),
        terminated=torch.full((size,), terminated),
    )


# --- targets and losses, by hand ----------------------------------------------------------------------------


def test_ddpgs_target_is_the_target_critics_value_of_the_target_policys_action() -> None:
    y = by_hand("ddpg").targets(batch())
    assert y.tolist() == pytest.approx([1 + 0.5 * (8 + math.tanh(2))] * 2)
    assert not y.requires_grad


def test_td3s_target_is_the_smaller_of_two_values() -> None:
    """In s' = 2 the values are 8 + tanh(2) = 8.96 and 2 + 5 tanh(2) = 6.82."""
    y = by_hand(target_noise=0).targets(batch())
    assert y.tolist() == pytest.approx([1 + 0.5 * (2 + 5 * math.tanh(2))] * 2)


@pytest.mark.parametrize("method", ["td3", "ddpg"])
def test_a_terminal_state_has_no_value(method: str) -> None:
    assert by_hand(method).targets(batch(terminated=1.0)).tolist() == [1, 1]


def test_smoothing_noise_and_its_clip_are_in_scaled_units_and_the_action_stays_within_its_bounds() -> None:
    """The policy is made 0 there, so y = 1 + 0.5 (2 + 5 noise) tells the noise: N(0, 0.2) cut at 0.3.

    The bounds of the environment, -2 and 6, do not come into it: scaled, they are -1 and 1.
    """
    agent = by_hand(target_noise=0.2, target_noise_clip=0.3)
    with torch.no_grad():
        agent.target_actor[0].weight.zero_()
    noise = ((agent.targets(batch(20_000)) - 1) / 0.5 - 2) / 5
    assert noise.min().item() == pytest.approx(-0.3, abs=1e-5)
    assert noise.max().item() == pytest.approx(0.3, abs=1e-5)
    inside = noise.abs() < 0.2999
    assert (~inside).float().mean().item() == pytest.approx(math.erfc(0.3 / 0.2 / 2**0.5), abs=0.01)
    shares = (noise.abs() < 0.1).float().mean().item()
    assert shares == pytest.approx(math.erf(0.1 / 0.2 / 2**0.5), abs=0.015)

    with torch.no_grad():
        agent.target_actor[0].bias.fill_(20.0)  # the action is 1 now, and no noise leads beyond
    found = ((agent.targets(batch(1000)) - 1) / 0.5 - 2) / 5
    assert found.max().item() == pytest.approx(1, abs=1e-5)
    assert found.min().item() == pytest.approx(0.7, abs=1e-5)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("method", ["td3", "ddpg"])
def test_the_critics_descend_the_squared_error_summed_over_both(method: str, fast: bool) -> None:
    """Q(1, 0.5) = (2, 2.5); against y = 1 that is 1 + 1.5^2, and the slopes are (2, 3) times (s, a)."""
    agent, drawn = by_hand(method, fast=fast), batch()
    others = copies(agent.actor, agent.target_actor, agent.target_critics)
    for given in [drawn.numpy(), drawn] if fast else [drawn]:
        agent.critics.load_state_dict(by_hand(method).critics.state_dict())
        loss = agent.update_critics(given.observations, given.actions, given.rewards, 0.1)
        assert float(loss) == pytest.approx({"td3": 1 + 2.25, "ddpg": 1}[method])
        expected = [1 - 0.2, 2 - 0.1, 3 - 0.3, -1 - 0.15][: 2 * agent.num_critics]
        assert agent.critics.weights[0].flatten().tolist() == pytest.approx(expected)
    assert all(map(torch.equal, others, copies(agent.actor, agent.target_actor, agent.target_critics)))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("method", ["td3", "ddpg"])
def test_the_policy_climbs_the_first_critic_through_its_action(method: str, fast: bool) -> None:
    """-Q_1(1, tanh(0.5)) = -1 - 2 tanh(0.5), and its gradient by the weight -2 (1 - tanh(0.5)^2) * 1."""
    agent = by_hand(method, fast=fast)
    others = copies(agent.critics, agent.target_critics, agent.target_actor)
    seen = torch.ones(2, 1)
    for given in [seen.numpy(), seen] if fast else [seen]:
        with torch.no_grad():
            agent.actor[0].weight.fill_(0.5)
            agent.actor[0].bias.zero_()
        loss = agent.update_policy(given, 0.1)
        assert float(loss) == pytest.approx(-1 - 2 * math.tanh(0.5))
        assert agent.actor[0].weight.item() == pytest.approx(0.5 + 0.1 * 2 * (1 - math.tanh(0.5) ** 2))
    assert all(map(torch.equal, others, copies(agent.critics, agent.target_critics, agent.target_actor)))


@pytest.mark.parametrize("method", ["td3", "ddpg"])
@pytest.mark.parametrize("part", ["rewards", "terminated"])
def test_a_column_instead_of_a_vector_is_caught_before_it_broadcasts(part: str, method: str) -> None:
    drawn = batch().numpy()
    with pytest.raises(AssertionError):
        by_hand(method).targets(drawn._replace(**{part: np.ones((2, 1), np.float32)}))
    with pytest.raises(AssertionError):
        by_hand(method).update_critics(drawn.observations, drawn.actions, np.ones((2, 1), np.float32), 0.1)


# --- the delay ----------------------------------------------------------------------------------------------


def copies(*networks: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for network in networks for p in network.parameters()]


def test_policy_and_targets_wait_for_every_third_step_of_the_critics() -> None:
    agent = agent_for("td3", policy_delay=3, tau=0.25, lr=0.01, optimizer="sgd")
    waiting = agent.actor, agent.target_actor, agent.target_critics
    for n in range(1, 10):
        critics, others, target = copies(agent.critics), copies(*waiting), copies(agent.target_critics)
        metrics = agent.step()
        assert not all(map(torch.equal, critics, copies(agent.critics)))
        assert all(map(torch.equal, others, copies(*waiting))) == (n % 3 != 0)
        assert ("train/policy_loss" in metrics) == (n % 3 == 0)
        if n % 3 == 0:
            for old, new, ours in zip(target, copies(agent.target_critics), copies(agent.critics), strict=True):
                torch.testing.assert_close(new, 0.75 * old + 0.25 * ours)


def test_ddpg_moves_all_of_them_each_time() -> None:
    agent = agent_for("ddpg")
    everything = agent.critics, agent.actor, agent.target_actor, agent.target_critics
    agent.step()
    before = copies(*everything)
    agent.step()
    assert not any(map(torch.equal, before, copies(*everything)))


@pytest.mark.parametrize("method", ["td3", "ddpg"])
def test_the_targets_begin_as_the_online_networks_are(method: str) -> None:
    agent = agent_for(method)
    assert all(map(torch.equal, copies(agent.critics, agent.actor), copies(agent.target_critics, agent.target_actor)))
    trained = {id(p) for p in (*agent.critics.parameters(), *agent.actor.parameters())}
    targets = (*agent.target_critics.parameters(), *agent.target_actor.parameters())
    assert not any(p.requires_grad or id(p) in trained for p in targets)


# --- acting and exploring -----------------------------------------------------------------------------------


def constant(agent: Any, value: float) -> Any:
    """Make the policy's output the same everywhere, before the tanh."""
    with torch.no_grad():
        agent.actor[-1].weight.zero_()
        agent.actor[-1].bias.fill_(value)
    return agent


def test_acting_is_without_noise_or_with_that_of_training() -> None:
    agent = constant(agent_for("td3", action_noise=0.1), 0.5)
    observations = np.ones((20_000, 1), np.float32)
    best, _ = agent.act(observations, deterministic=True)
    np.testing.assert_allclose(best, 2 + 4 * math.tanh(0.5), rtol=1e-6)
    noisy, _ = agent.act(observations, deterministic=False)
    scaled = (noisy - 2) / 4
    assert scaled.mean() == pytest.approx(math.tanh(0.5), abs=0.005)
    assert scaled.std() == pytest.approx(0.1, abs=0.005)


def test_noise_leads_to_no_action_beyond_the_bounds() -> None:
    agent = constant(agent_for("td3", action_noise=1.0, num_envs=100, timesteps=1000), 5.0)
    agent.step()  # the environment refuses what is not in its space, and pays the action
    found = agent.replay.state_dict()
    assert found["actions"].max() == 1
    assert found["actions"].min() >= -1
    np.testing.assert_allclose(found["rewards"], 2 + 4 * found["actions"][:, 0], atol=1e-5)


@pytest.mark.parametrize("correlation", [0.0, 0.85])
def test_noise_is_correlated_within_an_episode_and_begins_anew_with_the_next(correlation: float) -> None:
    agent = agent_for("ddpg", noise_correlation=correlation, action_noise=0.2)
    rng = np.random.default_rng(0)
    noise, found = np.zeros((5000, 1), np.float32), []
    for _ in range(40):
        noise = agent.next_noise(noise, np.zeros(5000, bool), rng.standard_normal((5000, 1)))
        found.append(noise[:, 0])
    # an AR(1) process: var = std^2 / (1 - c^2), and the correlation of neighbours is c
    assert found[-1].std() == pytest.approx(0.2 / (1 - correlation**2) ** 0.5, rel=0.05)
    assert np.corrcoef(found[-2], found[-1])[0, 1] == pytest.approx(correlation, abs=0.05)
    starts = np.arange(5000) < 2500
    again = agent.next_noise(noise, starts, np.zeros((5000, 1)))
    assert not again[:2500].any()
    np.testing.assert_allclose(again[2500:], correlation * noise[2500:], rtol=1e-6)


def test_a_stochastic_evaluation_carries_the_noise_on_in_its_memory() -> None:
    agent = constant(agent_for("ddpg", noise_correlation=0.85, action_noise=0.1), 0.0)
    observations = np.ones((4000, 1), np.float32)
    one, memory = agent.act(observations, None, np.ones(4000, bool), deterministic=False)
    two, _ = agent.act(observations, memory, np.zeros(4000, bool), deterministic=False)
    assert np.corrcoef(one[:, 0], two[:, 0])[0, 1] > 0.5


def test_before_learning_starts_actions_are_uniform() -> None:
    agent = agent_for(
        "td3", num_envs=4000, learning_starts=4000, timesteps=20_000, buffer_size=4000, train_every=20_000
    )
    agent.step()
    actions = agent.replay.state_dict()["actions"]
    assert np.histogram(actions, 4, (-1, 1))[0] == pytest.approx([1000] * 4, rel=0.15)


# --- configurations -----------------------------------------------------------------------------------------


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(UsageError, match="--policy-delay 0: should be greater than 0"):
        TD3Config.parse({"policy_delay": 0})
    with pytest.raises(UsageError, match="--noise-correlation 1: should be less than 1"):
        DDPGConfig.parse({"noise_correlation": 1})
    with pytest.raises(UsageError, match=r"--target-noise -0\.1: should be greater than or equal to 0"):
        TD3Config.parse({"target_noise": -0.1})


def test_the_preset_is_the_one_of_the_zoo() -> None:
    for method in ("td3", "ddpg"):
        config = planning.plan(method, "Pendulum-v1", {}).config
        assert (config.timesteps, config.gamma, config.buffer_size, config.action_noise) == (20_000, 0.98, 200_000, 0.1)


def test_the_work_of_a_step_counts_what_is_multiplied() -> None:
    """Pendulum, one hidden layer of 10: a policy has 30 + 10 weights, a critic 40 + 10."""
    planned = planning.plan("td3", "Pendulum-v1", {"preset": "none", "hidden": "10", "batch_size": 1})
    assert TD3.work(planned.config, planned.task) == 40 + 8 * 50 + (3 * 40 + 2 * 50) / 2
    planned = planning.plan("ddpg", "Pendulum-v1", {"preset": "none", "hidden": "10", "batch_size": 1})
    assert DDPG.work(planned.config, planned.task) == 4 * 40 + 6 * 50


# --- it learns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["td3", "ddpg"])
def test_it_finds_the_action_for_what_it_sees(method: str) -> None:
    options = {"timesteps": 300, "learning_starts": 60, "hidden": "32", "lr": 2e-2, "batch_size": 64, "tau": 0.1}
    agent = agent_for(method, "Target", **options)
    while agent.count < agent.budget:
        agent.step()
    seen = np.array([[-0.5], [0.0], [0.5], [1.0], [1.8]], np.float32)
    actions, _ = agent.act(seen, deterministic=True)
    np.testing.assert_allclose(actions, 3 * seen, atol=1.0)
