from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split

from rllab.data import (
    Data,
    DatasetConfig,
    DatasetTask,
    Part,
    Source,
    classification,
    describe_shape,
    plugin_name,
    regression,
    source,
    split,
)
from rllab.errors import PluginError, UnknownName, UsageError


def numbered(n: int = 50, **parts: Part) -> Data:
    """Items whose input is their number, so that it can be seen where each went."""
    return Data(classification(np.arange(n)[:, None], np.arange(n) % 2), ("even", "odd"), **parts)


def rows(part: Part | None) -> list[int]:
    assert part is not None
    return part.inputs[:, 0].int().tolist()


# --- splitting --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "seed"), [(0.25, 42), (0.2, 0), (0.33, 7)])
def test_a_split_has_the_rows_of_scikit_learn_in_their_order(share, seed):
    train, test = train_test_split(np.arange(50), test_size=share, random_state=seed)
    parted = split(numbered(), DatasetConfig(test_share=share), seed)
    assert (rows(parted.train), rows(parted.test)) == (train.tolist(), test.tolist())


def test_a_validation_part_is_split_off_what_is_left():
    parted = split(numbered(100), DatasetConfig(test_share=0.2, validation_share=0.25), 3)
    rest, test = train_test_split(np.arange(100), test_size=0.2, random_state=3)
    train, validation = train_test_split(rest, test_size=0.25, random_state=3)
    assert (rows(parted.train), rows(parted.validation), rows(parted.test)) == (
        train.tolist(),
        validation.tolist(),
        test.tolist(),
    )


def test_targets_stay_with_their_inputs():
    for part in split(numbered(), DatasetConfig(validation_share=0.3), 1).parts.values():
        assert part.targets.tolist() == [row % 2 for row in rows(part)]


def test_without_options_a_fifth_is_tested_on_and_nothing_validated():
    parted = split(numbered(), DatasetConfig(), 0)
    assert {name: len(part) for name, part in parted.parts.items()} == {"train": 40, "test": 10}


def test_the_same_seed_splits_alike_and_another_does_not():
    first, again, other = (rows(split(numbered(), DatasetConfig(), seed).test) for seed in (1, 1, 2))
    assert first == again != other


def test_a_test_part_of_its_own_stays_and_takes_no_share():
    own = numbered(5).train
    assert split(numbered(test=own), DatasetConfig(), 0).test is own
    with pytest.raises(UsageError, match="has a test part of its own"):
        split(numbered(test=own), DatasetConfig(test_share=0.5), 0)


def test_a_validation_part_of_its_own_stays_unless_a_share_is_asked_for():
    own = classification(np.arange(100, 110)[:, None], np.zeros(10))
    parted = split(numbered(test=own, validation=own), DatasetConfig(), 0)
    assert parted.validation is own
    none = split(numbered(test=own, validation=own), DatasetConfig(validation_share=0), 0)
    assert none.validation is None
    assert rows(none.train) == [*range(50), *range(100, 110)]
    half = split(numbered(test=own, validation=own), DatasetConfig(validation_share=0.5), 0)
    assert sorted(rows(half.train) + rows(half.validation)) == [*range(50), *range(100, 110)]
    assert len(half.train) == 30


def test_a_share_that_leaves_nothing_is_refused():
    with pytest.raises(UsageError, match=r"--test-share 0.9 of 1 items leaves nothing"):
        split(numbered(1), DatasetConfig(test_share=0.9), 0)
    with pytest.raises(UsageError, match=r"--validation-share 0.99 of 40 items leaves nothing"):
        split(numbered(), DatasetConfig(validation_share=0.99), 0)


def test_what_is_left_to_do_is_done_when_the_parts_are_known():
    def finish(data: Data) -> Data:
        return Data(data.train, data.classes, test=data.test, notes={"learned from": str(len(data.train))})

    data = numbered()
    parted = split(Data(data.train, data.classes, finish=finish), DatasetConfig(test_share=0.5), 0)
    assert parted.notes == {"learned from": "25"}
    assert parted.finish is None


# --- folds ------------------------------------------------------------------------------------------


def test_each_item_is_tested_on_in_one_fold_and_learned_from_in_the_others():
    folds = [split(numbered(23), DatasetConfig(folds=4, fold=k), 5) for k in range(4)]
    assert sorted(row for fold in folds for row in rows(fold.test)) == list(range(23))
    for fold in folds:
        assert sorted(rows(fold.train) + rows(fold.test)) == list(range(23))
    assert [len(rows(fold.test)) for fold in folds] == [6, 6, 6, 5]


def test_folds_take_all_items_but_a_test_part_of_its_own():
    own = classification(np.arange(100, 110)[:, None], np.zeros(10))
    parted = split(numbered(10, test=own, validation=own), DatasetConfig(folds=2), 0)
    assert sorted(rows(parted.train) + rows(parted.test)) == [*range(10), *range(100, 110)]
    validated = split(numbered(20), DatasetConfig(folds=2, validation_share=0.5), 0)
    assert [len(part) for part in validated.parts.values()] == [5, 5, 10]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"folds": 1}, "at least 2"),
        ({"folds": 3, "fold": 3}, "--fold 3 is not below --folds 3"),
        ({"folds": 3, "test_share": 0.5}, "goes without --test-share"),
        ({"test_share": 1}, "--test-share 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        DatasetConfig.parse(values)


def test_more_folds_than_items_are_refused():
    with pytest.raises(UsageError, match="--folds 9 of 5 items"):
        split(numbered(5), DatasetConfig(folds=9), 0)


# --- parts ------------------------------------------------------------------------------------------


def test_a_part_keeps_images_as_bytes_and_makes_all_else_float32():
    assert classification(np.zeros((2, 1, 3, 3), np.uint8), [0, 1]).inputs.dtype is torch.uint8
    assert classification(np.zeros((2, 3)), [0, 1]).inputs.dtype is torch.float32
    assert classification(np.zeros((2, 3)), [False, True]).targets.dtype is torch.int64
    assert regression(np.zeros((2, 3)), [1, 2]).targets.dtype is torch.float32


def test_chunks_go_through_a_part_in_order():
    chunks = list(numbered(7).train.chunks(3))
    assert [rows(chunk) for chunk in chunks] == [[0, 1, 2], [3, 4, 5], [6]]


def test_parts_are_those_that_have_items():
    data = numbered(4)
    assert list(Data(data.train, validation=data.train[:0], test=data.train).parts) == ["train", "test"]


@pytest.mark.parametrize(
    ("shape", "text"), [((8,), "8 numbers"), ((1, 28, 28), "images of 1x28x28"), ((3, 1), "sequences of 3x1")]
)
def test_shapes_are_said_in_words(shape, text):
    assert describe_shape(shape) == text


# --- names ------------------------------------------------------------------------------------------


def test_a_path_goes_to_the_plugin_that_reads_it(tmp_path):
    (tmp_path / "table.CSV").write_text("a,b\n")
    assert plugin_name(str(tmp_path / "table.CSV")) == "csv"
    assert plugin_name("not/there.csv") == "csv"
    assert plugin_name("there.csv") == "csv"
    assert plugin_name(str(tmp_path)) == "folder"
    (tmp_path / "photos.v2").mkdir()
    assert plugin_name(str(tmp_path / "photos.v2")) == "folder"
    assert plugin_name("mnist") == "mnist"
    assert plugin_name("v1.5") == "v1.5"
    assert plugin_name("") == ""


def test_a_name_that_is_none_gets_the_nearest():
    with pytest.raises(UnknownName, match=r"(?s)no dataset called 'crecents'.*Did you mean 'crescents'"):
        DatasetTask.open("crecents", DatasetConfig(), seed=0)


def test_what_is_no_dataset_is_said_to_be_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("small.txt", "notes"):
        Path(file).write_text("hello")
        with pytest.raises(UsageError, match="is a file that no dataset is read from\nA CSV file or a folder is one"):
            DatasetTask.open(file, DatasetConfig(), seed=0)
    for name in ("CartPole-v1", "gymnasium:CartPole-v1", "ALE/Pong-v5", "MiniGrid-Empty-5x5-v0"):
        with pytest.raises(UsageError, match=f"{name} is an environment, not a dataset"):
            DatasetTask.open(name, DatasetConfig(), seed=0)
    for name in ("CartPole-v99", "nosuch.txt", "ALE/notes"):
        with pytest.raises(UnknownName):
            DatasetTask.open(name, DatasetConfig(), seed=0)


def test_what_is_no_source_is_refused(monkeypatch):
    monkeypatch.setattr("rllab.plugins.load", lambda plugin: object)
    with pytest.raises(PluginError, match=r"is no rllab\.data\.Source"):
        source("digits")


# --- data in which there is nothing to learn --------------------------------------------------------


def given(monkeypatch: pytest.MonkeyPatch, data: Data) -> None:
    """Have every dataset be this one."""

    class Given(Source):
        """Given."""

        @classmethod
        def load(cls, target, config, rng):
            return data

    monkeypatch.setattr("rllab.data.source", lambda name: Given)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (numbered(0), "digits has no items"),
        (Data(classification(np.zeros((9, 1)), np.ones(9)), ("a", "b")), "one class only to learn from: 'b'"),
        (Data(regression([[1.0]] * 8 + [[np.nan]], np.ones(9))), "inputs that are NaN or infinite"),
        (Data(regression(np.ones((9, 1)), [1.0] * 8 + [np.inf])), "targets that are NaN or infinite"),
    ],
)
def test_it_is_refused(monkeypatch, data, message):
    given(monkeypatch, data)
    with pytest.raises(UsageError, match=message):
        DatasetTask.open("digits", DatasetConfig(), seed=0)


def test_a_source_with_more_classes_than_names_is_refused(monkeypatch):
    given(monkeypatch, Data(classification(np.zeros((9, 1)), np.arange(9) % 3), ("a", "b")))
    with pytest.raises(PluginError, match="digits has a target of 2, and names 2 classes"):
        DatasetTask.open("digits", DatasetConfig(), seed=0)


def test_the_split_follows_the_run_unless_it_has_a_seed_of_its_own(monkeypatch):
    given(monkeypatch, numbered())
    of_run, other = (rows(DatasetTask.open("digits", DatasetConfig(), seed=seed).data.test) for seed in (1, 2))
    fixed = [rows(DatasetTask.open("digits", DatasetConfig(split_seed=1), seed=seed).data.test) for seed in (1, 2)]
    assert of_run != other
    assert fixed == [of_run, of_run]


def test_a_source_that_fetches_nothing_says_so(tmp_path):
    assert not source("digits").can_fetch()
    assert source("digits").missing() is None
    with pytest.raises(UsageError, match="there is nothing to fetch"):
        source("digits").fetch(tmp_path)
