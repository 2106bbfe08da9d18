"""The data of a run may change, move or vanish after it was made."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rllab.data import DatasetTask
from rllab.text import TextTask

TINY = ("--preset", "none", "--hidden", "4", "--batch-size", "2", "--sequence", "8", "--epochs", "1")
QUIET = ("--quiet", "--logger", "none", "--pictures-every", "0", "--device", "cpu")
WORDS = "to be or not to be that is the question " * 10


@pytest.fixture
def trained(rllab):
    """A run of char-rnn on the file words.txt, in the folder `run`."""
    Path("words.txt").write_text(WORDS)
    assert rllab("run", "char-rnn", "words.txt", *TINY, *QUIET, "--run-dir", "run").code == 0
    return rllab


def test_what_was_tested_on_may_have_been_learned_from_so_changed_data_are_refused(trained):
    Path("words.txt").write_text(WORDS[100:] + WORDS[:100])  # the same characters
    for command in (("eval", "run"), ("resume", "run", "--extend", "2")):
        done = trained(*command)
        assert (done.code, "they have changed since" in done.err) == (2, True)


def test_a_sample_of_a_model_whose_data_have_changed_comes_with_a_warning(trained):
    Path("words.txt").write_text(WORDS[100:] + WORDS[:100])
    done = trained("sample", "run", "-n", "20", "--seed", "0")
    assert (done.code, len(done.out)) == (0, 20)
    assert "they have changed since" in done.err


def test_a_run_is_found_and_its_data_too_from_another_folder(trained, monkeypatch):
    here = Path.cwd()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert trained("sample", here / "run", "-n", "20", "--seed", "0").code == 0
    assert trained("eval", here / "run").code == 0
    assert trained("resume", here / "run", "--extend", "2", "--quiet").code == 0


def test_data_that_are_gone_are_told(trained):
    Path("words.txt").unlink()
    done = trained("sample", "run")
    assert done.code == 2
    assert "words.txt" in done.err


def test_a_folder_of_pictures_that_is_gone_is_told(rllab):
    for name in ("a", "b"):
        Path("pictures", name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((4, 4), 40 * i, np.uint8)).save(f"pictures/{name}/{i}.png")
    assert rllab("run", "majority", "pictures", *QUIET, "--run-dir", "run").code == 0
    Path("pictures").rename("gone")
    done = rllab("eval", "run")
    assert done.code in {2, 4}
    assert "pictures" in done.err
    assert "fault of the program" not in done.err


def test_a_digest_sees_the_split_the_labels_and_the_names():
    def digits(**options: int) -> str:
        return DatasetTask.open("digits", DatasetTask.config_class("digits")(**options), seed=0).digest

    assert digits() == digits() != digits(split_seed=5)


def test_a_digest_sees_the_order_of_a_text(tmp_path):
    def text(written: str) -> str:
        (tmp_path / "t.txt").write_text(written)
        target = str(tmp_path / "t.txt")
        return TextTask.open(target, TextTask.config_class(target)(), seed=0).digest

    assert text("abab" * 9) == text("abab" * 9) != text("baba" * 9)
