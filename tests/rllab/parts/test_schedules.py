import pytest

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


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_a_constant_step_size_stays(progress: float) -> None:
    assert scheduled(0.1, "constant", progress) == 0.1
