"""DQN balances the pole: several seeds, measured anew on 100 episodes, with the random policy beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scores.py"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_dqn_with_its_preset_balances_the_pole_on_every_seed(tmp_path: Path) -> None:
    result = tmp_path / "scores.json"
    options = [
        "--row",
        "dqn CartPole-v1",
        "--seeds",
        "0-3",
        "--runs-dir",
        str(tmp_path / "runs"),
        "--file",
        str(result),
    ]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(result.read_text())["scores"]
    assert min(row["best"] for row in rows) >= 475, rows
    assert sum(row["last"] for row in rows) / len(rows) >= 450, rows
    assert json.loads(result.read_text())["random"]["CartPole-v1"] < 30
