"""What a predictor shows of itself: its mistakes, its decision regions, what is inside.

In: a `SupervisedModel`. Out: images and texts by name, which the trainer's callback hands to the logger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rllab.data import Part
from rllab.parts import metrics, plots
from rllab.parts.drawing import render, shorten

if TYPE_CHECKING:
    from rllab.supervised import SupervisedModel

_POINTS = 1500
"""Points of a part that are drawn at most."""
_WRONG = 24
"""Wrong items that are shown at most."""
_CLASSES = 100
"""Classes of a confusion matrix that is drawn."""
_COLUMNS = 8
"""Columns of a row of numbers that is shown as such; longer ones are lines."""
_FEATURES = 64
"""Features up to which the weights of a first layer are drawn."""


def of_predictor(model: SupervisedModel, *, final: bool) -> dict[str, Any]:
    """Return pictures of a model; nothing of it is disturbed.

    Args:
        model: after `setup`, or loaded.
        final: whether to look at the test part; before the end only the validation part is, if there is one.
    """
    with model.undisturbed():
        found = inside(model) | (plane(model) if model.shape == (2,) else {})
    data = model.task.data
    if (validation := data.validation) is not None and len(validation):
        outcome = mistakes(model, validation, model.outputs(validation), "validation")
        found |= {f"validation-{name}": item for name, item in outcome.items()}
    if final and (test := data.test) is not None:
        count, outputs = model.tested or (-1, None)
        if outputs is None or count != model.count:
            outputs = model.outputs(test)
        found |= mistakes(model, test, outputs, "test")
    return found


# --- what it predicts -----------------------------------------------------------------------------


def mistakes(model: SupervisedModel, part: Part, outputs: Tensor, name: str) -> dict[str, Any]:
    """Return pictures of the predictions of a part: confusion matrix and the worst items, or predicted against true."""
    targets, classes = part.targets, model.classes
    if not classes:
        error = metrics.regression(outputs, targets)["rmse"]
        title = f"Predictions of the {name} part{_when(model)}: root mean squared error {error:.4g}"
        return {"predictions": render(plots.predictions(outputs, targets, model.task.data.target, title))}
    matrix = metrics.confusion(outputs.argmax(1), targets, len(classes))
    found: dict[str, Any] = {"confusion-table": table(matrix, classes)}
    if len(classes) <= _CLASSES:
        share = f"{int(matrix.trace()):,} of {len(targets):,} right ({_percent(metrics.accuracy(matrix), 1)})"
        title = f"Confusion matrix of the {name} part{_when(model)}: {share}"
        found["confusion"] = render(plots.confusion(matrix, classes, title))
    if matrix.trace() < len(targets):
        found["wrong"] = _wrong(model, part, outputs, name)
    return found


def table(matrix: Tensor, classes: Sequence[str]) -> str:
    """Return a confusion matrix as a table of text: true classes are rows, predicted ones columns."""
    names = [name.replace("|", "/") for name in classes]
    rows = [
        ["true \\ predicted", *names],
        *([name, *map(str, row)] for name, row in zip(names, matrix.tolist(), strict=True)),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(f"{text:>{w}}" for text, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    return "\n".join(lines) + "\n"


def _wrong(model: SupervisedModel, part: Part, outputs: Tensor, name: str) -> Any:
    """Return a picture of the wrong predictions of which the model was surest."""
    scores, predicted = outputs.max(1)
    wrong = torch.nonzero(predicted != part.targets).flatten()
    worst = wrong[scores[wrong].argsort(descending=True, stable=True)][:_WRONG]
    classes = [shorten(label, 16) for label in model.classes]
    pairs = [(classes[int(part.targets[row])], classes[int(predicted[row])]) for row in worst]
    sure = [_percent(float(scores[row])) if model.probabilistic else "" for row in worst]
    items = list(part.inputs[worst].numpy())
    title = f"Most confidently wrong in the {name} part{_when(model)}: {{}} of {len(wrong):,}"
    if len(model.shape) == 3:
        gap = " " if max(len(true) + len(taken) for true, taken in pairs) <= 5 else "\n"
        captions = [f"{t} taken{gap}for {p}\n{s}".strip() for (t, p), s in zip(pairs, sure, strict=True)]
        return render(plots.wrong_images(items, captions, title.format(len(items))))
    if len(model.shape) == 1 and model.shape[0] <= _COLUMNS:
        heads = [*(shorten(feature, 12) for feature in _features(model)), "true", "predicted", "probability"]
        rows = [
            [*(f"{value:.4g}" for value in item), *pair, share or "-"]
            for item, pair, share in zip(items, pairs, sure, strict=True)
        ]
        return render(plots.wrong_rows(heads, rows, title.format(len(rows))))
    captions = [f"{t} taken for {p} {s}".strip() for (t, p), s in zip(pairs, sure, strict=True)]
    return render(plots.wrong_lines(items[:12], captions[:12], title.format(len(items[:12]))))


def plane(model: SupervisedModel) -> dict[str, Any]:
    """Return pictures of what is predicted where, for two inputs, and of what each hidden neuron says there."""
    data = model.task.data
    square = plots.Plane.around(torch.cat([part.inputs for part in data.parts.values()]))
    places = torch.from_numpy(square.places())
    outputs = model.outputs(Part(places, torch.zeros(len(places))))
    words = {"train": "training", "test": "test"}
    points = [
        plots.Points(words[name], part.inputs.numpy(), part.targets.numpy()).thinned(_POINTS)
        for name, part in data.parts.items()
        if name in words
    ]
    axes, when = _features(model), _when(model)
    if model.classes:
        shares = outputs if model.probabilistic else nn.functional.one_hot(outputs.argmax(1), len(model.classes))
        drawn = plots.regions(square, shares, points, model.classes, axes, f"Decision regions{when}")
    else:
        drawn = plots.surface(square, outputs, points, data.target, axes, f"Predicted {data.target}{when}")
    found = {"regions": render(drawn)}
    if layers := _worth_seeing(model.feature_maps(places.to(model.device))):
        maps = {name: layer.flatten(1).cpu().numpy() for name, layer in layers.items()}
        found["neurons"] = render(plots.activations(square, maps, axes, f"Hidden neurons{when}"))
    return found


# --- what is inside -------------------------------------------------------------------------------


def inside(model: SupervisedModel) -> dict[str, Any]:
    """Return pictures of weights, of how much each feature counts, and of what each layer makes of an image."""
    found: dict[str, Any] = {}
    if (counts := model.importances()) is not None:
        found["importances"] = render(_importances(model, counts))
    weights = model.filters()
    whole = weights is None or weights.shape[1:] == model.shape
    title = f"{'Weights of the inputs' if whole else 'Kernels of the first layer'}{_when(model)}"
    if weights is not None and weights.dim() == 4:
        names = model.classes if whole and len(weights) == len(model.classes) else ()
        found["filters"] = render(plots.tiles(weights.cpu().numpy(), title, names=names))
    elif weights is not None and weights.dim() == 2 and weights.shape[1] <= _FEATURES:
        features = _features(model)
        if len(weights) == 1:
            drawn = plots.bars(features, weights[0].cpu().numpy(), "weight", title)
        else:
            rows = model.classes if len(weights) == len(model.classes) else [f"{i + 1}" for i in range(len(weights))]
            drawn = plots.heat(weights.cpu().numpy(), rows, features, title)
        found["filters"] = render(drawn)
    if len(model.shape) == 3:
        item = model.task.data.parts.get("test", model.task.data.train).inputs[:1]
        layers = _worth_seeing(model.feature_maps(item.to(model.device)))
        if any(layer.dim() == 4 for layer in layers.values()):
            maps = {name: layer[0].cpu().numpy() for name, layer in layers.items()}
            title = f"Feature maps of the first test image{_when(model)}"
            found["feature-maps"] = render(plots.feature_maps(item[0].numpy(), maps, title))
    return found


def _importances(model: SupervisedModel, counts: Tensor) -> Any:
    """Return a figure of how much each number of an input counts."""
    title = f"How much each input counts{_when(model)}"
    if counts.dim() == 3:
        return plots.tiles(counts[None].cpu().numpy(), title, "importance")
    names = _features(model) if counts.dim() == 1 else [f"input {i + 1}" for i in range(counts.numel())]
    return plots.bars(names, counts.flatten().cpu().numpy(), "importance", title)


_BEFORE = re.compile("conv|dense|batch norm|max pooling|average pooling|flatten|dropout")


def _worth_seeing(layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what comes out of the activations; every layer, if their names do not tell which these are."""
    return {name: layer for name, layer in layers.items() if not _BEFORE.match(name)} or dict(layers)


# --- words ----------------------------------------------------------------------------------------


def _features(model: SupervisedModel) -> Sequence[str]:
    """Return names of the inputs of a row."""
    if model.task.data.features:
        return model.task.data.features
    return ("x", "y") if model.shape == (2,) else [f"input {i + 1}" for i in range(model.shape[0])]


def _when(model: SupervisedModel) -> str:
    """Return how far training is, to end a title with; nothing for a model that is fitted at once."""
    if model.count == model.epoch == model.budget:
        return ""
    epochs = model.count / model.epoch
    return f" after {epochs:.4g} {'epoch' if epochs == 1 else 'epochs'}"


def _percent(share: float, digits: int = 0) -> str:
    """Return a share in percent, and 100 only if it is."""
    text = f"{100 * share:.{digits}f}"
    if share < 1 and float(text) == 100:
        text = ">99" if digits == 0 else f"{100 - 10**-digits:.{digits}f}"
    return f"{text} %"
