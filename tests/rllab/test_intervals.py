import pytest

from rllab.intervals import Interval


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("5000", Interval(5000)),
        (5000, Interval(5000)),
        ("5_000", Interval(5000)),
        ("1e3", Interval(1000)),
        ("2.5 %", Interval(2.5, "%")),
        ("1epoch", Interval(1, "epoch")),
        ("3 Epochs", Interval(3, "epoch")),
        ("30s", Interval(30, "s")),
        ("5m", Interval(5, "m")),
        ("1.5h", Interval(1.5, "h")),
        (Interval(7), Interval(7)),
    ],
)
def test_an_interval_is_read_from_text_or_a_number(text: object, interval: Interval) -> None:
    assert Interval.parse(text) == interval


@pytest.mark.parametrize("text", ["", "often", "-1", "5 apples", "1e-3", "%", "nan", "inf", "1e999", True, None])
def test_what_is_no_interval_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"is no interval|beyond all bounds"):
        Interval.parse(text)


@pytest.mark.parametrize("text", ["0", "5000", "2.5%", "1epoch", "30s", "1000000000000", "1e+30"])
def test_an_interval_written_as_text_reads_back_the_same(text: str) -> None:
    assert Interval.parse(str(Interval.parse(text))) == Interval.parse(text)


@pytest.mark.parametrize(
    ("text", "units"),
    [("250", 250), ("5%", 50), ("0.001%", 1), ("1epoch", 60), ("0.5epoch", 30), ("0.2", 1), ("30s", None)],
)
def test_units_of_a_budget_of_1000_and_epochs_of_60(text: str, units: int | None) -> None:
    assert Interval.parse(text).units(1000, 60) == units


def test_a_method_without_epochs_says_so() -> None:
    with pytest.raises(ValueError, match=r"1epoch is in epochs, but this method has none"):
        Interval.parse("1epoch").units(1000)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("5%", None), ("5", None)])
def test_seconds_minutes_and_hours_are_time(text: str, seconds: float | None) -> None:
    assert Interval.parse(text).seconds == seconds


@pytest.mark.parametrize("text", ["0", "0%", "0s", "0epochs"])
def test_zero_of_anything_is_never(text: str) -> None:
    assert Interval.parse(text).never
    assert not Interval.parse("1").never
