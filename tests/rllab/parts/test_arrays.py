import numpy as np
import pytest
import torch
from gymnasium import spaces

from rllab.parts.arrays import Numbers, as_array, highest, joined, pick, place
from rllab.parts.losses import LOSSES
from rllab.parts.networks import Observations
from rllab.parts.normalise import RunningNormalizer

VALUES, COLUMNS = np.array([[1.0, 4.0, 2.0], [7.0, -1.0, 0.0]], np.float32), np.array([2, 0])


@pytest.mark.parametrize("of", [np.copy, torch.from_numpy], ids=["arrays", "tensors"])
def test_rows_and_columns_by_hand(of: Numbers) -> None:
    values, columns = of(VALUES), of(COLUMNS)
    assert highest(values).tolist() == [4.0, 7.0]
    assert pick(values, columns).tolist() == [2.0, 7.0]
    placed = place(of(np.array([5.0, 6.0], np.float32)), columns, values)
    assert placed.tolist() == [[0.0, 0.0, 5.0], [6.0, 0.0, 0.0]]
    assert joined([values]) is values
    assert joined([values, values]).tolist() == VALUES.tolist() * 2
    for result in (highest(values), pick(values, columns), placed, joined([values, values])):
        assert type(result) is type(values)
        assert result.dtype == values.dtype


def test_a_tensor_as_an_array_is_the_same_memory() -> None:
    tensor = torch.zeros(2, requires_grad=True)
    as_array(tensor)[0] = 3
    assert tensor.tolist() == [3.0, 0.0]
    assert as_array(VALUES) is VALUES


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_the_same_for_arrays(name: str, weighted: bool) -> None:
    error = np.linspace(-3, 3, 7, dtype=np.float32)
    weights = np.linspace(0, 1, 7, dtype=np.float32) if weighted else None
    loss, slopes = LOSSES[name](error, weights)
    expected = LOSSES[name](torch.from_numpy(error), None if weights is None else torch.from_numpy(weights))
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected[0].item())
    np.testing.assert_allclose(slopes, expected[1].numpy(), rtol=1e-6)
    assert slopes.dtype == np.float32


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2, 3)),
        spaces.Box(-1, 1, (2,), np.float64),
        spaces.Box(0, 255, (2,), np.uint8),
        spaces.Box(0, 255, (40, 40, 3), np.uint8),
        spaces.Discrete(3, start=2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
    ],
    ids=str,
)
def test_observations_are_the_same_for_arrays(space: spaces.Space[np.ndarray]) -> None:
    space.seed(0)
    batch, module = np.stack([space.sample() for _ in range(5)]), Observations(space)
    vectors = module(batch)
    assert isinstance(vectors, np.ndarray)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, module(torch.from_numpy(batch)).numpy())


def test_running_statistics_are_the_same_for_arrays() -> None:
    rng, ours, theirs = np.random.default_rng(0), RunningNormalizer(3), RunningNormalizer(3)
    for n in (1, 4, 7):
        batch = rng.normal(2, 5, (n, 3)).astype(np.float32)
        ours.update(batch)
        theirs.update(torch.from_numpy(batch))
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name])
    batch = rng.normal(2, 50, (6, 3)).astype(np.float32)
    normal = ours(batch)
    assert isinstance(normal, np.ndarray)
    assert normal.dtype == np.float32
    np.testing.assert_allclose(normal, theirs(torch.from_numpy(batch)).numpy(), rtol=1e-5)
