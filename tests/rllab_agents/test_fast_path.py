"""What `--fast` changes: the time, and the last bits of the numbers."""

from typing import Any

import numpy as np
import pytest
import torch

from rllab import experiment, planning, plugins
from rllab.agent import GradientConfig

OPTIONS: dict[str, Any] = {"preset": "none", "timesteps": 400, "num_envs": 2, "device": "cpu", "seed": 3}
SWITCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "double": {"double": True, "loss": "squared"},
    "normalised": {"normalize_observations": True, "activation": "tanh"},
    "n-step": {"n_step": 3},
    "prioritised": {"prioritized": True},
    "many updates": {"train_every": 16, "gradient_steps": 8, "max_grad_norm": 0.0},
}


def trained(
    steps: int, method: str = "dqn", env: str = "CartPole-v1", metric: str = "train/loss", **options: Any
) -> tuple[Any, list[float]]:
    """Return an agent after so many env steps, and its losses."""
    options = {**OPTIONS, "learning_starts": 40, "batch_size": 16, "hidden": (16, 16), **options}
    agent, _ = experiment.build(planning.plan(method, env, options))
    agent.setup()
    losses = []
    while agent.count < steps:
        metrics = agent.step()
        losses += [float(metrics[metric])] if metric in metrics else []
    agent.close()
    return agent, losses


@pytest.mark.parametrize("method", plugins.names("rllab.agents"))
def test_it_is_an_option_of_those_that_train_networks_alone(method: str) -> None:
    config = planning.load_method(method).algorithm.Config
    assert ("fast" in config.model_fields) == issubclass(config, GradientConfig)
    without = {"random", "heuristic", "bandit", "value-iteration", "sarsa", "q-learning", "cem"}
    assert issubclass(config, GradientConfig) != (method in without or method.startswith("sb3-"))


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_training_is_the_same_with_and_without(switches: dict[str, Any]) -> None:
    (fast, losses), (slow, expected) = (trained(120, fast=fast, **switches) for fast in (True, False))
    assert fast.optimizer.takes_arrays
    assert not slow.optimizer.takes_arrays
    assert len(losses) == len(expected) > 3
    np.testing.assert_allclose(losses, expected, rtol=1e-3, atol=1e-5)
    for one, other in zip(fast.q.parameters(), slow.q.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(fast.envs.observations, slow.envs.observations)


def test_a_network_that_is_no_perceptron_is_left_to_torch() -> None:
    agent, losses = trained(60, dueling=True)
    assert not agent.optimizer.takes_arrays
    assert all(np.isfinite(losses))


def weights(agent: Any) -> list[torch.Tensor]:
    """Return the parameters of all networks of an agent."""
    networks = [part for part in vars(agent).values() if isinstance(part, torch.nn.Module)]
    return [p.detach() for network in networks for p in network.parameters()]


ACTOR_CRITICS: dict[str, dict[str, Any]] = {
    "sac": {"method": "sac"},
    "sac with a fixed temperature": {"method": "sac", "alpha": 0.1, "normalize_observations": True},
    "td3": {"method": "td3", "activation": "tanh", "max_grad_norm": 0.5},
    "ddpg": {"method": "ddpg", "train_every": 8, "gradient_steps": 4},
}


@pytest.mark.parametrize("switches", ACTOR_CRITICS.values(), ids=ACTOR_CRITICS)
def test_training_of_actor_and_critics_is_the_same_with_and_without(switches: dict[str, Any]) -> None:
    options = {"env": "Pendulum-v1", "metric": "train/value_loss", **switches}
    (fast, losses), (slow, expected) = (trained(100, fast=on, **options) for on in (True, False))
    for steps in (fast.actor_steps, fast.critic_steps):
        assert steps.takes_arrays
    for steps in (slow.actor_steps, slow.critic_steps):
        assert not steps.takes_arrays
    assert len(losses) == len(expected) > 3
    np.testing.assert_allclose(losses, expected, rtol=1e-3, atol=1e-4)
    for one, other in zip(weights(fast), weights(slow), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(fast.envs.observations, slow.envs.observations, rtol=1e-3, atol=1e-4)
