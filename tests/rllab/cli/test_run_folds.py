"""`rllab run METHOD DATASET --folds K`."""

import json
from pathlib import Path

import pytest

from rllab.folds import t_interval

FOLDS = ("--folds", "3", "--split-seed", "0", "--logger", "none", "--pictures-every", "0", "--quiet")


def test_each_fold_is_a_run_of_its_own_and_together_they_test_on_everything(rllab):
    done = rllab("run", "tree", "diabetes", "--max-depth", "2", *FOLDS, "--json")
    assert done.code == 0
    folds = done.json["folds"]
    names = [f"max-depth-2_folds-3_split-seed-0_fold-{fold}_seed0" for fold in range(3)]
    assert [Path(fold["run"]).name for fold in folds] == names
    scores = [fold["metrics"]["eval/rmse"] for fold in folds]
    assert len(set(scores)) == 3
    assert done.json["metrics"]["eval/rmse"] == pytest.approx(t_interval(scores)._asdict())
    infos = [json.loads((Path(fold["run"]) / "run.json").read_text()) for fold in folds]
    assert [info["task_config"]["fold"] for info in infos] == [0, 1, 2]
    assert [info["totals"]["steps"] for info in infos] == [294, 295, 295]  # of 442 people, without 148, 147, 147


def test_the_table_has_a_row_for_each_fold_the_mean_and_the_interval(rllab):
    done = rllab("run", "majority", "diabetes", *FOLDS[:-1], "--no-progress")
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0][:2] == ["fold", "rmse"]
    assert [row[0] for row in rows[1:]] == ["0", "1", "2", "mean", "+-95%"]
    scores = [float(row[1]) for row in rows[1:4]]
    assert float(rows[4][1]) == pytest.approx(sum(scores) / 3, rel=1e-4)
    assert float(rows[5][1]) == pytest.approx(t_interval(scores).high - sum(scores) / 3, rel=0.1)


def test_with_a_fold_it_is_one_run(rllab):
    done = rllab("run", "majority", "digits", *FOLDS, "--fold", "2", "--json")
    assert (done.code, done.json["task_config"]["fold"]) == (0, 2)


def test_a_name_gets_the_fold_added(rllab):
    done = rllab("run", "majority", "digits", *FOLDS, "--name", "mine", "--json")
    assert [Path(fold["run"]).name for fold in done.json["folds"]] == [f"mine_fold-{fold}_seed0" for fold in range(3)]


def test_one_folder_cannot_take_all_folds(rllab):
    done = rllab("run", "majority", "digits", *FOLDS, "--run-dir", "run")
    assert (done.code, "--run-dir is the folder of one run, and there are 3 folds" in done.err) == (2, True)


RULE = """
from pathlib import Path
FLAG = Path(__file__).with_name("flag")
def rule(x):
    if FLAG.exists():
        FLAG.unlink()
        1 / 0
    return [0] * len(x)
"""


@pytest.fixture
def failing(rllab):
    """Call for folds of which the first fails."""
    Path("rules.py").write_text(RULE)
    Path("flag").touch()
    return lambda *options: rllab(
        "run", "rule", "digits", "--rule", "rules.py:rule", "--logger", "none", "--pictures-every", "0", *options
    )


def test_a_fold_that_fails_is_told_and_the_others_go_on(failing):
    done = failing("--folds", "3", "--quiet", "--json")
    assert done.code == 1
    assert ["error" in fold for fold in done.json["folds"]] == [True, False, False]
    assert "Error: fold 0: the rule " in done.err
    assert "raised ZeroDivisionError in line 7: division by zero" in done.err
    scores = [fold["metrics"]["eval/accuracy"] for fold in done.json["folds"][1:]]
    assert done.json["metrics"]["eval/accuracy"] == pytest.approx(t_interval(scores)._asdict())


def test_of_the_one_fold_that_is_left_there_is_no_interval(failing):
    done = failing("--folds", "2", "--no-progress")
    assert done.code == 1
    assert [line.split()[0] for line in done.out.splitlines()] == ["fold", "0", "1"]
    assert done.out.splitlines()[1].split() == ["0", "failed"]


def test_a_threshold_is_for_the_mean(rllab):
    done = rllab("run", "majority", "digits", *FOLDS, "--require", "eval/accuracy>=0.5")
    assert (done.code, "--require eval/accuracy>=0.5" in done.err) == (6, True)
    done = rllab("run", "majority", "digits", *FOLDS, "--require", "eval/accuracy>=0.05")
    assert (done.code, done.out, done.err) == (0, "", "")  # --quiet prints no table
