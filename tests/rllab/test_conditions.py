import pytest

from rllab.conditions import Condition


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("eval/return>=475", Condition("eval/return", ">=", 475)),
        (" eval/return > 4.5e2 ", Condition("eval/return", ">", 450)),
        ("train/loss<=-0.5", Condition("train/loss", "<=", -0.5)),
        ("a-b.c_1<.5", Condition("a-b.c_1", "<", 0.5)),
    ],
)
def test_a_condition_is_read_from_text_and_written_back(text: str, condition: Condition) -> None:
    assert Condition.parse(text) == condition
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    "text", ["eval/return", "eval/return=475", "eval/return>=many", ">=3", "a>=1.2.3", "a>=b>=1", ""]
)
def test_what_is_no_condition_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it like 'eval/return>=475'|is no number"):
        Condition.parse(text)


@pytest.mark.parametrize(
    ("text", "holds"), [("x>=1", True), ("x<=1", True), ("x>1", False), ("x<1", False), ("x>0.5", True), ("x<2", True)]
)
def test_the_threshold_itself_fulfils_only_or_equal(text: str, holds: bool) -> None:
    assert Condition.parse(text).holds({"x": 1.0}) is holds


@pytest.mark.parametrize("metrics", [{}, {"x": None}, {"x": float("nan")}])
def test_what_was_not_measured_fulfils_nothing(metrics: dict[str, float]) -> None:
    assert not Condition.parse("x>=0").holds(metrics)
    assert not Condition.parse("x<=0").holds(metrics)


def test_a_condition_says_what_was_measured_instead() -> None:
    assert Condition.parse("x>=1").measured({"x": 0.25}) == "x is 0.25"
    assert Condition.parse("x>=1").measured({}) == "x was not measured"
    measured = Condition.parse("eval/retrun>=1").measured({"eval/return": 3.0})
    assert measured == "eval/retrun was not measured. Did you mean 'eval/return'?"
