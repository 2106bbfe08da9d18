import hashlib
import http.server
import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs
import pytest
from filelock import FileLock

from rllab import fetching, stopping
from rllab.errors import UsageError
from rllab.fetching import FetchFailed, data_folder, fetch, mirror, places

CONTENT = bytes(range(256)) * 4096  # 1 MiB


def check(path: Path) -> str | None:
    return None if path.read_bytes() == CONTENT else "is not what it should be"


@dataclass
class Server:
    """A mirror that has one file, and how it behaves; `asked` has the Range of each request."""

    address: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    status: int = 200
    cut_after: list[int] = field(default_factory=list)
    shift: int = 0
    asked: list[str | None] = field(default_factory=list)
    fail_first: int = 0


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running = []

    def start(**how: object) -> Server:
        server = Server(**how)  # type: ignore[arg-type]

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                server.asked.append(wanted)
                if server.status != 200 or len(server.asked) <= server.fail_first:
                    self.send_error(server.status if server.status != 200 else 503)
                    return
                found = re.match(r"bytes=(\d+)-", wanted or "") if server.ranges else None
                start = int(found[1]) if found else 0
                if found and start >= len(server.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(server.content)}")
                    self.end_headers()
                    return
                body = server.content[start + (server.shift if found else 0) :]
                self.send_response(206 if found else 200)
                if found:
                    end = len(server.content) - 1
                    self.send_header("Content-Range", f"bytes {start + server.shift}-{end}/{len(server.content)}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        running.append((listening, thread))
        server.address = f"http://127.0.0.1:{listening.server_port}/"
        return server

    yield start
    for listening, thread in running:
        listening.shutdown()
        listening.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def log_of_rllab(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Have caplog see what rllab logs, whoever set it up before."""
    log = logging.getLogger("rllab")
    before, log.propagate = log.propagate, True
    with caplog.at_level(logging.INFO, "rllab"):
        yield
    log.propagate = before


def bring(folder: Path, *servers: Server, **how: object) -> Path:
    return fetch("f.bin", [server.address for server in servers], folder, check, wait=0.001, **how)  # type: ignore[arg-type]


# --- what comes -------------------------------------------------------------------------------------


def test_a_file_is_fetched_whole_and_nothing_else_is_left(serve, tmp_path):
    told: list[tuple[str, int, int | None]] = []
    path = bring(tmp_path / "new", serve(), progress=lambda *news: told.append(news))
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(CONTENT).digest()
    assert told[-1] == ("f.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
    assert [file.name for file in path.parent.iterdir() if not file.name.endswith(".lock")] == ["f.bin"]


def test_a_sound_file_is_not_fetched_again(serve, tmp_path):
    server = serve()
    bring(tmp_path, server)
    bring(tmp_path, server)
    assert server.asked == [None]


def test_a_connection_that_is_cut_goes_on_where_it_was(serve, tmp_path):
    server = serve(cut_after=[300_000, 100_000])
    assert check(bring(tmp_path, server)) is None
    assert server.asked == [None, "bytes=300000-", "bytes=400000-"]


def test_a_mirror_that_knows_no_ranges_sends_it_all_again(serve, tmp_path):
    server = serve(ranges=False, cut_after=[300_000])
    assert check(bring(tmp_path, server)) is None
    assert server.asked == [None, "bytes=300000-"]


def test_a_part_of_an_earlier_fetch_is_gone_on_with(serve, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(CONTENT[:1000])
    server = serve()
    assert check(bring(tmp_path, server)) is None
    assert server.asked == ["bytes=1000-"]


def test_a_part_that_is_complete_already_is_taken(serve, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(CONTENT)
    server = serve()
    assert check(bring(tmp_path, server)) is None
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(serve, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(CONTENT + b"more")
    assert check(bring(tmp_path, serve())) is None


def test_a_part_of_something_else_is_kept_aside_and_the_file_fetched_whole(serve, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(b"something else")
    server = serve()
    assert check(bring(tmp_path, server)) is None
    assert server.asked == ["bytes=14-", None]
    assert (tmp_path / "f.bin.corrupt").read_bytes() == b"something else" + CONTENT[14:]


def test_a_mirror_that_goes_on_at_another_byte_is_asked_for_all_of_it(serve, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(CONTENT[:1000])
    server = serve(shift=7)
    assert check(bring(tmp_path, server)) is None
    assert server.asked == ["bytes=1000-", None]
    assert not (tmp_path / "f.bin.corrupt").exists()


# --- what goes wrong --------------------------------------------------------------------------------


def test_wrong_bytes_are_kept_aside_and_the_next_mirror_asked(serve, tmp_path, caplog):
    wrong, right = serve(content=b"a login page"), serve()
    assert check(bring(tmp_path, wrong, right)) is None
    assert (tmp_path / "f.bin.corrupt").read_bytes() == b"a login page"
    assert right.asked == [None]
    assert "is not what it should be; it is kept aside as" in caplog.text


def test_wrong_bytes_from_every_mirror_leave_no_file(serve, tmp_path):
    with pytest.raises(FetchFailed, match=r"could not be fetched:\n  http.*f.bin: is not what it should be"):
        bring(tmp_path, serve(content=b"a login page"))
    assert sorted(file.name for file in tmp_path.iterdir() if "lock" not in file.name) == ["f.bin.corrupt"]


def test_a_file_that_was_damaged_since_is_kept_aside_and_fetched_anew(serve, tmp_path):
    (tmp_path / "f.bin").write_bytes(b"damaged")
    assert check(bring(tmp_path, serve())) is None
    assert (tmp_path / "f.bin.corrupt").read_bytes() == b"damaged"


def test_not_found_is_final_and_every_answer_is_told(serve, tmp_path):
    first, second = serve(status=404), serve(status=403)
    with pytest.raises(FetchFailed) as raised:
        bring(tmp_path, first, second)
    assert f"{first.address}f.bin: 404 Not Found" in str(raised.value)
    assert f"{second.address}f.bin: 403 Forbidden" in str(raised.value)
    assert "--from URL" in str(raised.value)
    assert raised.value.exit_code == 1
    assert len(first.asked) == len(second.asked) == 1


def test_a_mirror_that_is_busy_is_asked_again_after_a_longer_and_longer_wait(serve, tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(fetching, "_pause", waits.append)
    assert check(bring(tmp_path, serve(fail_first=3))) is None
    assert waits == [0.002, 0.004, 0.008]


def test_a_mirror_that_stays_busy_is_given_up(serve, tmp_path):
    server = serve(status=503)
    with pytest.raises(FetchFailed, match=r"503 Service Unavailable \(4 times in a row\)"):
        bring(tmp_path, server)
    assert len(server.asked) == fetching.ATTEMPTS


def test_a_mirror_that_is_not_there_is_passed_over(serve, tmp_path):
    gone = Server("http://127.0.0.1:9/")
    assert check(bring(tmp_path, gone, serve())) is None


def test_a_folder_that_cannot_be_made_is_told(serve, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchFailed, match="cannot write to"):
        bring(tmp_path / "file" / "below", serve())


# --- stopping, and two at once ----------------------------------------------------------------------


def test_ctrl_c_keeps_what_has_come_and_the_next_fetch_goes_on_from_there(serve, tmp_path, caplog):
    server = serve()

    def interrupt(name: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(tmp_path, server, progress=interrupt)
    there = (tmp_path / "f.bin.part").stat().st_size
    assert 0 < there < len(CONTENT)
    assert f"{there} bytes of f.bin are kept" in caplog.text
    assert check(bring(tmp_path, server)) is None
    assert server.asked == [None, f"bytes={there}-"]


def test_a_request_to_stop_ends_a_fetch(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "_requested", "SIGTERM")
    with pytest.raises(stopping.StopRequested):
        bring(tmp_path, serve())


def test_two_fetches_at_once_bring_the_file_once(serve, tmp_path):
    server = serve()
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(bring(tmp_path, server))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [check(path) for path in found] == [None] * 3
    assert server.asked == [None]


def test_a_fetch_waits_for_the_one_that_holds_the_lock_and_says_so(serve, tmp_path, caplog):
    lock = FileLock(tmp_path / ".f.bin.lock", thread_local=False)
    lock.acquire()
    timer = threading.Timer(0.4, lock.release)
    timer.start()
    assert check(bring(tmp_path, serve())) is None
    timer.join()
    assert caplog.text.count("another process is fetching f.bin") == 1


# --- places and addresses ---------------------------------------------------------------------------


def test_places_are_those_of_the_variable_the_user_and_debian(monkeypatch, tmp_path):
    monkeypatch.setenv("RLLAB_DATA", str(tmp_path))
    user = platformdirs.user_data_path("rllab", appauthor=False)
    assert places("mnist") == [tmp_path / "mnist", user / "mnist", Path("/usr/share/datasets/mnist")]
    monkeypatch.delenv("RLLAB_DATA")
    assert data_folder() == user
    assert places("mnist") == [user / "mnist", Path("/usr/share/datasets/mnist")]


def test_a_mirror_is_an_address_or_a_folder(tmp_path):
    assert mirror("https://example.org/data") == "https://example.org/data/"
    assert mirror(str(tmp_path)) == tmp_path.as_uri() + "/"
    for wrong in ("ftp://example.org", "nowhere", "https://"):
        with pytest.raises(UsageError, match="is no address to fetch from"):
            mirror(wrong)


def test_a_file_is_no_mirror_but_its_folder_is(tmp_path):
    (tmp_path / "input.txt").touch()
    with pytest.raises(UsageError, match="is a file: name the folder that it lies in") as raised:
        mirror(str(tmp_path / "input.txt"))
    assert raised.value.hint == f"Write `--from {tmp_path}`."
    assert mirror(str(tmp_path)) == tmp_path.as_uri() + "/"


def test_a_folder_is_a_mirror(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "f.bin").write_bytes(CONTENT)
    here = fetch("f.bin", [mirror(str(tmp_path / "there"))], tmp_path / "here", check)
    assert check(here) is None
    with pytest.raises(FetchFailed, match="No such file"):
        fetch("g.bin", [mirror(str(tmp_path / "there"))], tmp_path / "here", check)
