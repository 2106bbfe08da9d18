"""`rllab predict`, and `rllab eval --on`: a trained model meets what it has not seen."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import rllab as package

QUIET = ("--quiet", "--logger", "none", "--pictures-every", "0", "--run-dir", "run")


@pytest.fixture
def digits(rllab):
    """A run of 1-NN on the digits in the folder `run`, and the first digit, a zero that it learned, in a picture."""
    assert rllab("run", "knn", "digits", "--k", "3", "--split-seed", "0", *QUIET).code == 0
    pixels = np.round(load_digits().images[0] * (255 / 16)).astype(np.uint8)
    Image.fromarray(pixels).save("zero.png")
    Image.fromarray(pixels).resize((28, 28)).save("large.png")
    return rllab


def test_a_picture_gets_a_class_and_its_probability(digits):
    done = digits("predict", "run", "zero.png")
    assert (done.code, done.out) == (0, "zero.png  0 1.0000\n")
    assert digits("predict", "run", "zero.png", "--json").json == [
        {"input": "zero.png", "class": "0", "probability": 1.0}
    ]


def test_top_gives_as_many_classes(digits):
    (answer,) = digits("predict", "run", "zero.png", "--top", "3", "--json").json
    assert answer["top"][0] == {"class": "0", "probability": 1.0}
    assert [entry["probability"] for entry in answer["top"]] == [1, 0, 0]
    assert digits("predict", "run", "zero.png", "--top", "99", "--json").json[0]["top"][-1]["probability"] == 0
    assert digits("predict", "run", "zero.png", "--top", "2").out.startswith("zero.png  0 1.0000  ")


def test_a_picture_of_the_wrong_size_is_refused_unless_resized(digits):
    done = digits("predict", "run", "large.png")
    assert (done.code, done.out) == (2, "")
    assert done.err == "Error: large.png has 28 x 28 pixels, and the model takes 8 x 8\n--resize resizes it.\n"
    assert digits("predict", "run", "large.png", "--resize").out.startswith("large.png  0 ")


def test_mistakes_end_with_their_codes(digits):
    assert digits("predict", "run", "nothing.png").code == 2
    assert digits("predict", "run").code == 2
    assert digits("predict", "nothing", "zero.png").code == 5
    assert digits("predict", "run", "zero.png", "--checkpoint", "7").code == 5
    done = digits("predict", "run", "zero.png", "--tpo", "3")
    assert (done.code, "there is no option --tpo" in done.err) == (2, True)


def test_numbers_may_begin_with_a_minus_and_rows_come_from_a_file(rllab):
    Path("line.csv").write_text("x,y\n" + "".join(f"{x},{2 * x + 1}\n" for x in range(20)))
    assert rllab("run", "linear", "line.csv", "--target-column", "y", *QUIET).code == 0
    done = rllab("predict", "run", "-3", "1.5")
    assert done.out.split() == ["-3", "-5", "y", "1.5", "4", "y"]
    Path("asked.csv").write_text("z,x\n0,100\n0,200\n")
    answers = rllab("predict", "run", "asked.csv", "--json").json
    assert [answer["input"] for answer in answers] == ["asked.csv:2", "asked.csv:3"]
    assert [answer["value"] for answer in answers] == pytest.approx([201, 401], rel=1e-5)
    done = rllab("predict", "run", "1", "--top", "2")
    assert (done.code, "this model predicts numbers" in done.err) == (2, True)


def test_a_model_without_probabilities_gives_the_class_alone(rllab):
    assert rllab("run", "rule", "crescents", *QUIET).code == 0
    done = rllab("predict", "run", "0.5,0.664", "0.5,0.5")  # squared distances .0269 and 0
    assert done.out == "0.5,0.664  crescent\n0.5,0.5    outside\n"
    assert rllab("predict", "run", "0.5,0.5", "--top", "2").code == 2


def test_letters_are_asked_as_text(rllab):
    assert rllab("run", "tree", "alphabet", *QUIET).code == 0
    assert rllab("predict", "run", "klm").out == "klm  N 1.0000\n"
    assert rllab("predict", "run", "k1").code == 2


def test_an_agent_predicts_nothing(tiny, rllab):
    tiny()
    done = rllab("predict", "run", "1,2,3,4")
    assert (done.code, "which predicts no targets of inputs" in done.err) == (2, True)


# --- eval --on


def test_a_model_is_measured_on_another_dataset(rllab):
    assert rllab("run", "knn", "crescents", "--k", "1", *QUIET).code == 0
    own = rllab("eval", "run", "--json").json
    done = rllab("eval", "run", "--on", "crescents-uniform", "--task-option", "samples=5000", "--json")
    assert done.code == 0
    other = done.json
    assert sum(own[f"eval/{name}"] for name in ("tp", "tn", "fp", "fn")) == 200
    assert sum(other[f"eval/{name}"] for name in ("tp", "tn", "fp", "fn")) == 500
    assert "validation/accuracy" in own
    assert "validation/accuracy" not in other
    precision = "eval/precision/crescent"  # of 107 points only one lies in a crescent: most that look so do not
    assert other[precision] < own[precision]
    again = package.load("run").evaluate(on="crescents-uniform", task_options={"samples": 5000})
    assert again == other


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--on", "digits"), "its inputs are images of 1x8x8, and the model takes 2 numbers"),
        (("--on", "spiral"), "its classes are "),
        (("--on", "plane"), "its classes are none (the target is a number), and the model knows outside, crescent"),
        (("--on", "nothing"), "there is no dataset called 'nothing'"),
        (("--on", "crescents", "--task-option", "smaples=3"), "crescents has no option --smaples.\nDid you mean"),
        (("--on", "crescents", "--task-option", "samples"), "--task-option samples: write KEY=VALUE"),
        (("--on", "crescents", "--task-option", "samples=1"), "--samples 1: should be greater than or equal to 20"),
        (("--on", "crescents", "--task-option", "scale=minmax"), "--scale is the model's own"),
        (("--task-option", "samples=100"), "options of a dataset need another dataset"),
        (("--episodes", "3"), "--episodes 3: rule is no agent"),
    ],
)
def test_what_does_not_fit_is_said(rllab, arguments, said):
    assert rllab("run", "rule", "crescents", *QUIET).code == 0
    done = rllab("eval", "run", *arguments)
    assert done.code == (4 if "nothing" in arguments else 2)
    assert said in done.err


def test_an_agent_is_not_measured_on_data(tiny, rllab):
    tiny()
    done = rllab("eval", "run", "--on", "digits")
    assert (done.code, "is the run of an agent" in done.err) == (2, True)
