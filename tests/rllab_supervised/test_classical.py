import io
import json
import logging
import math
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
import skops.io
import torch
from rllab_supervised import classical
from rllab_supervised.classical import KNN, SVM, Classical, Forest, Linear, LogReg, NaiveBayes, Tree
from sklearn.datasets import load_digits
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import rllab
from rllab import stopping
from rllab.data import Data, DatasetConfig, DatasetTask, Part, classification, regression
from rllab.errors import CheckpointError, UsageError
from rllab.seeding import Streams
from rllab.stopping import StopRequested
from rllab.testing import check_algorithm


def model(kind: type[Classical], data: Data, *, scale: Any = "none", seed: int = 0, **options: Any) -> Any:
    """Return a method on data, set up."""
    task = DatasetTask("here", DatasetConfig(scale=scale), data)
    config = kind.Config.parse(options)
    assert kind.refusal(config, task) is None
    made = kind(config, task, device=torch.device("cpu"), streams=Streams(seed))
    made.setup()
    return made


def fitted(kind: type[Classical], data: Data, **options: Any) -> Any:
    made = model(kind, data, **options)
    made.step()
    return made


def line(*positions: float) -> torch.Tensor:
    return torch.tensor(positions)[:, None]


LETTERS = Data(classification([[0.0], [1.0], [5.0], [6.0]], [0, 0, 1, 1]), ("a", "b"))
SLOPE = Data(regression([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]))


def digits(split_seed: int = 0) -> tuple[Data, Any]:
    """Return the digits as `rllab run ... digits --split-seed 0` has them, and what scikit-learn makes of them."""
    items = load_digits()
    split = train_test_split(items.data / 16, items.target, test_size=0.2, random_state=split_seed)
    train, test = classification(split[0], split[2]), classification(split[1], split[3])
    return Data(train, tuple("0123456789"), test=test), split


# --- the contract

METHODS = {
    "knn": {},
    "naive-bayes": {},
    "logreg": {"max_iter": 200},
    "tree": {},
    "forest": {"trees": 5},
    "svm": {},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_for_classes_keeps_the_contract(name: str) -> None:
    check_algorithm(name, "digits", **METHODS[name])


@pytest.mark.parametrize("name", ["linear", "knn", "tree", "forest"])
def test_every_method_for_numbers_keeps_the_contract(name: str) -> None:
    check_algorithm(name, "diabetes", **({"trees": 5} if name == "forest" else {}))


# --- answers worked out by hand


def test_the_nearest_neighbours_vote() -> None:
    answers = fitted(KNN, LETTERS, k=3).predict(line(0.5, 4.0))
    torch.testing.assert_close(answers, torch.tensor([[2 / 3, 1 / 3], [1 / 3, 2 / 3]]))
    near = fitted(KNN, LETTERS, k=3, weights="distance").predict(line(2.0))  # at 1, 2 and 3: weights 1, 1/2, 1/3
    torch.testing.assert_close(near, torch.tensor([[9 / 11, 2 / 11]]))


def test_the_neighbours_of_a_number_give_their_mean() -> None:
    torch.testing.assert_close(fitted(KNN, SLOPE, k=2).predict(line(0.1)), torch.tensor([2.0]))


def test_scaling_decides_who_is_a_neighbour() -> None:
    data = Data(classification([[0.0, 0.0], [1.0, 1000.0]], [0, 1]), ("a", "b"))
    asked = torch.tensor([[1.0, 400.0]])
    assert fitted(KNN, data, k=1).predict(asked).argmax() == 0
    assert fitted(KNN, data, k=1, scale="minmax").predict(asked).argmax() == 1


def test_naive_bayes_weighs_normal_densities() -> None:
    # means 0.5 and 5.5, both with variance 0.25: the log odds at x are ((x - .5)^2 - (x - 5.5)^2) / 0.5 = 20 (x - 3)
    answers = fitted(NaiveBayes, LETTERS).predict(line(3.0, 3.1))
    expected = 1 / (1 + math.exp(-2))
    torch.testing.assert_close(answers, torch.tensor([[0.5, 0.5], [1 - expected, expected]]), rtol=1e-4, atol=1e-4)


def test_logistic_regression_is_undecided_in_the_middle_and_sure_further_out() -> None:
    answers = fitted(LogReg, LETTERS).predict(line(-5.0, 3.0, 11.0))
    torch.testing.assert_close(answers[1], torch.tensor([0.5, 0.5]), rtol=1e-3, atol=1e-3)
    assert answers[0, 0] > 0.99
    assert answers[2, 1] > 0.99


def test_linear_regression_finds_the_line() -> None:
    torch.testing.assert_close(fitted(Linear, SLOPE).predict(line(10.0)), torch.tensor([21.0]))


def test_a_tree_asks_at_the_middle_between_two_items() -> None:
    tree = model(Tree, LETTERS)
    assert tree.step() == {"train/depth": 1.0, "train/leaves": 2.0}
    assert tree.predict(line(2.9, 3.1)).tolist() == [[1, 0], [0, 1]]


def test_a_tree_for_numbers_answers_with_the_mean_of_the_leaf() -> None:
    tree = fitted(Tree, SLOPE, max_depth=1)  # the best question: 0.5 or 1.5, either leaves a pair
    assert sorted(tree.predict(line(0.0, 1.0, 2.0)).tolist()) in ([1.0, 4.0, 4.0], [2.0, 2.0, 5.0])


def test_a_tree_does_not_care_how_inputs_are_scaled() -> None:
    data, _ = digits()
    trees = [fitted(Tree, data, scale=scale, random_state=1) for scale in ("none", "standard", "minmax")]
    answers = [tree.predict(data.test.inputs) for tree in trees]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_the_margin_of_an_svm_lies_in_the_middle() -> None:
    svm = model(SVM, LETTERS, kernel="linear")
    assert svm.step() == {"train/support_vectors": 2.0}
    margins = svm.predict(line(3.0, 3.1, 2.9))
    assert margins[0].abs().max() < 1e-3
    assert margins.argmax(1)[1:].tolist() == [1, 0]


# --- against scikit-learn itself


def test_scores_are_those_of_scikit_learn() -> None:
    data, (train, test, labels, truth) = digits()
    for mine, theirs in (
        (fitted(KNN, data, k=3), KNeighborsClassifier(3)),
        (fitted(Tree, data, random_state=7), DecisionTreeClassifier(random_state=7)),
        (fitted(SVM, data, C=1), SVC(C=1)),
    ):
        expected = theirs.fit(train, labels).predict(test)
        assert (mine.predict(data.test.inputs).argmax(1).numpy() == expected).mean() > 0.99  # but for ties
        assert abs(float(mine.evaluate()["eval/accuracy"]) - (expected == truth).mean()) < 0.01


def test_numbers_are_computed_in_double_precision() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(1000, 1, (200, 3)).astype(np.float32)  # far from 0, where single precision loses digits
    targets = inputs.astype(float) @ [1.0, 2.0, 3.0] + rng.normal(size=200)
    mine = fitted(Linear, Data(regression(inputs, targets)))
    theirs = LinearRegression().fit(inputs.astype(np.float64), targets.astype(np.float32))
    np.testing.assert_allclose(mine.estimator.coef_, theirs.coef_, rtol=1e-9)


@pytest.mark.parametrize("kind", [KNN, LogReg, Tree, NaiveBayes, SVM])
def test_a_class_that_is_not_in_the_training_part_is_never_predicted(kind: type[Classical]) -> None:
    data = Data(classification([[0.0], [1.0], [5.0], [6.0]], [0, 0, 2, 2]), ("a", "b", "c"))
    answers = fitted(kind, data, **({"k": 1} if kind is KNN else {})).predict(line(0.0, 6.0))
    assert answers.shape == (2, 3)
    assert answers.argmax(1).tolist() == [0, 2]


# --- seeds


def test_the_seed_of_a_tree_follows_from_the_run_unless_it_is_given() -> None:
    data, _ = digits()
    first, again, other = (fitted(Tree, data, seed=seed).predict(data.test.inputs) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    fixed, same = (fitted(Tree, data, seed=seed, random_state=0).predict(data.test.inputs) for seed in (0, 1))
    assert torch.equal(fixed, same)


def test_fitting_draws_from_no_global_generator() -> None:
    data, _ = digits()
    before = np.random.get_state(legacy=False)["state"]["key"].copy()
    fitted(Forest, data, trees=3)
    assert (np.random.get_state(legacy=False)["state"]["key"] == before).all()


# --- stored without pickle


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        *((kind, LETTERS) for kind in (KNN, NaiveBayes, LogReg, Tree, Forest, SVM)),
        *((kind, SLOPE) for kind in (KNN, Tree, Forest, Linear)),
    ],
)
def test_a_stored_model_answers_as_before(kind: type[Classical], data: Data) -> None:
    options = {"trees": 3} if kind is Forest else {}
    before, after = fitted(kind, data, **options), model(kind, data, **options)
    after.load_weights(before.weights())
    asked = line(-1.0, 0.3, 2.5, 4.0, 8.0)
    assert torch.equal(before.predict(asked), after.predict(asked))
    assert torch.equal(before.weights()["model.skops"], after.weights()["model.skops"])


@pytest.mark.parametrize("kind", [KNN, NaiveBayes, LogReg, Tree, Forest, SVM])
def test_the_same_seed_stores_the_same_bytes(kind: type[Classical]) -> None:
    options = {"trees": 3} if kind is Forest else {}
    first, second = (fitted(kind, LETTERS, **options).weights()["model.skops"] for _ in range(2))
    assert torch.equal(first, second)


def test_before_the_fit_there_are_weights_and_no_answers() -> None:
    svm = model(SVM, LETTERS)
    assert set(svm.weights()) == {"scaler.shift", "scaler.factor"}
    svm.load_state_dict(svm.state_dict())
    with pytest.raises(CheckpointError, match="this model was saved before it was fitted\n`rllab resume RUN` fits it"):
        svm.predict(line(1.0))


def loading(written: bytes, kind: type[Classical] = KNN) -> None:
    made = model(kind, LETTERS)
    stored = torch.frombuffer(bytearray(written), dtype=torch.uint8)
    made.load_weights({**made.weights(), "model.skops": stored})


def test_types_of_others_are_not_trusted() -> None:
    with pytest.raises(CheckpointError, match=r"types that are not trusted: pathlib\._local|pathlib\."):
        loading(skops.io.dumps(KNeighborsClassifier(3, metric=Path)))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"model\.skops cannot be read: File is not a zip file"):
        loading(b"nonsense")
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as file:
        file.writestr("schema.json", json.dumps({}))
    with pytest.raises(CheckpointError, match=r"model\.skops cannot be read"):
        loading(empty.getvalue())


def test_a_model_of_another_method_is_refused() -> None:
    svc = SVC().fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(CheckpointError, match="holds a SVC, where a KNeighborsClassifier is expected"):
        loading(skops.io.dumps(svc))


def test_a_model_of_another_version_of_scikit_learn_is_told(caplog: pytest.LogCaptureFixture) -> None:
    ours, older = sklearn.__version__, io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(skops.io.dumps(KNeighborsClassifier(3)))) as source,
        zipfile.ZipFile(older, "w") as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(ours.encode(), b"1.5.2"))
    with caplog.at_level(logging.WARNING, "rllab"):
        loading(older.getvalue())
    assert caplog.messages == [f"model.skops was fitted by scikit-learn 1.5.2, and this is {ours}"]


def test_a_run_leaves_its_model_in_a_file_of_its_own(tmp_path: Path) -> None:
    run = rllab.run("tree", "digits", runs_dir=tmp_path, progress=False, logger="none", pictures_every=0)
    written = run.path / "checkpoints" / "step-000001437" / "model.skops"
    assert zipfile.is_zipfile(written)
    assert run.evaluate()["eval/accuracy"] == run.info["metrics"]["eval/accuracy"]


# --- bad input, and what scikit-learn says


def test_what_does_not_fit_is_said_before_the_start() -> None:
    task = DatasetTask("here", DatasetConfig(), LETTERS)
    numbers = DatasetTask("there", DatasetConfig(), SLOPE)
    assert KNN.refusal(KNN.Config(k=5), task) == "--k 5 neighbours of 4 items"
    assert Linear.refusal(Linear.Config(), task) == "it predicts numbers, and here has 2 classes"
    assert (
        LogReg.refusal(LogReg.Config(), numbers) == "it predicts classes, and the target of there is a number (target)"
    )
    assert Tree.refusal(Tree.Config(criterion="gini"), numbers) == (
        "--criterion gini is not for numbers; take squared_error or absolute_error"
    )
    assert Tree.refusal(Tree.Config(criterion="squared_error"), task) == (
        "--criterion squared_error is not for classes; take gini or entropy"
    )
    with pytest.raises(UsageError, match="--gamma 0: should be greater than 0"):
        SVM.Config.parse({"gamma": 0})


def test_no_convergence_is_one_line_with_the_way_out(caplog: pytest.LogCaptureFixture) -> None:
    data, _ = digits()
    with caplog.at_level(logging.WARNING, "rllab"):
        assert model(LogReg, data, max_iter=3).step() == {"train/iterations": 3.0}
    assert caplog.messages == ["no convergence in 3 iterations: try --max-iter 12, or --scale standard"]


class Slow:
    """An estimator in whose compiled code no signal is heard."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def fit(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        self.released.wait(10)


def test_a_request_to_stop_does_not_wait_for_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, made = Slow(), model(KNN, LETTERS)
    monkeypatch.setattr(made, "make", lambda random_state: slow)
    threading.Timer(0.05, lambda: monkeypatch.setattr(stopping, "_requested", "SIGINT")).start()
    began = time.perf_counter()
    with pytest.raises(StopRequested):
        made.step()
    assert time.perf_counter() - began < 5
    assert (made.count, made.estimator) == (0, None)  # as before: the fit begins anew when the run goes on
    slow.released.set()


def test_an_error_of_the_fit_is_raised() -> None:
    made = model(KNN, LETTERS)
    made.train = Part(torch.full((4, 1), torch.nan), LETTERS.train.targets)
    with pytest.raises(ValueError, match="NaN"):
        made.step()


# --- scores: `make test` has one seed, the others are slow

BANDS = {"naive-bayes": 75.0, "logreg": 95.5, "knn": 97.5, "tree": 83.0, "forest": 96.5, "svm": 98.5}


@pytest.mark.slow
@pytest.mark.parametrize("name", BANDS)
def test_scores_on_digits_over_five_seeds(name: str, tmp_path: Path) -> None:
    runs = [
        rllab.run(name, "digits", seed=s, runs_dir=tmp_path, progress=False, logger="none", pictures_every=0)
        for s in range(5)
    ]
    assert 100 * np.mean([run.info["metrics"]["eval/accuracy"] for run in runs]) >= BANDS[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [("tree", {"max_depth": 10, "random_state": 0}, 727.042), ("linear", {}, 1124.086)],
)
def test_diamonds_as_the_course_has_them(name: str, options: Any, expected: float, tmp_path: Path) -> None:
    pytest.importorskip("plotnine", reason="diamonds lie in the package plotnine")
    split = {"split_seed": 42, "test_share": 0.25}
    run = rllab.run(
        name, "diamonds", runs_dir=tmp_path, progress=False, logger="none", pictures_every=0, **split, **options
    )
    assert run.info["metrics"]["eval/rmse"] == pytest.approx(expected, abs=5e-4)


def test_the_module_names_every_method_it_has() -> None:
    kinds = [value for value in vars(classical).values() if isinstance(value, type) and issubclass(value, Classical)]
    assert {kind.__name__ for kind in kinds} == {
        "Classical", "KNN", "NaiveBayes", "LogReg", "Linear", "Tree", "Forest", "SVM",
    }  # fmt: skip
    assert all(kind.Config.__doc__ for kind in kinds if kind is not Classical)
