"""char-rnn: a recurrent network reads a text character by character and says which one comes next.

Mikolov et al., "Recurrent neural network based language model", Interspeech (2010).
Graves, "Generating sequences with recurrent neural networks", arXiv:1308.0850 (2013).
Karpathy, "The unreasonable effectiveness of recurrent neural networks" (2015).
LSTM: Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
GRU: Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP (2014).

    e_t = E[x_t],   h_t = tanh(W e_t + U h_(t-1) + b),   p(x_(t+1) | x_1 .. x_t) = softmax(V h_t + c)
    (LSTM and GRU: with gates; further layers read the h_t of the one below)

Truncated backpropagation through time (Williams & Peng, "An efficient gradient-based algorithm for on-line training of
recurrent network trajectories", Neural Computation 2, 1990): the text is laid out in `batch_size` streams side by side,

    h <- 0 at the start of an epoch
    repeat
        read the next `sequence` characters of every stream, from h on;  loss = mean of -ln p
        take a gradient step on the loss, clipped (Pascanu et al., 2013)
        h <- the last h, through which no gradient goes back
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from rllab import stopping
from rllab.algorithm import Metrics
from rllab.parts.optim import GradientSteps
from rllab.parts.schedules import Schedule
from rllab.text import TextTask
from rllab_generative.characters import CharacterConfig, CharacterModel, Reader

Memory: TypeAlias = tuple[Tensor, ...]
"""What the cells remember: (h,), of LSTMs (h, c); each (layers, B, hidden)."""

_CELLS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}

_PIECES = 32
"""Pieces at most that a held-out part is read in, side by side: one alone takes many times as long."""
_PIECE = 512
"""Characters of a piece at least, unless the part has fewer."""
_BEFORE = 512
"""Characters that are read before a piece, and not counted; training looks back far less."""
_AT_ONCE = 256
"""Characters of each piece that are read at once."""


class CharRNNConfig(CharacterConfig):
    """Hyperparameters of char-rnn (Karpathy, 2015)."""

    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    """What remembers: the plain recurrent unit, or one with gates."""

    layers: PositiveInt = 1
    """Recurrent layers, one above the other; dropout is between them and before the outputs."""

    hidden: PositiveInt = 256
    """Units of each layer."""

    embedding: PositiveInt = 64
    """Numbers that a character becomes before the first layer; they are learned."""

    lr: PositiveFloat = 4e-3
    """Step size of the optimiser, where the schedule has it highest."""

    schedule: Schedule = "cosine"
    """How the step size goes on: constant, linear or cosine to 0 at the end, or onecycle, up and then down."""

    max_grad_norm: NonNegativeFloat = 5.0
    """The gradient is clipped to this norm; 0: no clipping."""


class Recurrent(nn.Module):
    """Embedding, recurrent layers, and a linear layer on what the last one remembers.

    Args:
        config: how large.
        characters: how many there are, V.
    """

    def __init__(self, config: CharRNNConfig, characters: int) -> None:
        super().__init__()
        between = config.dropout if config.layers > 1 else 0.0
        self.embedding = nn.Embedding(characters, config.embedding)
        self.cells = _CELLS[config.cell](config.embedding, config.hidden, config.layers, dropout=between)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, characters)

    def blank(self, batch: int) -> Memory:
        """Return what is remembered before the first character."""
        cells = self.cells
        shape = (cells.num_layers, batch, cells.hidden_size)
        return tuple(self.head.weight.new_zeros(shape) for _ in range(2 if isinstance(cells, nn.LSTM) else 1))

    def forward(self, codes: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Read characters (T, B); return logits of those that follow each (T, B, V), and what is remembered."""
        lstm = isinstance(self.cells, nn.LSTM)
        hidden, memory = self.cells(self.embedding(codes), memory if lstm else memory[0])  # (T, B, hidden)
        logits: Tensor = self.head(self.drop(hidden))
        return logits, memory if lstm else (memory,)  # type: ignore[return-value]


class CharRNN(CharacterModel[Recurrent]):
    """A recurrent network over characters."""

    Config = CharRNNConfig
    config: CharRNNConfig
    transient: ClassVar[frozenset[str]] = CharacterModel.transient | {"columns"}

    @classmethod
    def needed(cls, config: CharRNNConfig) -> tuple[int, str]:
        """Return how many characters the streams take: a sequence each, and what follows the last one."""
        what = f"{config.batch_size:,} streams (--batch-size) of {config.sequence:,} characters each (--sequence)"
        return config.batch_size * config.sequence + 1, what

    @classmethod
    def work(cls, config: CharRNNConfig, task: TextTask) -> float:
        """Return the multiply-adds of one character of each stream: those after it wait for it."""
        with torch.device("meta"):
            network = cls.build(config, len(task.vocabulary))
        weights = sum(parameter.numel() for parameter in network.parameters())
        return 3.0 * config.batch_size * (weights - network.embedding.weight.numel())

    @classmethod
    def build(cls, config: CharRNNConfig, characters: int) -> Recurrent:
        """Return embedding, recurrent layers and outputs."""
        return Recurrent(config, characters)

    @property
    def length(self) -> int:
        """Characters of a stream that are predicted."""
        return (len(self.task.text.train) - 1) // self.config.batch_size

    @property
    def epoch(self) -> int:
        """Characters of one pass: those of all streams; the few that are left over are not learned from."""
        return self.length * self.config.batch_size

    def setup(self) -> None:
        """Lay the text out in streams, and make the optimiser."""
        codes = self.task.text.train[: self.epoch + 1].to(self.device)
        self.columns = codes.unfold(0, self.length + 1, self.length).T.contiguous()  # (length + 1, B)
        self.memory = self.network.blank(self.config.batch_size)
        self.optimizer = GradientSteps.of(self.network, self.config)

    def step(self) -> Metrics:
        """Take a gradient step on the next characters of every stream; at the end of an epoch they are fewer."""
        position = self.count % self.epoch // self.config.batch_size
        if position == 0:
            self.memory = self.network.blank(self.config.batch_size)
        end = min(position + self.config.sequence, self.length)
        codes = self.columns[position : end + 1].long()  # (T + 1, B)
        logits, memory = self.network(codes[:-1], self.memory)  # (T, B, V)
        self.memory = tuple(part.detach() for part in memory)
        return self.descend(logits, codes[1:])

    @property
    def context(self) -> str:
        """How far the state goes back that `surprise` predicts a character from."""
        return f"each from a state carried on over at least {min(_BEFORE, len(self.task.text.train)):,} characters"

    def surprise(self, codes: Tensor, start: int) -> float:
        """Return the sum of -ln p from `start` on.

        The part is read in up to 32 pieces side by side, each of them from 512 characters before it on (or from the
        beginning of the text), with a state that is carried through all of it.
        """
        network = self.shown_network
        length, before = len(codes) - start, min(_BEFORE, start)
        number = max(min(_PIECES, length // _PIECE), 1)
        size = -(-length // number)
        # what the last piece is filled up with is read and not counted, like what is before each
        pieces = pad(codes[start - before :], (0, number * size - length)).unfold(0, before + size, size).T
        counted = (torch.arange(number * size) < length).view(number, size).T  # (size, pieces)
        counted = pad(counted, (0, 0, before, 0))  # (before + size, pieces), as `pieces` is
        memory = network.blank(number)
        total = 0.0
        for first in range(0, len(pieces) - 1, _AT_ONCE):
            stopping.check()
            part = pieces[first : first + _AT_ONCE + 1].to(self.device).long()
            logits, memory = network(part[:-1], memory)  # (T, pieces, V)
            losses = cross_entropy(logits.flatten(0, 1), part[1:].flatten(), reduction="none")
            total += losses.cpu()[counted[first + 1 : first + len(part)].flatten()].sum(dtype=torch.float64).item()
        return total

    def reader(self) -> Reader:
        """Return what reads a character in NumPy, which for one at a time takes a fraction of torch's time."""
        return in_numpy(self.shown_network)


# --- one character at a time ----------------------------------------------------------------------

_Step: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From a layer's two products, W x + b and U h + b', and what it remembers besides h, to the new h and the rest."""


def in_numpy(network: Recurrent) -> Reader:
    """Return what reads a text character by character, on a copy of a network's weights.

    The first layer's product with a character's embedding is looked up in a table of all characters.
    """
    cells = network.cells
    weights = {name: tensor.numpy(force=True).copy() for name, tensor in network.state_dict().items()}
    layers = [
        tuple(weights[f"cells.{name}_l{layer}"] for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"))
        for layer in range(cells.num_layers)
    ]
    table = weights["embedding.weight"] @ layers[0][0].T + layers[0][1]  # (V, gates * hidden)
    head, bias = weights["head.weight"], weights["head.bias"]
    update = _UPDATES[type(cells)]
    hidden = [np.zeros(cells.hidden_size, np.float32) for _ in layers]
    rest = [np.zeros(cells.hidden_size, np.float32) for _ in layers]

    def read(code: int) -> np.ndarray:
        for i, (inward, inward_bias, recurrent, recurrent_bias) in enumerate(layers):
            from_below = inward @ hidden[i - 1] + inward_bias if i else table[code]
            hidden[i], rest[i] = update(from_below, recurrent @ hidden[i] + recurrent_bias, rest[i])
        logits: np.ndarray = head @ hidden[-1] + bias
        return logits

    return read


def _rnn(below: np.ndarray, own: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.tanh(below + own), rest


def _lstm(below: np.ndarray, own: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return h and c:  c <- f c + i g,  h = o tanh(c); torch has the gates in the order i, f, g, o."""
    gates, n = below + own, len(rest)
    candidate = np.tanh(gates[2 * n : 3 * n])
    gates = _sigmoid(gates)
    cell = gates[n : 2 * n] * rest + gates[:n] * candidate
    return gates[3 * n :] * np.tanh(cell), cell


def _gru(below: np.ndarray, own: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return h, twice:  h <- z h + (1 - z) tanh(W x + b + r (U h + b')); torch has the gates in the order r, z, n."""
    n = len(rest)
    gates = _sigmoid(below[: 2 * n] + own[: 2 * n])
    candidate = np.tanh(below[2 * n :] + gates[:n] * own[2 * n :])
    hidden = candidate + gates[n:] * (rest - candidate)
    return hidden, hidden


def _sigmoid(x: np.ndarray) -> np.ndarray:
    half: np.ndarray = np.tanh(x * np.float32(0.5))  # exp would overflow
    return half * np.float32(0.5) + np.float32(0.5)


_UPDATES: dict[type[nn.Module], _Step] = {nn.RNN: _rnn, nn.LSTM: _lstm, nn.GRU: _gru}
