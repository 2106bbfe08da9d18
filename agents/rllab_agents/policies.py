"""Policy networks: an actor alone, or with a critic, after a CNN for images and an LSTM for what cannot be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rllab.environments import EnvironmentTask
from rllab.parts.backprop import Backprop, Passes
from rllab.parts.distributions import distribution_for
from rllab.parts.encoders import NatureCNN
from rllab.parts.networks import Observations, infer, mlp
from rllab.parts.normalise import RunningNormalizer

if TYPE_CHECKING:
    from rllab_agents.actor_critic import ActorCriticConfig


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

    takes_arrays = False

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
