"""What models of characters share: their data, loss, measures, baselines and samples.

    p(text) = product over t of p(x_t | x_1 .. x_(t-1))
    loss    = mean of -ln p(x_t | ...), in nats; by ln 2 that is bits per character

A method says how it learns in `step`, how it rates a text it has not seen in `surprise`, and how it reads a character
and says what may come next in `reader`. Everything else is here, first of all what is compared between methods: every
character of a held-out part is predicted exactly once, from those before it, among them the ones before the part. Of a
long part the first 131,072 characters are, so that a number stands for the same all through training and in the end.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rllab.algorithm import Metrics
from rllab.errors import CheckpointError, UsageError
from rllab.generative import GenerativeConfig, TextModel
from rllab.parts.averaging import average_of, averaged
from rllab.parts.optim import GradientSteps, Share
from rllab.state import State
from rllab.text import TextTask
from rllab_generative import baselines

Reader: TypeAlias = Callable[[int], np.ndarray]
"""Takes the number of the next character, returns logits (V,) of the one after it; remembers what it was given."""

Network = TypeVar("Network", bound=nn.Module)

TEMPERATURES = (0.5, 0.8, 1.0)
"""Of the samples that are shown."""
_SHOWN = 400
"""Characters of each."""
_MEASURED = 2**17
"""Characters of a held-out part that are measured, at most; Tiny Shakespeare's test part has fewer."""
_HOW = {"unigram": "by how often each occurs", "bigram": "each from the one before it", "gzip": "32 KiB back"}
"""How the baselines predict a character."""


class CharacterConfig(GenerativeConfig):
    """Hyperparameters of models of characters."""

    epochs: PositiveFloat = 10.0
    """Passes over the training part; fractions are allowed."""

    batch_size: PositiveInt = 32
    """Sequences in a gradient step."""

    sequence: PositiveInt = 64
    """Characters of a sequence."""

    dropout: Share = 0.0
    """Share of the units that is dropped in training."""


class Vocabulary(nn.Module):
    """The characters by their numbers, as Unicode; saved with the weights, which mean nothing without them.

    Args:
        characters: each of them once.
    """

    points: Tensor

    def __init__(self, characters: str) -> None:
        super().__init__()
        self.register_buffer("points", torch.tensor([ord(character) for character in characters], dtype=torch.int64))


class CharacterModel(TextModel, Generic[Network]):
    """A model of a text, character by character.

    Attributes:
        network: what is trained.
        average: of its weights, with --ema.
        vocabulary: the characters that it knows.
        optimizer: takes gradient steps on the network, from `setup` on.
    """

    transient: ClassVar[frozenset[str]] = frozenset({"baselines"})
    pictures_every: ClassVar[str] = "10%"

    config: Any
    network: Network
    optimizer: GradientSteps

    def __init__(self, config: Any, task: TextTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.vocabulary = Vocabulary(task.vocabulary).to(device)
        self.network = self.build(config, len(task.vocabulary)).to(device)
        self.average = average_of(self.network, config.ema)

    @classmethod
    @abstractmethod
    def build(cls, config: Any, characters: int) -> Network:
        """Return the network for a vocabulary of so many characters."""

    # --- asked before anything starts

    @classmethod
    def needed(cls, config: Any) -> tuple[int, str]:
        """Return how many characters it takes to learn from, and what of."""
        return config.sequence + 1, f"a sequence of {config.sequence:,} and what follows it (--sequence)"

    @classmethod
    def refusal(cls, config: Any, task: TextTask) -> str | None:
        """Return why a text is too short."""
        least, what = cls.needed(config)
        if (there := len(task.text.train)) < least:
            return f"its training part has {there:,} characters, and {what} take {least:,}"
        for name, part in _held_out(task).items():
            if len(part) < config.sequence:
                return f"its {name} part has {len(part):,} characters, fewer than --sequence {config.sequence}"
        return None

    # --- learning

    @property
    def epoch(self) -> int:
        """Characters of one pass over the training part."""
        return len(self.task.text.train)

    @property
    def budget(self) -> int:
        """Characters to learn from."""
        return max(round(float(self.config.epochs) * self.epoch), 1)

    def descend(self, logits: Tensor, codes: Tensor) -> Metrics:
        """Take a gradient step on the mean of -ln p, and count the characters.

        Args:
            logits: (..., V).
            codes: (...), the characters that follow.
        """
        lr = self.lr
        loss = cross_entropy(logits.flatten(0, -2), codes.flatten())
        norm = self.optimizer(loss, lr=lr)
        if self.average is not None:
            self.average.update(self.network)
        self.count += codes.numel()
        return {"train/loss": loss.detach(), "train/lr": lr, "train/gradient_norm": norm}

    @property
    def shown_network(self) -> Network:
        """What to measure and write with: the average of the network as it is now, with --ema, or else itself."""
        return averaged(self.network, self.average)

    # --- measuring

    @abstractmethod
    def surprise(self, codes: Tensor, start: int) -> float:
        """Return the sum of -ln p(x_t | before) over a piece of text, in nats.

        Called in evaluation mode, without gradients. What is summed up in float64 is so on the CPU: not every device
        has it.

        Args:
            codes: (N,), on the CPU.
            start: the first character that counts; those before it are only read.
        """

    @property
    @abstractmethod
    def context(self) -> str:
        """From what `surprise` predicts a character, in a few words."""

    def measure(self, name: str, *, whole: bool = False) -> Metrics:
        """Return nats and bits per character of a held-out part; nothing is disturbed.

        Args:
            name: "validation" or "test".
            whole: all of it, instead of the first 131,072 characters; the metrics are named so.
        """
        codes, start = self.place(name, None if whole else _MEASURED)
        with self.undisturbed():
            nats = self.surprise(codes, start) / (len(codes) - start)
        prefix = ("eval/" if name == "test" else f"{name}/") + ("whole_" if whole else "")
        return {f"{prefix}nats_per_character": nats, f"{prefix}bits_per_character": nats / math.log(2)}

    def validate(self) -> Metrics:
        """Measure the validation part, or without one the test part, which picks nothing."""
        return self.measure("test" if self.task.text.validation is None else "validation")

    def evaluate(self) -> Metrics:
        """Measure the held-out parts, beside the baselines; all of the test part too, where that is more."""
        measured = {} if self.task.text.validation is None else self.measure("validation")
        measured |= self.measure("test") | self.baselines
        return measured | self.measure("test", whole=True) if self.is_long("test") else measured

    @cached_property
    def baselines(self) -> Metrics:
        """What needs no network makes of the same characters of the test part, in nats per character."""
        codes, start = self.place("test", _MEASURED)
        numbers, size = codes.numpy(), len(self.task.vocabulary)
        return {
            "eval/unigram_nats": baselines.unigram(numbers, start, size),
            "eval/bigram_nats": baselines.bigram(numbers, start, size),
            "eval/gzip_nats": baselines.gzip(self.task.decode(codes[:start]), self.task.decode(codes[start:])),
        }

    @property
    def captions(self) -> Mapping[str, str]:
        """Return of what characters the numbers are, and from how much text before."""
        named, part = {"train/loss": "nats a character"}, ""
        for name in _held_out(self.task):  # the test part is the last
            prefix = "eval" if name == "test" else name
            part = f"first {_MEASURED:,} characters of the {name} part" if self.is_long(name) else f"{name} part"
            for unit in ("nats", "bits"):
                named[f"{prefix}/{unit}_per_character"] = f"{unit} a character, {part}, {self.context}"
        if self.is_long("test"):
            named |= {f"eval/whole_{unit}_per_character": "all of the test part" for unit in ("nats", "bits")}
        return named | {f"eval/{name}_nats": f"nats a character, {part}, {how}" for name, how in _HOW.items()}

    def is_long(self, name: str) -> bool:
        """Return whether a held-out part has more characters than are measured on the way."""
        return len(_held_out(self.task).get(name, ())) > _MEASURED

    def place(self, name: str, at_most: int | None = None) -> tuple[Tensor, int]:
        """Return the text up to the end of a held-out part (N,), or so many characters of it, and where it begins."""
        text = self.task.text
        before = [text.train] if name == "validation" or text.validation is None else [text.train, text.validation]
        codes = torch.cat([*before, _held_out(self.task)[name][:at_most]])
        return codes, sum(map(len, before))

    # --- writing

    @abstractmethod
    def reader(self) -> Reader:
        """Return what reads a text, from its beginning on, with the weights as they are now."""

    def stream(
        self, prime: str = "", *, temperature: float = 1.0, top_k: int = 0, rng: np.random.Generator
    ) -> Iterator[str]:
        """Write on, one character after the other, without an end; nothing is disturbed.

        Args:
            prime: what comes before; not repeated. Empty: a new line comes before, or if the vocabulary has none, the
                first character of the training part.
            temperature: logits are divided by this; 0: always the most probable character.
            top_k: choose among the so many most probable characters; 0: among all.
            rng: for the choices.

        Raises:
            UsageError: for a character that the vocabulary lacks, a temperature below 0, a `top_k` below 0.
        """
        if not (temperature >= 0 and math.isfinite(temperature)):
            raise UsageError(
                f"a temperature of {temperature:g}: it is 0 or more", "0 takes the most probable character."
            )
        if top_k < 0:
            raise UsageError(f"a top-k of {top_k}: it is 0 or more", "0 chooses among all characters.")
        codes = self.task.encode(prime).tolist() or [self.beginning()]
        return self._write(codes, temperature, top_k, rng)

    def beginning(self) -> int:
        """Return the number of the character that comes before a text of which nothing is given."""
        characters = self.task.vocabulary
        return characters.index("\n") if "\n" in characters else int(self.task.text.train[0])

    def _write(self, codes: list[int], temperature: float, top_k: int, rng: np.random.Generator) -> Iterator[str]:
        read, characters = self.reader(), self.task.vocabulary
        for code in codes[:-1]:
            read(code)
        code = codes[-1]
        while True:
            code = choose(read(code), temperature, top_k, rng)
            yield characters[code]

    def pictures(self, *, final: bool = True) -> Mapping[str, Any]:
        """Return samples at several temperatures; each is drawn with the same random numbers every time."""
        seeds = self.streams.sequence("pictures")
        return {
            f"sample-{temperature}": self.sample(_SHOWN, temperature=temperature, rng=np.random.default_rng(seeds))
            for temperature in TEMPERATURES
        }

    # --- state

    def load_state_dict(self, state: State) -> None:
        """Go back to a state.

        Raises:
            CheckpointError: if it is of a text with other characters.
        """
        self._same_characters(state["weights"])
        super().load_state_dict(state)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load what sampling needs.

        Raises:
            CheckpointError: if they are of a text with other characters.
        """
        self._same_characters(weights)
        super().load_weights(weights)

    def _same_characters(self, weights: Mapping[str, Tensor]) -> None:
        ours, theirs = self.vocabulary.points.tolist(), weights["vocabulary.points"].tolist()
        if ours == theirs:
            return
        new, gone = ("".join(map(chr, sorted({*a} - {*b}))) for a, b in ((ours, theirs), (theirs, ours)))
        said = [
            f"{what} {characters[:10]!r}" for what, characters in (("new are", new), ("gone are", gone)) if characters
        ]
        raise CheckpointError(
            f"the weights were trained on {len(theirs)} characters, and {self.task.name} now has {len(ours)} "
            f"({'; '.join(said) or 'in another order'})",
            "The text has changed since: bring it back as it was, or train anew.",
        )


def _held_out(task: TextTask) -> dict[str, Tensor]:
    """Return the parts of a text that are not learned from, by name."""
    return {name: part for name, part in task.text.parts.items() if name != "train"}


def choose(logits: np.ndarray, temperature: float, top_k: int, rng: np.random.Generator) -> int:
    """Draw a character.

    Args:
        logits: (V,).
        temperature: logits are divided by it; 0: the most probable character.
        top_k: among the so many most probable ones; 0: among all.
        rng: asked once, unless the temperature is 0.
    """
    if temperature == 0:
        return int(logits.argmax())
    if 0 < top_k < len(logits):
        kept = np.argpartition(logits, -top_k)[-top_k:]
        kept.sort()  # the draw does not depend on how the partition ordered them
        return int(kept[choose(logits[kept], temperature, 0, rng)])
    with np.errstate(over="ignore"):  # at the smallest temperatures, what is not the most probable is at -inf
        scaled = (logits - logits.max()).astype(np.float64) / temperature
    sums = np.exp(scaled).cumsum()
    return min(int(sums.searchsorted(rng.random() * sums[-1], side="right")), len(logits) - 1)
