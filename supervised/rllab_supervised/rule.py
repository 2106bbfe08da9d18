"""A rule written by hand: nothing is learned, so it shows what learning has to beat.

A rule is a function of the inputs, a NumPy array (n, *shape) as the dataset has them, and returns an answer for
each: the number or the name of a class, or where the target is a number, a number.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor
from torch.nn.functional import one_hot

from rllab.algorithm import Metrics
from rllab.config import Config
from rllab.data import DatasetTask
from rllab.errors import UsageError, did_you_mean, one_line
from rllab.state import State
from rllab.supervised import SupervisedModel

_log = logging.getLogger("rllab")

Function: TypeAlias = Callable[[np.ndarray], Any]

_MODULE = "rllab_rule"
"""The name under which the file of a rule is imported."""
_SOURCE = "rule.sha256"
"""The weight that says which version of the rule was measured."""


def ring(points: np.ndarray) -> np.ndarray:
    """Return 1 for points (n, 2) in a ring around (.5, .5), else 0: drawn by eye around the two crescents.

    It misses the points of the upper crescent that lie farthest out, and takes all others in the ring along.
    """
    squared_distance = np.square(points - 0.5).sum(1)
    return np.where((squared_distance > 0.024) & (squared_distance < 0.030), 1, 0)


class RuleConfig(Config):
    """A function written by hand, measured like a method; nothing is learned."""

    rule: str = "ring"
    """FILE.py:FUNCTION of an array (n, *shape) of inputs, returns n answers; or ring, an example for the crescents."""

    @field_validator("rule")
    @classmethod
    def _is_file_and_function(cls, rule: str) -> str:
        """Return it with the file's whole path, so that the run is found right from every folder."""
        if rule == "ring":
            return rule
        file, _, name = rule.rpartition(":")
        if not file.endswith(".py") or not name.isidentifier():
            raise ValueError("write FILE.py:FUNCTION, such as rules.py:ring")
        return f"{Path(file).expanduser().resolve()}:{name}"


class Rule(SupervisedModel):
    """Answers as a function does that a person wrote."""

    Config = RuleConfig
    transient = SupervisedModel.transient | {"function", "source"}
    probabilistic = False

    def __init__(self, config: RuleConfig, task: DatasetTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.function, self.source = load(config.rule)

    @classmethod
    def refusal(cls, config: RuleConfig, task: DatasetTask) -> str | None:
        """Return why the example does not fit; of other rules only the answers tell."""
        if config.rule == "ring" and (task.shape != (2,) or len(task.classes) != 2):
            return "the rule ring takes two numbers and knows two classes; --rule FILE.py:FUNCTION takes another"
        load(config.rule)
        return super().refusal(config, task)

    def step(self) -> Metrics:
        """Learn nothing; measure the rule on the training part."""
        answers, targets = self.outputs(self.train), self.train.targets.cpu()
        self.count += len(targets)
        if self.classes:
            return {"train/accuracy": float((answers.argmax(1) == targets).double().mean())}
        return {"train/rmse": float((answers.double() - targets.double()).square().mean().sqrt())}

    def predict(self, inputs: Tensor) -> Tensor:
        """Return 1 for the class of the answer and 0 for the others (n, classes); or numbers (n,)."""
        array = inputs.cpu().numpy().copy()  # the rule may do with it what it likes
        try:
            answers = np.asarray(self.function(array))
        except Exception as error:
            raise UsageError(f"the rule {self.config.rule} {_failure(error, self.config.rule)}") from error
        if answers.shape != (len(inputs),):
            raise UsageError(
                f"the rule {self.config.rule} returned an array of shape {answers.shape} for {len(inputs)} inputs",
                f"It has to be ({len(inputs)},): one answer for each input.",
            )
        found = self._classes(answers) if self.classes else self._numbers(answers)
        return found.to(inputs.device)

    def _classes(self, answers: np.ndarray) -> Tensor:
        """Return answers, numbers or names of classes, as (n, classes)."""
        if answers.dtype.kind in "UO":
            numbers = {name: number for number, name in enumerate(self.classes)}
            if unknown := sorted({str(answer) for answer in answers} - set(numbers)):
                near = did_you_mean(unknown[0], numbers) or f"The classes are {', '.join(self.classes[:20])}."
                raise UsageError(f"the rule {self.config.rule} returned {unknown[0]!r}, which is no class", near)
            answers = np.array([numbers[str(answer)] for answer in answers], np.int64)
        if answers.dtype.kind not in "biuf":
            raise UsageError(f"the rule {self.config.rule} returned {answers.dtype} values, which are no classes")
        whole = np.nan_to_num(answers.astype(np.float64), nan=-1)
        if len(wrong := answers[(whole < 0) | (whole >= len(self.classes)) | (whole != np.floor(whole))]):
            last = len(self.classes) - 1
            raise UsageError(
                f"the rule {self.config.rule} returned {wrong[0]}, which is no class",
                f"Classes are numbered 0 to {last}, or go by their names: {', '.join(self.classes[:20])}.",
            )
        return one_hot(torch.from_numpy(whole.astype(np.int64)), len(self.classes)).float()

    def _numbers(self, answers: np.ndarray) -> Tensor:
        if answers.dtype.kind not in "biuf" or not np.isfinite(answers.astype(np.float64)).all():
            raise UsageError(f"the rule {self.config.rule} returned what are not all finite numbers")
        return torch.from_numpy(answers.astype(np.float32))

    # --- state: which version of the rule it was

    def weights(self) -> dict[str, Tensor]:
        """Return the scaler's numbers, and the checksum of the rule's source."""
        return super().weights() | {_SOURCE: self.source}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load the scaler's numbers; warn if the rule is not what it was."""
        super().load_weights(weights)
        self._compare(weights[_SOURCE])

    def load_state_dict(self, state: State) -> None:
        """Go back to a state; warn if the rule is not what it was."""
        weights = dict(state["weights"])
        self._compare(weights.pop(_SOURCE))
        super().load_state_dict({**state, "weights": weights})

    def _compare(self, source: Tensor) -> None:
        if not torch.equal(source.cpu(), self.source):
            _log.warning("the rule %s was changed since this run; what follows is of the new one", self.config.rule)


def load(rule: str) -> tuple[Function, Tensor]:
    """Import a rule.

    Args:
        rule: FILE.py:FUNCTION, or ring.

    Returns:
        The function, and the SHA-256 of its source as (32,) uint8: of the whole file, whose other functions and
        constants it may use.

    Raises:
        UsageError: if there is no such file or function, or the file cannot be imported.
    """
    if rule == "ring":
        return ring, _checksum(inspect.getsource(ring).encode())
    path, _, name = rule.rpartition(":")
    file = Path(path)
    try:
        source = file.read_bytes()
    except OSError as error:
        raise UsageError(f"--rule {rule}: cannot read {file}: {error.strerror}") from None
    module = sys.modules[_MODULE] = ModuleType(_MODULE)
    module.__file__ = str(file)
    sys.path.insert(0, str(file.parent))  # it may import what lies beside it
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise UsageError(f"--rule {rule}: {file.name} cannot be imported: it {_failure(error, rule)}") from error
    finally:
        sys.path.remove(str(file.parent))
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        hint = did_you_mean(name, known) or (f"It has: {', '.join(known)}." if known else None)
        raise UsageError(f"--rule {rule}: there is no function {name} in {file.name}", hint)
    return function, _checksum(source)


def _checksum(source: bytes) -> Tensor:
    return torch.tensor(list(hashlib.sha256(source).digest()), dtype=torch.uint8)


def _failure(error: BaseException, rule: str) -> str:
    """Return what was raised, and in which line of the rule's file."""
    file = rule.rpartition(":")[0]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f" in line {error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else '?'}"
    return f"raised {type(error).__name__}{where}: {one_line(error)}"
