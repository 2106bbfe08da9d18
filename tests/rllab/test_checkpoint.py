import json
import math
import os
import shutil
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rllab import checkpoint
from rllab.errors import CheckpointError, RunFailed
from rllab.state import ObjectState
from rllab.testing import first_difference

WEIGHTS = {"q.weight": torch.tensor([1.0, 2.0])}


def saved(path: Path, state: dict[str, Any] | None = None, weights: dict[str, Tensor] | None = None) -> Path:
    checkpoint.save(path, weights=WEIGHTS if weights is None else weights, state=state, note={"step": 7})
    return path


def round_trip(value: object, folder: Path) -> Any:
    return checkpoint.load_state(saved(folder / "step-000000007", {"algorithm": {"value": value}}))["algorithm"][
        "value"
    ]


# --- every leaf comes back ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        2**100,
        -0.0,
        0.1,
        math.inf,
        -math.inf,
        math.nan,
        1 + 2j,
        complex(math.inf, math.nan),
        "",
        'quotes " \\ \n ünï \ud800',
        b"\x00\xff",
        [],
        {},
        (),
        [1, [2.5, (3, None)]],
        (1, ("a", [2])),
        {1, 2},
        frozenset({"a", (1, 2)}),
        {np.int64(1), np.int64(2)},
        deque([1, (2,)], maxlen=3),
        deque([1]),
        {1: "a", None: "b", (1, 2): "c", 2.5: "d"},
        {np.int64(1): "a", np.int64(2): "b"},
        {"$tuple": [1], "a": 2},
        {"": {"": 1}, "a/b": 2},
        ObjectState(a=1, b=ObjectState(c=(1,))),
        np.float64(math.nan),
        np.float32(0.1),
        np.int8(-3),
        np.bool_(True),
        np.str_("text"),
        np.datetime64("2020-01-01"),
    ],
    ids=repr,
)
def test_a_plain_value_comes_back_with_its_type(tmp_path: Path, value: object) -> None:
    again = round_trip(value, tmp_path)
    assert type(again) is type(value)
    if isinstance(value, complex):
        assert repr(again) == repr(value)
    else:
        assert first_difference(value, again) is None
    if isinstance(value, float):
        assert math.copysign(1, again) == math.copysign(1, value)
    if isinstance(value, deque):
        assert again.maxlen == value.maxlen
    if isinstance(value, ObjectState):
        assert type(again["b"]) is ObjectState


def readonly() -> np.ndarray:
    array = np.arange(3.0)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        np.array(5),
        np.empty((0, 3)),
        np.array([True, False]),
        np.arange(3, dtype=np.uint8),
        np.arange(3, dtype=np.uint16),
        np.arange(3, dtype=np.uint64),
        np.arange(3, dtype=np.float16),
        np.arange(3, dtype=">f4"),
        np.array([1 + 2j]),
        np.array([1 + 2j], np.complex64),
        np.array(["abc", "d"]),
        np.array(["2020-01-01"], "M8[s]"),
        np.arange(6).reshape(2, 3).T,
        np.arange(4)[::-1],
        np.array([math.nan, math.inf, -0.0]),
        readonly(),
    ],
    ids=lambda a: f"{a.dtype}{list(a.shape)}",
)
def test_an_array_comes_back_to_the_last_bit_and_can_be_written_to(tmp_path: Path, array: np.ndarray) -> None:
    again = round_trip(array, tmp_path)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()
    assert again.flags.writeable


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.5),
        torch.empty(0, 2),
        torch.tensor([True]),
        torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        torch.tensor([1.5], dtype=torch.float16),
        torch.tensor([1 + 2j], dtype=torch.complex64),
        torch.tensor([1 + 2j], dtype=torch.complex128).conj(),
        torch.arange(6).reshape(2, 3).T,
        torch.arange(10)[::3],
        torch.arange(16.0).reshape(1, 4, 2, 2).to(memory_format=torch.channels_last),
        torch.tensor([1.0]).expand(3),
        torch.ones(2, requires_grad=True),
    ],
    ids=lambda t: f"{t.dtype}{list(t.shape)}",
)
def test_a_tensor_comes_back_to_the_last_bit(tmp_path: Path, tensor: Tensor) -> None:
    again = round_trip(tensor, tmp_path)
    assert again.dtype == tensor.dtype
    assert torch.equal(again, tensor)


def test_tensors_that_share_memory_come_back_apart(tmp_path: Path) -> None:
    flat = torch.arange(6.0)
    one, other, same = round_trip([flat[:3], flat[2:], flat], tmp_path)
    assert (one.tolist(), other.tolist(), same.tolist()) == ([0, 1, 2], [2, 3, 4, 5], [0, 1, 2, 3, 4, 5])
    one += 1
    assert same.tolist() == [0, 1, 2, 3, 4, 5]


def test_values_with_one_path_are_not_taken_for_one_another(tmp_path: Path) -> None:
    again = round_trip({"a/b": np.ones(1), "a": {"b": np.zeros(1)}, "a'": {"b": np.full(1, 2.0)}}, tmp_path)
    assert (again["a/b"][0], again["a"]["b"][0], again["a'"]["b"][0]) == (1, 0, 2)


def test_weights_that_are_views_of_one_flat_tensor_come_back(tmp_path: Path) -> None:
    flat = torch.arange(4.0)
    path = saved(tmp_path / "best", weights={"a": flat[:2], "b": flat[2:].view(2, 1), "tied": flat[:2]})
    again = checkpoint.load_weights(path)
    assert {name: tensor.tolist() for name, tensor in again.items()} == {"a": [0, 1], "b": [[2], [3]], "tied": [0, 1]}


# --- files --------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_safetensors_and_json_and_nothing_is_pickled(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "step-000000007", {"algorithm": {"a": {1, (2, 3)}, "b": np.array(["x"]), "c": torch.ones(1)}}
    )
    names = sorted(file.name for file in path.iterdir())
    assert names == ["manifest.json", "state.json", "state.safetensors", "weights.safetensors"]
    for file in path.iterdir():
        if file.suffix == ".json":
            json.loads(file.read_text())
        else:  # the header's length, then the header as JSON
            length = int.from_bytes(file.read_bytes()[:8], "little")
            assert isinstance(json.loads(file.read_bytes()[8 : 8 + length]), dict)
    source = Path(checkpoint.__file__).read_text()
    assert "import pickle" not in source
    assert "torch.load" not in source


def test_the_manifest_has_the_note_and_every_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "step-000000007", {})
    manifest = checkpoint.verify(path)
    assert manifest["step"] == 7
    assert set(manifest["files"]) == {"weights.safetensors", "state.safetensors", "state.json"}
    assert manifest["files"]["state.json"]["bytes"] == (path / "state.json").stat().st_size


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    path = saved(tmp_path / "best")
    assert oct((path / "weights.safetensors").stat().st_mode)[-3:] == "644"


def test_a_large_attribute_gets_a_file_of_its_own(tmp_path: Path) -> None:
    state = {"algorithm": {"replay": ObjectState(rows=np.zeros(200_000)), "small": np.ones(3), "n": 1}}
    path = saved(tmp_path / "step-000000007", state)
    assert sorted(file.name for file in path.glob("*.safetensors")) == [
        "replay.safetensors",
        "state.safetensors",
        "weights.safetensors",
    ]
    assert (path / "state.safetensors").stat().st_size < 1000
    assert first_difference(state, checkpoint.load_state(path)) is None


@pytest.mark.parametrize("name", ["state", "weights"])
def test_a_large_attribute_does_not_take_the_name_of_another_file(tmp_path: Path, name: str) -> None:
    state = {"algorithm": {name: np.ones(200_000)}}
    path = saved(tmp_path / "step-000000007", state)
    assert first_difference(state, checkpoint.load_state(path)) is None
    assert first_difference(WEIGHTS, checkpoint.load_weights(path)) is None


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has weights only; it cannot be resumed"):
        checkpoint.load_state(saved(tmp_path / "best"))


def test_a_mark_of_a_newer_version_is_not_guessed_at(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"unknown mark \$future; it was written by a newer rllab"):
        checkpoint._put_together({"a": {"$future": 1}}, {})


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_checkpoint_is_made_of_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.bias.fill_(value)
    with pytest.raises(RunFailed, match=r"the weight bias is not finite"):
        saved(tmp_path / "best", weights=dict(model.named_parameters()))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved(tmp_path / "step-000000001", {})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 3_000_000))
    state = {"algorithm": {"a": np.zeros(1_000_000)}}
    with pytest.raises(RunFailed, match=r"no room for a checkpoint: it takes 9 MB, and .* has 3 MB left"):
        saved(tmp_path / "step-000000002", state)
    assert [path.name for path in tmp_path.iterdir()] == [before.name]


def test_a_model_of_another_library_is_a_file_of_its_own_and_counts_for_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"model.skops": torch.arange(256).repeat(20_000).to(torch.uint8), "scale": torch.ones(2)}
    path = saved(tmp_path / "best", weights=model)
    assert (path / "model.skops").read_bytes() == bytes(range(256)) * 20_000
    assert list(load_file(path / "weights.safetensors")) == ["scale"]
    loaded = checkpoint.load_weights(path)
    assert all(torch.equal(loaded[name], model[name]) for name in model)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 3_000_000))
    with pytest.raises(RunFailed, match=r"no room for a checkpoint: it takes 6 MB, and .* has 3 MB left"):
        saved(tmp_path / "other", weights=model)


# --- a kill at any moment -----------------------------------------------------------------------------------


class Killed(BaseException):
    """As if the process ended here."""


CUTS = [
    (checkpoint, "save_file"),
    (checkpoint, "_seal"),
    (checkpoint, "_sha256"),
    (checkpoint, "_sync"),
    (checkpoint, "_replace"),
    (Path, "write_text"),
]


@pytest.mark.parametrize(("owner", "function"), CUTS, ids=[name for _, name in CUTS])
@pytest.mark.parametrize("error", [Killed, OSError])
def test_a_save_cut_short_leaves_the_previous_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, error: type[BaseException]
) -> None:
    first = saved(tmp_path / "step-000000001", {"algorithm": {"at": 1}})
    again = saved(tmp_path / "step-000000002", {"algorithm": {"at": 2}})

    def cut(*_: object, **__: object) -> None:
        raise error("cut")

    with monkeypatch.context() as patched:
        patched.setattr(owner, function, cut)
        for path in (again, tmp_path / "step-000000003"):
            with pytest.raises(Killed if error is Killed else RunFailed):
                saved(path, {"algorithm": {"at": 3}})
    assert checkpoint.steps(tmp_path) == [2, 1]
    assert checkpoint.load_state(again) == {"algorithm": {"at": 2}}
    assert checkpoint.load_state(first) == {"algorithm": {"at": 1}}


def fail_at(rename: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the n-th call of Path.rename raise, and with a kill every later one too."""
    calls = []
    original = Path.rename

    def renamed(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == rename or (error is Killed and len(calls) > rename):
            raise error("cut")
        return original(self, target)

    monkeypatch.setattr(Path, "rename", renamed)


@pytest.mark.parametrize("rename", [1, 2])
def test_replacing_that_fails_puts_the_previous_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rename: int
) -> None:
    path = saved(tmp_path / "best")
    with monkeypatch.context() as patched:
        fail_at(rename, OSError, patched)
        with pytest.raises(RunFailed, match=r"the checkpoint best could not be written"):
            saved(path, weights={"q.weight": torch.zeros(2)})
    assert torch.equal(checkpoint.load_weights(path)["q.weight"], WEIGHTS["q.weight"])


def test_a_kill_between_the_two_renames_is_mended_by_whoever_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "best")
    with monkeypatch.context() as patched:
        fail_at(2, Killed, patched)
        with pytest.raises(Killed):
            saved(path, weights={"q.weight": torch.zeros(2)})
    assert not path.exists()
    checkpoint.recover(tmp_path)
    assert torch.equal(checkpoint.load_weights(path)["q.weight"], WEIGHTS["q.weight"])


def test_a_half_written_folder_is_no_checkpoint_and_is_swept_away(tmp_path: Path) -> None:
    saved(tmp_path / "step-000000001", {})
    (tmp_path / f".step-000000002.{os.getpid()}.tmp").mkdir()
    assert checkpoint.steps(tmp_path) == [1]
    checkpoint.prune(tmp_path, keep=2, newest=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000001"]


def test_a_checkpoint_that_lost_its_manifest_is_damaged_and_not_passed_over_in_silence(tmp_path: Path) -> None:
    saved(tmp_path / "step-000000001", {})
    (tmp_path / "step-000000001" / "manifest.json").unlink()
    assert checkpoint.steps(tmp_path) == [1]
    with pytest.raises(CheckpointError):
        checkpoint.verify(tmp_path / "step-000000001")


# --- damage -------------------------------------------------------------------------------------------------


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["weights.safetensors", "state.safetensors", "state.json"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "{} has \\d+ bytes, not \\d+"),
        (flip_a_bit, "the checksum of {} is wrong"),
        (Path.unlink, "{} is missing"),
    ],
    ids=["truncated", "a bit flipped", "missing"],
)
def test_the_manifest_catches_damage_to_any_file(tmp_path: Path, name: str, damage: Any, message: str) -> None:
    path = saved(tmp_path / "step-000000007", {"algorithm": {"a": np.ones(3)}})
    damage(path / name)
    for load in (checkpoint.load_weights, checkpoint.load_state):
        with pytest.raises(CheckpointError, match=r"is damaged: " + message.format(name)):
            load(path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"files": 3}', '{"step"'])
def test_a_damaged_manifest_is_told(tmp_path: Path, content: str) -> None:
    path = saved(tmp_path / "best")
    (path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"is damaged: its manifest cannot be read"):
        checkpoint.verify(path)


def test_a_checkpoint_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint best in"):
        checkpoint.verify(tmp_path / "best")


# --- which are kept -----------------------------------------------------------------------------------------


def test_the_newest_are_kept_and_best_always(tmp_path: Path) -> None:
    for step in (5, 100, 20):
        saved(tmp_path / checkpoint.name_of(step), {})
    saved(tmp_path / checkpoint.BEST)
    checkpoint.prune(tmp_path, keep=2, newest=100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "step-000000020", "step-000000100"]


def test_one_is_kept_at_least(tmp_path: Path) -> None:
    saved(tmp_path / checkpoint.name_of(1), {})
    checkpoint.prune(tmp_path, keep=0, newest=1)
    assert checkpoint.steps(tmp_path) == [1]


def test_a_damaged_one_of_later_does_not_push_out_the_good(tmp_path: Path) -> None:
    """The run was resumed at 20, as 100 did not verify, and has now saved 30."""
    for step in (20, 30, 100):
        saved(tmp_path / checkpoint.name_of(step), {})
    checkpoint.prune(tmp_path, keep=1, newest=30)
    assert checkpoint.steps(tmp_path) == [30]


def test_steps_sort_by_number_beyond_nine_digits(tmp_path: Path) -> None:
    for step in (10**9, 999_999_999):
        saved(tmp_path / checkpoint.name_of(step), {})
    assert checkpoint.name_of(10_000) == "step-000010000"
    assert checkpoint.steps(tmp_path) == [10**9, 999_999_999]


def test_windows_syncs_files_open_for_writing_and_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    opened: list[tuple[Path, int]] = []
    original = os.open
    for system, expected in (("nt", [(file, os.O_RDWR)]), ("posix", [(file, os.O_RDWR), (tmp_path, os.O_RDONLY)])):
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", lambda path, how: opened.append((path, how)) or original(path, how))
            patched.setattr(os, "name", system)
            checkpoint._sync(file)
            checkpoint._sync(tmp_path)
        assert opened == expected
        opened.clear()
