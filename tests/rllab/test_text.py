"""Texts: characters as numbers, the parts of a text, and which plugin opens what."""

import pytest
import torch

from rllab import text
from rllab.data import DatasetTask
from rllab.errors import UnknownName, UsageError
from rllab.text import TextConfig, TextTask, numbered, plugin_name, split


def task(written: str, **options: float) -> TextTask:
    config = TextConfig(**options)
    return TextTask("some", config, split("some", written, config))


# --- numbers ----------------------------------------------------------------------------------------


def test_a_character_is_its_place_among_all_that_occur_sorted():
    codes, vocabulary = numbered("banana!")
    assert vocabulary == "!abn"
    assert codes.tolist() == [2, 1, 3, 1, 3, 1, 0]


@pytest.mark.parametrize(("different", "kind"), [(256, torch.uint8), (257, torch.int16), (40_000, torch.int32)])
def test_numbers_are_as_small_as_the_vocabulary_allows(different, kind):
    written = "".join(map(chr, range(0x10000, 0x10000 + different)))
    codes, vocabulary = numbered(written)
    assert codes.dtype is kind
    assert vocabulary == written
    assert torch.equal(codes.long(), torch.arange(different))


def test_line_ends_and_characters_beyond_16_bits_and_lone_surrogates_are_characters_like_others():
    written = "a\r\n😀é\ud800a"
    codes, vocabulary = numbered(written)
    assert vocabulary == "\n\raé\ud800😀"
    assert "".join(vocabulary[code] for code in codes.tolist()) == written


def test_encode_and_decode_undo_one_another():
    some = task("hello world")
    codes = some.encode("dole")
    assert (codes.dtype, codes.tolist()) == (torch.int64, [1, 5, 4, 2])
    assert some.decode(codes) == some.decode([1, 5, 4, 2]) == some.decode(codes.to(torch.uint8)) == "dole"
    assert some.encode("").tolist() == []
    assert some.encode("").dtype is torch.int64
    assert some.decode(torch.cat(list(some.text.parts.values()))) == "hello world"


def test_a_character_that_the_vocabulary_lacks_is_named_once():
    with pytest.raises(UsageError) as raised:
        task("hello world").encode("héllo\n\n€é")
    assert raised.value.message == "the vocabulary of some lacks 'é', '\\n', '€'"
    assert raised.value.hint == "It has 8 characters: ' dehlorw'"


def test_of_many_characters_that_are_lacking_and_of_a_long_vocabulary_the_first_are_shown():
    some = task("".join(map(chr, range(32, 127))))
    with pytest.raises(UsageError) as raised:
        some.encode("äöüßéèêàáâçñ")
    assert raised.value.message.endswith("lacks 'ä', 'ö', 'ü', 'ß', 'é', 'è', 'ê', 'à', 'á', 'â' and 2 more")
    assert str(raised.value.hint).startswith("It has 95 characters: ")
    assert str(raised.value.hint).endswith("...")
    assert len(str(raised.value.hint)) < 120


# --- parts ------------------------------------------------------------------------------------------


def test_the_tail_is_tested_on_and_the_piece_before_it_validates():
    parts = task("abcdefghijklmnopqrst", test_share=0.2, validation_share=0.25).text.parts
    letters = "abcdefghijklmnopqrst"
    assert {name: "".join(letters[code] for code in part.tolist()) for name, part in parts.items()} == {
        "train": "abcdefghijkl",
        "validation": "mnop",
        "test": "qrst",
    }
    assert list(parts) == ["train", "validation", "test"]


def test_without_a_validation_share_there_is_no_validation_part():
    some = task("ab" * 10)
    assert some.text.validation is None
    assert list(some.text.parts) == ["train", "test"]
    assert (len(some.text.train), len(some.text.test), some.size) == (18, 2, 20)


@pytest.mark.parametrize(
    ("size", "share", "train"),
    [
        (1_115_394, 0.1, 1_003_854),  # Tiny Shakespeare: the first nine tenths, rounded down
        (100, 0.07, 93),  # 0.07 * 100 is 7.000000000000001
        (2, 0.1, 1),
        (1000, 1e-5, 999),
    ],
)
def test_the_tail_is_rounded_up_and_exact(size, share, train):
    found = split("some", "ab" * (size // 2), TextConfig(test_share=share))
    assert (len(found.train), len(found.test)) == (train, size - train)


def test_the_vocabulary_is_that_of_the_whole_text():
    some = task("aaaaaaaaab")
    assert some.vocabulary == "ab"
    assert some.text.test.tolist() == [1]


@pytest.mark.parametrize(
    ("written", "options", "message"),
    [
        ("", {}, "some is empty"),
        ("aaaa", {}, "some has one character only, 'a', over and over"),
        ("a", {}, "some has one character only"),
        ("ab", {"test_share": 0.9}, "--test-share 0.9 of 2 characters leaves nothing to learn from"),
        ("ab", {"validation_share": 0.1}, "--validation-share 0.1 of 1 characters leaves nothing to learn from"),
    ],
)
def test_a_text_in_which_there_is_nothing_to_learn_is_refused(written, options, message):
    with pytest.raises(UsageError, match=message):
        task(written, **options)


# --- names and paths --------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        text.plugins,
        "names",
        lambda group: {"rllab.texts": ["file", "folder", "poems"], "rllab.datasets": ["csv", "folder", "mnist"]}.get(
            group, []
        ),
    )
    return tmp_path


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("poems", "poems"),
        ("poems@elsewhere", "poems@elsewhere"),
        ("mnist", "mnist"),
        ("book.txt", "file"),
        ("./book.txt", "file"),
        ("notes", "file"),
        ("books", "folder"),
        ("./poems", "folder"),
        ("./mnist", "folder"),
        (".", "folder"),
        ("gone.txt", "file"),
        ("gone/book", "file"),
        ("gone", "gone"),
        ("", ""),
    ],
)
def test_a_name_is_a_plugin_and_a_path_a_file_or_folder(here, target, name):
    for folder in ("books", "poems", "mnist"):
        (here / folder).mkdir()
    for file in ("book.txt", "notes"):
        (here / file).touch()
    assert plugin_name(target) == name


def test_a_dataset_is_no_text_and_the_other_way_round():
    with pytest.raises(UsageError, match="digits is a dataset, not a text") as raised:
        TextTask.open("digits", TextConfig(), seed=0)
    assert "Texts are: file, folder, stdlib, tinyshakespeare" in str(raised.value.hint)
    with pytest.raises(UsageError, match="stdlib is a text, not a dataset"):
        DatasetTask.open("stdlib", DatasetTask.config_class("stdlib")(), seed=0)


def test_an_environment_is_no_text_unless_a_path_is_called_so(here):
    for name in ("CartPole-v1", "phys2d/CartPole-v1", "ALE/Pong-v5"):
        with pytest.raises(UsageError, match=f"{name} is an environment, not a text"):
            TextTask.open(name, TextConfig(), seed=0)
    (here / "CartPole-v1").write_text("a pole and a cart")
    assert TextTask.open("./CartPole-v1", TextConfig(), seed=0).size == 17


def test_a_file_that_is_not_there_says_where_it_was_looked_for(here):
    with pytest.raises(UsageError, match=r"nosuch\.txt is no file") as raised:
        TextTask.open("nosuch.txt", TextConfig(), seed=0)
    assert raised.value.hint == f"It was looked for in the current folder, {here}."
    with pytest.raises(UsageError) as raised:
        TextTask.open(str(here / "nosuch.txt"), TextConfig(), seed=0)
    assert raised.value.hint is None


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownName, match="there is no text called 'tinyshakespear'\nDid you mean 'tinyshakespeare'"):
        TextTask.open("tinyshakespear", TextTask.config_class("tinyshakespear")(), seed=0)


def test_a_run_folder_is_called_after_the_file_or_folder(here):
    (here / "books").mkdir()

    def named(target: str) -> str:
        return TextTask(target, TextConfig(), task("ab").text).slug

    assert named("../elsewhere/book one.md") == "book-one.md"
    assert named("books") == named("./books/") == named(str(here / "books")) == "books"
    assert named(".") == here.name.replace("[", "-").replace("]", "-").strip("-")
    assert named("poems") == "poems"
