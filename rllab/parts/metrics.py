"""Metrics of predictions: pure functions of tensors.

Classification starts from the confusion matrix, a tensor C of shape (k, k): C[t, p] items are of class t and were
predicted as class p.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def confusion(predicted: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Return how many items (N,) of each class, in rows, were predicted as each class, in columns: (k, k) int64."""
    return torch.bincount(targets * classes + predicted, minlength=classes**2).reshape(classes, classes)


def accuracy(matrix: Tensor) -> float:
    """Return the share of items that were predicted right."""
    return float(matrix.trace().double() / matrix.sum())


def recalls(matrix: Tensor) -> Tensor:
    """Return the share of each class that was found, (k,); NaN for a class without items."""
    return matrix.diag().double() / matrix.sum(1)


def precisions(matrix: Tensor) -> Tensor:
    """Return the share of the predictions of each class that were right, (k,); NaN for one never predicted."""
    return matrix.diag().double() / matrix.sum(0)


def balanced_accuracy(matrix: Tensor) -> float:
    """Return the mean of the recalls of the classes that have items."""
    return float(recalls(matrix).nanmean())


def log_loss(probabilities: Tensor, targets: Tensor) -> float:
    """Return the mean of -log of the probability (N, k) of the right class, in nats; 0 counts as 1e-7."""
    right = probabilities.double().gather(1, targets[:, None]).squeeze(1)
    return float(-right.clamp(min=1e-7).log().mean())


def classification(matrix: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return the metrics of a confusion matrix by name.

    For two classes the second is the positive one: sensitivity, specificity and the four counts are added. Up to
    twenty classes get a precision and a recall each; that of a class without items is left out.
    """
    found = {"accuracy": accuracy(matrix), "balanced_accuracy": balanced_accuracy(matrix)}
    if len(names) == 2:
        (tn, fp), (fn, tp) = matrix.double().tolist()
        found |= {"tp": tp, "tn": tn, "fp": fp, "fn": fn}
        found |= {"sensitivity": tp / (tp + fn)} if tp + fn else {}
        found |= {"specificity": tn / (tn + fp)} if tn + fp else {}
    if len(names) <= 20:
        for kind, values in (("precision", precisions(matrix)), ("recall", recalls(matrix))):
            found |= {f"{kind}/{n}": v for n, v in zip(names, values.tolist(), strict=True) if v == v}
    return found


def regression(predicted: Tensor, targets: Tensor) -> dict[str, float]:
    """Return root mean squared error, mean absolute error and R^2 of predictions (N,).

    R^2 is the share of the variance that is explained: 1 at best, 0 for predicting the mean, negative below that;
    it is left out where all targets are equal.
    """
    error = predicted.double() - targets.double()
    around = (targets.double() - targets.double().mean()).square().sum()
    found = {"rmse": float(error.square().mean().sqrt()), "mae": float(error.abs().mean())}
    return found | ({"r2": float(1 - error.square().sum() / around)} if around > 0 else {})


def majority(train: Tensor, targets: Tensor, classes: int) -> float:
    """Return the accuracy on `targets` of always predicting the most frequent class of `train`."""
    most = int(torch.bincount(train, minlength=classes).argmax())
    return float((targets == most).double().mean())
