import pytest
import torch

from rllab.parts.schedules import linear, scheduled


@pytest.mark.parametrize(
    ("progress", "value"), [(0.0, 1.0), (0.1, 0.525), (0.2, 0.05), (0.5, 0.05), (1.0, 0.05), (1.1, 0.05)]
)
def test_epsilon_falls_from_1_to_its_end_over_the_first_fifth_and_stays(progress: float, value: float) -> None:
    assert linear(1.0, 0.05, 0.2, progress) == pytest.approx(value)


def test_over_no_fraction_at_all_the_end_comes_at_once() -> None:
    assert linear(1.0, 0.05, 0.0, 0.0) == 0.05


def test_over_the_whole_of_training_the_end_comes_at_the_end() -> None:
    assert [linear(1.0, 0.0, 1.0, progress) for progress in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]


@pytest.mark.parametrize(("progress", "lr"), [(0.0, 0.1), (0.5, 0.05), (0.75, 0.025), (1.0, 0.0), (1.01, 0.0)])
def test_a_linear_step_size_falls_to_zero_at_the_end_and_not_below(progress: float, lr: float) -> None:
    assert scheduled(0.1, "linear", progress) == pytest.approx(lr)


@pytest.mark.parametrize(("progress", "lr"), [(0.0, 0.1), (1 / 3, 0.075), (0.5, 0.05), (1.0, 0.0), (1.01, 0.0)])
def test_along_a_cosine_the_step_size_falls_slowly_at_first_and_at_last(progress: float, lr: float) -> None:
    assert scheduled(0.1, "cosine", progress) == pytest.approx(lr)


@pytest.mark.parametrize(
    ("progress", "lr"), [(0.0, 0.04), (0.15, 0.52), (0.3, 1.0), (0.65, 0.500002), (1.0, 4e-6), (1.01, 4e-6)]
)
def test_one_cycle_rises_over_the_first_three_tenths_and_falls_to_almost_nothing(progress: float, lr: float) -> None:
    assert scheduled(1.0, "onecycle", progress) == pytest.approx(lr)


def test_one_cycle_is_torchs() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.01)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=101, cycle_momentum=False)
    for step in range(101):
        # torch ends the rise at step .3 * 101 - 1 and we at .3 * 100, a step later or earlier
        assert scheduled(0.2, "onecycle", step / 100) == pytest.approx(theirs.get_last_lr()[0], abs=0.006)
        optimizer.step()
        if step < 100:
            theirs.step()


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_a_constant_step_size_stays(progress: float) -> None:
    assert scheduled(0.1, "constant", progress) == 0.1
