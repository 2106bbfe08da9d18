"""What mlp, cnn and rnn share, and the contract of each."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rllab_supervised.network import Standardised
from torch import Tensor, nn

import rllab
from rllab import experiment, planning
from rllab.algorithm import Algorithm
from rllab.data import DataMissing, DatasetTask
from rllab.errors import RunFailed, UsageError
from rllab.minibatches import epoch_order
from rllab.testing import check_algorithm, check_resume_in_new_process, first_difference

SMALL: dict[str, Any] = {"mlp": {"hidden": "8"}, "cnn": {"channels": "3,4", "hidden": "none"}, "rnn": {"hidden": 4}}
TARGETS = {"mlp": "digits", "cnn": "digits", "rnn": "alphabet"}


def built(method: str, target: str, **options: Any) -> Any:
    planned = planning.plan(method, target, {"preset": "none", "device": "cpu", **options})
    algorithm, _ = experiment.build(planned)
    algorithm.setup()
    return algorithm


def finish(algorithm: Algorithm) -> None:
    while algorithm.count < algorithm.budget:
        algorithm.step()


def trained(method: str, target: str, **options: Any) -> Any:
    algorithm = built(method, target, **options)
    finish(algorithm)
    return algorithm


# --- the contract -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "options"),
    [
        ("mlp", "digits", {"hidden": "8"}),
        ("mlp", "digits", {"hidden": "8,8", "dropout": 0.3, "optimizer": "momentum", "schedule": "onecycle"}),
        ("mlp", "diabetes", {"hidden": "8", "activation": "softplus", "tolerance": 1e-4, "batch_size": 50}),
        ("mlp", "crescents", {"hidden": "none", "optimizer": "adagrad", "max_grad_norm": 0.1}),
        ("cnn", "digits", {"channels": "3,4", "hidden": "8", "dropout": 0.3, "batch_norm": True}),
        ("cnn", "digits", {"channels": "3", "pool": "average", "schedule": "cosine", "optimizer": "rmsprop"}),
        ("rnn", "alphabet", {"cell": "lstm", "hidden": 4, "layers": 2, "dropout": 0.3, "batch_size": 5}),
        ("rnn", "alphabet", {"cell": "gru", "hidden": 4, "batch_size": 5}),
        ("rnn", "alphabet", {"cell": "rnn", "hidden": 4, "batch_size": 5, "tolerance": 1.0}),
    ],
    ids=str,
)
def test_networks_keep_the_contract(method: str, target: str, options: dict[str, Any]) -> None:
    check_algorithm(method, target, steps=7, epochs=40, **options)


# --- minibatches --------------------------------------------------------------------------------------------


def test_an_epoch_is_every_example_once_in_an_order_of_its_own() -> None:
    model = built("mlp", "digits", hidden="4", batch_size=100, epochs=2)
    assert model.budget == 2 * 1437
    epochs = []
    for _ in range(2):
        batches = []
        for size in [100] * 14 + [37]:
            rows = model.minibatches.rows(model.count)
            before = model.count
            model.step()
            assert model.count - before == len(rows) == size
            batches.append(rows)
        epochs.append(torch.cat(batches))
    for number, rows in enumerate(epochs):
        assert torch.equal(rows.sort().values, torch.arange(1437))
        assert torch.equal(rows, epoch_order(1437, model.streams.sequence("order", number)))
    assert not torch.equal(*epochs)


def test_a_run_goes_on_in_the_middle_of_an_epoch_with_the_batch_that_comes_next() -> None:
    one, other = (built("mlp", "digits", hidden="4", batch_size=100) for _ in range(2))
    for _ in range(20):
        one.step()
    other.load_state_dict(one.state_dict())
    assert other.count == 1437 + 5 * 100
    assert torch.equal(one.minibatches.rows(one.count), other.minibatches.rows(other.count))


@pytest.mark.slow
@pytest.mark.parametrize("method", SMALL)
def test_a_run_stopped_in_the_middle_of_an_epoch_goes_on_in_a_new_process(method: str, tmp_path: Path) -> None:
    options = [f"--{name}={value}" for name, value in SMALL[method].items()]
    target, batch, budget = (TARGETS[method], 7, 6 * 23) if method == "rnn" else (TARGETS[method], 100, 6 * 1437)
    options += [f"--batch-size={batch}", "--epochs=6", "--dropout=0.2", "--preset=none", "--device=cpu"]
    stop = 3 * budget // 6 + 2 * batch
    check_resume_in_new_process(method, target, budget=budget, stop_after=stop, options=options, folder=tmp_path)


# --- losses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SMALL)
def test_a_step_is_that_of_a_loop_written_in_plain_torch(method: str) -> None:
    options = {**SMALL[method], "batch_size": 10, "optimizer": "sgd", "lr": 0.1}
    model = built(method, TARGETS[method], **options)
    twin = built(method, TARGETS[method], **options)
    optimizer = torch.optim.SGD(twin.network.parameters(), lr=0.1)
    for _ in range(3):
        rows = model.minibatches.rows(model.count)
        metrics = model.step()
        inputs, targets = twin.train.inputs[rows], twin.train.targets[rows]
        logits = twin.network(twin.prepare(inputs))
        loss = nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.testing.assert_close(metrics["train/loss"], loss.detach())
        assert metrics["train/accuracy"].item() == pytest.approx(float((logits.argmax(1) == targets).float().mean()))
    for ours, theirs in zip(model.network.parameters(), twin.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_numbers_are_learned_in_units_of_their_deviation_and_predicted_in_their_own() -> None:
    module = Standardised(torch.tensor([1.0, 3.0, 5.0]))  # mean 3, variance (4 + 0 + 4) / 3
    assert module(torch.tensor([3.0, 5.0])).tolist() == pytest.approx([0, 2 / math.sqrt(8 / 3)])
    assert module.inverse(module(torch.tensor([-7.0]))).tolist() == pytest.approx([-7])
    assert Standardised(torch.tensor([4.0, 4.0]))(torch.tensor([4.0])).tolist() == [0]


def test_a_plane_of_numbers_is_found_by_a_single_neuron(line: Path) -> None:
    model = trained("mlp", str(line), hidden="none", epochs=60, lr=0.05)
    assert model.evaluate()["eval/r2"] > 0.999
    assert model.predict(torch.tensor([[1.0, 1.0]])).tolist() == pytest.approx([1100], abs=5)
    weights = model.standardised.deviation * model.network[0].weight * model.scaler.factor
    assert weights.tolist()[0] == pytest.approx([300, -200], abs=5)


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """A file of 200 points of y = 1000 + 300 a - 200 b."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200)).round(3)
    rows = "\n".join(f"{x},{y},{1000 + 300 * x - 200 * y}" for x, y in zip(a, b, strict=True))
    file = tmp_path / "line.csv"
    file.write_text(f"a,b,y\n{rows}\n")
    return file


def test_a_loss_that_is_nan_ends_the_run_with_the_way_out() -> None:
    model = built("mlp", "diabetes", lr=1e30, optimizer="sgd")
    with pytest.raises(RunFailed, match=r"the loss became (nan|inf)\nTry a smaller --lr"):
        finish(model)


# --- the step size, and stopping ----------------------------------------------------------------------------


def test_the_step_size_follows_the_schedule_over_all_epochs() -> None:
    model = built("mlp", "digits", hidden="none", epochs=2, batch_size=1437, lr=0.1, schedule="linear")
    assert [model.step()["train/lr"] for _ in range(2)] == pytest.approx([0.1, 0.05])


def test_ten_epochs_without_progress_end_the_run() -> None:
    model = built("mlp", "digits", hidden="none", epochs=50, batch_size=500, tolerance=100.0)
    for _ in range(3 * 11):  # the first is the best there was; the ten after it are no better by 100
        assert model.converged is None
        model.step()
    assert str(model.converged).startswith("--tolerance 100: the loss of an epoch got no better than ")
    assert model.count == 11 * 1437


def test_progress_begins_the_ten_epochs_anew() -> None:
    model = built("mlp", "digits", hidden="none", epochs=50, batch_size=1437, tolerance=0.5, optimizer="sgd")
    losses = [3.0, 2.6, 2.4, 2.3, 1.7, 1.4]  # better than the best so far by more than .5: the fifth
    for loss in losses:
        model.count += 1437
        model.watch(torch.tensor(loss), 1437)
    assert model.waited == 1
    assert model.best_loss == pytest.approx(1.4)


def test_without_tolerance_the_run_goes_to_its_end() -> None:
    assert trained("mlp", "digits", hidden="none", epochs=12, batch_size=1437, lr=1e-12).count == 12 * 1437


# --- layers -------------------------------------------------------------------------------------------------


def test_a_network_of_2_3_2_has_17_parameters() -> None:
    """2 * 3 weights and 3 biases, then 3 * 2 weights and 2 biases."""
    rows = built("mlp", "crescents", hidden="3").layers()
    assert [(row.name, row.shape, row.parameters) for row in rows] == [
        ("input", (2,), 0),
        ("dense1", (3,), 9),
        ("relu1", (3,), 0),
        ("output", (2,), 8),
    ]


def test_looking_at_layers_leaves_the_model_as_it_was() -> None:
    model = built("cnn", "digits", batch_norm=True, dropout=0.5)
    model.step()
    before = model.state_dict(), torch.get_rng_state()
    model.layers()
    model.feature_maps(model.train.inputs[:3])
    assert first_difference(before, (model.state_dict(), torch.get_rng_state())) is None
    assert model.network.training


def test_feature_maps_lead_to_the_outputs() -> None:
    model = built("cnn", "digits", channels="3,4", hidden="5")
    inputs: Tensor = model.train.inputs[:2]
    maps = model.feature_maps(inputs)
    assert maps["conv1"].shape == (2, 3, 8, 8)
    assert maps["conv2"].shape == (2, 4, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(model.network[-1](maps["relu3"]).softmax(1), model.predict(inputs))


def test_filters_have_the_shape_of_what_they_look_at() -> None:
    assert built("mlp", "digits", hidden="6").filters().shape == (6, 1, 8, 8)
    assert built("cnn", "digits", channels="5,4", kernel="3").filters().shape == (5, 1, 3, 3)
    assert built("rnn", "alphabet").filters() is None


def test_the_work_of_a_step_is_three_times_that_of_the_products() -> None:
    model = built("mlp", "digits", hidden="20", batch_size=10)
    assert model.work(model.config, model.task) == 3 * 10 * (64 * 20 + 20 * 10)
    model = built("cnn", "digits", channels="2", kernel="3", padding="0", hidden="none", batch_size=10)
    # 6x6 places of 2 kernels of 9, pooled to 3x3
    assert model.work(model.config, model.task) == 3 * 10 * (6 * 6 * 2 * 9 + 2 * 9 * 10)
    model = built("rnn", "alphabet", cell="rnn", hidden=4, batch_size=10)
    assert model.work(model.config, model.task) == 3 * 10 * (3 * (4 * 1 + 4 * 4) + 4 * 26)


# --- what does not fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "options", "message"),
    [
        ("cnn", "crescents", {}, "it takes images, and the inputs of crescents are 2 numbers"),
        ("rnn", "digits", {}, "it takes sequences, and the inputs of digits are images of 1x8x8"),
        ("cnn", "digits", {"channels": "none"}, "a network without convolutions is what `mlp` trains"),
        ("cnn", "digits", {"kernel": "3,3,3"}, "--kernel has 3 values, and --channels 2: write one, or as many"),
        (
            "cnn",
            "digits",
            {"kernel": "5", "padding": "0"},
            "convolution 2 has a kernel of 5x5 pixels, and 2x2 are left of the image",
        ),
        ("cnn", "digits", {"pooling": "4,3"}, "convolution 2 pools 3x3 pixels, and 2x2 are left"),
        (
            "cnn",
            "digits",
            {"channels": "2", "kernel": "8", "padding": "0", "pooling": "1", "batch_norm": True, "batch_size": "359"},
            "a batch of one image with one pixel left cannot be normalised; take another --batch-size",
        ),
        ("mlp", "digits", {"betas": "0.9,1"}, "less than 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    method: str, target: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        planning.plan(method, target, {"preset": "none", **options})


def test_presets_are_options_of_the_method_and_fit_their_datasets() -> None:
    for method in SMALL:
        loaded = planning.load_method(method)
        for name, values in loaded.presets().items():
            own = loaded.algorithm.Config.model_fields
            config = loaded.algorithm.Config.parse({n: value for n, value in values.items() if n in own})
            assert set(values) <= loaded.option_names(name)
            assert name not in DatasetTask.names() or name in loaded.algorithm.alternatives(config)


# --- what is learned ----------------------------------------------------------------------------------------


def accuracies(method: str, target: str, seeds: int, **options: Any) -> list[float]:
    """Return the accuracies on the test part of so many seeds, with the presets."""
    found = []
    for seed in range(seeds):
        model: Algorithm = trained(method, target, **{"seed": seed, "preset": None, **options})
        found.append(float(model.evaluate()["eval/accuracy"]))
    return found


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "bar"), [("mlp", 0.95), ("cnn", 0.96)])
def test_digits_are_read(method: str, bar: float) -> None:
    assert mean(accuracies(method, "digits", 5)) >= bar


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("method", "preset", "seeds", "least", "most"),
    [("cnn", None, 3, 0.99, 1.0), ("mlp", "course", 1, 0.95, 0.965), ("cnn", "course", 1, 0.975, 0.988)],
)
def test_mnist_is_read_within_the_bands(method: str, preset: str | None, seeds: int, least: float, most: float) -> None:
    try:
        found = accuracies(method, "mnist", seeds, preset=preset)
    except DataMissing as missing:
        pytest.skip(str(missing))
    assert least <= mean(found) <= most


@pytest.mark.slow
def test_a_spiral_is_followed() -> None:
    assert mean(accuracies("mlp", "spiral", 5)) > 0.95


@pytest.mark.slow
def test_crescents_are_learned_from_points() -> None:
    assert mean([200 * accuracy for accuracy in accuracies("mlp", "crescents", 10)]) >= 185


@pytest.mark.slow
def test_the_answer_depends_on_how_the_question_is_posed() -> None:
    single, raw, ordered = (mean(accuracies("mlp", "posing", 10, view=view)) for view in ("single", "raw", "sorted"))
    assert ordered > raw > single
    assert single == pytest.approx(0.46, abs=0.05)
    assert raw == pytest.approx(0.62, abs=0.09)
    assert ordered == pytest.approx(0.97, abs=0.02)


@pytest.mark.slow
def test_the_alphabet_is_a_sequence_to_an_lstm_and_three_numbers_to_a_dense_network() -> None:
    assert mean(accuracies("rnn", "alphabet", 5)) > 0.95
    assert mean(accuracies("mlp", "alphabet", 5)) < 0.75


def test_a_loaded_model_predicts_without_dropout_and_without_a_graph(tmp_path: Path) -> None:
    options: dict[str, Any] = {"preset": "none", "dropout": 0.5, "epochs": 1, "pictures_every": 0}
    model = rllab.run("mlp", "digits", runs_dir=tmp_path, progress=False, **options).load()
    inputs = model.task.data.test.inputs[:5]
    first, second = model.predict(inputs), model.predict(inputs)  # type: ignore[attr-defined]
    assert torch.equal(first, second)
    assert not first.requires_grad
