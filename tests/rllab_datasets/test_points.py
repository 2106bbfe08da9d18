"""Datasets of points in a plane: the crescents, and those of the TensorFlow Playground."""

import numpy as np
import pytest
import torch
from rllab_datasets.crescents import crescents
from rllab_datasets.playground import FEATURES, Circle, GaussianField, Plane

from rllab.data import DatasetTask, Part
from rllab.errors import UsageError


def opened(name: str, seed: int = 0, **options: object) -> DatasetTask:
    return DatasetTask.open(name, DatasetTask.config_class(name).parse(options), seed=seed)


def everything(task: DatasetTask) -> Part:
    parts = task.data.parts.values()
    return Part(torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts]))


# --- crescents --------------------------------------------------------------------------------------


def counted() -> set[tuple[int, int]]:
    """The positive points in thousandths, one after the other."""
    near = range(300, 720)
    return {
        (x, y)
        for x in near
        for y in near
        if ((x - 500) ** 2 + (y - 500) ** 2 < 27_000) != ((x - 510) ** 2 + (y - 510) ** 2 < 27_000)
    }


def test_the_crescents_are_what_lies_in_one_disc_only():
    positive = crescents().reshape(1000, 1000)
    expected = counted()
    assert {(int(x), int(y)) for x, y in np.argwhere(positive)} == expected
    assert len(expected) == 9300
    radius, distance = 0.3**1.5, 0.01 * np.sqrt(2)
    in_both = 2 * radius**2 * np.arccos(distance / 2 / radius) - distance / 2 * np.sqrt(4 * radius**2 - distance**2)
    assert len(expected) / 1000**2 == pytest.approx(2 * (np.pi * radius**2 - in_both), rel=0.001)


def test_whole_thousandths_decide_as_real_numbers_do():
    x, y = np.meshgrid(np.arange(1000) / 1000, np.arange(1000) / 1000, indexing="ij")
    inside = [(x - c) ** 2 + (y - c) ** 2 < 0.3**3 for c in (0.5, 0.51)]
    assert np.array_equal(crescents().reshape(1000, 1000), inside[0] ^ inside[1])


def test_crescents_are_balanced_and_split_as_ever():
    task = opened("crescents")
    assert {name: len(part) for name, part in task.data.parts.items()} == {
        "train": 1620,
        "validation": 180,
        "test": 200,
    }
    items = everything(task)
    assert items.targets.bincount().tolist() == [1000, 1000]
    assert len(items.inputs.unique(dim=0)) == 2000
    assert task.shape == (2,)
    assert task.classes == ("outside", "crescent")


def test_labels_of_the_crescents_are_those_of_their_points():
    positive = counted()
    items = everything(opened("crescents", seed=3))
    points = (items.inputs.double() * 1000).round().int().tolist()
    assert [(x, y) in positive for x, y in points] == items.targets.bool().tolist()


def test_the_crescents_lie_on_a_ring_around_the_middle_of_the_two_discs():
    x, y = (np.argwhere(crescents().reshape(1000, 1000)) / 1000 - 0.505).T
    widest = 0.005 * np.sqrt(2)
    assert (np.abs(np.hypot(x, y) - 0.3**1.5) <= widest + 1e-9).all()


def test_uniform_crescents_have_the_true_base_rate():
    items = everything(opened("crescents-uniform", samples=400_000))
    share = float(items.targets.double().mean())
    assert share == pytest.approx(0.0093, abs=4 * np.sqrt(0.0093 / 400_000))
    assert len(opened("crescents-uniform").data.train) == 16_200


def test_crescents_that_are_split_by_hand_are_split_from_all_points():
    parts = opened("crescents", test_share=0.5, validation_share=0.1).data.parts
    assert {name: len(part) for name, part in parts.items()} == {"train": 900, "validation": 100, "test": 1000}
    assert {name: len(part) for name, part in opened("crescents", folds=4).data.parts.items()} == {
        "train": 1500,
        "test": 500,
    }


def test_more_crescents_than_there_are_points_are_refused():
    with pytest.raises(UsageError, match="there are 9300 points in the crescents"):
        opened("crescents", samples=20_000)


# --- the playground ---------------------------------------------------------------------------------

NAMES = ("circle", "xor", "gauss", "spiral", "plane", "gaussian-field")


@pytest.mark.parametrize("name", [*NAMES, "crescents", "crescents-uniform", "posing", "avocado"])
def test_the_same_split_seed_draws_the_same_and_another_does_not(name):
    first, again, other = (everything(opened(name, seed=seed)).inputs for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first, everything(opened(name, seed=9, split_seed=1)).inputs)


def test_the_circle_has_a_disc_and_a_ring():
    items = everything(opened("circle", samples=1001))
    radius = items.inputs.norm(dim=1)
    assert items.targets.bincount().tolist() == [500, 501]
    assert float(radius[items.targets == 1].max()) <= 2.5
    assert 3.5 <= float(radius[items.targets == 0].min()) <= float(radius.max()) <= 5


def test_noise_in_the_circle_moves_the_place_at_which_the_label_is_read():
    x, y, label = Circle.draw(10_000, 0.3, np.random.default_rng(0))
    radius = np.hypot(x, y)
    assert ((radius < 2.5) | (radius > 3.5)).all()  # the points stay where they are
    assert 0.02 < np.mean((radius < 2.5) != (label > 0)) < 0.3


def test_xor_is_blue_where_the_signs_agree_and_has_a_gap_at_the_axes():
    items = everything(opened("xor"))
    assert torch.equal(items.inputs.prod(1) >= 0, items.targets.bool())
    assert float(items.inputs.abs().min()) >= 0.3
    assert float(items.inputs.abs().max()) <= 5.3


@pytest.mark.parametrize(("noise", "variance"), [(0, 0.5), (0.5, 4)])
def test_gauss_has_two_clouds_whose_variance_noise_sets(noise, variance):
    items = everything(opened("gauss", samples=20_000, noise=noise))
    for label, center in ((1, 2.0), (0, -2.0)):
        cloud = items.inputs[items.targets == label]
        torch.testing.assert_close(cloud.mean(0), torch.full((2,), center), atol=0.1, rtol=0)
        torch.testing.assert_close(cloud.var(0), torch.full((2,), float(variance)), rtol=0.06, atol=0)


def test_the_spirals_go_around_one_and_three_quarter_times():
    items = everything(opened("spiral", samples=10))
    blue = sorted(items.inputs[items.targets == 1].tolist(), key=lambda point: np.hypot(*point))
    steps = [(5 * i / 5, 1.75 * 2 * np.pi * i / 5) for i in range(5)]
    np.testing.assert_allclose(blue, [(r * np.sin(t), r * np.cos(t)) for r, t in steps], atol=1e-5)
    orange = sorted(items.inputs[items.targets == 0].tolist(), key=lambda point: np.hypot(*point))
    np.testing.assert_allclose(orange, -np.array(blue), atol=1e-5)


def test_the_plane_is_a_tenth_of_the_sum():
    items = everything(opened("plane"))
    torch.testing.assert_close(items.targets, items.inputs.sum(1) / 10)
    assert len(items) == 1200
    assert opened("plane").classes == ()
    assert Plane.label(np.array([6.0]), np.array([6.0])) == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("place", "label"),
    [((-4, 2.5), 1), ((0, 2.5), -1), ((4, -2.5), -1), ((0, -2.5), 1), ((1, 2.5), -0.5), ((2, 2.5), 0), ((6, 6), 0)],
)
def test_the_field_has_three_hills_and_three_hollows(place, label):
    assert GaussianField.label(np.array([place[0]]), np.array([place[1]]))[0] == pytest.approx(label)


def test_features_are_functions_of_the_point():
    names = tuple(FEATURES)
    task = opened("xor", features=names)
    assert task.data.features == names
    x, y, *others = everything(task).inputs.T
    expected = (x * x, y * y, x * y, x.sin(), y.sin())
    for found, wanted in zip(others, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(opened("xor").data.train.inputs, opened("xor", features="x,y").data.train.inputs)


@pytest.mark.parametrize(
    ("features", "message"), [("x,z", "'x', 'y', 'xx'"), ("none", "at least one"), ("x,x", "one is there twice")]
)
def test_features_that_are_none_are_refused(features, message):
    with pytest.raises(UsageError, match=message):
        opened("xor", features=features)
