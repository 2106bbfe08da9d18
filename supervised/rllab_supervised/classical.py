"""The classical predictors of scikit-learn, each a Config and the line that makes its estimator.

Pedregosa et al., "Scikit-learn: Machine Learning in Python", JMLR 12 (2011). What they have in common is in `adapter`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from torch import Tensor

from rllab.algorithm import Metrics
from rllab.config import Config
from rllab.data import DatasetTask
from rllab_supervised.adapter import Classical

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

    def filters(self) -> None:
        """Return None: its weights, if its kernel has any, are of pairs of classes."""

    def learned(self) -> Metrics:
        """Return how many training items the border rests on."""
        return {"train/support_vectors": float(self.estimator.n_support_.sum())}
