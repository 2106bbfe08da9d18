"""What tests of generative models share: the judge of digits, trained once, and files of text."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rllab_generative import judge as judges
from rllab_generative.judge import Judge

from rllab.data import DatasetTask


@pytest.fixture(scope="session")
def judges_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the judges of all tests are kept."""
    return tmp_path_factory.mktemp("judges")


@pytest.fixture
def kept_judges(judges_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep judges in a folder of the tests, and torch to one thread, so that they are the same each time."""
    monkeypatch.setenv("RLLAB_CACHE", str(judges_folder))
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> DatasetTask:
    return DatasetTask.open("digits", DatasetTask.config_class("digits").parse({}), seed=0)


@pytest.fixture(scope="session")
def judge(digits: DatasetTask, judges_folder: Path) -> Judge:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLLAB_CACHE", str(judges_folder))
        torch.set_num_threads(1)
        return Judge.of(digits)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, judge: Judge) -> None:
    """Train what is trained but shortly; the judge of all tests is there by then."""
    monkeypatch.setattr(judges, "_EXAMPLES", 2000)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, judge: Judge) -> None:
    """Judges that hardly learn: for tests to which it does not matter what they say."""
    monkeypatch.setenv("RLLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(judges, "_EXAMPLES", 400)


@pytest.fixture
def text_file(tmp_path: Path) -> Callable[[str | int], str]:
    """Write a text, or so many characters of `abcd` and new lines without sense, into a file, and return its path."""

    def write(text: str | int) -> str:
        if isinstance(text, int):
            text = "".join(np.random.default_rng(1).choice(list("abcd\n"), text))
        file = tmp_path / "text.txt"
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write
