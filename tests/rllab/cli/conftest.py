"""What the tests of the command line share: calling it, and distributions that were never installed."""

import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from rllab.cli import main
from rllab.seeding import preserved_globals

TINY = (
    *("--preset", "none", "--timesteps", "200", "--learning-starts", "50"),
    *("--device", "cpu", "--logger", "none", "--eval-episodes", "2"),
)


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Rllab = Callable[..., Done]
Install = Callable[..., None]


@pytest.fixture
def rllab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Rllab]:
    """Call the command line in this process, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RLLAB_")]:
        monkeypatch.delenv(name)
    log, threads = logging.getLogger("rllab"), torch.get_num_threads()
    before = log.handlers, log.level, log.propagate

    def call(*arguments: object) -> Done:
        log.handlers = []
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        assert "Traceback" not in written.out + written.err
        return Done(int(ended.value.code or 0), written.out, written.err)

    with preserved_globals():
        yield call
    log.handlers, log.level, log.propagate = before
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(rllab: Rllab) -> Rllab:
    """Train DQN on CartPole-v1 for 200 steps, in the folder `run`; further options are added."""

    def call(*options: object, run_dir: str = "run") -> Done:
        return rllab("run", "dqn", "CartPole-v1", *TINY, "--run-dir", run_dir, *options)

    return call


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command line in a process of its own, in the same working folder, from where modules are imported."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "rllab", *map(str, arguments)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for run in started:
        run.kill()
        run.communicate()


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Write a distribution with entry points beside the installed ones, as pip would leave it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)

    def write(distribution: str, entry_points: str, code: str) -> None:
        info = site / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        (site / f"{distribution}.py").write_text(code)
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
