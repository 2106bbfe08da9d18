"""IDX files made by hand, and MNIST where it is."""

import gzip
import hashlib
import os
import resource
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from rllab_datasets import mnist
from rllab_datasets.mnist import MNIST, FashionMNIST, read_idx

from rllab import fetching
from rllab.data import DataMissing, DatasetTask
from rllab.errors import UsageError
from rllab.fetching import FetchFailed


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2)
LABELS = np.array([1, 0, 9], np.uint8)
CONTENTS = {
    "train-images-idx3-ubyte": idx(IMAGES),
    "train-labels-idx1-ubyte": idx(LABELS),
    "t10k-images-idx3-ubyte": idx(IMAGES[:2] + 100),
    "t10k-labels-idx1-ubyte": idx(LABELS[:2]),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where MNIST is looked for alone; its checksums are those of the four small files of this test."""
    monkeypatch.setenv("RLLAB_DATA", str(tmp_path / "data"))
    places = fetching.places
    monkeypatch.setattr(fetching, "places", lambda name: places(name)[:1])
    monkeypatch.setattr(MNIST, "sha256", {name: hashlib.sha256(raw).hexdigest() for name, raw in CONTENTS.items()})
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    return tmp_path / "data" / "mnist"


def fill(folder: Path, ending: str = ".gz", **instead: bytes) -> None:
    folder.mkdir(exist_ok=True)
    for name, raw in (CONTENTS | {key.replace("_", "-"): raw for key, raw in instead.items()}).items():
        (folder / f"{name}{ending}").write_bytes(gzip.compress(raw) if ending else raw)


def opened(name: str = "mnist") -> DatasetTask:
    return DatasetTask.open(name, DatasetTask.config_class(name)(), seed=0)


# --- the format -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
def test_a_file_is_read_with_the_checksum_of_its_unpacked_bytes(tmp_path, pack):
    (tmp_path / "f").write_bytes(pack(idx(IMAGES)))
    array, digest = read_idx(tmp_path / "f")
    assert np.array_equal(array, IMAGES)
    assert digest == hashlib.sha256(idx(IMAGES)).hexdigest()


def test_a_file_larger_than_the_pieces_it_is_read_in_comes_out_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "_CHUNK", 7)
    (tmp_path / "f").write_bytes(gzip.compress(idx(np.arange(200, dtype=np.uint8).reshape(2, 100))))
    assert read_idx(tmp_path / "f")[0].ravel().tolist() == list(range(200))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends within its head"),
        (b"\0\0\x08\x03\0\0", "ends within its head"),
        (b"<html>", "is no IDX file of bytes: it begins with 3c 68 74 6d"),
        (b"\0\0\x0d\x01" + struct.pack(">I", 1) + b"1234", "is no IDX file of bytes"),
        (idx(IMAGES)[:-1], "is too short: 11 of 12 bytes"),
        (idx(IMAGES) + b"1", "is longer than the 3x2x2 bytes it says it has"),
        (bytes([0, 0, 8, 1]) + struct.pack(">I", 4_000_000_000), "says it has 4000000000 bytes, and is too short"),
        (gzip.compress(idx(IMAGES))[:-9], "is damaged: it ends before it is complete"),
        (gzip.compress(idx(IMAGES))[:-8] + bytes(8), "is damaged: it cannot be unpacked"),
        (b"\x1f\x8b" + bytes(20), "is damaged: it cannot be unpacked"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_refused(tmp_path, content, message):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_idx(tmp_path / "f")


# --- the dataset ------------------------------------------------------------------------------------


def test_who_has_a_damaged_file_is_told_how_to_get_a_whole_one(folder):
    fill(folder)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES))[:-9])
    with pytest.raises(UsageError, match=r"(?s)is damaged.*Move it away; `rllab data fetch mnist`"):
        opened()


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_images_keep_their_order_and_their_parts(folder, ending):
    fill(folder, ending)
    data = opened().data
    assert data.test is not None
    assert data.train.inputs.dtype is torch.uint8
    assert torch.equal(data.train.inputs, torch.from_numpy(IMAGES)[:, None])
    assert data.train.targets.tolist() == [1, 0, 9]
    assert (len(data.test), data.test.targets.tolist()) == (2, [1, 0])
    assert data.classes == tuple("0123456789")
    assert opened().config.scale == "minmax"
    assert MNIST.missing() is None


def test_names_with_a_dot_before_idx_are_known_too(folder):
    for name, raw in CONTENTS.items():
        (folder / name.replace("-idx", ".idx")).write_bytes(raw)
    assert len(opened().data.train) == 3


def test_without_the_files_it_says_where_it_looked_and_what_to_type(folder):
    fill(folder)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataMissing) as raised:
        opened()
    assert str(folder) in raised.value.message
    assert "`rllab data fetch mnist`" in str(raised.value.hint)
    assert raised.value.exit_code == 2
    assert MNIST.missing() == f"not in {folder}"
    assert MNIST.can_fetch()
    assert FashionMNIST.can_fetch()


def test_other_bytes_than_the_published_ones_are_refused(folder):
    fill(folder, train_labels_idx1_ubyte=idx(LABELS[::-1]))
    with pytest.raises(UsageError, match=r"train-labels-idx1-ubyte.gz is not the published file") as raised:
        opened()
    assert "`rllab data fetch mnist` brings the right one" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("instead", "message"),
    [
        ({"train_labels_idx1_ubyte": idx(LABELS[:2])}, "has 3 images, .* 2 labels"),
        ({"train_labels_idx1_ubyte": idx(LABELS + 1)}, "has the label 10; there are 10 classes"),
        ({"train_images_idx3_ubyte": idx(LABELS)}, "has 1 dimensions, not 3"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(folder, monkeypatch, instead, message):
    fill(folder, **instead)
    monkeypatch.setattr(MNIST, "sha256", {})
    with pytest.raises(UsageError, match=message):
        opened()


# --- fetching ---------------------------------------------------------------------------------------


def test_it_is_fetched_from_a_folder_and_found(folder, tmp_path):
    fill(tmp_path / "elsewhere")
    files = MNIST.fetch(folder, [fetching.mirror(str(tmp_path / "elsewhere"))])
    assert [file.name for file in files] == [f"{name}.gz" for name in CONTENTS]
    assert len(opened().data.train) == 3


def test_a_download_with_other_bytes_is_kept_aside_and_not_used(folder, tmp_path):
    fill(tmp_path / "elsewhere", train_images_idx3_ubyte=idx(IMAGES + 1))
    with pytest.raises(FetchFailed, match=r"has SHA-256 \w{12}..., should have \w{12}"):
        MNIST.fetch(folder, [fetching.mirror(str(tmp_path / "elsewhere"))])
    assert [file.name for file in folder.iterdir() if "lock" not in file.name] == ["train-images-idx3-ubyte.gz.corrupt"]


def test_a_download_that_is_a_web_page_is_kept_aside(folder, tmp_path):
    fill(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "train-images-idx3-ubyte.gz").write_bytes(b"<html>")
    with pytest.raises(FetchFailed, match="is no IDX file of bytes"):
        MNIST.fetch(folder, [fetching.mirror(str(tmp_path / "elsewhere"))])


# --- the real one -----------------------------------------------------------------------------------

real = pytest.mark.skipif(
    not (Path(os.environ.get("RLLAB_DATA", "/nowhere")) / "mnist" / "train-images-idx3-ubyte.gz").is_file(),
    reason="full MNIST is not in $RLLAB_DATA/mnist",
)


@real
def test_full_mnist_loads_in_a_second_and_within_130_megabytes():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    task = opened()
    seconds = time.process_time() - started
    data = task.data
    assert {name: tuple(part.inputs.shape) for name, part in data.parts.items()} == {
        "train": (60_000, 1, 28, 28),
        "test": (10_000, 1, 28, 28),
    }
    assert data.train.targets.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 <= 130
    assert seconds < 1
