"""Methods trained on probe environments for a moment, and how far what they learned is from what is right.

In: a method and a probe (`rllab_envs.probes`), by name, options, and perhaps a fault to plant. Out: the trained agent,
and `off`, by how much it is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from rllab_agents.actor_critic import ActorCriticAgent
from rllab_agents.c51 import C51
from rllab_agents.ddpg import DDPG
from rllab_agents.dqn import DQN
from rllab_agents.qr_dqn import QRDQN
from rllab_agents.reinforce import Reinforce
from rllab_agents.sac import SAC
from rllab_agents.tables import TableAgent
from rllab_envs.probes import Action

from rllab import experiment, planning
from rllab.parts.arrays import as_array

GAMMA = 0.7
"""Low enough for few updates, and for values with and without a discount to lie well apart."""

Plant = Callable[[Any, pytest.MonkeyPatch], None]
"""Puts a fault into an agent that is set up."""

REPLAYING: dict[str, Any] = {
    "timesteps": 1600,
    "num_envs": 8,
    "hidden": "16",
    "activation": "tanh",
    "learning_starts": 40,
    "batch_size": 32,
    "train_every": 8,
    "lr": 0.01,
    "buffer_size": 2400,
}
DEEP_Q = {**REPLAYING, "target_every": 40, "exploration_fraction": 1.0, "final_epsilon": 0.2}
BOXES = {**REPLAYING, "timesteps": 1200, "tau": 0.2, "lr": 0.02}
ROLLING = {"num_envs": 8, "hidden": "16", "normalize_advantages": True, "lr": 0.02}
TABLES = {"timesteps": 1000, "bins": 3, "lr": 0.2}
CHEAP: dict[str, dict[str, Any]] = {
    "dqn": DEEP_Q,
    "c51": {**DEEP_Q, "num_atoms": 25, "v_min": -6, "v_max": 6},
    "qr-dqn": {**DEEP_Q, "num_quantiles": 8},
    "a2c": {**ROLLING, "timesteps": 4800, "rollout_steps": 5, "optimizer": "adam"},
    "ppo": {**ROLLING, "timesteps": 2048, "rollout_steps": 16, "batch_size": 64, "update_epochs": 8},
    "reinforce": {"timesteps": 1000, "rollout_episodes": 4, "hidden": "16", "lr": 0.02, "value_lr": 0.02},
    "sac": {**BOXES, "alpha": 0.0},
    "td3": BOXES,
    "ddpg": BOXES,
    "q-learning": TABLES,
    "sarsa": TABLES,
}
"""The settings under which each is trained: about the fewest steps after which it has learned every probe."""

ACTING: dict[str, Any] = {"timesteps": 2600, "learning_starts": 200, "hidden": "64", "activation": "relu", "lr": 0.005}
"""Where the action matters, those with Box actions need more: the critic has to be right first."""

BOX_ACTIONS = {"sac", "td3", "ddpg"}
"""Methods that take no other actions."""


def made(method: str, probe: str, *, seed: int = 1, kwargs: str | None = None, **options: Any) -> Any:
    """Return an agent for `Probe<probe>-v0` that is set up.

    Args:
        method: its name.
        probe: "Constant", "Observation", "Delay", "Action" or "Truncation".
        seed: of the run.
        kwargs: of the environment, `KEY=VALUE,...`; None: an action for each observation where actions matter.
        options: of the method, in place of those of `CHEAP`.
    """
    boxes, acts = method in BOX_ACTIONS, probe == "Action"
    if kwargs is None:
        kwargs = "contextual=true" if acts else ""
    settings = CHEAP[method] | (ACTING if boxes and acts else {})
    if method == "sac" and acts:  # without any entropy it would be deterministic before the critics are right
        settings["alpha"] = 0.02
    pairs = [*filter(None, [kwargs]), *(["continuous=true"] if boxes else [])]
    shared = {"preset": "none", "device": "cpu", "seed": seed, "gamma": GAMMA, "env_kwarg": ",".join(pairs) or "none"}
    agent, _ = experiment.build(planning.plan(method, f"Probe{probe}-v0", {**shared, **settings, **options}))
    agent.setup()
    return agent


@contextmanager
def trained(method: str, probe: str, plant: Plant | None = None, **options: Any) -> Iterator[Any]:
    """Give an agent that was trained, with a fault if one is planted, until the block ends; options as for `made`."""
    agent = made(method, probe, **options)
    with pytest.MonkeyPatch.context() as patch:
        try:
            if plant is not None:
                plant(agent, patch)
            while agent.count < agent.budget:
                agent.step()
            yield agent
        finally:
            agent.close()


def off(method: str, probe: str, plant: Plant | None = None, **options: Any) -> float:
    """Return how far a method is from what a probe teaches, after training; arguments as for `trained`.

    The largest error of the values, in units of the value where that is above 1; where the action matters, also what
    its actions miss of the best return. A critic's values are those of a policy that still explores, and SAC's have
    the entropy in them: there the actions alone count.
    """
    with trained(method, probe, plant, **options) as agent:
        env = agent.task.make_one().unwrapped
        observations, expected = env.expected_values(GAMMA)
        error = float((np.abs(values(agent, observations) - expected) / np.maximum(1.0, np.abs(expected))).max())
        if not isinstance(env, Action):
            return error
        missed = 1.0 - mean_reward(agent, env, observations)
        return max(missed, error) if isinstance(agent, DQN | DDPG | TableAgent) else missed


def mean_reward(agent: Any, probe: Action, observations: np.ndarray, samples: int = 100) -> float:
    """Return the mean reward of the actions that an agent takes; of a stochastic policy over discrete ones, a draw."""
    draws = isinstance(agent, ActorCriticAgent | Reinforce) and not probe.continuous
    rows = np.repeat(observations, samples if draws else 1, 0)
    torch.manual_seed(0)
    actions, _ = agent.act(rows, deterministic=not draws)
    rewards = []
    for row, action in zip(rows[:, 0], actions, strict=True):
        probe.reset()
        probe.seen = float(row)
        rewards.append(probe.step(action)[1])
    return float(np.mean(rewards))


@torch.no_grad()
def values(agent: Any, observations: np.ndarray) -> np.ndarray:
    """Return what an agent has learned of observations (n, 1): V, or Q of the best action; (n,)."""
    if isinstance(agent, TableAgent):
        found: np.ndarray = agent.table.q[agent.cells.states(observations)].max(1)
        return found
    if isinstance(agent, ActorCriticAgent):
        return agent.policy.values(observations)
    given = torch.from_numpy(observations)
    if isinstance(agent, Reinforce):
        assert agent.value is not None
        return as_array(agent.value(agent.inputs(observations)).squeeze(1))
    if isinstance(agent, DQN):
        q = agent.q(agent.inputs(given))
        if isinstance(agent, C51):
            q = agent.distributions(q) @ agent.z
        if isinstance(agent, QRDQN):
            q = agent.quantiles(q).mean(2)
        return as_array(q.amax(1))
    assert isinstance(agent, SAC | DDPG)
    inputs = agent.inputs(given)
    outputs = agent.actor(inputs)[:, :1]  # SAC's deviations come after
    return as_array(agent.critics(inputs, outputs.tanh()).mean(0))
