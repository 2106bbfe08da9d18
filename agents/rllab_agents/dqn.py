"""DQN: deep Q-learning with experience replay and a target network.

Mnih et al., "Human-level control through deep reinforcement learning", Nature 518 (2015).
With `--double`: van Hasselt et al., "Deep Reinforcement Learning with Double Q-learning", AAAI (2016).

    repeat
        act epsilon-greedily on Q, store (s, a, r, s', terminal) in the replay buffer
        sample a batch;  y = r + gamma * max_a' Q_target(s', a')      (no second term where s' is terminal)
        take a gradient step on the loss between Q(s, a) and y
        every `target_every` steps:  Q_target <- Q
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from rllab.agent import Agent, AgentConfig, crossings, episode_metrics
from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.parts.losses import LOSSES
from rllab.parts.networks import Activation, Observations, infer, mlp
from rllab.parts.normalise import RunningNormalizer
from rllab.parts.optim import GradientSteps, OptimizerName
from rllab.parts.replay import Batch, ReplayBuffer
from rllab.parts.schedules import Schedule, linear, scheduled


class DQNConfig(AgentConfig):
    """Hyperparameters of DQN (Mnih et al., 2015)."""

    hidden: tuple[PositiveInt, ...] = (64, 64)
    """Units of the hidden layers."""

    activation: Activation = "relu"
    """What follows each hidden layer."""

    normalize_observations: bool = False
    """Shift and scale observations by running statistics, which are saved with the weights."""

    optimizer: OptimizerName = "adam"
    """The rule for gradient steps."""

    lr: PositiveFloat = 1e-3
    """Step size of the optimiser."""

    schedule: Schedule = "constant"
    """How the step size goes on: constant, linear or cosine to 0 at the end, or onecycle, up and then down."""

    batch_size: PositiveInt = 64
    """Transitions in a gradient step."""

    buffer_size: PositiveInt = 50_000
    """Transitions the replay buffer holds."""

    learning_starts: NonNegativeInt = 1_000
    """Env steps before the first gradient step."""

    train_every: PositiveInt = 1
    """Env steps, over all environments, between two rounds of gradient steps."""

    gradient_steps: PositiveInt = 1
    """Gradient steps in a round, each on a batch of its own."""

    target_every: PositiveInt = 500
    """Env steps, over all environments, between two updates of the target network."""

    tau: float = Field(default=1.0, gt=0, le=1)
    """How far the target network moves towards the online one at an update; 1 copies it."""

    double: bool = False
    """The online network chooses the next action, the target network rates it (Double DQN)."""

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount of a reward one step later."""

    loss: Literal["huber", "squared"] = "huber"
    """Loss of the temporal-difference error; Huber's is linear beyond 1."""

    max_grad_norm: NonNegativeFloat = 10.0
    """The gradient is clipped to this norm; 0: no clipping."""

    exploration_fraction: float = Field(default=0.1, ge=0, le=1)
    """Share of training over which epsilon falls from 1 to --final-epsilon."""

    final_epsilon: float = Field(default=0.05, ge=0, le=1)
    """Share of random actions after that."""

    @model_validator(mode="after")
    def _updates_happen(self) -> Self:
        if self.learning_starts >= self.timesteps:
            raise ValueError(
                f"--learning-starts {self.learning_starts} is not below --timesteps {self.timesteps}: "
                "no update would ever happen"
            )
        # a round comes after each multiple of train_every that is above learning_starts and at most timesteps
        if self.timesteps // self.train_every <= self.learning_starts // self.train_every:
            raise ValueError(
                f"--train-every {self.train_every} has no multiple above --learning-starts {self.learning_starts} "
                f"and up to --timesteps {self.timesteps}: no update would ever happen; make --train-every smaller"
            )
        return self


class DQN(Agent):
    """Deep Q-learning."""

    Config = DQNConfig
    config: DQNConfig
    reductions = {"train/epsilon": "last", "train/lr": "last"}

    @classmethod
    def refusal(cls, config: DQNConfig, task: EnvironmentTask) -> str | None:
        """Return why DQN cannot act in `task`: it needs discrete actions, and vectors to look at."""
        if not isinstance(task.action_space, spaces.Discrete):
            return f"it takes Discrete actions, not {task.action_space}"
        return Observations.refusal(task.observation_space)

    @classmethod
    def work(cls, config: DQNConfig, task: EnvironmentTask) -> float:
        """Return the multiply-adds of a gradient step: forward and backward, and forward for the target."""
        sizes = [spaces.flatdim(task.observation_space), *config.hidden, spaces.flatdim(task.action_space)]
        return 4.0 * config.batch_size * sum(a * b for a, b in pairwise(sizes))

    def __init__(self, config: DQNConfig, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        assert isinstance(task.action_space, spaces.Discrete)
        self.first_action = int(task.action_space.start)
        self.num_actions = int(task.action_space.n)
        self.vectors = Observations(task.observation_space).to(device)
        self.normalizer = RunningNormalizer(self.vectors.size, device=device) if config.normalize_observations else None
        self.q = mlp(self.vectors.size, config.hidden, self.num_actions, config.activation).to(device)
        self.target = copy.deepcopy(self.q).requires_grad_(False)

    def setup(self) -> None:
        """Make the replay buffer and the optimiser."""
        super().setup()
        config, space = self.config, self.observation_space
        assert space.shape is not None
        self.rng = self.streams.numpy("exploration")
        self.replay_rng = self.streams.numpy("replay")
        self.replay = ReplayBuffer(config.buffer_size, space.shape, space.dtype, device=self.device)
        self.optimizer = GradientSteps(
            self.q, optimizer=config.optimizer, lr=config.lr, max_grad_norm=config.max_grad_norm
        )

    # --- acting

    def inputs(self, observations: Tensor) -> Tensor:
        """Return observations as the network takes them, (batch, size) float32."""
        vectors: Tensor = self.vectors(observations)
        return self.normalizer(vectors) if self.normalizer is not None else vectors

    def greedy(self, observations: np.ndarray) -> np.ndarray:
        """Return the actions of highest value, (n,), counted from 0."""
        q = infer(self.q, self.inputs(torch.from_numpy(observations).to(self.device)))  # (n, actions)
        actions: np.ndarray = q.argmax(1)
        return actions

    def act(
        self,
        observations: np.ndarray,
        memory: Any = None,
        starts: np.ndarray | None = None,
        *,
        deterministic: bool,
    ) -> tuple[np.ndarray, None]:
        """Take the action of highest value; if not deterministic, a random one now and then, as at training's end."""
        actions = self.greedy(observations)
        if not deterministic:
            random = torch.rand(len(actions)).numpy() < self.config.final_epsilon
            actions = np.where(random, torch.randint(self.num_actions, (len(actions),)).numpy(), actions)
        return actions + self.first_action, None

    @property
    def epsilon(self) -> float:
        """Return the share of random actions at this moment of training."""
        return linear(1.0, self.config.final_epsilon, self.config.exploration_fraction, self.progress)

    def explore(self, observations: np.ndarray) -> np.ndarray:
        """Return epsilon-greedy actions, (n,), counted from 0."""
        random = self.rng.random(len(observations)) < self.epsilon
        actions = self.rng.integers(self.num_actions, size=len(observations))
        if not random.any():
            return self.greedy(observations)
        return actions if random.all() else np.where(random, actions, self.greedy(observations))

    # --- learning

    def step(self) -> Metrics:
        """Take one step in every environment, and the gradient steps that are due."""
        config, envs = self.config, self.envs
        observations = envs.observations
        actions = self.explore(observations)
        moved = envs.step(actions + self.first_action)
        self.replay.add(observations, actions, moved.rewards, moved.next_observations, moved.terminated)
        if self.normalizer is not None:
            self.normalizer.update(self.vectors(torch.from_numpy(observations).to(self.device)))
        before, self.count = self.count, self.count + envs.num_envs

        metrics = episode_metrics(moved.episodes)
        if updates := crossings(before, self.count, config.target_every):
            self.update_target(updates)
        if self.count > config.learning_starts:
            rounds = crossings(before, self.count, config.train_every)
            metrics |= self.learn(rounds * config.gradient_steps)
        return metrics

    @torch.no_grad()
    def learn(self, gradient_steps: int) -> Metrics:
        """Take gradient steps, each on a fresh batch."""
        if not gradient_steps:
            return {}
        lr = scheduled(self.config.lr, self.config.schedule, self.progress)
        size = self.config.batch_size
        drawn = self.replay.sample(gradient_steps * size, self.replay_rng)
        next_q = self.next_q(drawn)  # of all batches at once: the target network stands still meanwhile
        losses = []
        for batch, batch_next_q in zip(drawn.split(size), torch.split(next_q, size), strict=True):
            y = self.targets(batch, batch_next_q)
            losses.append(self.descend(batch, y, lr))
        loss = losses[0] if gradient_steps == 1 else torch.stack(losses).mean()
        return {"train/loss": loss, "train/epsilon": self.epsilon, "train/lr": lr}

    def next_q(self, batch: Batch) -> Tensor:
        """Return Q_target(s', a') for every action a', (batch, actions)."""
        parts = [self.target(self.inputs(observations)) for observations in torch.split(batch.next_observations, 1024)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]  # more at once do not fit into the cache

    def targets(self, batch: Batch, next_q: Tensor) -> Tensor:
        """Return y = r + gamma * Q_target(s', a'), without the second term where s' is terminal, (batch,)."""
        if self.config.double:
            best = self.q(self.inputs(batch.next_observations)).argmax(1, keepdim=True)  # (batch, 1)
            value = next_q.gather(1, best).squeeze(1)  # (batch,)
        else:
            value = next_q.amax(1)  # (batch,)
        return batch.rewards + self.config.gamma * (1 - batch.terminated) * value

    def descend(self, batch: Batch, y: Tensor, lr: float) -> Tensor:
        """Take a gradient step on the loss between Q(s, a) and y; return the loss, a mean over the batch."""
        q = self.optimizer.forward(self.inputs(batch.observations))  # (batch, actions)
        actions = batch.actions[:, None]
        error = q.gather(1, actions).squeeze(1) - y
        assert error.shape == (self.config.batch_size,)
        loss, slope = LOSSES[self.config.loss](error)
        gradient = torch.zeros_like(q).scatter_(1, actions, slope[:, None])  # 0 for the actions not taken
        self.optimizer.descend(loss, gradient, lr=lr)
        return loss

    @torch.no_grad()
    def update_target(self, updates: int = 1) -> None:
        """Move the target network towards the online one: by `tau`, `updates` times; all the way if it is 1."""
        share = 1 - (1 - self.config.tau) ** updates
        for target, online in zip(self.target.parameters(), self.q.parameters(), strict=True):
            target.lerp_(online, share)
