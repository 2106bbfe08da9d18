from typing import Any

import pytest
import torch
from rllab_agents.a2c import A2C

from rllab import experiment, planning
from rllab.parts.returns import n_step_returns


def agent_for(environment: str = "CartPole-v1", **options: Any) -> A2C:
    """Return an agent that is set up."""
    values = {"preset": "none", "device": "cpu", "num_envs": 3, "hidden": "8", "timesteps": 60, **options}
    agent, _ = experiment.build(planning.plan("a2c", environment, values))
    agent.setup()
    assert isinstance(agent, A2C)
    return agent


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_gradient_step_is_the_one_that_autograd_takes(environment: str, normalize: bool) -> None:
    agent = agent_for(
        environment, optimizer="sgd", max_grad_norm=0, entropy_coef=0.1, gamma=0.9, normalize_advantages=normalize
    )
    agent.collect()
    rollout, policy = agent.rollout, agent.policy
    inputs, actions = agent.experience()
    parameters = list(policy.parameters())
    outputs, values = policy(inputs)
    with torch.no_grad():  # the paper's returns: up to the end of the rollout, then V
        after = policy(policy.prepare(rollout.observations[-1]))[1].reshape(1, 3)
        next_values = torch.cat([values.reshape(5, 3)[1:], after]).numpy()
    returns = n_step_returns(rollout.rewards, next_values, rollout.terminated, rollout.truncated, 0.9, n_step=5)
    target = torch.from_numpy(returns).float().reshape(-1)
    advantages = target - values.detach()
    if normalize:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_probs, entropy = policy.distribution.evaluate(outputs, actions)
    loss = -(advantages * log_probs).mean() + 0.5 * ((target - values) ** 2).mean() - 0.1 * entropy.mean()
    gradients = torch.autograd.grad(loss, parameters)
    expected = [p.detach() - 0.25 * g for p, g in zip(parameters, gradients, strict=True)]

    metrics = agent.learn(0.25)
    assert float(metrics["train/loss"]) == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close([p.detach() for p in parameters], expected, rtol=1e-4, atol=1e-6)
    agent.close()


def test_an_iteration_is_one_rollout_and_one_gradient_step() -> None:
    agent = agent_for(schedule="linear", lr=0.1)
    metrics = [agent.step() for _ in range(4)]
    assert agent.count == 60
    assert [m["train/lr"] for m in metrics] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    agent.close()
