import numpy as np
import pytest
import torch

from rllab.parts import normalise
from rllab.parts.normalise import RunningNormalizer, precision
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
