"""CEM: the cross-entropy method, a search in the space of a policy's parameters that needs no gradient.

Rubinstein, "The Cross-Entropy Method for Combinatorial and Continuous Optimization", Methodology and Computing in
Applied Probability 1 (1999). As a method of learning to act, with noise against early convergence: Szita & Lorincz,
"Learning Tetris Using the Noisy Cross-Entropy Method", Neural Computation 18 (2006).

    mu <- 0, sigma <- initial_std
    repeat, one generation:
        draw theta_1, ..., theta_N from N(mu, sigma^2), each number for itself
        play `episodes` episodes with the policy of each; its mean return is its score
        mu, sigma^2 <- mean and variance of the best `elite` share, and sigma^2 <- sigma^2 + Z_t

The noise Z_t falls linearly to 0. The policy is that of mu: linear in the observation, or a small network.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from rllab.agent import Agent
from rllab.algorithm import Metrics
from rllab.config import Config
from rllab.environments import EnvironmentTask
from rllab.parts.networks import Observations
from rllab.parts.schedules import linear
from rllab.vectorenv import evaluate_episodes


class CEMConfig(Config):
    """Hyperparameters of the cross-entropy method (Szita & Lorincz, 2006)."""

    timesteps: PositiveInt = 100_000
    """Environment steps to train for, over the whole population; the last generation is finished."""

    population: int = Field(default=50, ge=2)
    """Policies that are drawn and tried in a generation, each in an environment of its own."""

    elite: float = Field(default=0.2, gt=0, le=1)
    """Share of the population from which the next one is drawn."""

    episodes: PositiveInt = 1
    """Episodes that each policy plays in a generation."""

    initial_std: PositiveFloat = 1.0
    """Standard deviation of every parameter in the first generation."""

    noise: NonNegativeFloat = 0.5
    """Variance that is added to every parameter's in the first generation, and less and less later."""

    noise_fraction: float = Field(default=0.5, ge=0, le=1)
    """Share of training over which the noise falls to 0."""

    hidden: tuple[PositiveInt, ...] = ()
    """Units of the hidden layers; none: the policy is linear."""

    activation: Literal["tanh", "relu"] = "tanh"
    """What follows each hidden layer."""

    @model_validator(mode="after")
    def _some_are_elite(self) -> Self:
        if (number := round(self.elite * self.population)) < 1:
            needed = f"it has to be at least {1 / self.population:.2g}"
            raise ValueError(f"--elite {self.elite} of --population {self.population} is {number} policies: {needed}")
        return self


class Policies(nn.Module):
    """The distribution of the parameters of a policy, and what a policy does with them.

    Attributes:
        mean: (parameters,) mu.
        std: (parameters,) sigma; both are buffers, so that they are saved as weights.
        sizes: numbers that go into each layer, and at last those that come out.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, sizes: list[int], activation: str, initial_std: float) -> None:
        super().__init__()
        self.sizes = sizes
        self.activation = activation
        self.size = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
        self.register_buffer("mean", torch.zeros(self.size, dtype=torch.float64))
        self.register_buffer("std", torch.full((self.size,), initial_std, dtype=torch.float64))

    def outputs(self, theta: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """Return what each policy says to its own input.

        Args:
            theta: (n, parameters); for each layer the weights (outputs, inputs) and then the biases (outputs,).
            inputs: (n, inputs).

        Returns:
            (n, outputs).
        """
        h, at = inputs, 0
        for number, (fan_in, fan_out) in enumerate(pairwise(self.sizes)):
            if number:
                h = np.tanh(h) if self.activation == "tanh" else np.maximum(h, 0)
            weights = theta[:, at : at + fan_in * fan_out].reshape(-1, fan_out, fan_in)
            at += fan_in * fan_out
            h = (weights @ h[:, :, None])[:, :, 0] + theta[:, at : at + fan_out]  # (n, outputs)
            at += fan_out
        return h


class CEM(Agent):
    """The cross-entropy method on the parameters of a small policy."""

    Config = CEMConfig
    config: CEMConfig
    steps_partly = True
    reductions: ClassVar[Any] = {"train/std": "last", "train/noise": "last"}

    @classmethod
    def refusal(cls, config: CEMConfig, task: EnvironmentTask) -> str | None:
        """Return why it cannot act in `task`."""
        space = task.action_space
        if isinstance(space, spaces.Box):
            if not space.is_bounded():
                return f"it takes Box actions with finite bounds, not {space}"
        elif not isinstance(space, spaces.Discrete):
            return f"it takes Discrete and Box actions, not {space}"
        return Observations.refusal(task.observation_space, "mlp")

    @classmethod
    def work(cls, config: CEMConfig, task: EnvironmentTask) -> float:
        """Return the multiply-adds of acting once; NumPy does them."""
        return float(spaces.flatdim(task.observation_space) * spaces.flatdim(task.action_space))

    def __init__(self, config: CEMConfig, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.vectors = Observations(task.observation_space, "mlp")
        sizes = [self.vectors.size, *config.hidden, spaces.flatdim(task.action_space)]
        self.policies = Policies(sizes, config.activation, config.initial_std)

    def setup(self) -> None:
        """Make an environment for each member of the population."""
        self.envs = self.task.make(self.config.population, self.streams.sequence("environments"), partly=True)
        self.envs.reset()
        self.rng = self.streams.numpy("exploration")

    # --- acting

    def act(
        self, observations: np.ndarray, memory: Any = None, starts: np.ndarray | None = None, *, deterministic: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Act by the mean of the distribution; if not deterministic, by a policy drawn from it for each episode."""
        n, mean, std = len(observations), self.policies.mean.numpy(), self.policies.std.numpy()
        if deterministic:
            theta = np.broadcast_to(mean, (n, len(mean)))  # (n, parameters)
        else:
            fresh = mean + std * torch.randn(n, len(mean), dtype=torch.float64).numpy()
            begin = np.ones(n, bool) if memory is None or starts is None else starts
            theta = np.where(begin[:, None], fresh, fresh if memory is None else memory)
        return self.actions(theta, observations), theta

    def actions(self, theta: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Return the action of each policy (n, parameters) for its own observation, as the environment takes it."""
        inputs = self.vectors(torch.from_numpy(observations)).numpy()
        outputs = self.policies.outputs(theta, inputs)  # (n, actions)
        match self.action_space:
            case spaces.Discrete(start=start):
                chosen: np.ndarray = outputs.argmax(1) + start
                return chosen
            case spaces.Box(low=low, high=high, shape=shape, dtype=dtype):
                share = (np.tanh(outputs).reshape(-1, *shape) + 1) / 2  # from 0 at the lower bound to 1
                actions: np.ndarray = (low + share * (high - low)).clip(low, high).astype(dtype)
                return actions
        raise AssertionError

    # --- learning

    @property
    def noise(self) -> float:
        """Return Z_t, the variance to be added at this moment of training."""
        return linear(self.config.noise, 0.0, self.config.noise_fraction, self.progress)

    def step(self) -> Metrics:
        """Try one generation, and draw the distribution together around its best."""
        config, n = self.config, self.config.population
        mean, std = self.policies.mean.numpy(), self.policies.std.numpy()
        theta = mean + std * self.rng.standard_normal((n, len(mean)))  # (n, parameters)

        # member i plays in environment i, the same number of whole episodes as all others
        returns, lengths = evaluate_episodes(self.envs, lambda seen, _: self.actions(theta, seen), n * config.episodes)
        scores = returns.reshape(config.episodes, n).mean(0)  # (n,)
        self.count += int(lengths.sum())

        best = np.argsort(-scores, kind="stable")[: round(config.elite * n)]
        mean[:] = theta[best].mean(0)
        std[:] = np.sqrt(theta[best].var(0) + self.noise)
        return {
            "train/return": float(returns.mean()),
            "train/elite_return": float(scores[best].mean()),
            "train/best_return": float(scores.max()),
            "train/length": float(lengths.mean()),
            "train/std": float(std.mean()),
            "train/noise": self.noise,
        }
