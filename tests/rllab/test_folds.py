import pytest

import rllab
from rllab import planning
from rllab.errors import UsageError
from rllab.folds import open_option, t_interval


def test_the_interval_is_that_of_the_tables() -> None:
    # mean 3, deviation sqrt(10 / 4), over sqrt(5): .7071; Student's t of 4 degrees at 97.5 %: 2.776
    found = t_interval([1, 2, 3, 4, 5])
    assert found.mean == 3
    assert found.low == pytest.approx(3 - 2.776445 * 0.5**0.5, abs=1e-5)
    assert found.high == pytest.approx(3 + 2.776445 * 0.5**0.5, abs=1e-5)


def test_two_values_have_a_wide_interval() -> None:
    assert t_interval([0.0, 2.0]).high == pytest.approx(1 + 12.7062, abs=1e-4)  # deviation sqrt(2) over sqrt(2)


def test_folds_are_open_until_one_is_chosen() -> None:
    assert open_option(planning.plan("majority", "digits")) is None
    assert open_option(planning.plan("majority", "digits", {"folds": 3})) == "fold"
    assert open_option(planning.plan("majority", "digits", {"folds": 3, "fold": 0})) is None
    assert open_option(planning.plan("dqn", "CartPole-v1")) is None


def test_from_python_a_fold_is_chosen() -> None:
    with pytest.raises(UsageError, match="3 folds are 3 runs\nChoose one, for example by fold=0"):
        rllab.run("majority", "digits", folds=3, progress=False)
