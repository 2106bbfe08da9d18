"""What the tables of scores are made from: the file, the intervals, the tests of parity."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def row(seed: int, score: float, hyperparameters: str = "a", case: str = "dqn CartPole-v1") -> dict[str, Any]:
    where = {"case": case, "seed": seed, "hyperparameters": hyperparameters, "timesteps": 50_000}
    return {**where, "last": score, "best": 500.0, "seconds": 60.0, "date": "2026-01-01", "versions": {}}


def test_a_permutation_test_counts_all_ways_to_part_the_scores() -> None:
    from parity import compare

    ours, theirs = [400.0, 450.0, 480.0, 470.0, 500.0], [500.0, 500.0, 490.0, 495.0, 460.0]
    together, observed = ours + theirs, np.mean(ours) - np.mean(theirs)
    differences = []
    for chosen in combinations(range(10), 5):
        rest = [together[i] for i in range(10) if i not in chosen]
        differences.append(np.mean([together[i] for i in chosen]) - np.mean(rest))
    as_extreme = np.mean(np.abs(differences) >= abs(observed) - 1e-9)
    found = compare(ours, theirs)
    assert found.difference == pytest.approx(observed)
    assert found.p == pytest.approx(as_extreme)
    assert found.low < observed < found.high


def test_seeds_that_all_reach_the_maximum_are_no_evidence_of_a_difference() -> None:
    from parity import compare

    assert compare([500.0] * 5, [500.0] * 5).p == 1.0


def test_holm_steps_down_from_the_smallest_p_value() -> None:
    from parity import holm

    # .01 * 4, then max(.04, .02 * 3), then max(.06, .03 * 2), then max(.06, .5)
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])


def test_a_score_is_not_measured_again_until_a_hyperparameter_changes(tmp_path: Path) -> None:
    from scores import CASES, Scores

    case = next(case for case in CASES if case.name == "dqn CartPole-v1")
    scores = Scores(tmp_path / "scores.json")
    scores.add(row(0, 490.0))
    scores.add(row(1, 500.0))
    again = Scores(tmp_path / "scores.json")
    assert [found["last"] for found in again.of(case)] == [490.0, 500.0]
    assert again.has(case, 1, "a")
    assert not again.has(case, 2, "a")
    assert not again.has(case, 1, "b")
    again.add(row(0, 100.0, "b"))
    assert [found["last"] for found in again.of(case)] == [100.0], "scores of other hyperparameters are out of date"


def test_the_table_has_the_interval_over_seeds_and_an_empty_cell_for_what_was_not_run(tmp_path: Path) -> None:
    from scores import CASES, Scores, table

    scores = Scores(tmp_path / "scores.json")
    for seed, score in enumerate((490.0, 500.0, 480.0)):
        scores.add(row(seed, score))
    scores.random["CartPole-v1"] = 22.3
    lines = table(scores, CASES).splitlines()
    measured = next(line for line in lines if line.startswith("| `dqn CartPole-v1` "))
    # 490 +- 10 * 4.303 / sqrt(3)
    assert (
        "| 50,000 | 490.0 [465.2, 514.8] | 490, 500, 480 | 500.0 [500.0, 500.0] | 22.3 | 500 ± 0 (50k) | 1.0 |"
        in measured
    )
    empty = next(line for line in lines if line.startswith("| `dqn ALE/Pong-v5` "))
    assert empty == "| `dqn ALE/Pong-v5` |  |  |  |  |  |  |  |"


def test_unknown_names_and_seeds_are_refused() -> None:
    from scores import main

    for options, said in (
        (["--methods", "dqm"], "no row has that"),
        (["--envs", "Pong"], "no row has that"),
        (["--seeds", "a-b"], "write 0-4"),
    ):
        done = CliRunner().invoke(main, options)
        assert done.exit_code == 2
        assert said in done.output
