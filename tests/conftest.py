import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rllab.runfolder import RunFolder
from rllab.seeding import preserved_globals

# A shell starts what it puts into the background with SIGINT ignored, and all processes below inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def untouched_process() -> Iterator[None]:
    """Put back what is global: the random generators, and how many threads torch uses."""
    threads = torch.get_num_threads()
    with preserved_globals():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no test wait until the disk has what was written: none of them cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def run_folder(tmp_path: Path) -> RunFolder:
    """A folder of a run that has not begun."""
    info: dict[str, Any] = {
        "schema": 1,
        "method": "toy",
        "task": "numbers",
        "seed": 3,
        "objective": {"metric": "eval/return", "maximize": True},
        "config": {"lr": 0.5, "hidden": [4, 4], "name": None},
        "task_config": {"noise": 0.1},
    }
    return RunFolder.create(tmp_path, "seed3", info)
