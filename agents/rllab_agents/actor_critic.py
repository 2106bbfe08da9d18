"""What actor-critic methods share: options, and the rollouts that their networks (policies.py) are trained on.

A method page (a2c.py, ppo.py) says what it makes of a rollout: its loss and its loop.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from rllab.agent import Agent, GradientConfig, episode_metrics
from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.parts import distributions
from rllab.parts.distributions import distribution_for
from rllab.parts.encoders import multiply_adds
from rllab.parts.networks import Activation, NetworkName, Observations
from rllab.parts.normalise import ReturnNormalizer
from rllab.parts.optim import GradientSteps
from rllab.parts.returns import gae
from rllab.parts.rollout import Rollout
from rllab_agents.policies import ActorCritic


class ActorCriticConfig(GradientConfig):
    """Hyperparameters of methods with an actor and a critic."""

    num_envs: PositiveInt = 8

    rollout_steps: PositiveInt = 5
    """Steps of each environment between two updates."""

    network: NetworkName = "auto"
    """What looks at observations: mlp; cnn, which actor and critic share; or auto, by the space."""

    hidden: tuple[PositiveInt, ...] = (64, 64)
    """Units of the hidden layers, of which actor and critic have their own; for images, of those after the CNN."""

    activation: Activation = "tanh"

    orthogonal: bool = True
    """Start from orthogonal weights, those of the last layer of the actor small; else from torch's own."""

    initial_std: PositiveFloat = 1.0
    """Standard deviation of Box actions at the start, in their units; it is learned, one number for each dimension."""

    normalize_observations: bool = False
    """Shift and scale observations by running statistics, which are saved with the weights."""

    normalize_returns: bool = False
    """Divide the rewards that are learned from by the running standard deviation of discounted returns."""

    normalize_advantages: bool = False
    """Shift and scale the advantages of each gradient step's batch to mean 0 and variance 1."""

    max_grad_norm: NonNegativeFloat = 0.5
    """The gradient, over all networks together, is clipped to this norm; 0: no clipping."""

    gae_lambda: float = Field(default=1.0, ge=0, le=1)
    """Generalised advantage estimation: 1 takes all rewards of the rollout, 0 the first one and the critic's word."""

    value_coef: NonNegativeFloat = 0.5
    """Weight of the critic's loss."""

    entropy_coef: NonNegativeFloat = 0.0
    """Weight of the policy's entropy, which is to be high."""

    @model_validator(mode="after")
    def _a_rollout_fits(self) -> Self:
        whole_rollout(self)
        return self


def whole_rollout(config: Any) -> int:
    """Return the steps of a rollout, over all environments.

    Raises:
        ValueError: if the budget is smaller.
    """
    rollout = int(config.num_envs * config.rollout_steps)
    if rollout > config.timesteps:
        most = config.timesteps // config.num_envs
        say = f"--rollout-steps {most} or fewer" if most else f"--timesteps {rollout} or more"
        raise ValueError(
            f"--timesteps {config.timesteps} is less than one rollout, --num-envs {config.num_envs} times "
            f"--rollout-steps {config.rollout_steps}: say {say}"
        )
    return rollout


class ActorCriticAgent(Agent):
    """An agent with an actor and a critic, which collects rollouts.

    Attributes:
        policy: the networks.
        rollout: the last T steps of n environments, filled by `collect`.
        memory: of the LSTM, before the next step; None without one.
        first_memory: of the LSTM, before the first step of the rollout.
    """

    transient: ClassVar[frozenset[str]] = Agent.transient | {"rollout", "first_memory"}  # filled anew at each step
    reductions = {"train/lr": "last"}

    @classmethod
    def refusal(cls, config: ActorCriticConfig, task: EnvironmentTask) -> str | None:
        """Return why it cannot act in `task`, or None if it can."""
        reason = distributions.refusal(task.action_space)
        normalize = config.normalize_observations
        return reason or Observations.refusal(task.observation_space, config.network, normalize=normalize)

    @classmethod
    def batch(cls, config: Any) -> int:
        """Return how many rows a gradient step takes: the whole rollout."""
        return int(config.num_envs * config.rollout_steps)

    @classmethod
    def work(cls, config: ActorCriticConfig, task: EnvironmentTask) -> float:
        """Return the multiply-adds of a gradient step: forward and twice as many backward, of actor and critic."""
        observations = Observations(task.observation_space, config.network)
        outputs = distribution_for(task.action_space).outputs
        networks = (multiply_adds(observations, config.hidden, n) for n in (outputs, 1))
        return 3.0 * cls.batch(config) * sum(networks)

    def __init__(self, config: Any, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.policy = ActorCritic(task, config, lstm=self.lstm_units(config), device=device)
        self.returns = ReturnNormalizer(config.gamma, device=device) if config.normalize_returns else None

    @staticmethod
    def lstm_units(config: Any) -> int:
        """Return the units of the LSTM before actor and critic; 0 for none."""
        return 0

    def setup(self) -> None:
        """Make the environments, the rollout and the optimiser."""
        super().setup()
        config, space, distribution = self.config, self.observation_space, self.policy.distribution
        assert space.shape is not None
        self.rng = self.streams.numpy("exploration")
        self.rollout = Rollout(
            config.rollout_steps,
            config.num_envs,
            space.shape,
            space.dtype,
            distribution.action_shape,
            distribution.action_dtype,
        )
        self.memory: Tensor | None = None
        if units := self.lstm_units(config):
            self.memory = torch.zeros(2, config.num_envs, units, device=self.device)
        self.optimizer = GradientSteps(
            self.policy,
            optimizer=config.optimizer,
            lr=config.lr,
            max_grad_norm=config.max_grad_norm,
            eps=1e-5,
            fast=config.fast,
        )

    def act(
        self,
        observations: np.ndarray,
        memory: Any = None,
        starts: np.ndarray | None = None,
        *,
        deterministic: bool,
    ) -> tuple[np.ndarray, Any]:
        """Take the most probable action, or one drawn from the policy."""
        rng = None if deterministic else np.random.default_rng(int(torch.randint(2**62, ())))
        actions, memory = self.policy.act(observations, memory, starts, rng)
        return self.policy.distribution.to_environment(actions), memory

    def collect(self) -> Metrics:
        """Fill the rollout by acting; return what episodes ended in it."""
        envs, rollout, policy = self.envs, self.rollout, self.policy
        episodes = []
        self.first_memory = self.memory
        for t in range(rollout.steps):
            rollout.look(t, envs.observations, envs.starts)
            actions, self.memory = policy.act(envs.observations, self.memory, rollout.starts[t], self.rng)
            moved = envs.step(policy.distribution.to_environment(actions))
            rollout.add(t, actions, moved)
            if moved.truncated.any():
                cut = np.flatnonzero(moved.truncated)
                memory = self.memory[:, cut] if self.memory is not None else None
                rollout.final_values[t, cut] = policy.values(moved.next_observations[cut], memory)
            episodes += moved.episodes
        rollout.look(rollout.steps, envs.observations, envs.starts)
        self.count += len(rollout)
        return episode_metrics(episodes)

    # --- what the rollout says; its T * n steps are B rows, those of a time step side by side

    def experience(self) -> tuple[Tensor, Tensor]:
        """Return the inputs of the networks, (B, ...), and the actions, (B, *action)."""
        rollout = self.rollout
        actions = torch.from_numpy(_rows(rollout.actions)).to(self.device)
        return self.policy.prepare(_rows(rollout.observations[:-1])), actions

    def estimates(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return advantages by GAE, and the returns that the critic is to learn, (B,) both.

        The returns are advantages + values, of advantages that are not normalised.

        Args:
            values: (B,), V(s_t).
        """
        rollout, config = self.rollout, self.config
        v = np.empty((rollout.steps + 1, rollout.num_envs), np.float32)  # V of all observations
        v[:-1] = values.numpy(force=True).reshape(rollout.steps, rollout.num_envs)
        # where the last step ended an episode, this is of the next one, and stands for nothing
        v[-1] = self.policy.values(rollout.observations[-1], self.memory)
        advantages = gae(
            self._rewards(),
            v[:-1],
            rollout.next_values(v),
            rollout.terminated,
            rollout.truncated,
            config.gamma,
            config.gae_lambda,
        )
        both = np.stack([advantages, advantages + v[:-1]]).astype(np.float32).reshape(2, -1)
        advantage, returns = torch.from_numpy(both).to(self.device)
        return advantage, returns

    def _rewards(self) -> np.ndarray:
        """Return the rewards to learn from, (T, n): normalised if asked for."""
        if self.returns is None:
            return self.rollout.rewards
        self.returns.update(self.rollout.rewards, self.rollout.ended)
        return self.returns.scale(self.rollout.rewards)


def _rows(array: np.ndarray) -> np.ndarray:
    """Return (T, n, ...) as (T * n, ...)."""
    return array.reshape(-1, *array.shape[2:])
