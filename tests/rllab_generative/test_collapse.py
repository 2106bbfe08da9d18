"""Signs of collapse, and how different images are: by hand."""

import math

import pytest
import torch
from rllab_generative.collapse import Stretch, diversity, report, signs

REAL = {"a": 0.5, "b": 0.3, "c": 0.2}
CALM = Stretch(1.2, 0.9, 0.7, 0.72)


def names(*course: Stretch, variety: float = 1.0, shares: dict[str, float] = REAL) -> list[str]:
    return [sign.name for sign in signs(course, variety, shares, REAL)]


def test_a_game_that_goes_well_has_no_sign() -> None:
    assert names() == []
    assert names(CALM, CALM) == []


def test_a_discriminator_that_tells_all_apart_while_the_other_loss_rises_is_a_bad_sign() -> None:
    losing = Stretch(0.05, 6.3, 0.99, 0.995)
    assert names(Stretch(0.5, 2.1, 0.9, 0.9), losing) == ["tells apart"]
    (sign,) = signs([Stretch(0.5, 2.1, 0.9, 0.9), losing], 1.0, REAL, REAL)
    assert sign.bad
    assert "99% of real" in sign.text
    assert "from 2.10 to 6.30" in sign.text


def test_telling_all_apart_is_no_sign_while_the_generator_catches_up() -> None:
    assert names(Stretch(0.1, 6.0, 0.99, 0.99), Stretch(0.1, 5.0, 0.99, 0.99)) == []
    assert names(Stretch(0.1, 6.0, 0.99, 0.99)) == []


def test_a_rise_is_seen_over_four_stretches_and_not_from_the_beginning() -> None:
    course = [Stretch(0.1, loss, 0.99, 0.99) for loss in (1.0, 4.0, 4.0, 4.0, 4.0, 4.2)]
    assert names(*course) == []
    assert names(*course[:5]) == ["tells apart"]


def test_both_sides_have_to_be_told_apart() -> None:
    assert names(CALM, Stretch(0.5, 6.0, 0.90, 1.0)) == []


def test_a_discriminator_that_guesses_is_said_to_be_in_balance() -> None:
    (sign,) = signs([Stretch(1.386, 0.693, 0.52, 0.47)], 1.0, REAL, REAL)
    assert sign.name == "guesses"
    assert not sign.bad
    assert names(Stretch(1.38, 0.7, 0.9, 0.5)) == []


def test_samples_that_are_alike_are_mode_collapse() -> None:
    assert names(CALM, variety=0.69) == ["alike"]
    assert names(CALM, variety=0.71) == []


def test_missing_classes_are_named() -> None:
    (sign,) = signs([CALM], 1.0, {"a": 0.96, "b": 0.03, "c": 0.019}, REAL)
    assert sign.name == "missing"
    assert "1 of 3 classes" in sign.text
    assert ": c." in sign.text
    assert names(CALM, shares={"a": 0.0, "b": 1.0, "c": 0.02}) == ["missing"]


def test_a_class_that_does_not_occur_is_not_missing() -> None:
    assert signs([CALM], 1.0, {"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 0.0}) == []


def test_the_report_says_if_nothing_is_wrong_and_has_the_numbers() -> None:
    fine = report(signs([CALM], 0.93, REAL, REAL), [CALM], 0.93)
    assert fine.startswith("No sign of collapse.")
    assert "70.0% of real" in fine
    assert "0.93 times" in fine
    bad = report(signs([CALM], 0.2, REAL, REAL), [CALM], 0.2)
    assert "No sign" not in bad
    assert "mode collapse" in bad


def test_diversity_is_the_mean_distance_of_pairs_in_units_of_that_of_real_ones() -> None:
    real = torch.tensor([[0.0], [1.0], [2.0]])  # distances 1, 1, 2
    drawn = torch.tensor([[0.0], [0.0], [1.0]])  # distances 0, 1, 1
    assert diversity(drawn, real) == pytest.approx((2 / 3) / (4 / 3))
    assert diversity(real.view(3, 1, 1, 1), real.view(3, 1, 1, 1)) == pytest.approx(1.0)
    assert diversity(torch.ones(5, 2, 3), torch.rand(6, 2, 3)) == 0.0


def test_with_classes_only_pairs_of_one_class_count() -> None:
    items = torch.tensor([[0.0], [1.0], [10.0], [13.0]])  # within classes: 1 and 3
    classes = torch.tensor([0, 0, 1, 1])
    other = torch.tensor([[0.0], [4.0], [9.0], [9.0]])  # 4 and 0
    assert diversity(other, items, (classes, classes)) == pytest.approx(1.0)
    alone = torch.tensor([0, 1, 2, 3])
    assert diversity(items, items, (alone, classes)) == 0.0
    assert math.isfinite(diversity(items, items, (classes, alone)))
