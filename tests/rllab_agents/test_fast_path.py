"""What `--fast` changes: the time, and the last bits of the numbers."""

from typing import Any

import numpy as np
import pytest
import torch

from rllab import experiment, planning

OPTIONS: dict[str, Any] = {"preset": "none", "timesteps": 400, "num_envs": 2, "device": "cpu", "seed": 3}
SWITCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "double": {"double": True, "loss": "squared"},
    "normalised": {"normalize_observations": True, "activation": "tanh"},
    "n-step": {"n_step": 3},
    "prioritised": {"prioritized": True},
    "many updates": {"train_every": 16, "gradient_steps": 8, "max_grad_norm": 0.0},
}


def trained(steps: int, **options: Any) -> tuple[Any, list[float]]:
    """Return an agent after so many env steps, and its losses."""
    options = {**OPTIONS, "learning_starts": 40, "batch_size": 16, "hidden": (16, 16), **options}
    agent, _ = experiment.build(planning.plan("dqn", "CartPole-v1", options))
    agent.setup()
    losses = []
    while agent.count < steps:
        metrics = agent.step()
        losses += [float(metrics["train/loss"])] if "train/loss" in metrics else []
    agent.close()
    return agent, losses


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
