import numpy as np
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from rllab.parts import normalise
from rllab.parts.normalise import ReturnNormalizer, RunningNormalizer, Scaler, precision
from rllab.state import load_weights, weights


class Owner:
    def __init__(self, size: int = 3) -> None:
        self.normalizer = RunningNormalizer(size)


@pytest.mark.parametrize("sizes", [(1,), (8,), (1, 1, 1), (5, 1, 100, 3)])
def test_statistics_of_batches_are_those_of_all_rows_together(sizes: tuple[int, ...]) -> None:
    normalizer = RunningNormalizer(3)
    batches = [np.random.default_rng(i).normal([0, 1e3, -5], [1, 10, 0.1], (n, 3)) for i, n in enumerate(sizes)]
    for batch in batches:
        normalizer.update(torch.from_numpy(batch))
    rows = np.concatenate(batches)
    np.testing.assert_allclose(normalizer.mean.numpy(), rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(normalizer.variance.numpy(), rows.var(0), rtol=1e-9, atol=1e-12)
    assert normalizer.number == sum(sizes)


def test_by_hand() -> None:
    """Rows 0, 2 and then 4, 6: mean 3, variance (9 + 1 + 1 + 9) / 4 = 5."""
    normalizer = RunningNormalizer(1)
    normalizer.update(torch.tensor([[0.0], [2.0]]))
    normalizer.update(torch.tensor([[4.0], [6.0]]))
    assert (normalizer.mean.item(), normalizer.variance.item()) == (3.0, 5.0)
    assert normalizer(torch.tensor([[8.0]])).item() == pytest.approx(5**0.5)


def test_a_large_mean_does_not_swamp_a_small_variance() -> None:
    normalizer = RunningNormalizer(1)
    for value in (1e6, 1e6 + 1) * 500:
        normalizer.update(torch.tensor([[value]], dtype=torch.float64))
    assert normalizer.variance.item() == pytest.approx(0.25)


def test_before_any_update_inputs_pass_unchanged() -> None:
    assert RunningNormalizer(2)(torch.tensor([[1.0, -2.0]])).tolist() == [[1.0, -2.0]]


def test_values_are_cut_and_constant_inputs_give_no_nan() -> None:
    normalizer = RunningNormalizer(1, clip=3.0)
    normalizer.update(torch.ones(10, 1))
    assert normalizer(torch.tensor([[1.0], [2.0], [-9.0]])).flatten().tolist() == [0.0, 3.0, -3.0]


def test_the_result_is_float32_and_the_statistics_do_not_move_in_forward() -> None:
    normalizer = RunningNormalizer(2)
    normalizer.update(torch.randn(5, 2))
    before = {name: buffer.clone() for name, buffer in normalizer.named_buffers()}
    assert normalizer.train()(torch.full((4, 2), 100.0)).dtype == torch.float32
    assert all(torch.equal(buffer, before[name]) for name, buffer in normalizer.named_buffers())


def test_the_statistics_are_weights() -> None:
    owner, fresh = Owner(), Owner()
    owner.normalizer.update(torch.randn(9, 3))
    load_weights(fresh, weights(owner))
    assert torch.equal(fresh.normalizer.variance, owner.normalizer.variance)
    assert fresh.normalizer.number == 9


def test_statistics_are_float64_but_on_a_macs_gpu_that_has_none() -> None:
    assert [precision(device) for device in ("cpu", "cuda:1", "mps")] == [torch.float64, torch.float64, torch.float32]


def test_statistics_in_float32_work_and_load_where_they_are_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    monkeypatch.setattr(normalise, "precision", lambda device: torch.float32)
    small = Owner()
    small.normalizer.update(torch.tensor([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]))
    assert {buffer.dtype for buffer in small.normalizer.buffers()} == {torch.float32}
    load_weights(owner, weights(small))
    assert {buffer.dtype for buffer in owner.normalizer.buffers()} == {torch.float64}
    assert owner.normalizer.mean.tolist() == [2.0, 3.0, 4.0]


# --- by the training part ----------------------------------------------------------------------------------------


@pytest.fixture
def table() -> torch.Tensor:
    numbers = np.random.default_rng(0).normal([5, -100, 0.001], [2, 30, 0.0001], (200, 3))
    return torch.from_numpy(numbers).float()


@pytest.mark.parametrize(
    ("how", "theirs"),
    [("minmax", MinMaxScaler()), ("standard", StandardScaler()), ("center", StandardScaler(with_std=False))],
)
def test_columns_are_scaled_as_scikit_learn_does(table, how, theirs):
    train, test = table[:150], table[150:]
    expected = theirs.fit(train.double().numpy()).transform(test.double().numpy())
    np.testing.assert_allclose(Scaler(train, how)(test).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_none_leaves_columns_exactly_as_they_are(table):
    assert torch.equal(Scaler(table, "none")(table), table)


@pytest.mark.parametrize("how", ["minmax", "standard", "center"])
def test_a_column_that_is_always_the_same_becomes_zero(how):
    assert torch.equal(Scaler(torch.full((4, 1), 7.0), how)(torch.full((2, 1), 7.0)), torch.zeros(2, 1))


def test_images_are_divided_by_255_whatever_the_training_part_is_like():
    images = torch.tensor([0, 51, 102], dtype=torch.uint8).reshape(3, 1, 1, 1)
    for how in ("none", "minmax"):
        torch.testing.assert_close(Scaler(images, how)(images).flatten(), torch.tensor([0, 0.2, 0.4]))


def test_images_are_one_feature_when_they_are_centred():
    images = torch.tensor([[0, 255], [255, 255]], dtype=torch.uint8).reshape(2, 1, 1, 2)
    torch.testing.assert_close(Scaler(images, "center")(images).flatten(), torch.tensor([-0.75, 0.25, 0.25, 0.25]))
    scaled = Scaler(images, "standard")(images)
    torch.testing.assert_close(scaled.mean(), torch.tensor(0.0))
    torch.testing.assert_close(scaled.std(correction=0), torch.tensor(1.0))


def test_what_a_scaler_knows_is_saved_with_the_weights(table):
    saved = Scaler(table, "standard").state_dict()
    other = Scaler(torch.zeros(1, 3), "none")
    other.load_state_dict(saved)
    assert torch.equal(other(table), Scaler(table, "standard")(table))


def test_discounted_returns_go_on_from_one_rollout_to_the_next() -> None:
    """Rewards of 1 and gamma 1/2: sums of 1, 1.5 and 1.75, and 1 after an end; a second environment has 0."""
    normalizer = ReturnNormalizer(0.5)
    rewards, ended = np.array([[1.0, 0], [1, 0], [1, 0], [1, 0]]), np.zeros((4, 2), bool)
    ended[2, 0] = True
    for part in (slice(0, 1), slice(1, 4)):
        normalizer.update(rewards[part], ended[part])
    expected = np.var([1, 1.5, 1.75, 1, 0, 0, 0, 0])
    assert float(normalizer.statistics.variance) == pytest.approx(expected)
