"""RNN: a recurrent network reads a sequence, and says what it is from what it remembers at the end.

Elman, "Finding structure in time", Cognitive Science 14 (1990).
LSTM: Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
GRU: Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP (2014).

    h_0 = 0,   h_t = tanh(W x_t + U h_(t-1) + b),   z = V h_T + c        (LSTM and GRU: with gates)
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from rllab.data import DatasetTask
from rllab.supervised import refuses_shape
from rllab_supervised.network import NetworkConfig, NetworkModel

_CELLS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class RNNConfig(NetworkConfig):
    """Hyperparameters of a recurrent network (Elman, 1990; Hochreiter & Schmidhuber, 1997)."""

    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    """What remembers: the plain recurrent unit, or one with gates."""

    hidden: PositiveInt = 32
    """Units of each layer, which is how many numbers it remembers."""

    layers: PositiveInt = 1
    """Recurrent layers, one above the other; dropout is between them, too."""


class Recurrent(nn.Module):
    """Recurrent layers (n, steps, numbers) -> (n, hidden): what the last one remembers after the last step."""

    def __init__(self, cell: str, numbers: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        between = dropout if layers > 1 else 0.0
        self.cells = _CELLS[cell](numbers, hidden, layers, batch_first=True, dropout=between)

    @property
    def kind(self) -> str:
        """Return what the table of layers calls it."""
        return type(self.cells).__name__.lower()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the memory (n, hidden) after inputs (n, steps, numbers)."""
        outputs: Tensor = self.cells(inputs)[0]  # (n, steps, hidden)
        return outputs[:, -1]


class RNN(NetworkModel):
    """Recurrent layers, and a linear one on what they remember."""

    Config = RNNConfig
    config: RNNConfig

    @classmethod
    def refusal(cls, config: RNNConfig, task: DatasetTask) -> str | None:
        """Return why it cannot read the inputs: they are no sequences."""
        return super().refusal(config, task) or refuses_shape(task, 2, "sequences")

    @classmethod
    def build(cls, config: RNNConfig, shape: tuple[int, ...], outputs: int) -> nn.Sequential:
        """Return the recurrent layers and the linear one."""
        memory = Recurrent(config.cell, shape[1], config.hidden, config.layers, config.dropout)
        drop = [nn.Dropout(config.dropout)] if config.dropout else []
        return nn.Sequential(memory, *drop, nn.Linear(config.hidden, outputs))
