"""char-transformer: a decoder-only transformer over characters.

Vaswani et al., "Attention is all you need", NeurIPS (2017).
Radford et al., "Language models are unsupervised multitask learners" (2019): layer normalisation before each part, and
the weights of what adds to the residual stream begin smaller by the square root of how many add to it.
Sizes, initialisation and optimiser of nanoGPT (Karpathy, 2022): no biases, the outputs' weights are the embedding's
(Press & Wolf, "Using the output embedding to improve language models", 2017), AdamW. Two things differ. Weight decay is
on all weights, where nanoGPT spares the gains of its normalisations, one in 700 of the numbers. And the step size goes
up to 3e-3 and down to 0; with nanoGPT's 1e-3, as many steps end .1 nats higher on Tiny Shakespeare.

    x_t <- E[c_t] + P[t]
    for each block:  x <- x + W_o attention(norm(x)),   x <- x + W_2 gelu(W_1 norm(x))
    p(c_(t+1) | c_1 .. c_t) = softmax(E norm(x_t))

    attention: for each head softmax(q_t . k_s / sqrt(d)) over s <= t, weighing v_s

    repeat
        draw `batch_size` crops of `sequence` characters from the text;  loss = mean of -ln p
        take a gradient step on the loss
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, linear, scaled_dot_product_attention

from rllab import stopping
from rllab.algorithm import Metrics
from rllab.parts.optim import GradientSteps, OptimizerName, Share
from rllab.parts.schedules import Schedule
from rllab.text import TextTask
from rllab_generative.characters import CharacterConfig, CharacterModel, Reader

_WINDOWS = 128
"""Windows of a held-out part that are read at once."""


class CharTransformerConfig(CharacterConfig):
    """Hyperparameters of char-transformer; sizes and steps are nanoGPT's for a CPU."""

    epochs: PositiveFloat = 1.53
    """Passes over as many characters as the training part has; fractions are allowed."""

    batch_size: PositiveInt = 12
    """Crops of the text in a gradient step."""

    sequence: PositiveInt = 64
    """Characters of a crop, which is how far it looks back."""

    layers: PositiveInt = 4
    """Blocks, one after the other."""

    heads: PositiveInt = 4
    """Heads of attention in a block; the width is divided among them."""

    width: PositiveInt = 128
    """Numbers that stand for a character between the blocks."""

    optimizer: OptimizerName = "adamw"
    """The rule for gradient steps."""

    lr: PositiveFloat = 3e-3
    """Step size of the optimiser, where the schedule has it highest."""

    schedule: Schedule = "onecycle"
    """How the step size goes on: constant, linear or cosine to 0 at the end, or onecycle, up and then down."""

    betas: tuple[Share, Share] = (0.9, 0.99)
    """How much of the running means of the gradient and of its square Adam keeps at a step."""

    weight_decay: NonNegativeFloat = 0.1
    """How much large weights are penalised: L2, and for adamw apart from the gradient (Loshchilov & Hutter, 2019)."""

    max_grad_norm: NonNegativeFloat = 1.0
    """The gradient is clipped to this norm; 0: no clipping."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided among {self.heads} heads")
        return self


class Block(nn.Module):
    """Attention to the characters before, then two dense layers; each adds to what goes by."""

    def __init__(self, config: CharTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.dropout = config.heads, config.dropout
        self.before_attention = nn.LayerNorm(width, bias=False)
        self.attend = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.before_dense = nn.LayerNorm(width, bias=False)
        self.widen = nn.Linear(width, 4 * width, bias=False)
        self.narrow = nn.Linear(4 * width, width, bias=False)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, width) for (B, T, width)."""
        x = x + self.drop(self.attended(self.attention(self.before_attention(x))))
        added: Tensor = self.drop(self.narrow(gelu(self.widen(self.before_dense(x)))))
        return x + added

    def attention(self, x: Tensor) -> Tensor:
        """Return for each character the values of those up to it, weighed by all heads: (B, T, width)."""
        batch, length, width = x.shape
        split = self.attend(x).view(batch, length, 3, self.heads, width // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # (B, heads, T, d) each
        dropped = self.dropout if self.training else 0.0
        weighed = scaled_dot_product_attention(queries, keys, values, dropout_p=dropped, is_causal=True)
        together: Tensor = weighed.transpose(1, 2).reshape(batch, length, width)
        return together


class Transformer(nn.Module):
    """Embeddings of characters and of places, blocks, and the embedding once more, as weights of the outputs.

    Args:
        config: how large.
        characters: how many there are, V.
    """

    def __init__(self, config: CharTransformerConfig, characters: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.characters = nn.Embedding(characters, config.width)
        self.places = nn.Embedding(config.sequence, config.width)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                adds = name.endswith(("attended.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.layers) if adds else 0.02)

    def forward(self, codes: Tensor, keep: int = 0) -> Tensor:
        """Return the logits of what follows each character.

        Args:
            codes: (B, T).
            keep: return those of so many characters at the end; 0: of all.

        Returns:
            (B, T, V), or (B, keep, V).
        """
        x = self.drop(self.characters(codes) + self.places.weight[: codes.shape[1]])  # (B, T, width)
        for block in self.blocks:
            x = block(x)
        return linear(self.norm(x[:, -keep:]), self.characters.weight)


class CharTransformer(CharacterModel[Transformer]):
    """A transformer over characters."""

    Config = CharTransformerConfig
    config: CharTransformerConfig
    transient: ClassVar[frozenset[str]] = CharacterModel.transient | {"codes", "reach"}

    @classmethod
    def work(cls, config: CharTransformerConfig, task: TextTask) -> float:
        """Return the multiply-adds of a gradient step, of which the backward pass takes two thirds."""
        weights = 12 * config.layers * config.width**2 + len(task.vocabulary) * config.width
        attention = config.layers * config.width * config.sequence  # half of the pairs, twice
        return 3.0 * config.batch_size * config.sequence * (weights + attention)

    @classmethod
    def build(cls, config: CharTransformerConfig, characters: int) -> Transformer:
        """Return the transformer."""
        return Transformer(config, characters)

    def setup(self) -> None:
        """Have the text at hand, and make the optimiser."""
        self.codes = self.task.text.train.to(self.device)
        self.reach = torch.arange(self.config.sequence + 1, device=self.device)
        self.optimizer = GradientSteps.of(self.network, self.config)

    def step(self) -> Metrics:
        """Take a gradient step on crops of the text, which follow from the seed and `count` alone."""
        size, length = self.config.batch_size, self.config.sequence
        rng = np.random.default_rng(self.streams.sequence("crops", self.count))
        starts = torch.from_numpy(rng.integers(len(self.codes) - length, size=size)).to(self.device)
        codes = self.codes[starts[:, None] + self.reach].long()  # (B, T + 1)
        return self.descend(self.network(codes[:, :-1]), codes[:, 1:])  # (B, T, V) and (B, T)

    @property
    def context(self) -> str:
        """How many characters `surprise` predicts one from."""
        length = self.config.sequence
        return f"each from the {length - max(length // 2, 1) + 1:,} to {length:,} characters before it"

    def surprise(self, codes: Tensor, start: int) -> float:
        """Return the sum of -ln p from `start` on.

        Windows of `sequence` characters overlap by half, and the second half of each counts: a character is predicted
        from the `sequence` / 2 before it at least.
        """
        network = self.shown_network
        length, stride = self.config.sequence, max(self.config.sequence // 2, 1)
        ends = list(range(start + stride, len(codes) + 1, stride))
        total = 0.0
        reach = torch.arange(-length - 1, 0)
        for i in range(0, len(ends), _WINDOWS):
            stopping.check()
            windows = codes[torch.tensor(ends[i : i + _WINDOWS])[:, None] + reach]  # (n, T + 1)
            total += self._surprise(network, windows, stride)
        rest = (len(codes) - start) % stride
        if rest:
            total += self._surprise(network, codes[None, -length - 1 :], rest)
        return total

    def _surprise(self, network: Transformer, windows: Tensor, counted: int) -> float:
        """Return the sum of -ln p of the last characters of windows (n, T + 1)."""
        windows = windows.to(self.device).long()
        logits = network(windows[:, :-1], keep=counted)  # (n, counted, V)
        losses = cross_entropy(logits.flatten(0, 1), windows[:, -counted:].flatten(), reduction="none")
        return losses.cpu().sum(dtype=torch.float64).item()

    def reader(self) -> Reader:
        """Return what reads a character with the keys and values of those before it at hand."""
        return InNumpy(self.shown_network)


# --- one character at a time ----------------------------------------------------------------------


class InNumpy:
    """Reads a text character by character, with the keys and values of those before at hand, on a copy of the weights.

    In NumPy, because what torch does around each of these small products takes several times as long.

    There are as many places as a training sequence has characters. When all are taken, the later half of what was
    read moves to the first places, its keys and values are computed anew, and it goes on from there.

    Args:
        network: as it is now.
    """

    def __init__(self, network: Transformer) -> None:
        self.weights = {name: tensor.numpy(force=True).copy() for name, tensor in network.state_dict().items()}
        self.places, width = self.weights["places.weight"].shape
        self.seen: list[int] = []
        # (blocks, keys and values, heads, places, d)
        self.past = np.zeros((len(network.blocks), 2, network.heads, self.places, width // network.heads), np.float32)

    def __call__(self, code: int) -> np.ndarray:
        """Read a character; return the logits (V,) of the next one."""
        first = len(self.seen)
        self.seen.append(code)
        if first == self.places:
            first, self.seen = 0, self.seen[-(self.places // 2 + 1) :]
        weights, codes = self.weights, self.seen[first:]
        x = weights["characters.weight"][codes] + weights["places.weight"][first : len(self.seen)]  # (n, width)
        for i, past in enumerate(self.past):
            block = f"blocks.{i}."
            x += self.attention(block, _norm(x) * weights[block + "before_attention.weight"], past, first)
            wide = (_norm(x) * weights[block + "before_dense.weight"]) @ weights[block + "widen.weight"].T
            x += gelu(torch.from_numpy(wide)).numpy() @ weights[block + "narrow.weight"].T  # NumPy has no erf
        logits: np.ndarray = weights["characters.weight"] @ (_norm(x[-1]) * weights["norm.weight"])
        return logits

    def attention(self, block: str, x: np.ndarray, past: np.ndarray, first: int) -> np.ndarray:
        """Return what attention adds (n, width) for x (n, width) from place `first` on; keep its keys and values."""
        new, (heads, _, size) = len(x), past.shape[1:]
        split = (x @ self.weights[block + "attend.weight"].T).reshape(new, 3, heads, size).transpose(1, 2, 0, 3)
        past[:, :, first : first + new] = split[1:]
        keys, values = past[:, :, : first + new]  # (heads, first + n, d) each
        scores = split[0] @ keys.transpose(0, 2, 1)  # (heads, n, first + n)
        if new > 1:
            scores += np.triu(np.full(scores.shape[1:], -np.inf, np.float32), first + 1)
        scores = np.exp((scores - scores.max(2, keepdims=True)) * np.float32(1 / math.sqrt(size)))
        weighed = (scores / scores.sum(2, keepdims=True)) @ values  # (heads, n, d)
        together: np.ndarray = weighed.transpose(1, 0, 2).reshape(new, -1) @ self.weights[block + "attended.weight"].T
        return together


def _norm(x: np.ndarray) -> np.ndarray:
    """Return rows (..., width) with mean 0 and variance 1, as nn.LayerNorm does before its gains."""
    x = x - x.mean(-1, keepdims=True)
    variance = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    normed: np.ndarray = x / np.sqrt(variance + np.float32(1e-5))
    return normed
