from collections.abc import Iterator
from typing import Any

import pytest
import torch
from rllab_agents.ppo import PPO, Batch, PPOConfig

from rllab import experiment, planning
from rllab.errors import UsageError

MADE: list[PPO] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def agent_for(environment: str = "CartPole-v1", **options: Any) -> PPO:
    """Return an agent that is set up: rollouts of 2 x 6 steps."""
    small = {"num_envs": 2, "rollout_steps": 6, "batch_size": 4, "update_epochs": 3, "hidden": "8", "timesteps": 120}
    values = {"preset": "none", "device": "cpu", **small, **options}
    agent, _ = experiment.build(planning.plan("ppo", environment, values))
    agent.setup()
    assert isinstance(agent, PPO)
    MADE.append(agent)
    return agent


def collected(**options: Any) -> tuple[PPO, Batch]:
    """Return an agent, and what it makes of its first rollout."""
    agent = agent_for(**options)
    agent.collect()
    return agent, agent.look_back()


# --- the loss ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("value_clip_range", [0.0, 0.1])
def test_a_gradient_step_is_the_one_that_autograd_takes(environment: str, value_clip_range: float) -> None:
    agent, batch = collected(
        environment=environment,
        optimizer="sgd",
        max_grad_norm=0,
        entropy_coef=0.1,
        value_clip_range=value_clip_range,
    )
    noise = torch.randn(12, generator=torch.Generator().manual_seed(0))
    batch = batch._replace(log_probs=batch.log_probs + 0.3 * noise, values=batch.values + 0.2 * noise.flip(0))
    parameters = list(agent.policy.parameters())
    outputs, values = agent.policy(batch.inputs)
    log_probs, entropy = agent.policy.distribution.evaluate(outputs, batch.actions)
    ratio = (log_probs - batch.log_probs).exp()
    advantages = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
    policy_loss = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    error = (values - batch.returns) ** 2
    if value_clip_range:
        near = batch.values + (values - batch.values).clamp(-value_clip_range, value_clip_range)
        error = torch.max(error, (near - batch.returns) ** 2)
    loss = policy_loss + 0.5 * error.mean() - 0.1 * entropy.mean()
    gradients = torch.autograd.grad(loss, parameters)
    expected = [p.detach() - 0.25 * g for p, g in zip(parameters, gradients, strict=True)]

    with torch.no_grad():
        said = agent.descend(batch, None, 0.25, 0.2)
    assert said is not None
    assert said[0].item() == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close([p.detach() for p in parameters], expected, rtol=1e-4, atol=1e-6)


def test_the_first_step_of_a_rollout_starts_from_the_policy_that_took_it() -> None:
    for options in ({}, {"recurrent": "lstm", "batch_size": 6}, {"normalize_observations": True}):
        agent, batch = collected(**options)
        with torch.no_grad():
            said = agent.descend(batch, agent.first_memory, 1e-9, 0.2)
        assert said is not None
        _, _, _, _, kl, clipped = said.tolist()
        assert kl == pytest.approx(0, abs=1e-6)
        assert clipped == 0


def test_a_policy_that_would_be_too_far_takes_no_step_and_only_steps_taken_are_counted() -> None:
    agent, batch = collected(target_kl=1e-4, lr=0.1)
    metrics = agent.learn(batch, 0.1, 0.2)
    assert metrics["train/updates"] == 1  # of 9: after the first one the policy is too far
    assert float(metrics["train/kl"]) == pytest.approx(0, abs=1e-6)
    before = [parameter.clone() for parameter in agent.policy.parameters()]
    with torch.no_grad():
        assert agent.descend(batch, None, 0.1, 0.2) is None
    assert all(torch.equal(old, new) for old, new in zip(before, agent.policy.parameters(), strict=True))


@pytest.mark.parametrize(("share", "goes_on"), [(1.4, True), (1.6, False)])
def test_too_far_is_one_and_a_half_times_the_target(share: float, goes_on: bool) -> None:
    agent, batch = collected()
    with torch.no_grad():
        agent.descend(batch, None, 0.01, 0.2)
        outputs, _ = agent.policy(batch.inputs)
        log_ratio = agent.policy.distribution.evaluate(outputs, batch.actions)[0] - batch.log_probs
        kl = float((log_ratio.exp() - 1 - log_ratio).mean())
        agent.config = agent.config.model_copy(update={"target_kl": kl / share})
        assert (agent.descend(batch, None, 0.01, 0.2) is None) == (not goes_on)


def test_all_gradient_steps_are_taken_without_a_target() -> None:
    agent, batch = collected()
    assert agent.learn(batch, 1e-3, 0.2)["train/updates"] == 3 * 12 / 4


# --- minibatches ------------------------------------------------------------------------------------


def test_minibatches_have_each_step_once_and_in_a_new_order_each_time() -> None:
    agent, batch = collected()
    batch = batch._replace(returns=torch.arange(12.0))
    passes = [[part.returns.tolist() for part, _ in agent.minibatches(batch)] for _ in range(2)]
    for parts in passes:
        assert [len(part) for part in parts] == [4, 4, 4]
        assert sorted(row for part in parts for row in part) == list(range(12))
    assert passes[0] != passes[1]


def test_with_an_lstm_minibatches_are_whole_sequences_with_their_memory() -> None:
    agent, _ = collected(recurrent="lstm", batch_size=6, num_envs=3)
    agent.collect()  # now there is something to remember
    batch = agent.look_back()
    assert agent.first_memory is not None
    rows = torch.arange(18.0)  # of step 6 t, ..: 3 environments side by side
    seen = []
    for part, memory in agent.minibatches(batch._replace(returns=rows)):
        (env,) = {int(row) % 3 for row in part.returns.tolist()}
        assert part.returns.tolist() == [env + 3 * t for t in range(6)]
        assert memory is not None
        assert torch.equal(memory[:, 0], agent.first_memory[:, env])
        seen.append(env)
        outputs, values = agent.policy(part.inputs, memory, part.starts)
        torch.testing.assert_close(values.detach(), part.values)
        log_probs, _ = agent.policy.distribution.evaluate(outputs, part.actions)
        torch.testing.assert_close(log_probs.detach(), part.log_probs)
    assert sorted(seen) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"batch_size": 64, "num_envs": 2, "rollout_steps": 16},
            "--batch-size 64 is larger than the rollout of --num-envs 2 times --rollout-steps 16 = 32 steps: "
            "say 32 or less",
        ),
        (
            {"batch_size": 60, "num_envs": 8, "rollout_steps": 16},
            "--batch-size 60 does not divide .*128 steps: 64 would",
        ),
        (
            {"batch_size": 32, "num_envs": 8, "rollout_steps": 64, "recurrent": "lstm"},
            "--batch-size 32 is not made of whole sequences of --rollout-steps 64.*: 64 would be",
        ),
    ],
)
def test_minibatches_that_do_not_fit_the_rollout_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        PPOConfig.parse(options)


# --- schedules --------------------------------------------------------------------------------------


def test_step_size_and_clip_range_fall_from_start_to_end() -> None:
    agent = agent_for(lr=0.1, schedule="linear", clip_range=0.4, clip_schedule="linear", timesteps=48)
    lrs, clips = [], []
    while agent.count < agent.budget:
        metrics = agent.step()
        lrs.append(metrics["train/lr"])
        clips.append(metrics["train/clip_range"])
    assert lrs == pytest.approx([0.1, 0.075, 0.05, 0.025])  # of 4 rollouts; no update is wasted on a step size of 0
    assert clips == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_they_stand_still_unless_told_otherwise() -> None:
    agent = agent_for(timesteps=24)
    metrics = [agent.step() for _ in range(2)]
    assert [m["train/lr"] for m in metrics] == [3e-4, 3e-4]
    assert [m["train/clip_range"] for m in metrics] == [0.2, 0.2]


def test_adam_has_the_constant_of_the_literature() -> None:
    assert agent_for().optimizer._optimizer._constants["eps"] == 1e-5


@pytest.mark.parametrize("method", ["ppo", "a2c", "reinforce"])
def test_presets_are_valid(method: str) -> None:
    loaded = planning.load_method(method)
    for values in loaded.presets().values():
        loaded.algorithm.Config.parse(values)
    assert {"CartPole-v1", "Acrobot-v1", "Catch-v0"} <= loaded.presets().keys()
