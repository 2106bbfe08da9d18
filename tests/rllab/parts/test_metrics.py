import math

import pytest
import torch
from sklearn import metrics as theirs

from rllab.parts import metrics

# true classes are rows: 3 of 4, 1 of 2 and 2 of 4 are right
MATRIX = torch.tensor([[3, 1, 0], [0, 1, 1], [2, 0, 2]])


def test_a_confusion_matrix_has_true_classes_in_rows_and_predicted_ones_in_columns():
    matrix = metrics.confusion(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]


def test_accuracy_balanced_accuracy_precision_and_recall_by_hand():
    found = metrics.classification(MATRIX, ("a", "b", "c"))
    assert found == pytest.approx(
        {
            "accuracy": 6 / 10,
            "balanced_accuracy": (3 / 4 + 1 / 2 + 2 / 4) / 3,
            **{"precision/a": 3 / 5, "precision/b": 1 / 2, "precision/c": 2 / 3},
            **{"recall/a": 3 / 4, "recall/b": 1 / 2, "recall/c": 2 / 4},
        }
    )


def test_an_accuracy_of_95_percent_is_not_a_little_below_it():
    assert metrics.accuracy(torch.tensor([[94, 6], [4, 96]])) == 0.95


def test_of_two_classes_the_second_is_the_positive_one():
    found = metrics.classification(torch.tensor([[50, 10], [5, 35]]), ("no", "yes"))
    assert [found[name] for name in ("tn", "fp", "fn", "tp")] == [50, 10, 5, 35]
    assert found["sensitivity"] == found["recall/yes"] == 35 / 40
    assert found["specificity"] == found["recall/no"] == 50 / 60


def test_what_has_no_items_has_no_recall_and_what_is_never_predicted_no_precision():
    found = metrics.classification(torch.tensor([[4, 0], [0, 0]]), ("no", "yes"))
    assert {"recall/yes", "precision/yes", "sensitivity"}.isdisjoint(found)
    assert (found["specificity"], found["balanced_accuracy"]) == (1, 1)


def test_the_loss_is_the_mean_of_minus_log_of_the_right_class():
    probabilities = torch.tensor([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    assert metrics.log_loss(probabilities[:2], torch.tensor([0, 0])) == pytest.approx(math.log(8) / 2)
    assert metrics.log_loss(probabilities[2:], torch.tensor([1])) == pytest.approx(-math.log(1e-7))


def test_regression_by_hand_and_as_scikit_learn_has_it():
    predicted, targets = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 4.0, 4.0])
    found = metrics.regression(predicted, targets)
    assert found == pytest.approx({"rmse": math.sqrt(5 / 3), "mae": 1.0, "r2": 1 - 5 / 6})
    assert found["r2"] == pytest.approx(theirs.r2_score(targets.numpy(), predicted.numpy()))


def test_there_is_no_r2_where_all_targets_are_equal():
    assert metrics.regression(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0])) == {"rmse": 1, "mae": 1}


def test_the_majority_is_that_of_the_training_part():
    assert metrics.majority(torch.tensor([1, 1, 0]), torch.tensor([0, 0, 0, 1]), 2) == 0.25
