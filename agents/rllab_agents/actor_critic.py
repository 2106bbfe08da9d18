"""What actor-critic methods share: two networks, pi(a|s) and V(s), and the rollouts they are trained on.

A method page (a2c.py, ppo.py) says what it makes of a rollout: its loss and its loop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from rllab.agent import Agent, AgentConfig, episode_metrics
from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.parts import distributions
from rllab.parts.backprop import Backprop, Passes
from rllab.parts.distributions import distribution_for
from rllab.parts.encoders import NatureCNN, multiply_adds
from rllab.parts.networks import Activation, NetworkName, Observations, infer, mlp
from rllab.parts.normalise import ReturnNormalizer, RunningNormalizer
from rllab.parts.optim import GradientSteps, OptimizerName
from rllab.parts.returns import gae
from rllab.parts.rollout import Rollout
from rllab.parts.schedules import Schedule


class ActorCriticConfig(AgentConfig):
    """Hyperparameters of methods with an actor and a critic."""

    num_envs: PositiveInt = 8

    rollout_steps: PositiveInt = 5
    """Steps of each environment between two updates."""

    network: NetworkName = "auto"
    """What looks at observations: mlp; cnn, which actor and critic share; or auto, by the space."""

    hidden: tuple[PositiveInt, ...] = (64, 64)
    """Units of the hidden layers, of which actor and critic have their own; for images, of those after the CNN."""

    activation: Activation = "tanh"
    """What follows each hidden layer."""

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

    optimizer: OptimizerName = "adam"
    """The rule for gradient steps."""

    lr: PositiveFloat = 3e-4
    """Step size of the optimiser."""

    schedule: Schedule = "constant"
    """How the step size goes on: constant, linear or cosine to 0 at the end, or onecycle, up and then down."""

    max_grad_norm: NonNegativeFloat = 0.5
    """The gradient, over all networks together, is clipped to this norm; 0: no clipping."""

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount of a reward one step later."""

    gae_lambda: float = Field(default=1.0, ge=0, le=1)
    """Generalised advantage estimation: 1 takes all rewards of the rollout, 0 the first one and the critic's word."""

    value_coef: NonNegativeFloat = 0.5
    """Weight of the critic's loss."""

    entropy_coef: NonNegativeFloat = 0.0
    """Weight of the policy's entropy, which is to be high."""

    @model_validator(mode="after")
    def _a_rollout_fits(self) -> Self:
        if (rollout := self.num_envs * self.rollout_steps) > self.timesteps:
            most = self.timesteps // self.num_envs
            say = f"--rollout-steps {most} or fewer" if most else f"--timesteps {rollout} or more"
            raise ValueError(
                f"--timesteps {self.timesteps} is less than one rollout, --num-envs {self.num_envs} times "
                f"--rollout-steps {self.rollout_steps}: say {say}"
            )
        return self


class Actor(nn.Module):
    """A policy network: (B, inputs) -> (B, outputs), the numbers of a distribution over actions.

    Args:
        body: gives those that depend on the state.
        deviations: how many more there are that do not: the logarithms of the standard deviations of Box actions, which
            are parameters of their own.
        initial_std: the standard deviation at the start.
    """

    def __init__(self, body: nn.Module, deviations: int, initial_std: float) -> None:
        super().__init__()
        self.body = body
        self.log_std = nn.Parameter(torch.full((deviations,), math.log(initial_std))) if deviations else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, outputs) for (B, inputs)."""
        h: Tensor = self.body(inputs)
        return h if self.log_std is None else torch.cat([h, self.log_std.expand(len(h), -1)], 1)

    def infer(self, inputs: Tensor) -> np.ndarray:
        """Return (B, outputs) as an array, to act on."""
        h = infer(self.body, inputs)
        if self.log_std is None:
            return h
        log_std = self.log_std.numpy(force=True)
        return np.concatenate([h, np.broadcast_to(log_std, (len(h), len(log_std)))], 1)


class ActorCritic(nn.Module):
    """The networks: an actor that gives the numbers of a distribution over actions, and a critic that gives V(s).

    Images go through a CNN first, which both share, and with `lstm` what comes then through an LSTM, which both share.
    The batches of an LSTM are whole sequences, one step after the other: row t * n + i is step t of environment i.

    Args:
        task: whose spaces they are for; `ActorCriticAgent.refusal` has agreed.
        config: the hyperparameters.
        lstm: units of the LSTM; 0 for none.
        device: where they are.
    """

    def __init__(
        self, task: EnvironmentTask, config: ActorCriticConfig, *, lstm: int = 0, device: torch.device
    ) -> None:
        super().__init__()
        self.device = device
        self.vectors = Observations(task.observation_space, config.network)
        self.normalizer = RunningNormalizer(self.vectors.size, device=device) if config.normalize_observations else None
        self.distribution = distribution_for(task.action_space)
        self.cnn = NatureCNN(self.vectors.shape) if self.vectors.is_image else None
        features = self.cnn.features if self.cnn is not None else self.vectors.size
        self.lstm = nn.LSTMCell(features, lstm) if lstm else None
        means = self.distribution.outputs - self.distribution.constants
        body = mlp(lstm or features, config.hidden, means, config.activation)
        self.actor = Actor(body, self.distribution.constants, config.initial_std)
        self.critic = mlp(lstm or features, config.hidden, 1, config.activation)
        if config.orthogonal:
            for part in filter(None, (self.cnn, self.lstm)):
                orthogonal(part)
            orthogonal(self.actor.body, last=0.01)
            orthogonal(self.critic, last=1.0)
        self.to(device)

    # --- from observations to numbers

    def prepare(self, observations: np.ndarray) -> Tensor:
        """Return observations (B, *observation) as `forward` takes them: vectors normalised, images as they are."""
        given = torch.from_numpy(observations).to(self.device)
        if self.vectors.is_image:  # kept as bytes: as floats, a rollout of them takes four times the room
            return given
        vectors: Tensor = self.vectors(given)  # (B, size)
        return self.normalizer(vectors) if self.normalizer is not None else vectors

    def notice(self, observations: np.ndarray) -> None:
        """Take observations (..., *observation) into the statistics of the normaliser."""
        if self.normalizer is not None:
            space: Any = self.vectors.space
            given = torch.from_numpy(observations.reshape(-1, *space.shape)).to(self.device)
            self.normalizer.update(self.vectors(given))

    def features(
        self, inputs: Tensor, memory: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return what actor and critic look at, (B, features), and the memory after the last step.

        Args:
            inputs: (B, ...) from `prepare`.
            memory: (2, n, units), of the LSTM before the first step; None: empty.
            starts: (B,) bool, where the memory is emptied first; None: nowhere.
        """
        h = self.cnn(self.vectors(inputs)) if self.cnn is not None else inputs
        return (h, None) if self.lstm is None else self._remember(self.lstm, h, memory, starts)

    def _remember(
        self, lstm: nn.LSTMCell, h: Tensor, memory: Tensor | None, starts: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        n = len(h) if memory is None else memory.shape[1]
        hidden, cell = h.new_zeros(2, n, lstm.hidden_size) if memory is None else memory  # (n, units) each
        steps: list[Tensor] = []
        goes_on = None if starts is None else (~starts).float().reshape(-1, n, 1)  # (T, n, 1)
        for t, x in enumerate(torch.split(h, n)):
            if goes_on is not None:
                hidden, cell = hidden * goes_on[t], cell * goes_on[t]
            hidden, cell = lstm(x, (hidden, cell))
            steps.append(hidden)
        return torch.cat(steps), torch.stack([hidden, cell])

    def forward(
        self, inputs: Tensor, memory: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the numbers of the distribution, (B, outputs), and the values, (B,); see `features`."""
        h, _ = self.features(inputs, memory, starts)
        return self.actor(h), self.critic(h).squeeze(1)

    @torch.no_grad()
    def look_back(self, inputs: Tensor, memory: Tensor | None, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` does for many steps, without a graph."""
        if self.lstm is not None:
            return self.forward(inputs, memory, starts)
        outputs, values = zip(*map(self, torch.split(inputs, 1024)), strict=True)  # more do not fit into the cache
        return torch.cat(outputs), torch.cat(values)

    def written_out(self, gradients: Sequence[Tensor]) -> Passes | None:
        """Return the passes of actor and critic, where nothing comes before them that needs autograd."""
        if self.cnn is not None or self.lstm is not None or not Backprop.handles(self.critic):
            return None
        return _Passes(self, dict(zip((name for name, _ in self.named_parameters()), gradients, strict=True)))

    # --- acting, in NumPy

    @torch.no_grad()
    def act(
        self,
        observations: np.ndarray,
        memory: Tensor | None,
        starts: np.ndarray | None,
        rng: np.random.Generator | None,
    ) -> tuple[np.ndarray, Tensor | None]:
        """Return actions as they were drawn, (n, *action), and the memory; the most probable ones without `rng`."""
        begun = None if starts is None or self.lstm is None else torch.from_numpy(starts).to(self.device)
        h, memory = self.features(self.prepare(observations), memory, begun)
        outputs = self.actor.infer(h)  # (n, outputs)
        chosen = self.distribution.mode(outputs) if rng is None else self.distribution.sample(outputs, rng)
        return chosen, memory

    @torch.no_grad()
    def values(self, observations: np.ndarray, memory: Tensor | None = None) -> np.ndarray:
        """Return V(s), (n,), after what `memory` has seen."""
        h, _ = self.features(self.prepare(observations), memory)
        values: np.ndarray = infer(self.critic, h)[:, 0]
        return values


class _Passes:
    """`ActorCritic.forward` without CNN and LSTM, and the way back."""

    def __init__(self, policy: ActorCritic, gradients: Mapping[str, Tensor]) -> None:
        of_actor, of_critic = (
            [gradient for name, gradient in gradients.items() if name.startswith(start)]
            for start in ("actor.body.", "critic.")
        )
        self._actor = Backprop(policy.actor.body, of_actor)
        self._critic = Backprop(policy.critic, of_critic)
        self._log_std = None if policy.actor.log_std is None else policy.actor.log_std.detach()
        self._by_log_std = gradients.get("actor.log_std")

    def forward(self, inputs: Any, *_: Any) -> Any:
        outputs = self._actor.forward(inputs)
        if self._log_std is not None:
            outputs = torch.cat([outputs, self._log_std.expand(len(outputs), -1)], 1)
        return outputs, self._critic.forward(inputs).squeeze(1)

    def backward(self, gradient: tuple[Tensor, Tensor]) -> None:
        by_outputs, by_values = gradient  # (B, outputs), (B,)
        if self._by_log_std is not None:
            constants = len(self._by_log_std)
            torch.sum(by_outputs[:, -constants:], 0, out=self._by_log_std)
            by_outputs = by_outputs[:, :-constants]
        self._actor.backward(by_outputs)
        self._critic.backward(by_values[:, None])


def orthogonal(network: nn.Module, last: float | None = None) -> None:
    """Give layers orthogonal weights and biases of 0 (Saxe et al., 2014).

    Args:
        network: hidden layers get the gain sqrt(2), LSTMs 1.
        last: the gain of the last layer; None: as the hidden ones.
    """
    layers = [part for part in network.modules() if isinstance(part, nn.Linear | nn.Conv2d | nn.LSTMCell)]
    for layer in layers:
        gain = 1.0 if isinstance(layer, nn.LSTMCell) else 2**0.5
        if last is not None and layer is layers[-1]:
            gain = last
        for name, parameter in layer.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            else:
                nn.init.orthogonal_(parameter, gain)


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
        v[-1] = self.policy.values(*self._came_to())
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

    def _came_to(self) -> tuple[np.ndarray, Tensor | None]:
        """Return the observations after the rollout, and the memory, empty where an episode has just begun."""
        observations, starts = self.rollout.observations[-1], self.rollout.starts[-1]
        if self.memory is None:
            return observations, None
        return observations, self.memory * torch.from_numpy(~starts).to(self.memory)[:, None]

    def _rewards(self) -> np.ndarray:
        """Return the rewards to learn from, (T, n): normalised if asked for."""
        if self.returns is None:
            return self.rollout.rewards
        self.returns.update(self.rollout.rewards, self.rollout.ended)
        return self.returns.scale(self.rollout.rewards)


def _rows(array: np.ndarray) -> np.ndarray:
    """Return (T, n, ...) as (T * n, ...)."""
    return array.reshape(-1, *array.shape[2:])
