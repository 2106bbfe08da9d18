"""Texts from files, from folders, from Python's standard library, and Tiny Shakespeare where it is."""

import hashlib
import os
from pathlib import Path

import pytest
from rllab_datasets import texts
from rllab_datasets.texts import Stdlib, TinyShakespeare

from rllab import fetching
from rllab.data import DataMissing
from rllab.errors import UsageError
from rllab.fetching import FetchFailed
from rllab.text import TextTask


def opened(target: object, **options: object) -> TextTask:
    return TextTask.open(str(target), TextTask.config_class(str(target)).parse(options), seed=0)


def whole(task: TextTask) -> str:
    return "".join(map(task.decode, task.text.parts.values()))


# --- a file -----------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_is_without_a_byte_order_mark(tmp_path):
    (tmp_path / "book.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\tthr\xc3\xa9e\n\n")
    assert whole(opened(tmp_path / "book.txt")) == "one\r\ntwo\tthrée\n\n"


def test_a_file_with_any_ending_or_none_is_a_text(tmp_path):
    for name in ("notes", "book.md", "code.py"):
        (tmp_path / name).write_text("abc")
        assert whole(opened(tmp_path / name)) == "abc"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        ("né\nà ".encode() + b"b\xe9t", r"line 2: not UTF-8 \(byte 0xe9 at offset 8\)"),
        (b"cut off \xc3", r"line 1: not UTF-8 \(byte 0xc3 at offset 8\)"),
        ("é\nab".encode() + b"\0c", r"line 2: no text \(byte 0x00 at offset 5\)"),
        ("abc".encode("utf-16-le"), r"line 1: no text \(byte 0x00 at offset 1\)"),
        ("abc".encode("utf-16"), r"line 1: not UTF-8 \(byte 0xff at offset 0\)"),
    ],
)
def test_what_is_no_text_is_refused_with_the_place(tmp_path, raw, message):
    (tmp_path / "book.txt").write_bytes(raw)
    with pytest.raises(UsageError, match=message):
        opened(tmp_path / "book.txt")


def test_a_file_that_is_not_there_and_the_plain_name_are_told():
    with pytest.raises(UsageError, match=r"nowhere/book\.txt is no file"):
        opened("nowhere/book.txt")
    for name in ("file", "folder", "file@rllab"):
        with pytest.raises(UsageError, match="stands for a text of your own: write its path"):
            opened(name)


# --- a folder ---------------------------------------------------------------------------------------


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A folder with texts, hidden files and a picture."""
    for name, raw in {
        "b.txt": b"second",
        "a/z.txt": b"first\n",
        "a/empty.txt": b"",
        "c.md": b"third\r\n",
        "a/.hidden": b"hidden",
        ".git/config": b"hidden",
        "p.png": b"\x89PNG",
    }.items():
        (tmp_path / "books" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "books" / name).write_bytes(raw)
    return tmp_path / "books"


def test_a_folder_is_its_files_in_the_order_of_their_paths_each_ending_with_a_line(books):
    task = opened(books, pattern="*.txt,*.md")
    assert whole(task) == "first\nsecond\nthird\r\n"
    assert task.text.notes == {"files": "4"}
    assert whole(opened(books, pattern="b*")) == "second\n"


def test_a_file_of_a_folder_that_is_no_text_is_named_with_the_place(books):
    with pytest.raises(UsageError, match=r"p\.png, line 1: not UTF-8 \(byte 0x89 at offset 0\)"):
        opened(books)
    (books / "p.png").write_bytes(b"PNG\0")
    with pytest.raises(UsageError, match=r"p\.png, line 1: no text \(byte 0x00 at offset 3\)") as raised:
        opened(books)
    assert "--pattern" in str(raised.value.hint)


def test_a_folder_without_such_files_is_told(books):
    with pytest.raises(UsageError, match=r"has no files called \*\.rst or \*\.tex"):
        opened(books, pattern="*.rst,*.tex")
    with pytest.raises(UsageError, match="write at least one"):
        opened(books, pattern="")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_subfolder_that_cannot_be_read_is_told(books):
    (books / "a").chmod(0)
    try:
        with pytest.raises(UsageError, match=r"cannot read .*a: Permission denied"):
            opened(books, pattern="*.txt")
    finally:
        (books / "a").chmod(0o755)


# --- Python's standard library ----------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of Python's own."""
    for name, raw in {
        "argparse.py": b"import a\n",
        "asyncio/tasks.py": b"async\r\n",
        "cafe.py": "café".encode(),
        "data.txt": b"data",
        "test/test_a.py": b"tests",
        "json/tests/b.py": b"tests",
        "site-packages/numpy.py": b"numpy",
        "_sysconfigdata__linux.py": b"built here",
        "zipapp.py": b"last\n",
    }.items():
        (tmp_path / "lib" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lib" / name).write_bytes(raw)
    monkeypatch.setattr(texts, "_stdlib", lambda: tmp_path / "lib")
    return tmp_path / "lib"


@pytest.mark.usefixtures("library")
def test_the_library_is_its_modules_in_ascii_in_the_order_of_their_paths():
    assert whole(opened("stdlib", limit="none")) == "import a\nasync\nlast\n"
    assert whole(opened("stdlib", limit=12)) == "import a\nasy"


def test_a_python_without_its_sources_is_told(library):
    (library / "argparse.py").unlink()
    assert str(Stdlib.missing()).startswith("no sources in ")
    with pytest.raises(DataMissing, match="stdlib: no sources in"):
        opened("stdlib")


def test_the_real_library_has_as_many_characters_as_are_asked_for_and_few_different_ones():
    task = opened("stdlib", limit=300_000)
    assert task.size == 300_000
    assert task.vocabulary.isascii()
    assert len(task.vocabulary) <= 100
    assert "def __init__(self" in whole(task)
    assert whole(task) == whole(opened("stdlib", limit=300_000))
    assert task.text.notes["from"].count(".") == 2


# --- Tiny Shakespeare -------------------------------------------------------------------------------

PLAY = b"First Citizen:\nSpeak.\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Tiny Shakespeare is looked for alone; its checksum is that of the two lines of this test."""
    monkeypatch.setenv("RLLAB_DATA", str(tmp_path / "data"))
    places = fetching.places
    monkeypatch.setattr(fetching, "places", lambda name: places(name)[:1])
    monkeypatch.setattr(TinyShakespeare, "sha256", hashlib.sha256(PLAY).hexdigest())
    (tmp_path / "data" / "tinyshakespeare").mkdir(parents=True)
    return tmp_path / "data" / "tinyshakespeare"


def test_the_published_file_is_read(folder):
    (folder / "input.txt").write_bytes(PLAY)
    assert TinyShakespeare.missing() is None
    task = opened("tinyshakespeare")
    assert whole(task) == PLAY.decode()
    assert task.text.notes == {"from": str(folder)}


def test_where_it_is_missing_it_is_said_how_it_comes(folder):
    assert TinyShakespeare.missing() == f"not in {folder}"
    with pytest.raises(DataMissing, match="tinyshakespeare is not on this machine; looked in") as raised:
        opened("tinyshakespeare")
    assert "`rllab data fetch tinyshakespeare` downloads it" in str(raised.value.hint)
    assert "tinyshakespeare/input.txt" in str(raised.value.hint)


def test_another_file_is_refused(folder):
    (folder / "input.txt").write_bytes(PLAY + b"more")
    with pytest.raises(UsageError, match=r"is not the published file: it has SHA-256 .* should have") as raised:
        opened("tinyshakespeare")
    assert "brings the right one" in str(raised.value.hint)
    assert not isinstance(raised.value, DataMissing)


def test_it_is_fetched_and_checked(folder, tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "input.txt").write_bytes(PLAY)
    mirrors = [(tmp_path / "mirror").as_uri() + "/"]
    assert TinyShakespeare.can_fetch()
    assert TinyShakespeare.fetch(folder, mirrors) == [folder / "input.txt"]
    assert whole(opened("tinyshakespeare")) == PLAY.decode()
    (folder / "input.txt").unlink()
    (tmp_path / "mirror" / "input.txt").write_bytes(b"a login page")
    with pytest.raises(FetchFailed, match="has SHA-256"):
        TinyShakespeare.fetch(folder, mirrors)
    assert (folder / "input.txt.corrupt").read_bytes() == b"a login page"


@pytest.mark.skipif(TinyShakespeare.missing() is not None, reason="Tiny Shakespeare is not in $RLLAB_DATA")
def test_the_real_one_has_the_size_and_split_that_others_report():
    task = opened("tinyshakespeare")
    assert (task.size, len(task.text.train), len(task.vocabulary)) == (1_115_394, 1_003_854, 65)
    written = whole(task)
    assert hashlib.md5(written.encode()).hexdigest() == "6fb458f1232090904fb40fe944165e91"
    assert task.decode(task.text.train[:14]) == "First Citizen:"
    assert task.decode(task.text.test) == written[1_003_854:]
