"""What a dataset says of itself without being loaded is what it is when it is loaded."""

import pytest
from click.testing import CliRunner

from rllab.cli import cli
from rllab.data import DatasetTask, datasets_for, source

MADE_HERE = [name for name in DatasetTask.names() if source(name).example and source(name).missing() is None]


@pytest.mark.parametrize("name", MADE_HERE)
def test_the_example_has_the_shape_and_the_classes_of_the_data(name: str) -> None:
    task = DatasetTask.open(name, DatasetTask.config_class(name)(), seed=0)
    assert source(name).example == (task.shape, len(task.classes))


def test_datasets_are_found_by_what_a_method_takes() -> None:
    assert datasets_for(lambda task: len(task.shape) == 2) == ["alphabet"]
    assert set(datasets_for(lambda task: len(task.shape) == 3)) == {"digits", "fashion-mnist", "mnist"}


def test_who_names_a_dataset_that_does_not_fit_is_told_which_do() -> None:
    error = CliRunner().invoke(cli, ["run", "linear", "digits"]).exception
    assert str(error).splitlines() == [
        "linear cannot be trained on digits: it predicts numbers, and digits has 10 classes",
        "It can be trained on diabetes, diamonds, gaussian-field, plane. Methods that take digits: cnn, forest, knn, "
        "logreg, majority, mlp, naive-bayes, perceptron, svm, tree.",
    ]
