"""`rllab data`, and what a run does whose data is not there."""

import http.server
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from PIL import Image

from rllab import fetching
from rllab.cli import data as command

CODE = '''
"""A dataset that has to be fetched."""

from pathlib import Path

from rllab import fetching
from rllab.data import Data, DataMissing, Source, classification


class Spots(Source):
    """Spots on paper."""

    @classmethod
    def load(cls, target, config, rng):
        if cls.missing():
            raise DataMissing("spots are not on this machine", "`rllab data fetch spots` downloads them.")
        return Data(classification([[0.0], [1.0]] * 20, [0, 1] * 20), ("white", "black"), features=("ink",))

    @classmethod
    def missing(cls):
        return None if (fetching.places("spots")[0] / "spots.txt").is_file() else "nowhere"

    @classmethod
    def fetch(cls, folder, mirrors=(), progress=None):
        check = lambda path: None if path.read_text() == "spots" else "has no spots"
        return [fetching.fetch("spots.txt", mirrors or ["file:///nowhere/"], folder, check, progress=progress)]
'''


@pytest.fixture
def spots(plugin, rllab, tmp_path, monkeypatch) -> Path:
    """An installed dataset that is not there, and the folder that it can be fetched from."""
    plugin("spots", "[rllab.datasets]\nspots = spots:Spots\nhopeless = spots:Nothing\n", CODE)
    monkeypatch.setenv("RLLAB_DATA", str(tmp_path / "data"))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "spots.txt").write_text("spots")
    return tmp_path / "mirror"


# --- list -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("spots")
def test_list_says_what_is_here_and_how_to_get_the_rest(rllab):
    done = rllab("data", "list")
    lines = {line.split()[0]: line.split()[1:] for line in done.out.splitlines()}
    assert lines["spots"] == ["dataset", "no", "Spots", "on", "paper."]
    assert lines["digits"][:2] == ["dataset", "yes"]
    assert lines["csv"][:2] == ["dataset", "-"]
    assert lines["stdlib"][:2] == ["text", "yes"]
    assert lines["file"][:2] == ["text", "-"]
    assert lines["hopeless"][2] == "broken:"
    assert "`rllab data fetch" in done.err


@pytest.mark.usefixtures("spots")
def test_list_as_json(rllab):
    entries = {entry["name"]: entry for entry in rllab("data", "list", "--json").json}
    assert entries["spots"] == {
        "name": "spots",
        "kind": "dataset",
        "distribution": "spots",
        "here": False,
        "missing": "nowhere",
        "can_fetch": True,
        "description": "Spots on paper.",
    }
    assert entries["folder"]["here"] is None
    assert "Nothing" in entries["hopeless"]["broken"]
    assert entries["tinyshakespeare"]["kind"] == "text"
    assert entries["tinyshakespeare"]["can_fetch"] is True


# --- show -------------------------------------------------------------------------------------------


def test_show_prints_sizes_classes_shares_and_ranges(rllab):
    lines = rllab("data", "show", "crescents", "--split-seed", 1).out.splitlines()
    assert lines[:2] == [
        "crescents: 2000 items, 2 numbers (float32), 2 classes: where it lies",
        "positive in the whole square: 0.9300%",
    ]
    assert [line.split()[:2] for line in lines[3:7]] == [
        ["PART", "ITEMS"],
        ["train", "1620"],
        ["validation", "180"],
        ["test", "200"],
    ]
    assert lines[8].split() == ["CLASS", "TRAIN", "VALIDATION", "TEST"]
    assert {line.split()[0] for line in lines[-2:]} == {"x", "y"}


def test_show_as_json_has_counts_and_base_rates(rllab):
    shown = rllab("data", "show", "alphabet", "--json").json
    assert (shown["shape"], shown["type"], shown["picture"]) == ([3, 1], "float32", None)
    assert shown["parts"]["train"]["counts"]["D"] == 1
    assert shown["parts"]["train"]["counts"]["A"] == 0
    assert shown["parts"]["test"]["base_rate"] == pytest.approx(1 / 23)
    assert shown["parts"]["train"]["inputs"]["highest"] == pytest.approx(24 / 26)
    regression = rllab("data", "show", "plane", "--json").json
    assert regression["classes"] == []
    assert regression["parts"]["train"]["targets"]["highest"] <= 1.2
    assert set(regression["features"]) == {"x", "y"}


def test_show_takes_the_options_of_the_dataset_and_the_seed_of_a_run(rllab):
    assert rllab("data", "show", "xor", "--samples", 40, "--features", "x,sinx", "--json").json["features"].keys() == {
        "x",
        "sinx",
    }
    one, again, other = (rllab("data", "show", "xor", "--seed", seed, "--json").out for seed in (1, 1, 2))
    assert one == again != other
    helped = rllab("data", "show", "xor", "--help").out
    assert "--noise" in helped
    assert "--noise" not in rllab("data", "show", "--help").out


def test_show_of_a_path(rllab, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "1,x\n2,y\n" * 10)
    assert rllab("data", "show", "t.csv", "--target-column", "b", "--json").json["classes"] == ["x", "y"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("show", "crecents"), 4, "Did you mean 'crescents'"),
        (("show", "digits", "--noise", "1"), 2, "No such option"),
        (("show", "there.csv"), 2, "there.csv is no file"),
        (("show", "xor", "--kernel", "edge"), 2, "--kernel edge is for images, and xor has 2 numbers"),
        (("show", "digits", "--kernel", "sobel"), 2, "'sobel' is not one of"),
        (("fetch", "digits"), 2, "there is nothing to fetch for digits: it comes with a package"),
        (("fetch", "csv"), 2, "it is data of your own"),
        (("fetch", "mnsit"), 4, "Did you mean 'mnist'"),
        (("fetch", "mnist", "--from", "nowhere"), 2, "nowhere is no address"),
    ],
)
def test_mistakes_get_a_line_and_an_exit_code(rllab, arguments, code, text):
    done = rllab("data", *arguments)
    assert (done.code, done.out) == (code, "")
    assert text in done.err


@pytest.fixture
def plots(monkeypatch) -> list[tuple[object, ...]]:
    """In place of the pictures: what was asked for."""
    asked: list[tuple[object, ...]] = []

    def picture(task, *more):
        asked.append((task.name, *more))
        return Image.new("L", (4, 4))

    fake = types.SimpleNamespace(samples=picture, kernel=picture)
    monkeypatch.setitem(sys.modules, "rllab.parts.plots", fake)
    monkeypatch.setattr("rllab.parts.plots", fake, raising=False)
    return asked


def test_samples_and_kernels_are_drawn_into_a_file(rllab, plots, tmp_path):
    assert "Drawn into some.png" in rllab("data", "show", "digits", "-o", "some.png").err
    with Image.open(tmp_path / "some.png") as drawn:
        assert drawn.size == (4, 4)
    assert rllab("data", "show", "digits", "--kernel", "edge", "--json").json["picture"] == "digits-edge.png"
    assert (tmp_path / "digits-edge.png").is_file()
    assert plots == [("digits",), ("digits", "edge")]


@pytest.mark.usefixtures("plots")
def test_a_picture_that_cannot_be_written_is_told(rllab):
    assert (done := rllab("data", "show", "digits", "-o", "some.xyz")).code == 2
    assert "no picture has that ending" in done.err
    Path("file").touch()
    assert (done := rllab("data", "show", "digits", "-o", "file/picture.png")).code == 2
    assert "-o file/picture.png: " in done.err


def test_a_picture_makes_its_folder(rllab):
    assert rllab("data", "show", "digits", "-o", "a/new/folder.png").code == 0
    assert Path("a/new/folder.png").is_file()


# --- texts ------------------------------------------------------------------------------------------


@pytest.fixture
def book(rllab, tmp_path) -> Path:
    """A text of 30 characters; the last three, and only these, are x."""
    (tmp_path / "book.txt").write_text("one two\nthree\tfour\x1b[1m\nlinexxx")
    return tmp_path / "book.txt"


@pytest.mark.usefixtures("book")
def test_show_of_a_text_prints_parts_first_lines_and_characters(rllab):
    lines = rllab("data", "show", "book.txt").out.splitlines()
    assert lines[0] == "book.txt: 30 characters, 19 different ones"
    assert [line.split() for line in lines[2:5]] == [
        ["PART", "CHARACTERS", "SHARE", "DIFFERENT", "NOT", "IN", "TRAIN"],
        ["train", "27", "90.00%", "18", "0"],
        ["test", "3", "10.00%", "1", "1"],
    ]
    assert lines[6:11] == ["It begins with:", "", "  one two", "  three four [1m", "  line"]
    assert lines[12].split() == ["CHARACTER", "COUNT", "SHARE"]
    assert lines[13].split() == ["'e'", "4", "13.33%"]
    assert any(line.startswith(r"'\x1b'") for line in lines)


@pytest.mark.usefixtures("book")
def test_show_of_a_text_as_json(rllab):
    shown = rllab("data", "show", "book.txt", "--json").json
    assert (shown["kind"], shown["characters"], shown["vocabulary_size"]) == ("text", 30, 19)
    assert shown["vocabulary"] == "".join(sorted(shown["frequencies"]))
    assert shown["parts"]["test"] == {"characters": 3, "different": 1, "unseen": "x"}
    assert shown["first_lines"] == ["one two", "three\tfour\x1b[1m", "line"]
    assert next(iter(shown["frequencies"].items())) == ("e", 4)
    assert sum(shown["frequencies"].values()) == 30
    assert shown["picture"] is None


@pytest.mark.usefixtures("book")
def test_the_characters_of_a_text_are_drawn_into_a_file(rllab, tmp_path):
    assert "Drawn into bars.png" in rllab("data", "show", "book.txt", "-o", "bars.png").err
    with Image.open(tmp_path / "bars.png") as drawn:
        assert drawn.size[0] == 900


def test_show_takes_the_options_of_a_text_and_reads_a_folder_as_one_if_asked(rllab, tmp_path):
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text("abcdefghij")
    (tmp_path / "books" / "b.md").write_text("no")
    shown = rllab("data", "show", "books", "--text", "--pattern", "*.txt", "--validation-share", "0.5", "--json").json
    assert {name: part["characters"] for name, part in shown["parts"].items()} == {
        "train": 4,
        "validation": 5,
        "test": 2,
    }
    assert "--text reads the folder as a text." in rllab("data", "show", "books").err
    helped = rllab("data", "show", "stdlib", "--help").out
    assert "--limit" in helped
    assert "The text:" in helped


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("show", "there.txt"), 2, "there.txt is no file"),
        (("show", "digits", "--text"), 2, "digits is a dataset, not a text"),
        (("show", "tinyshakespear"), 4, "Did you mean 'tinyshakespeare'"),
        (("show", "book.txt", "--kernel", "edge"), 2, "--kernel edge is for images, and book.txt is a text"),
        (("show", "book.txt", "--test-share", "1"), 2, "--test-share 1: should be less than 1"),
        (("show", "book.txt", "--test-share", "0.99"), 2, "--test-share 0.99 of 30 characters leaves nothing"),
        (("show", "book.txt", "--folds", "2"), 2, "No such option"),
        (("show", "stdlib", "--limit", "0"), 2, "--limit 0: should be greater than 0"),
        (("fetch", "stdlib"), 2, "there is nothing to fetch for stdlib"),
        (("fetch", "file"), 2, "it is data of your own"),
    ],
)
@pytest.mark.usefixtures("book")
def test_mistakes_with_texts_get_a_line_and_an_exit_code(rllab, arguments, code, text):
    done = rllab("data", *arguments)
    assert (done.code, done.out) == (code, "")
    assert text in done.err


PLAYS = '''
"""A text that has to be fetched, and a method that learns texts."""

from rllab import fetching
from rllab.algorithm import Algorithm, Objective
from rllab.config import Config
from rllab.data import DataMissing
from rllab.text import TextSource, TextTask


class Plays(TextSource):
    """Plays on paper."""

    @classmethod
    def load(cls, target, config):
        if cls.missing():
            raise DataMissing("plays are not on this machine", "`rllab data fetch plays` downloads them.")
        return (fetching.places("plays")[0] / "plays.txt").read_text()

    @classmethod
    def missing(cls):
        return None if (fetching.places("plays")[0] / "plays.txt").is_file() else "nowhere"

    @classmethod
    def fetch(cls, folder, mirrors=(), progress=None):
        return [fetching.fetch("plays.txt", mirrors, folder, lambda path: None, progress=progress)]


class Reader(Algorithm):
    """Reads, and learns nothing."""

    class Config(Config):
        """None."""

    Task = TextTask
    unit = "characters"

    @classmethod
    def objective(cls, task):
        return Objective("test/loss", maximize=False)

    budget = 1

    def step(self):
        self.count += 1
        return {}

    def evaluate(self):
        return {"test/loss": 0.0}
'''


@pytest.fixture
def plays(plugin, rllab, tmp_path, monkeypatch) -> Path:
    """An installed text that is not there, and the folder that it can be fetched from."""
    plugin("plays", "[rllab.texts]\nplays = plays:Plays\n[rllab.supervised]\nreader = plays:Reader\n", PLAYS)
    monkeypatch.setenv("RLLAB_DATA", str(tmp_path / "data"))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "plays.txt").write_text("to be or not to be")
    return tmp_path / "mirror"


def test_a_text_is_fetched_and_a_run_finds_it(rllab, plays, tmp_path):
    done = rllab("run", "reader", "plays", "--dry-run")
    assert done.code == 2
    assert "`rllab data fetch plays`" in done.err
    done = rllab("data", "fetch", "plays", "--from", plays)
    assert (done.code, done.out) == (0, f"{tmp_path / 'data' / 'plays' / 'plays.txt'}\n")
    assert rllab("data", "show", "plays", "--json").json["first_lines"] == ["to be or not to "]
    done = rllab("run", "reader", "plays", "--test-share", "0.5", "--dry-run")
    assert done.code == 0
    assert "# The text\ntest_share = 0.5" in done.out


def test_on_a_terminal_a_run_offers_to_fetch_a_text(rllab, plays, monkeypatch):
    monkeypatch.setattr(command, "_on_terminal", lambda: True)
    asked = []
    monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text) or True)
    fetch = command.fetch
    monkeypatch.setattr(command, "fetch", lambda name: fetch(name, None, [plays.as_uri() + "/"]))
    assert rllab("run", "reader", "plays", "--dry-run").code == 0
    assert asked == ["plays is not on this machine. Fetch it now?"]


@pytest.mark.usefixtures("plays", "book")
def test_a_run_of_a_path_that_is_no_text_is_told(rllab, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"ab\nc\xff")
    for arguments, code, text in [
        (("reader", "bad.txt"), 2, "bad.txt, line 2: not UTF-8 (byte 0xff at offset 4)"),
        (("reader", "digits"), 2, "digits is a dataset, not a text"),
        (("majority", "plays"), 2, "plays is a text, not a dataset"),
        (("reader", "play"), 4, "Did you mean 'plays'?"),
    ]:
        done = rllab("run", *arguments)
        assert (done.code, done.out) == (code, "")
        assert text in done.err
    assert not (tmp_path / "runs").exists()


# --- fetch ------------------------------------------------------------------------------------------


def test_fetch_prints_the_files_and_a_run_finds_them(rllab, spots, tmp_path):
    done = rllab("data", "fetch", "spots", "--from", spots)
    assert (done.code, done.out) == (0, f"{tmp_path / 'data' / 'spots' / 'spots.txt'}\n")
    assert rllab("data", "show", "spots", "--json").json["classes"] == ["white", "black"]


def test_fetch_to_another_folder_says_how_a_run_finds_it(rllab, spots, tmp_path):
    done = rllab("data", "fetch", "spots", "--from", spots, "--to", tmp_path / "other")
    assert (tmp_path / "other" / "spots" / "spots.txt").is_file()
    assert f"RLLAB_DATA={tmp_path / 'other'}" in done.err


def test_a_fetch_that_fails_ends_with_1_and_what_came_is_kept_aside(rllab, spots, tmp_path):
    (spots / "spots.txt").write_text("a login page")
    done = rllab("data", "fetch", "spots", "--from", spots)
    assert done.code == 1
    assert "has no spots" in done.err
    assert (tmp_path / "data" / "spots" / "spots.txt.corrupt").read_text() == "a login page"


class Slow(http.server.BaseHTTPRequestHandler):
    """Sends the beginning of a file, and then nothing for long."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(bytes(100))
        self.server.enough.wait(60)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process on Windows")
def test_ctrl_c_ends_a_fetch_at_once_and_keeps_what_has_come(process, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.enough = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/"
            fetching_it = process("data", "fetch", "mnist", "--from", address, "--to", tmp_path)
            part = tmp_path / "mnist" / "train-images-idx3-ubyte.gz.part"
            give_up = time.monotonic() + 60
            while time.monotonic() < give_up and not (part.is_file() and part.stat().st_size):
                time.sleep(0.02)
            fetching_it.send_signal(signal.SIGINT)
            _, err = fetching_it.communicate(timeout=20)
        finally:
            server.enough.set()  # type: ignore[attr-defined]
            server.shutdown()
            thread.join()
    assert fetching_it.returncode == 130
    assert "100 bytes of train-images-idx3-ubyte.gz are kept" in err
    assert "Interrupted." in err
    assert part.read_bytes() == bytes(100)


# --- a run without its data -------------------------------------------------------------------------


@pytest.mark.usefixtures("spots")
def test_a_run_without_its_data_says_where_it_is_missing_and_what_to_type(rllab, tmp_path):
    done = rllab("run", "majority", "spots")
    assert done.code == 2
    assert "spots are not on this machine" in done.err
    assert "`rllab data fetch spots`" in done.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("answer", "code"), [(True, 0), (False, 2)])
@pytest.mark.usefixtures("spots")
def test_on_a_terminal_a_run_offers_to_fetch(rllab, monkeypatch, answer, code):
    asked = []
    monkeypatch.setattr(command, "_on_terminal", lambda: True)
    monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text) or answer)
    fetched = []

    def fetch(name, *_):
        fetched.append(name)
        places = fetching.places(name)[0]
        places.mkdir(parents=True)
        (places / "spots.txt").write_text("spots")

    monkeypatch.setattr(command, "fetch", fetch)
    assert rllab("run", "majority", "spots", "--dry-run").code == code
    assert asked == ["spots is not on this machine. Fetch it now?"]
    assert fetched == (["spots"] if answer else [])


def test_help_and_names_of_commands_import_nothing_heavy():
    code = (
        "import sys\nfrom rllab.cli import main\n"
        "try:\n    main(['data', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'numpy', 'pydantic') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "fetch" in done.stdout
