import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from rllab import runfolder
from rllab.errors import RunFailed, RunNotFound, UsageError
from rllab.runfolder import RunFolder, run_name


def begun(folder: RunFolder, at: int) -> RunFolder:
    """Write what a run writes when it begins; `at` is when."""
    folder.update(status="running")
    folder.write(folder.config_file, "")
    os.utime(folder.config_file, (at, at))
    return folder


# --- names --------------------------------------------------------------------------------------------------


def test_the_name_has_the_options_given_by_hand_and_the_seed() -> None:
    assert run_name(0, {}) == "seed0"
    assert run_name(3, {"lr": "0.001", "batch_size": "32"}) == "lr-0.001_batch-size-32_seed3"
    assert run_name(3, {"hidden": "64,64"}) == "hidden-64,64_seed3"
    assert run_name(3, {"lr": "0.001"}, "mine") == "mine_seed3"


def test_a_name_is_one_folder_whatever_is_in_it() -> None:
    name = run_name(0, {"data": "../../etc/ü x" + "y" * 500})
    assert "/" not in name
    assert len(name) <= 150
    assert name.startswith("data-..-..-etc-")


def test_runs_that_differ_in_the_seed_alone_have_names_of_their_own_however_long() -> None:
    assert run_name(1, {"data": "y" * 500}) != run_name(2, {"data": "y" * 500})


# --- never overwritten --------------------------------------------------------------------------------------


def test_a_repeat_gets_a_number_and_the_first_is_not_touched(tmp_path: Path) -> None:
    paths = []
    for i in range(3):
        folder = RunFolder.create(tmp_path / "CartPole-v1" / "dqn", "seed0", {"schema": 1, "i": i})
        folder.update(status="new")
        paths.append(folder.path)
    assert [path.name for path in paths] == ["seed0", "seed0.2", "seed0.3"]
    assert [RunFolder(path).info["i"] for path in paths] == [0, 1, 2]


def test_an_exact_folder_may_be_empty_but_not_hold_a_run_or_anything_else(tmp_path: Path) -> None:
    folder = RunFolder.create_exactly(tmp_path / "a" / "b", {"schema": 1})
    with folder.held():
        pass
    RunFolder.create_exactly(folder.path, {})  # the lock alone is nothing
    folder.update(status="running")
    with pytest.raises(UsageError, match=r"holds a run already\nGo on with it: `rllab resume"):
        RunFolder.create_exactly(folder.path, {})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"c is not empty"):
        RunFolder.create_exactly(tmp_path / "c", {})


@pytest.mark.parametrize(
    "make", [lambda path: RunFolder.create(path, "seed0", {}), lambda path: RunFolder.create_exactly(path, {})]
)
def test_a_place_that_cannot_be_written_is_told_in_a_line_with_the_way_out(tmp_path: Path, make: object) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFailed, match=r"^cannot write to .*: (Not a directory|File exists)\nChoose a place with"):
        make(tmp_path / "file" / "runs")  # type: ignore[operator]
    with pytest.raises(RunFailed, match=r"^cannot write to "):
        make(tmp_path / "file")  # type: ignore[operator]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create(tmp_path, "seed0", {})

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", read_only)
    with pytest.raises(RunFailed, match=r"cannot write to .*: Read-only file system"):
        folder.update(status="running")


# --- run.json -----------------------------------------------------------------------------------------------


def test_run_json_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create(tmp_path, "seed0", {"schema": 1})
    folder.update(status="running")

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.update(status="finished")
    assert RunFolder(folder.path).info == {"schema": 1, "status": "running"}


@pytest.mark.parametrize("content", ["", '{"schema": 1', "[]", '{"schema": 99}', "\xff"])
def test_a_run_json_that_cannot_be_read_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunNotFound, match=r"run\.json (cannot be read|was written by a newer rllab|is)"):
        RunFolder(tmp_path)


def test_the_identity_is_method_task_seed_and_every_value(run_folder: RunFolder) -> None:
    assert run_folder.identity() == {
        "method": "toy",
        "task": "numbers",
        "seed": 3,
        "lr": 0.5,
        "hidden": [4, 4],
        "name": None,
        "noise": 0.1,
    }


# --- who holds it -------------------------------------------------------------------------------------------


def test_a_folder_that_another_process_holds_says_who(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rllab.runfolder import RunFolder, process\n"
        "folder = RunFolder.create_exactly(Path(sys.argv[1]), {'schema': 1})\n"
        "with folder.held():\n"
        "    folder.update(host='lab7', started='2024-01-01T00:00:00+00:00', **process())\n"
        "    print(process()['pid'], flush=True); sys.stdin.read()\n"
    )
    path = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        pid = other.stdout.readline().strip()
        folder = RunFolder(path)
        with (
            pytest.raises(UsageError, match=rf"is held by process {pid} on lab7, since 2024-01-01T00:00:00"),
            folder.held(),
        ):
            pytest.fail("two processes hold one folder")
        other.communicate("")
    with folder.held():
        pass  # it is free as soon as the other has ended


def test_the_hold_ends_with_an_error_as_well(run_folder: RunFolder) -> None:
    with pytest.raises(KeyError), run_folder.held():
        raise KeyError
    with run_folder.held():
        pass


# --- finding ------------------------------------------------------------------------------------------------


def test_a_run_is_found_as_a_folder_below_the_runs_and_as_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Path("runs")
    old = begun(RunFolder.create(runs / "CartPole-v1" / "dqn", "seed0", {"schema": 1}), 1000)
    new = begun(RunFolder.create(runs / "Acrobot-v1" / "dqn", "seed0", {"schema": 1}), 2000)
    begun(RunFolder.create(runs / "Acrobot-v1" / "dqn", "seed1", {"schema": 1}), 1500)
    old.update(status="finished")  # what is begun last counts, not what is written last
    assert runfolder.find(old.path) == old.path
    assert runfolder.find(old.path.absolute()) == old.path.absolute()
    assert runfolder.find("CartPole-v1/dqn/seed0") == old.path
    assert runfolder.find("last") == new.path


def test_an_old_run_that_was_extended_is_not_the_last(tmp_path: Path) -> None:
    old = begun(RunFolder.create(tmp_path / "t" / "m", "old", {"schema": 1}), 3000)
    new = begun(RunFolder.create(tmp_path / "t" / "m", "new", {"schema": 1}), 2000)
    old.update(started="2024-01-01T00:00:00+00:00")
    new.update(started="2024-01-02T00:00:00+00:00")
    assert runfolder.last(tmp_path) == new.path


def test_what_is_no_run_is_told_with_the_places_looked_at(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match=r"there is no run 'abc', neither as a folder nor below") as caught:
        runfolder.find("abc", tmp_path)
    assert caught.value.exit_code == 5
    with pytest.raises(RunNotFound, match=r"there are no runs in"):
        runfolder.find("last", tmp_path / "nowhere")
    with pytest.raises(RunNotFound, match=r"there is no run in"):
        RunFolder(tmp_path)


def test_the_files_of_a_run_are_where_the_documentation_says(run_folder: RunFolder) -> None:
    run_folder.update()
    path = run_folder.path
    assert json.loads((path / "run.json").read_text())["method"] == "toy"
    assert run_folder.config_file == path / "config.toml"
    assert run_folder.metrics_file == path / "metrics.jsonl"
    assert run_folder.checkpoints == path / "checkpoints"
    assert run_folder.media == path / "media"


def test_looking_at_a_run_writes_nothing_into_its_folder(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run", {"schema": 1, "status": "running"})
    assert folder.status == "killed"
    assert list(folder.path.iterdir()) == []


def test_a_run_that_is_looked_at_for_a_moment_can_be_resumed_all_the_same(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run", {"schema": 1})
    look = FileLock(folder.path / ".lock", thread_local=False)
    look.acquire()
    threading.Timer(0.1, look.release).start()
    with folder.held():
        assert not look.is_locked  # it was waited for


def test_a_run_that_says_running_and_is_held_by_no_process_was_killed(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run", {"schema": 1, "status": "running"})
    assert folder.status == "killed"
    with folder.held():
        assert folder.status == "running"
    folder.update(status="finished")
    assert folder.status == "finished"
