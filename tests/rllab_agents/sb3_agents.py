"""Small agents of stable-baselines3, and environments for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from rllab_agents.sb3.base import SB3Agent
from stable_baselines3.common.envs import BitFlippingEnv

from rllab import experiment, planning
from rllab.seeding import global_state, set_global_state

OFF = {"timesteps": 70, "buffer_size": 30, "learning_starts": 20, "batch_size": 8, "hidden": "8", "eval_episodes": 2}
DQN = {**OFF, "timesteps": 88, "train_every": 4, "gradient_steps": 2, "target_every": 10, "exploration_fraction": 0.5}
BOX = {**OFF, "max_episode_steps": 30}
ON = {"timesteps": 120, "num_envs": 2, "hidden": "8", "eval_episodes": 2}
PPO = {**ON, "rollout_steps": 10, "batch_size": 10, "update_epochs": 2}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "sb3-dqn": ("CartPole-v1", DQN),
    "sb3-ppo": ("CartPole-v1", PPO),
    "sb3-a2c": ("CartPole-v1", ON),
    "sb3-sac": ("Pendulum-v1", BOX),
    "sb3-td3": ("Pendulum-v1", {**BOX, "action_noise": 0.1, "noise_process": "ornstein-uhlenbeck"}),
    "sb3-ddpg": ("Pendulum-v1", {**BOX, "num_envs": 2, "train_every": 2, "action_noise": 0.1}),
}
NAMES = sorted(SMALL)
STEPS = {"sb3-dqn": 10, "sb3-ppo": 3, "sb3-a2c": 6, "sb3-sac": 33, "sb3-td3": 33, "sb3-ddpg": 17}
"""Steps after which there were updates, and a replay buffer is full."""


class Goals(BitFlippingEnv):
    def __init__(self) -> None:
        super().__init__(n_bits=3, continuous=False, max_steps=5)


class FromFive(gymnasium.Env):
    """An action is told from the others by its reward; the observation is the number of steps."""

    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space = spaces.Discrete(2, start=5)
    metadata: dict[str, Any] = {"render_modes": []}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert action in {5, 6}, action
        self.at += 1
        return np.array([self.at], np.float32), float(action), False, self.at == 7, {}


class Opaque(FromFive):
    """Nothing tells how far its episode is: a checkpoint cannot keep it."""

    def __init__(self) -> None:
        self.hidden = iter(range(0))

    def reset(self, *, seed=None, options=None):
        self.hidden = iter(range(1, 100))
        self.drift = np.random.default_rng().integers(1, 50)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        at = next(self.hidden)
        return np.array([at + self.drift], np.float32), 0.0, False, at == 40, {}


class Looking(gymnasium.Env):
    """Images of any space."""

    action_space = spaces.Discrete(2)
    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, shape=(40, 48, 3)) -> None:
        self.observation_space = spaces.Box(0, 255, tuple(shape), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.look(), {}

    def step(self, action):
        self.at += 1
        return self.look(), 1.0, self.at == 4, False, {}

    def look(self):
        return np.full(self.observation_space.shape, 10 * self.at, np.uint8)


ENVS = {"SB3Goals-v0": Goals, "SB3FromFive-v0": FromFive, "SB3Opaque-v0": Opaque, "SB3Looking-v0": Looking}


@contextmanager
def registered() -> Iterator[None]:
    """Let the environments be made by name; put the global generators and the threads back afterwards."""
    threads, before = torch.get_num_threads(), global_state()
    for name, kind in ENVS.items():
        gymnasium.register(name, kind)
    try:
        yield
    finally:
        for name in ENVS:
            del gymnasium.registry[name]
        torch.set_num_threads(threads)
        set_global_state(before)


def plan(name: str, target: str, **options: Any) -> planning.Plan:
    return planning.plan(name, target, {"preset": "none", "device": "cpu", **options})


def built(name: str, target: str, *, setup: bool = True, **options: Any) -> SB3Agent:
    agent, _ = experiment.build(plan(name, target, **options))
    assert isinstance(agent, SB3Agent)
    if setup:
        agent.setup()
    return agent


def trained(name: str, target: str, **options: Any) -> SB3Agent:
    agent = built(name, target, **options)
    while agent.count < agent.budget:
        agent.step()
    return agent
