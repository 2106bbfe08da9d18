"""DQN: deep Q-learning with experience replay and a target network.

Mnih et al., "Human-level control through deep reinforcement learning", Nature 518 (2015).

    repeat
        act epsilon-greedily on Q, store (s, a, r, s', terminal) in the replay buffer
        sample a batch;  y = r + gamma * max_a' Q_target(s', a')      (no second term where s' is terminal)
        take a gradient step on the loss between Q(s, a) and y
        every `target_every` steps:  Q_target <- Q

What has been added since, each by an option:

    --double       y = r + gamma * Q_target(s', argmax_a' Q(s', a'))                (van Hasselt et al., AAAI 2016)
    --dueling      Q(s, a) = V(s) + A(s, a) - mean of A(s, .)                       (Wang et al., ICML 2016)
    --n-step n     r = r_t + ... + gamma^(n-1) r_(t+n-1), gamma = gamma^n, s' = s_(t+n)       (Watkins, 1989)
    --prioritized  the larger its last error, the more often a transition is sampled (Schaul et al., ICLR 2016)
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import nn

from rllab.agent import Agent, crossings, episode_metrics
from rllab.algorithm import Metrics
from rllab.config import Config
from rllab.environments import EnvironmentTask
from rllab.parts.arrays import Numbers, highest, joined, pick, place
from rllab.parts.encoders import Dueling, multiply_adds, network_for
from rllab.parts.experience import check_room, make_replay
from rllab.parts.losses import LOSSES
from rllab.parts.networks import NetworkName, Observations, infer
from rllab.parts.normalise import RunningNormalizer
from rllab.parts.optim import GradientSteps
from rllab.parts.replay import Batch
from rllab.parts.schedules import linear, scheduled
from rllab.parts.twins import polyak
from rllab_agents.off_policy import ReplayConfig


class QNetworkConfig(ReplayConfig):
    """Hyperparameters of DQN, and of what learns a distribution in its place."""

    network: NetworkName = "auto"
    """What looks at observations: mlp, cnn (of the paper), or auto: cnn for images of 36 pixels and more."""

    hidden: tuple[PositiveInt, ...] = (64, 64)
    """Units of the hidden layers; those of a cnn follow its 512 units, and the paper has none."""

    lr: PositiveFloat = 1e-3
    batch_size: PositiveInt = 64
    buffer_size: PositiveInt = 50_000
    learning_starts: NonNegativeInt = 1_000
    max_grad_norm: NonNegativeFloat = 10.0

    target_every: PositiveInt = 500
    """Env steps, over all environments, between two updates of the target network."""

    tau: float = Field(default=1.0, gt=0, le=1)
    """How far the target network moves towards the online one at an update; 1 copies it."""

    double: bool = False
    """The online network chooses the next action, the target network rates it (Double DQN)."""

    dueling: bool = False
    """The network adds up the value of a state and the advantages of actions."""

    n_step: PositiveInt = 1
    """Rewards that are summed up before the value of what comes next; fewer at the end of an episode."""

    prioritized: bool = False
    """Sample transitions by their last error."""

    priority_alpha: float = Field(default=0.6, ge=0)
    """How much the error counts for --prioritized; 0: all transitions are sampled as often."""

    priority_beta: float = Field(default=0.4, ge=0, le=1)
    """How far weights in the loss make up for --prioritized; it goes up to 1 over training."""

    clip_rewards: bool = False
    """Learn from the sign of rewards, as for Atari; the returns that are reported are those of raw ones."""

    exploration_fraction: float = Field(default=0.1, ge=0, le=1)
    """Share of training over which epsilon falls from 1 to --final-epsilon."""

    final_epsilon: float = Field(default=0.05, ge=0, le=1)
    """Share of random actions after that."""

    @model_validator(mode="after")
    def _n_steps_fit(self) -> Self:
        if self.n_step * self.num_envs > self.buffer_size:
            raise ValueError(
                f"--buffer-size {self.buffer_size} has no room for --n-step {self.n_step} of --num-envs "
                f"{self.num_envs}: it takes at least {self.n_step * self.num_envs}"
            )
        return self


class DQNConfig(QNetworkConfig):
    """Hyperparameters of DQN (Mnih et al., 2015)."""

    loss: Literal["huber", "squared"] = "huber"
    """Loss of the temporal-difference error; Huber's is linear beyond 1."""


class DQN(Agent):
    """Deep Q-learning."""

    Config: ClassVar[type[Config]] = DQNConfig
    config: Any
    reductions = {"train/epsilon": "last", "train/lr": "last"}
    in_arrays: ClassVar[bool] = True
    """Whether `targets` and `descend` take arrays as well as tensors, which for a perceptron on the CPU is faster."""

    @classmethod
    def refusal(cls, config: QNetworkConfig, task: EnvironmentTask) -> str | None:
        """Return why it cannot act in `task`: it needs discrete actions, and room for the replay buffer."""
        if not isinstance(task.action_space, spaces.Discrete):
            return f"it takes Discrete actions, not {task.action_space}"
        normalize = config.normalize_observations
        if reason := Observations.refusal(task.observation_space, config.network, normalize=normalize):
            return reason
        check_room(task.observation_space, config.buffer_size, config.num_envs)
        return None

    @classmethod
    def work(cls, config: QNetworkConfig, task: EnvironmentTask) -> float:
        """Return the multiply-adds of a gradient step: forward and backward, and forward for the target."""
        observations = Observations(task.observation_space, config.network)
        outputs = spaces.flatdim(task.action_space) * cls.atoms(config)
        return 4.0 * config.batch_size * multiply_adds(observations, config.hidden, outputs)

    @classmethod
    def atoms(cls, config: Any) -> int:
        """Return how many numbers the network gives for an action."""
        return 1

    def __init__(self, config: Any, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        assert isinstance(task.action_space, spaces.Discrete)
        self.first_action = int(task.action_space.start)
        self.num_actions = int(task.action_space.n)
        self.observed = Observations(task.observation_space, config.network).to(device)
        normalize = config.normalize_observations
        self.normalizer = RunningNormalizer(self.observed.size, device=device) if normalize else None
        outputs, form = self.num_actions * self.atoms(config), {"activation": config.activation}
        if config.dueling:
            self.q: nn.Module = Dueling(self.observed, config.hidden, outputs, atoms=self.atoms(config), **form)
        else:
            self.q = network_for(self.observed, config.hidden, outputs, **form)
        self.q.to(device)
        self.target = copy.deepcopy(self.q).requires_grad_(False)

    def setup(self) -> None:
        """Make the replay buffer and the optimiser."""
        super().setup()
        config = self.config
        self.rng = self.streams.numpy("exploration")
        self.replay_rng = self.streams.numpy("replay")
        self.replay = make_replay(
            self.observation_space,
            config.buffer_size,
            config.num_envs,
            n_step=config.n_step,
            gamma=config.gamma,
            alpha=config.priority_alpha if config.prioritized else None,
            device=self.device,
        )
        self.optimizer = GradientSteps(
            self.q, optimizer=config.optimizer, lr=config.lr, max_grad_norm=config.max_grad_norm, fast=config.fast
        )

    # --- acting

    def inputs(self, observations: Numbers) -> Numbers:
        """Return observations as the network takes them, (batch, size) or (batch, channels, height, width) float32."""
        inputs = self.observed(observations)
        return self.normalizer(inputs) if self.normalizer is not None else inputs

    def greedy(self, observations: np.ndarray) -> np.ndarray:
        """Return the actions of highest value, (n,), counted from 0."""
        q = infer(self.q, self.inputs(observations))  # (n, actions)
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

    @property
    def beta(self) -> float:
        """Return how far weights make up for priorities at this moment of training."""
        return linear(self.config.priority_beta, 1.0, 1.0, self.progress)

    def explore(self, observations: np.ndarray) -> np.ndarray:
        """Return epsilon-greedy actions, (n,), counted from 0."""
        random = self.rng.random(len(observations)) < self.epsilon
        if not random.any():
            return self.greedy(observations)
        actions = self.rng.integers(self.num_actions, size=len(observations))
        return actions if random.all() else np.where(random, actions, self.greedy(observations))

    # --- learning

    def step(self) -> Metrics:
        """Take one step in every environment, and the gradient steps that are due."""
        config, envs = self.config, self.envs
        observations = envs.observations
        actions = self.explore(observations)
        moved = envs.step(actions + self.first_action)
        rewards = np.sign(moved.rewards) if config.clip_rewards else moved.rewards
        self.replay.add(observations, actions, rewards, moved.next_observations, moved.terminated, moved.truncated)
        if self.normalizer is not None:
            self.normalizer.update(self.observed(observations))
        before, self.count = self.count, self.count + envs.num_envs

        metrics = episode_metrics(moved.episodes)
        if updates := crossings(before, self.count, config.target_every):
            self.update_target(updates)
        if self.count > config.learning_starts:
            rounds = crossings(before, self.count, config.train_every)
            metrics |= self.learn(rounds * config.gradient_steps)
        return metrics

    @torch.no_grad()
    @np.errstate(all="ignore")  # the optimiser finds a loss that is not finite
    def learn(self, gradient_steps: int) -> Metrics:
        """Take gradient steps, each on a fresh batch."""
        if not gradient_steps:
            return {}
        lr = scheduled(self.config.lr, self.config.schedule, self.progress)
        size = self.config.batch_size
        # all batches at once, unless each changes what the next one is, or they are large
        rounds = gradient_steps if self.config.prioritized or self.observed.is_image else 1
        losses = []
        for _ in range(rounds):
            drawn = self.replay.sample(gradient_steps // rounds * size, self.replay_rng, self.beta)
            if self.in_arrays and self.optimizer.takes_arrays:
                drawn = drawn.numpy()
            next_q = self.next_q(drawn)  # the target network stands still meanwhile
            for i, batch in enumerate(drawn.split(size)):
                y = self.targets(batch, next_q[i * size : (i + 1) * size])
                losses.append(self.descend(batch, y, lr))
        loss = losses[0] if gradient_steps == 1 else sum(losses) / gradient_steps
        return {"train/loss": loss, "train/epsilon": self.epsilon, "train/lr": lr}

    def next_q(self, batch: Batch) -> Numbers:
        """Return Q_target(s', a') for every action a', (batch, actions)."""
        # more at once do not fit into the cache
        return joined([self.target(self.inputs(part.next_observations)) for part in batch.split(1024)])

    def targets(self, batch: Batch, next_q: Numbers) -> Numbers:
        """Return y = r + gamma * Q_target(s', a'), without the second term where s' is terminal, (batch,)."""
        if self.config.double:
            value = pick(next_q, self.q(self.inputs(batch.next_observations)).argmax(1))  # (batch,)
        else:
            value = highest(next_q)  # (batch,)
        return batch.rewards + batch.discounts(self.config.gamma) * value

    def descend(self, batch: Batch, y: Numbers, lr: float) -> Numbers:
        """Take a gradient step on the loss between Q(s, a) and y; return the loss, a mean over the batch."""
        q = self.optimizer.forward(self.inputs(batch.observations))  # (batch, actions)
        error = pick(q, batch.actions) - y
        assert error.shape == (self.config.batch_size,)
        loss, slope = LOSSES[self.config.loss](error, batch.weights)
        self.optimizer.descend(loss, place(slope, batch.actions, q), lr=lr)  # 0 for the actions not taken
        self.replay.update(batch, error)
        return loss

    def update_target(self, updates: int = 1) -> None:
        """Move the target network towards the online one: by `tau`, `updates` times; all the way if it is 1."""
        polyak(self.target, self.q, 1 - (1 - self.config.tau) ** updates)
