import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rllab_supervised.rule import Rule, ring

import rllab
from rllab.data import Data, DatasetConfig, DatasetTask, classification, regression
from rllab.errors import UsageError
from rllab.seeding import Streams
from rllab.testing import check_algorithm

FRUIT = Data(classification([[0.0, 1.0], [3.0, 1.0], [5.0, 2.0]], [0, 1, 2]), ("apple", "banana", "cherry"))
PRICES = Data(regression([[1.0], [2.0]], [2.0, 4.0]))


def rule(code: str, folder: Path, data: Data = FRUIT, name: str = "answer") -> Rule:
    """Return the method with a rule in a file."""
    file = folder / "rules.py"
    file.write_text(code)
    task = DatasetTask("here", DatasetConfig(), data)
    config = Rule.Config.parse({"rule": f"{file}:{name}"})
    assert Rule.refusal(config, task) is None
    made = Rule(config, task, device=torch.device("cpu"), streams=Streams(0))
    made.setup()
    return made


def answer(body: str, folder: Path, data: Data = FRUIT) -> Any:
    """Return what a rule answers to three inputs."""
    made = rule(f"import numpy as np\ndef answer(x):\n    {body}\n", folder, data)
    return made.predict(torch.tensor([[0.0, 1.0], [3.0, 1.0], [5.0, 2.0]])[:, : data.shape[0]])


def test_it_keeps_the_contract() -> None:
    check_algorithm("rule", "crescents")


# --- the ring


def test_the_ring_lies_around_the_centre() -> None:
    radii = np.array([0.15, 0.16, 0.17, 0.18])  # squared .0225, .0256, .0289, .0324
    points = np.stack([0.5 + radii, np.full(4, 0.5)], 1)
    assert ring(points).tolist() == [0, 1, 1, 0]


def test_the_ring_gets_most_of_the_crescents_right(tmp_path: Path) -> None:
    for seed in range(3):
        run = rllab.run(
            "rule", "crescents", seed=seed, runs_dir=tmp_path, progress=False, logger="none", pictures_every=0
        )
        assert 160 <= round(200 * run.info["metrics"]["eval/accuracy"]) <= 192


def test_the_ring_is_for_the_crescents_only() -> None:
    reason = Rule.refusal(Rule.Config(), DatasetTask("here", DatasetConfig(), FRUIT))
    assert reason == "the rule ring takes two numbers and knows two classes; --rule FILE.py:FUNCTION takes another"


# --- what a rule may answer


@pytest.mark.parametrize(
    "body",
    [
        "return [0, 1, 2]",
        "return np.array([0.0, 1.0, 2.0])",
        "return ['apple', 'banana', 'cherry']",
        "return np.searchsorted([2, 4], x[:, 0])",
    ],
)
def test_a_rule_answers_by_number_or_name(body: str, tmp_path: Path) -> None:
    assert answer(body, tmp_path).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_rule_of_two_classes_may_answer_yes_or_no(tmp_path: Path) -> None:
    data = Data(classification([[0.0], [1.0]], [0, 1]), ("no", "yes"))
    assert answer("return x[:, 0] > 2", tmp_path, data).argmax(1).tolist() == [0, 1, 1]


def test_a_rule_for_numbers_answers_with_numbers(tmp_path: Path) -> None:
    assert answer("return 2 * x[:, 0]", tmp_path, PRICES).tolist() == [0, 6, 10]
    made = rule("def answer(x):\n    return 2 * x[:, 0] + 1\n", tmp_path, PRICES)
    assert made.step() == {"train/rmse": 1.0}


def test_a_rule_that_changes_its_inputs_changes_a_copy(tmp_path: Path) -> None:
    made = rule("def answer(x):\n    x += 1\n    return [0] * len(x)\n", tmp_path)
    assert made.step() == {"train/accuracy": pytest.approx(1 / 3)}
    assert made.train.inputs.tolist() == FRUIT.train.inputs.tolist() == [[0, 1], [3, 1], [5, 2]]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [0, 1]", r"returned an array of shape \(2,\) for 3 inputs\nIt has to be \(3,\)"),
        ("return x", r"returned an array of shape \(3, 2\) for 3 inputs"),
        ("return [0, 1, 3]", "returned 3, which is no class\nClasses are numbered 0 to 2, or go by their names: apple"),
        ("return [0, 1, -1]", "returned -1, which is no class"),
        ("return [0, 1, 0.5]", r"returned 0\.5, which is no class"),
        ("return [0, 1, np.nan]", "returned nan, which is no class"),
        ("return ['apple', 'banana', 'chery']", "returned 'chery', which is no class\nDid you mean 'cherry'"),
        ("return np.array([1j, 0, 0])", "returned complex128 values, which are no classes"),
        ("return x / undefined", "raised NameError in line 3: name 'undefined' is not defined"),
    ],
)
def test_other_answers_are_refused_in_words(body: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        answer(body, tmp_path)


@pytest.mark.parametrize("body", ["return ['much'] * 3", "return [1, 2, np.inf]"])
def test_numbers_have_to_be_finite(body: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="returned what are not all finite numbers"):
        answer(body, tmp_path, PRICES)


# --- files


@pytest.mark.parametrize(
    ("code", "name", "said"),
    [
        (
            "import nothing_of_this_name\n",
            "f",
            r"rules\.py cannot be imported: it raised ModuleNotFoundError in line 1",
        ),
        ("x = 1\ndef f(:\n", "f", r"rules\.py cannot be imported: it raised SyntaxError in line 2"),
        ("raise SystemExit(3)\n", "f", "cannot be imported: it raised SystemExit in line 1"),
        ("def ringe(x): ...\n", "ring", r"there is no function ring in rules\.py\nDid you mean 'ringe'"),
        ("def other(x): ...\n", "f", r"there is no function f in rules\.py\nIt has: other\."),
        ("f = 3\n", "f", r"there is no function f in rules\.py"),
    ],
)
def test_a_file_that_has_no_such_rule_is_named(code: str, name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        rule(code, tmp_path, name=name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = Rule.Config.parse({"rule": f"{tmp_path}/nothing.py:f"})
    with pytest.raises(UsageError, match=r"cannot read .*nothing\.py: No such file"):
        Rule.refusal(config, DatasetTask("here", DatasetConfig(), FRUIT))


@pytest.mark.parametrize("written", ["rules.py", "rules:ring", "rules.py:", "rules.py:not a name"])
def test_a_rule_is_a_file_and_a_function(written: str) -> None:
    with pytest.raises(UsageError, match=r"write FILE\.py:FUNCTION, such as rules\.py:ring"):
        Rule.Config.parse({"rule": written})


def test_a_rule_may_import_what_lies_beside_it_and_have_dataclasses(tmp_path: Path) -> None:
    (tmp_path / "beside_the_rule.py").write_text("ANSWER = 1\n")
    code = (
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from beside_the_rule import ANSWER\n"
        "@dataclass\nclass Point:\n    x: float\n"
        "def answer(x):\n    return [ANSWER] * len(x)\n"
    )
    assert rule(code, tmp_path).predict(torch.zeros(1, 2)).tolist() == [[0, 1, 0]]


def test_a_run_is_found_right_from_another_folder_and_warns_of_a_changed_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text("def none(points):\n    return [0] * len(points)\n")
    run = rllab.run(
        "rule", "crescents", rule="mine.py:none", runs_dir=tmp_path, progress=False, logger="none", pictures_every=0
    )
    assert run.info["config"]["rule"] == f"{file}:none"
    monkeypatch.chdir("/")
    with caplog.at_level(logging.WARNING, "rllab"):
        first = run.evaluate()
        assert caplog.messages == []
        file.write_text("def none(points):\n    return [1] * len(points)\n")
        second = run.evaluate()
    assert caplog.messages == [f"the rule {file}:none was changed since this run; what follows is of the new one"]
    assert first["eval/accuracy"] + second["eval/accuracy"] == pytest.approx(1)
