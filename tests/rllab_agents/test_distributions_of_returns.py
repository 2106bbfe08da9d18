"""What C51 and QR-DQN promise alike."""

from __future__ import annotations

from typing import Any

import pytest

from rllab import planning
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.testing import check_algorithm

METHODS = ("c51", "qr-dqn")
OPTIONS: dict[str, dict[str, Any]] = {"c51": {"num_atoms": 7}, "qr-dqn": {"num_quantiles": 7}}
SMALL: dict[str, Any] = {
    "timesteps": 200,
    "learning_starts": 20,
    "hidden": "8",
    "batch_size": 8,
    "buffer_size": 60,
    "target_every": 7,
    "eval_episodes": 2,
}


@pytest.mark.parametrize("method", METHODS)
def test_boxes_of_actions_are_refused(method: str) -> None:
    task = EnvironmentTask.open("Pendulum-v1", EnvironmentConfig(), seed=0)
    algorithm = planning.load_method(method).algorithm
    reason = algorithm.refusal(algorithm.Config.parse({}), task)
    assert reason is not None
    assert reason.startswith("it takes Discrete actions, not Box")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "switches", [{}, {"double": True, "dueling": True, "n_step": 3, "prioritized": True, "num_envs": 2}], ids=" ".join
)
def test_they_keep_the_contract(method: str, switches: dict[str, Any]) -> None:
    check_algorithm(method, "CartPole-v1", steps=30, **SMALL, **OPTIONS[method], **switches)


@pytest.mark.parametrize("method", METHODS)
def test_the_preset_of_all_switches_fits_any_environment(method: str) -> None:
    config: Any = planning.plan(method, "Acrobot-v1", {"preset": "rainbow"}).config
    assert (config.double, config.dueling, config.n_step, config.prioritized) == (True, True, 3, True)
