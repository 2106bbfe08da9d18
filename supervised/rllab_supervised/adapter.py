"""The adapter that carries our data into an estimator of scikit-learn, and its predictions out: one step is one fit.

The fitted estimator is part of the weights, written by skops, and so never unpickled.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import warnings
import zipfile
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import skops.io
import torch
from sklearn.exceptions import ConvergenceWarning, InconsistentVersionWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from rllab import stopping
from rllab.algorithm import Metrics
from rllab.data import DatasetTask
from rllab.device import WORK_FOR_GPU
from rllab.errors import CheckpointError, one_line
from rllab.state import State
from rllab.supervised import SupervisedModel, input_size

_log = logging.getLogger("rllab")

_MODEL = "model.skops"
_TRUSTED = ("sklearn.", "numpy.", "scipy.")
_LISTEN = 0.1
"""Seconds after which a fit looks whether it shall stop."""


class Classical(SupervisedModel):
    """A scikit-learn estimator: `make` makes it, `step` fits it to all of the training part.

    Attributes:
        estimator: fitted; None before.
    """

    transient = SupervisedModel.transient | {"estimator", "_stored"}
    dtype: ClassVar[type[np.floating[Any]]] = np.float64
    """What inputs are computed in."""

    def __init__(self, config: Any, task: DatasetTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        self.estimator: Any = None
        self._stored: Tensor | None = None

    @classmethod
    def work(cls, config: Any, task: DatasetTask) -> float:
        """Return the numbers of the training part, at most what is too little for a GPU: this computes on the CPU."""
        return min(float(len(task.data.train) * input_size(task)), 0.99 * WORK_FOR_GPU)

    @abstractmethod
    def make(self, random_state: int) -> Any:
        """Return the estimator, not yet fitted."""

    def learned(self) -> Metrics:
        """Return what is worth knowing of the fitted estimator."""
        return {}

    def step(self) -> Metrics:
        """Fit."""
        inputs, targets = self._array(self.train.inputs), self.train.targets.cpu().numpy()
        fixed = getattr(self.config, "random_state", None)
        random_state = int(self.streams.sequence("fit").generate_state(1)[0]) if fixed is None else fixed
        estimator = self.make(random_state)
        for warning in _fit(estimator, inputs, targets if self.classes else targets.astype(np.float64)):
            _log.warning("%s", self._explain(warning))
        self.estimator, self._stored = estimator, None
        self.count += len(targets)
        return self.learned()

    def predict(self, inputs: Tensor) -> Tensor:
        """Return probabilities of the classes, or what ranks them if there are none, (n, classes); or numbers (n,)."""
        if self.estimator is None:
            raise CheckpointError("this model was saved before it was fitted", "`rllab resume RUN` fits it.")
        array = self._array(inputs)
        with threadpool_limits(torch.get_num_threads()):
            if not self.classes:
                return torch.from_numpy(self.estimator.predict(array)).float().to(inputs.device)
            scores = (self.estimator.predict_proba if self.probabilistic else self.estimator.decision_function)(array)
        if scores.ndim == 1:  # of two classes, the margin of the second
            scores = np.stack([-scores, scores], 1)
        present = torch.from_numpy(self.estimator.classes_)  # the training part may lack a class
        answers = torch.full((len(scores), len(self.classes)), 0.0 if self.probabilistic else -torch.inf)
        answers[:, present] = torch.from_numpy(scores).float()
        return answers.to(inputs.device)

    def filters(self) -> Tensor | None:
        """Return what each class weighs the inputs by, (classes, *shape), or (1, *shape); None unless it is linear."""
        weights = getattr(self.estimator, "coef_", None)
        return None if weights is None else torch.from_numpy(np.asarray(weights, np.float32)).reshape(-1, *self.shape)

    def importances(self) -> Tensor | None:
        """Return how much splits on each input gained, in the inputs' shape; None unless there are trees in it."""
        gains = getattr(self.estimator, "feature_importances_", None)
        return None if gains is None else torch.from_numpy(np.asarray(gains, np.float32)).reshape(self.shape)

    def _array(self, inputs: Tensor) -> np.ndarray:
        """Return inputs scaled and flattened: (n, numbers)."""
        scaled: np.ndarray = self.scaler(inputs).flatten(1).cpu().numpy()
        return scaled.astype(self.dtype, copy=False)

    def _explain(self, warning: Warning) -> str:
        """Return a warning of scikit-learn in a line, with the way out where there is one."""
        if not isinstance(warning, ConvergenceWarning) or "max_iter" not in type(self.config).model_fields:
            return one_line(str(warning))
        tried = self.config.max_iter
        return f"no convergence in {tried} iterations: try --max-iter {4 * tried}, or --scale standard"

    # --- state: the estimator is one of the weights

    def weights(self) -> dict[str, Tensor]:
        """Return the scaler's numbers, and the fitted estimator as skops writes it."""
        if self.estimator is not None and self._stored is None:
            self._stored = torch.frombuffer(bytearray(_write(self.estimator)), dtype=torch.uint8)
        return super().weights() | ({} if self._stored is None else {_MODEL: self._stored})

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load the scaler's numbers and the estimator."""
        super().load_weights(weights)
        self._load(weights.get(_MODEL))

    def load_state_dict(self, state: State) -> None:
        """Go back to a state."""
        weights = dict(state["weights"])
        self._load(weights.pop(_MODEL, None))
        super().load_state_dict({**state, "weights": weights})

    def _load(self, stored: Tensor | None) -> None:
        estimator = None if stored is None else _read(stored.cpu().numpy().tobytes())
        if estimator is not None and type(estimator) is not type(self.make(0)):
            expected = type(self.make(0)).__name__
            raise CheckpointError(f"{_MODEL} holds a {type(estimator).__name__}, where a {expected} is expected")
        self.estimator, self._stored = estimator, stored


# --- fitting ----------------------------------------------------------------------------------------


def _fit(estimator: Any, inputs: np.ndarray, targets: np.ndarray) -> list[Warning]:
    """Fit in a thread of its own, return the warnings.

    Inside scikit-learn's compiled code no signal is heard; whoever waits for the thread hears it, and leaves the
    thread to itself.
    """
    threads = torch.get_num_threads()
    found: list[Warning] = []
    errors: list[BaseException] = []

    def fit() -> None:
        try:
            with warnings.catch_warnings(record=True) as caught, threadpool_limits(threads):
                warnings.simplefilter("always")
                warnings.filterwarnings("ignore", "The number of unique classes")  # they are classes, not numbers
                estimator.fit(inputs, targets)
            found.extend(entry.message for entry in caught if isinstance(entry.message, Warning))
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=fit, name="fit", daemon=True)
    thread.start()
    while thread.is_alive():
        stopping.check()
        thread.join(_LISTEN)
    if errors:
        raise errors[0]
    return found


# --- storing ----------------------------------------------------------------------------------------


def _write(estimator: Any) -> bytes:
    """Return the estimator in bytes of skops, the same for the same estimator.

    skops calls objects by their addresses, and notes the time; here they are numbered, and the time is left out.
    """
    numbers: dict[str, int] = {}

    def numbered(address: re.Match[str]) -> str:
        return str(numbers.setdefault(address[0], len(numbers)))

    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as written,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
    ):
        schema = re.sub(r'(?<="__id__": )\d+|\d+(?=\.np[yz]")', numbered, written.read("schema.json").decode())
        contents = {re.sub(r"^\d+(?=\.np[yz]$)", numbered, name): written.read(name) for name in written.namelist()}
        for name, content in {**contents, "schema.json": schema.encode()}.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 1)
    return packed.getvalue()


def _read(written: bytes) -> Any:
    """Return the estimator in bytes of skops, in which only types of scikit-learn, NumPy and SciPy are trusted."""
    try:
        unknown = skops.io.get_untrusted_types(data=written)
        if strange := [name for name in unknown if not name.startswith(_TRUSTED)]:
            raise CheckpointError(f"{_MODEL} has types that are not trusted: {', '.join(strange[:3])}")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator = skops.io.loads(written, trusted=unknown)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, ImportError) as error:
        raise CheckpointError(f"{_MODEL} cannot be read: {one_line(error)}") from error
    versions = [entry.message for entry in caught if isinstance(entry.message, InconsistentVersionWarning)]
    if versions:
        theirs, ours = versions[0].original_sklearn_version, versions[0].current_sklearn_version
        _log.warning("%s was fitted by scikit-learn %s, and this is %s", _MODEL, theirs, ours)
    return estimator
