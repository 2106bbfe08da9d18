"""Posing a problem, the alphabet, and tables."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rllab_datasets import tables
from rllab_datasets.posing import PosingConfig, seen

from rllab.data import DatasetTask
from rllab.errors import PluginError


def opened(name: str, seed: int = 0, **options: object) -> DatasetTask:
    return DatasetTask.open(name, DatasetTask.config_class(name).parse(options), seed=seed)


# --- posing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("view", "width"), [("single", 1), ("raw", 40), ("sorted", 40), ("histogram", 20)])
def test_every_view_has_400_rows_to_learn_and_400_to_test(view, width):
    data = opened("posing", view=view).data
    assert data.test is not None
    assert data.train.inputs.shape == data.test.inputs.shape == (400, width)
    assert data.train.targets.bincount().tolist() == data.test.targets.bincount().tolist() == [100] * 4
    assert not torch.equal(data.train.inputs, data.test.inputs)


def test_views_are_of_the_same_numbers():
    raw, ordered, single, counts = (
        opened("posing", view=view).data.train.inputs for view in ("raw", "sorted", "single", "histogram")
    )
    assert torch.equal(raw.sort(1).values, ordered)
    assert torch.equal(raw[:, :1], single)
    assert torch.equal(counts.sum(1), torch.full((400,), 40.0))


def test_a_histogram_counts_between_the_least_and_the_greatest_number_of_a_row():
    row = np.array([[0.0, 1, 1, 2, 10]])
    assert seen(row, PosingConfig(view="histogram", bins=2)).tolist() == [[4, 1]]
    assert seen(row, PosingConfig(view="histogram", bins=2, histogram="shares")).tolist() == [[0.8, 0.2]]


def test_rows_are_stretched_unless_they_are_not():
    row = np.array([[1.0, 3, 5]])
    assert seen(row, PosingConfig()).tolist() == [[0, 0.5, 1]]
    assert seen(row, PosingConfig(unit_rows=False)).tolist() == [[1, 3, 5]]


def test_the_distributions_have_their_means():
    data = opened("posing", unit_rows=False, rows=2000).data
    means = [float(data.train.inputs[data.train.targets == k].mean()) for k in range(4)]
    assert data.classes == ("lognormal", "power", "normal", "uniform")
    np.testing.assert_allclose(means, [np.exp(0.5), 0.1 / 1.1, 0, 0.5], atol=0.04)


# --- alphabet ---------------------------------------------------------------------------------------


def test_the_alphabet_has_23_triples_and_is_tested_on_them():
    data = opened("alphabet").data
    assert data.test is not None
    letters = [
        "".join(data.classes[round(number * 26)] for number in triple.flatten().tolist())
        for triple in data.train.inputs
    ]
    following = [data.classes[label] for label in data.train.targets.tolist()]
    assert (letters[0], following[0], letters[-1], following[-1]) == ("ABC", "D", "WXY", "Z")
    assert len(letters) == 23
    assert data.shape == (3, 1)
    assert torch.equal(data.test.inputs, data.train.inputs)
    assert "same 23 triples" in data.notes["test part"]


def test_the_alphabet_can_leave_out_the_letters_that_come_after_nothing():
    data = opened("alphabet", letters="23").data
    assert data.classes[0] == "D"
    assert data.train.targets.tolist() == list(range(23))
    assert len(opened("alphabet", test_share=0.2).data.parts["test"]) == 5


# --- diabetes and avocados --------------------------------------------------------------------------


def test_diabetes_is_in_its_own_units():
    data = opened("diabetes").data
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 353, "test": 89}
    assert data.features[:3] == ("age", "sex", "bmi")
    assert float(data.train.inputs[:, 0].max()) == 79
    assert float(data.train.targets.max()) == 346


def test_softness_and_colour_of_an_avocado_tell_and_its_size_does_not():
    data = opened("avocado", samples=5000, noise=0).data
    size, softness, colour = data.train.inputs.T
    ripe = data.train.targets.bool()
    assert torch.equal(softness > 0.6, ripe)
    assert torch.equal(colour > 0.6, ripe)
    assert abs(float(size[ripe].mean() - size[~ripe].mean())) < 5
    assert float(ripe.float().mean()) == pytest.approx(0.4, abs=0.03)


# --- diamonds ---------------------------------------------------------------------------------------


@pytest.fixture
def plotnine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name, which must not be imported, with four diamonds."""
    folder = tmp_path / "plotnine" / "data"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "diamonds.csv").write_text(
        '"carat","cut","color","clarity","depth","table","price","x","y","z"\n'
        '0.23,"Ideal","E","SI2",61.5,55,326,3.95,3.98,2.43\n'
        '0.21,"Premium","E","SI1",59.8,61,327,3.89,3.84,2.31\n'
        '0.23,"Good","E","VS1",56.9,65,328,4.05,4.07,2.31\n'
        '0.29,"Premium","I","VS2",62.4,58,334,4.2,4.23,2.63\n'
    )
    monkeypatch.delitem(sys.modules, "plotnine", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


@pytest.mark.usefixtures("plotnine")
def test_diamonds_are_read_without_importing_plotnine_and_kinds_become_columns_in_alphabetical_order():
    data = opened("diamonds", test_share=0.25).data
    assert data.features == (
        *("carat", "depth", "table", "x", "y", "z", "cut=Good", "cut=Ideal", "cut=Premium"),
        *("color=E", "color=I", "clarity=SI1", "clarity=SI2", "clarity=VS1", "clarity=VS2"),
    )
    inputs = torch.cat([part.inputs for part in data.parts.values()])
    targets = torch.cat([part.targets for part in data.parts.values()])
    row = inputs[int(targets.argmax())]
    torch.testing.assert_close(row, torch.tensor([0.29, 62.4, 58, 4.2, 4.23, 2.63, 0, 0, 1, 0, 1, 0, 0, 0, 1]))
    assert sorted(targets.tolist()) == [326, 327, 328, 334]


def test_without_plotnine_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match=r"pip install 'rllab\[diamonds\]'"):
        opened("diamonds")
    assert tables.Diamonds.missing() == "needs plotnine: pip install 'rllab[diamonds]'"


@pytest.mark.slow
@pytest.mark.skipif(tables.Diamonds.missing() is not None, reason="plotnine, which has the diamonds, is not installed")
def test_a_tree_and_a_line_find_the_errors_that_are_known():
    from sklearn.linear_model import LinearRegression
    from sklearn.tree import DecisionTreeRegressor

    task = opened("diamonds", test_share=0.25, split_seed=42)
    train, test = task.data.train, task.data.test
    assert test is not None
    assert (len(train), len(test), task.shape) == (40455, 13485, (26,))
    for method, expected in (
        (DecisionTreeRegressor(max_depth=10, random_state=0), 727.042),
        (LinearRegression(), 1124.086),
    ):
        fitted = method.fit(train.inputs.double().numpy(), train.targets.double().numpy())
        errors = fitted.predict(test.inputs.double().numpy()) - test.targets.double().numpy()
        assert np.sqrt(np.mean(errors**2)) == pytest.approx(expected, abs=0.0005)
