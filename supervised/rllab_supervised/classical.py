"""The classical predictors of scikit-learn under our contract: one step is one fit.

Pedregosa et al., "Scikit-learn: Machine Learning in Python", JMLR 12 (2011). `Classical` carries data in and
predictions out; what follows it declares one method each. The fitted estimator is part of the weights, written
by skops, and so never unpickled.
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
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import skops.io
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning, InconsistentVersionWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_limits
from torch import Tensor

from rllab import stopping
from rllab.algorithm import Metrics
from rllab.config import Config
from rllab.data import DatasetTask
from rllab.device import WORK_FOR_GPU
from rllab.errors import CheckpointError, one_line
from rllab.state import State
from rllab.supervised import SupervisedModel, takes_vectors

_log = logging.getLogger("rllab")

_MODEL = "model.skops"
_TRUSTED = ("sklearn.", "numpy.", "scipy.")
_LISTEN = 0.1
"""Seconds after which a fit looks whether it shall stop."""


# --- the adapter ----------------------------------------------------------------------------------


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
        return min(float(len(task.data.train) * takes_vectors(task)), 0.99 * WORK_FOR_GPU)

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
        weights = None if isinstance(self.estimator, SVC) else getattr(self.estimator, "coef_", None)
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


# --- neighbours -----------------------------------------------------------------------------------

Metric: TypeAlias = Literal["euclidean", "manhattan", "chebyshev", "cosine"]


class KNNConfig(Config):
    """Nearest neighbours (Fix and Hodges, 1951; Cover and Hart, 1967): the k most similar items decide."""

    k: PositiveInt = 3
    """Neighbours that are asked."""

    weights: Literal["uniform", "distance"] = "uniform"
    """Whether all count the same, or the near ones more, by 1 / distance."""

    metric: Metric = "euclidean"
    """How far two inputs are from each other."""


class KNN(Classical):
    """The most frequent class, or the mean, of the k training items nearest to the input."""

    Config = KNNConfig
    dtype = np.float32

    @classmethod
    def refusal(cls, config: KNNConfig, task: DatasetTask) -> str | None:
        """Return why there are not k neighbours."""
        items = len(task.data.train)
        return f"--k {config.k} neighbours of {items} items" if config.k > items else super().refusal(config, task)

    def make(self, random_state: int) -> Any:
        """Return the estimator."""
        kind = KNeighborsClassifier if self.classes else KNeighborsRegressor
        return kind(self.config.k, weights=self.config.weights, metric=self.config.metric)


# --- Bayes ----------------------------------------------------------------------------------------


class NaiveBayesConfig(Config):
    """Gaussian naive Bayes (Duda and Hart, 1973): each input is normal and independent of the others in each class."""

    smoothing: PositiveFloat = 1e-9
    """Added to every variance, as a share of the largest one: no variance is 0."""


class NaiveBayes(Classical):
    """The class under which the inputs are most probable, by a normal distribution for each of them."""

    Config = NaiveBayesConfig
    predicts = frozenset({"classes"})

    def make(self, random_state: int) -> Any:
        """Return the estimator."""
        return GaussianNB(var_smoothing=self.config.smoothing)


# --- linear ---------------------------------------------------------------------------------------


class LogRegConfig(Config):
    """Logistic regression (Cox, 1958), over several classes by softmax, fitted by L-BFGS."""

    C: PositiveFloat = 1.0
    """How little large weights are punished: the inverse of the strength of the L2 penalty."""

    max_iter: PositiveInt = 1000
    """Iterations after which the fit ends even if it has not converged."""


class LogReg(Classical):
    """Weighted sums of the inputs, one a class, whose softmax is the probability."""

    Config = LogRegConfig
    predicts = frozenset({"classes"})

    def make(self, random_state: int) -> Any:
        """Return the estimator."""
        return LogisticRegression(C=self.config.C, max_iter=self.config.max_iter)

    def learned(self) -> Metrics:
        """Return how many iterations it took."""
        return {"train/iterations": float(self.estimator.n_iter_[0])}


class LinearConfig(Config):
    """Linear regression by least squares (Legendre, 1805; Gauss, 1809); there is nothing to choose."""


class Linear(Classical):
    """The weighted sum of the inputs with the smallest squared error."""

    Config = LinearConfig
    predicts = frozenset({"numbers"})

    def make(self, random_state: int) -> Any:
        """Return the estimator."""
        return LinearRegression()


# --- trees ----------------------------------------------------------------------------------------


class TreeConfig(Config):
    """Decision tree (Breiman et al., "Classification and Regression Trees", 1984)."""

    max_depth: PositiveInt | None = None
    """Questions asked at most before an answer; none: until the leaves are pure."""

    min_samples_leaf: PositiveInt = 1
    """Training items in a leaf at least."""

    criterion: Literal["auto", "gini", "entropy", "squared_error", "absolute_error"] = "auto"
    """What a question lowers: gini or entropy for classes, squared_error or absolute_error for numbers."""

    random_state: NonNegativeInt | None = Field(default=None, lt=2**32)
    """Seed of the choice among questions that are equally good. None: it follows from the run's seed."""


class Tree(Classical):
    """A tree of questions about one input each, whose leaves answer with their items' classes or mean."""

    Config = TreeConfig
    dtype = np.float32  # as trees compute in any case
    kinds: ClassVar[tuple[type[Any], type[Any]]] = (DecisionTreeClassifier, DecisionTreeRegressor)
    """The estimators for classes and for numbers."""

    @classmethod
    def refusal(cls, config: TreeConfig, task: DatasetTask) -> str | None:
        """Return why the criterion does not fit the targets."""
        fitting = ("gini", "entropy") if task.classes else ("squared_error", "absolute_error")
        if config.criterion not in {"auto", *fitting}:
            what = "classes" if task.classes else "numbers"
            return f"--criterion {config.criterion} is not for {what}; take {' or '.join(fitting)}"
        return super().refusal(config, task)

    def _array(self, inputs: Tensor) -> np.ndarray:
        """Return inputs flattened, not scaled: that would change the questions by rounding, and nothing else."""
        return inputs.flatten(1).cpu().numpy().astype(self.dtype, copy=False)

    def make(self, random_state: int) -> Any:
        """Return the estimator."""
        return self.kinds[0 if self.classes else 1](**self.options(), random_state=random_state)

    def options(self) -> dict[str, Any]:
        """Return the estimator's options."""
        config: TreeConfig = self.config
        chosen = {} if config.criterion == "auto" else {"criterion": config.criterion}
        return {"max_depth": config.max_depth, "min_samples_leaf": config.min_samples_leaf, **chosen}

    def learned(self) -> Metrics:
        """Return the size of the tree."""
        return {"train/depth": float(self.estimator.get_depth()), "train/leaves": float(self.estimator.get_n_leaves())}


class ForestConfig(TreeConfig):
    """Random forest (Breiman, 2001): trees on resampled items, each question chosen among some inputs only."""

    trees: PositiveInt = 100
    """How many."""

    max_features: Literal["sqrt", "log2", "all"] | PositiveFloat = "sqrt"
    """Inputs among which a question is chosen: sqrt or log2 of their number, all, or a share up to 1."""


class Forest(Tree):
    """The mean of many trees that each saw other items and other inputs."""

    Config = ForestConfig
    kinds = (RandomForestClassifier, RandomForestRegressor)

    def options(self) -> dict[str, Any]:
        """Return the estimator's options."""
        config: ForestConfig = self.config
        some = None if config.max_features == "all" else config.max_features
        return {**super().options(), "n_estimators": config.trees, "max_features": some, "n_jobs": 1}

    def learned(self) -> Metrics:
        """Return the mean size of the trees."""
        trees = self.estimator.estimators_
        depths, leaves = [tree.get_depth() for tree in trees], [tree.get_n_leaves() for tree in trees]
        return {"train/depth": float(np.mean(depths)), "train/leaves": float(np.mean(leaves))}


# --- margins --------------------------------------------------------------------------------------


class SVMConfig(Config):
    """Support vector machine (Cortes and Vapnik, 1995), one for each pair of classes."""

    C: PositiveFloat = 2.0
    """How much an item on the wrong side of the margin costs."""

    kernel: Literal["rbf", "linear", "poly", "sigmoid"] = "rbf"
    """How similar two inputs are; rbf: exp(-gamma * squared distance)."""

    gamma: PositiveFloat | Literal["scale", "auto"] = "scale"
    """How quickly similarity falls: a number, scale (1 / (inputs * their variance)) or auto (1 / inputs)."""


class SVM(Classical):
    """The border with the widest margin between classes, in a space where a kernel is the inner product."""

    Config = SVMConfig
    predicts = frozenset({"classes"})
    probabilistic = False

    def make(self, random_state: int) -> Any:
        """Return the estimator; classes with as many votes are told apart by their margins."""
        config: SVMConfig = self.config
        gamma: Any = config.gamma  # what scikit-learn says of its type is too narrow
        return SVC(C=config.C, kernel=config.kernel, gamma=gamma, break_ties=True, cache_size=1000)

    def learned(self) -> Metrics:
        """Return how many training items the border rests on."""
        return {"train/support_vectors": float(self.estimator.n_support_.sum())}
