import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, TimeLimit
from PIL import Image

import rllab as package
from rllab import recording
from rllab.agent import Agent, AgentConfig
from rllab.cli.record import record_command
from rllab.errors import CheckpointError, PluginError, RunFailed, UsageError
from rllab.parts import films
from rllab.seeding import Streams

SHORT = (
    *("--preset", "none", "--timesteps", "60", "--max-episode-steps", "20"),
    *("--device", "cpu", "--logger", "none", "--eval-episodes", "1", "--eval-every", "0", "--pictures-every", "0"),
)


@pytest.fixture(autouse=True)
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Films are GIFs whether or not there is an encoder, unless a test brings one."""
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


class Stairs(gymnasium.Env[Any, Any]):
    """Step n is paid n, and shows n as the brightness of 2 x 3 pixels, or as text; it ends after `length` steps."""

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 10}

    def __init__(self, length: int = 4, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Box(0, 255, (1,))
        self.action_space = spaces.Discrete(2, start=5)
        self.length, self.render_mode = length, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.now = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert type(action) is int
        self.now += 1
        return np.full(1, self.now, np.float32), float(self.now), self.now == self.length, False, {}

    def render(self) -> Any:
        return f"stair {self.now}" if self.render_mode == "ansi" else np.full((2, 3, 3), 20 * self.now, np.uint8)


class Unseen(Stairs):
    metadata = {"render_modes": ["human"]}


class Torn(Stairs):
    def render(self) -> Any:
        raise RuntimeError("no screen\nanywhere")


class Bare(Stairs):
    metadata = {"render_modes": ["rgb_array"]}

    def render(self) -> Any:
        raise gymnasium.error.DependencyNotInstalled('pygame is not installed, run `pip install "gymnasium[toy-text]"`')


class Old(Stairs):
    def __init__(self) -> None:
        super().__init__()


class Cracked(Stairs):
    def step(self, action: Any) -> Any:
        raise IndexError("no third stair")


class Player(Agent):
    """Goes by what `choose` says, and remembers how many observations of an episode it has seen."""

    Config = AgentConfig

    def act(self, observations: Any, memory: Any = None, starts: Any = None, *, deterministic: bool) -> Any:
        assert starts is not None
        seen = np.where(starts, 0, 0 if memory is None else memory) + 1
        self.seen = [*getattr(self, "seen", []), int(seen[0])]
        self.looked_at = observations
        return np.array([5 + int(deterministic)]), seen

    def step(self) -> Any:
        return {}


def task_of(env: Callable[..., Any], **more: Any) -> Any:
    """An environment task, as far as recording looks at one."""
    made = env()
    return SimpleNamespace(
        name="stairs",
        metadata=made.metadata,
        observation_space=made.observation_space,
        action_space=made.action_space,
        make_one=lambda *, render_mode=None: env(render_mode=render_mode),
        **more,
    )


def player(env: Callable[..., Any] = Stairs) -> Player:
    return Player(AgentConfig(), task_of(env), device="cpu", streams=Streams(0))


def frames(path: Path) -> list[tuple[Any, int]]:
    """The pictures of a GIF, and how long each is shown, in milliseconds."""
    with Image.open(path) as film:
        found = []
        for number in range(getattr(film, "n_frames", 1)):
            film.seek(number)
            found.append((np.asarray(film.convert("RGB")), int(film.info["duration"])))
    return found


def record(path: Path, env: Callable[..., Any] = Stairs, **options: Any) -> recording.Recording:
    return recording.record(player(env), path, seeds=Streams(0).sequence("recording"), **options)


# --- films ----------------------------------------------------------------------------------------


def test_a_film_shows_every_step_with_its_return(tmp_path: Path) -> None:
    made = record(tmp_path / "a.gif")
    shown = frames(made.path)
    assert [picture[0, 0, 0] for picture, _ in shown] == [0, 20, 40, 60, 80]
    assert [duration for _, duration in shown] == [100, 100, 100, 100, 1100]
    assert [(end.return_, end.step, end.ended) for end in made.episodes] == [(10.0, 4, "terminated")]
    blue = [tuple(int(part) for part in picture[-1, -1]) == (0, 114, 178) for picture, _ in shown]
    assert blue == [False] * 4 + [True]  # the caption of the end


def test_a_gif_of_a_fast_environment_leaves_frames_out_and_not_the_last(tmp_path: Path) -> None:
    shown = frames(record(tmp_path / "a.gif", fps=50).path)
    assert [picture[0, 0, 0] for picture, _ in shown] == [0, 40, 80]
    assert [duration for _, duration in shown] == [40, 40, 1040]


def test_hundredths_of_a_second_add_up(tmp_path: Path) -> None:
    shown = frames(record(tmp_path / "a.gif", lambda **k: Stairs(12, **k), fps=15).path)
    assert sum(duration for _, duration in shown) == pytest.approx(13 / 15 * 1000 + 1000, abs=10)


def test_several_episodes_follow_each_other_in_one_environment(tmp_path: Path) -> None:
    made = record(tmp_path / "a.gif", episodes=3)
    assert [picture[0, 0, 0] for picture, _ in frames(made.path)] == [0, 20, 40, 60, 80] * 3
    assert [end.episode for end in made.episodes] == [1, 2, 3]


def test_memory_of_a_recurrent_policy_begins_anew_with_each_episode(tmp_path: Path) -> None:
    agent = player()
    recording.record(agent, tmp_path / "a.gif", episodes=2, seeds=Streams(0).sequence("r"))
    assert agent.seen == [1, 2, 3, 4, 1, 2, 3, 4]


def test_the_policy_sees_what_wrappers_make_of_the_observations(tmp_path: Path) -> None:
    agent = player(lambda **k: FrameStackObservation(Stairs(**k), 3))
    recording.record(agent, tmp_path / "a.gif", seeds=Streams(0).sequence("r"))
    assert agent.looked_at.tolist() == [[[1.0], [2.0], [3.0]]]


def test_the_command_cuts_episodes_off_where_the_function_does() -> None:
    assert {option.name: option.default for option in record_command.params}["max_steps"] == recording.MAX_STEPS


def test_an_endless_episode_is_cut_off_and_a_truncated_one_called_so(tmp_path: Path) -> None:
    assert record(tmp_path / "a.gif", max_steps=2).episodes[0][2:] == (2, 2.0, 3.0, "cut off")
    limited = record(tmp_path / "b.gif", lambda **k: TimeLimit(Stairs(**k), 3))
    assert limited.episodes[0].ended == "truncated"


def test_more_than_256_colours_become_256_that_are_near(tmp_path: Path) -> None:
    class Rainbow(Stairs):
        def render(self) -> Any:
            return np.random.default_rng(self.now).integers(0, 256, (320, 320, 3)).astype(np.uint8)

    picture = frames(record(tmp_path / "a.gif", Rainbow).path)[0][0]
    original = np.random.default_rng(0).integers(0, 256, (320, 320, 3))
    assert np.abs(picture[:320, :320].astype(int) - original).mean() < 30


def test_a_text_file_has_each_moment_as_text(tmp_path: Path) -> None:
    text = record(tmp_path / "a.txt", max_steps=1).path.read_text()
    assert text == "return 0  step 0  reward 0\nstair 0\n\nreturn 1  step 1  reward 1  cut off\nstair 1\n\n"


def test_an_environment_of_text_alone_is_filmed_as_letters(tmp_path: Path) -> None:
    class Letters(Stairs):
        metadata = {"render_modes": ["ansi"]}

        def render(self) -> str:
            assert self.render_mode == "ansi"
            return "\x1b[41m \x1b[0m" * 30 + f"\n{self.now}"

    picture, duration = frames(record(tmp_path / "a.gif", Letters).path)[0]
    assert duration == 250  # four a second
    assert tuple(int(part) for part in picture[20, 30]) == (213, 60, 60)


def test_an_mp4_gets_every_frame_and_rests_on_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    def write_frames(path: str, size: tuple[int, int], **options: Any) -> Any:
        written.append((size, options["fps"]))
        while True:
            try:
                frame = yield
            except GeneratorExit:
                Path(path).write_bytes(b"film")
                return
            written.append(len(frame))

    encoder = SimpleNamespace(write_frames=write_frames, get_ffmpeg_exe=lambda: "ffmpeg")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", encoder)
    made = record(tmp_path / "a.mp4")
    (width, height), fps = written[0]
    assert fps == 10
    assert written[1:] == [width * height * 3] * (5 + 10)
    assert made.path.read_bytes() == b"film"
    assert films.best_suffix() == (".mp4", None)


def test_a_real_encoder_writes_a_real_mp4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "imageio_ffmpeg")
    encoder = pytest.importorskip("imageio_ffmpeg")
    made = record(tmp_path / "a.mp4")
    assert encoder.count_frames_and_secs(str(made.path))[0] == 15


# --- nothing by halves ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.gif", "a.txt"])
def test_what_fails_on_the_way_leaves_no_file_and_the_one_before(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("before")
    with pytest.raises(RunFailed, match=r"stairs \(episode 1, step 1\) raised IndexError: no third stair"):
        record(tmp_path / name, Cracked)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "before"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFailed, match="cannot write") as caught:
        record(tmp_path / "file" / "a.gif")
    assert caught.value.hint == "Say where with -o FILE."


def test_an_unknown_ending_is_told_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no film has the ending \.avi") as caught:
        films.check(tmp_path / "x.avi")
    assert caught.value.hint == "Known are .mp4, .gif, .txt, such as x.gif."


def test_mp4_without_an_encoder_names_the_extra(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="the package imageio-ffmpeg is missing") as caught:
        films.check(tmp_path / "x.mp4")
    assert caught.value.exit_code == 4
    assert 'pip install "rllab[video]"' in str(caught.value)


def test_recording_changes_nothing_of_the_agent(tmp_path: Path) -> None:
    agent = player()
    agent.streams.numpy("exploration").random()
    before = agent.streams.state_dict(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    recording.record(agent, tmp_path / "a.gif", seeds=Streams(0).sequence("r"))
    after = agent.streams.state_dict(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    assert str(before) == str(after)


# --- what cannot be seen --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "said", "code"),
    [
        (Unseen, "it has neither 'rgb_array' nor 'ansi' among its render modes\nIt has human.", 2),
        (Torn, "stairs cannot be rendered: RuntimeError: no screen", 2),
        (Bare, 'Install it: pip install "gymnasium[toy-text]"', 4),
    ],
)
def test_what_cannot_be_rendered_is_told_with_the_way_out(env: type[Stairs], said: str, code: int) -> None:
    with pytest.raises(package.errors.RllabError) as caught:
        recording.check(task_of(env))
    assert said in str(caught.value)
    assert caught.value.exit_code == code


def test_text_is_refused_where_there_is_none(tmp_path: Path) -> None:
    class Mute(Stairs):
        metadata = {"render_modes": ["rgb_array"]}

    with pytest.raises(UsageError, match="stairs cannot be shown as text"):
        record(tmp_path / "a.txt", Mute)


# --- the commands ---------------------------------------------------------------------------------

PLUGIN = f"from {__name__} import Cracked, Old, Stairs, Torn, Unseen\n"
ENTRIES = "[rllab.envs]\n" + "".join(
    f"{name}-v0 = stairways:{name.capitalize()}\n" for name in ("stairs", "unseen", "torn", "old")
)


@pytest.fixture
def stairs(rllab: Any, plugin: Any) -> Any:
    """Have random actions taken for a moment in one of the environments of this page."""
    plugin("stairways", ENTRIES, PLUGIN)

    def run(*options: object, env: str = "stairs-v0") -> Any:
        return rllab("run", "random", env, *SHORT, "--run-dir", "run", *options)

    return run


def test_a_run_is_recorded_at_its_end_and_anew(stairs: Any, rllab: Any, tmp_path: Path) -> None:
    done = stairs("--record", "--json")
    assert done.code == 0
    first = tmp_path / "run" / "media" / "episode-000000060.gif"
    assert [picture[0, 0, 0] for picture, _ in frames(first)] == [0, 20, 40, 60, 80]
    assert "record = true" in (tmp_path / "run" / "config.toml").read_text()

    done = rllab("record", "run", "--episodes", 2, "--seed", 3, "--stochastic", "--json")
    assert Path(done.json["file"]) == Path("run/media/2-episodes-seed3-stochastic-000000060.gif")
    assert done.json["episodes"] == [{"return": 10.0, "length": 4, "ended": "terminated"}] * 2
    assert 'a GIF is written: the package imageio-ffmpeg is missing; for mp4: pip install "rllab[video]"' in done.err

    done = rllab("record", "run", "-o", "deep/er/x.txt", "--max-steps", 2, "--checkpoint", 60)
    assert (done.code, done.out) == (0, "deep/er/x.txt\n")
    assert "episode 1: return 3, 2 steps, cut off by --max-steps" in done.err
    assert rllab("record", "run", "-o", "x.foo").code == 2
    assert rllab("record", "run", "-o", "x.mp4").code == 4
    assert rllab("record", "run", "--checkpoint", 7).code == CheckpointError.exit_code
    assert rllab("record", "run", "--episodes", 0).code == 2
    assert rllab("record", "elsewhere").code == 5

    run = package.load("run")
    made = run.record(output=tmp_path / "y.gif")
    assert made.path == tmp_path / "y.gif"

    shutil.rmtree(tmp_path / "run" / "checkpoints")
    done = rllab("record", "run")
    assert (done.code, "there is no checkpoint 'last'" in done.err) == (5, True)


def test_ctrl_c_while_recording_leaves_no_half_a_file(
    stairs: Any, rllab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stairs().code == 0
    monkeypatch.setattr(films.Gif, "add", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    done = rllab("record", "run", "-o", "x/y.gif")
    assert (done.code, done.err.splitlines()[-1]) == (130, "Interrupted.")
    assert os.listdir(tmp_path / "x") == []


@pytest.mark.parametrize("env", ["unseen-v0", "torn-v0", "old-v0"])
def test_what_cannot_be_rendered_is_refused_before_a_run_that_is_to_be_recorded(
    stairs: Any, env: str, tmp_path: Path
) -> None:
    done = stairs("--record", env=env)
    assert done.code == 2
    assert f"{env} cannot be rendered" in done.err
    assert not (tmp_path / "run").exists()


def test_a_film_that_fails_is_a_warning_and_the_run_is_done(
    stairs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the tape is torn")

    monkeypatch.setattr(films.Gif, "close", fail)
    done = stairs("--record")
    assert done.code == 0
    assert "the end of the run could not be recorded: the tape is torn" in done.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert not list((tmp_path / "run" / "media").glob(".*"))


def test_recording_may_be_asked_for_when_a_run_is_resumed(stairs: Any, rllab: Any, tmp_path: Path) -> None:
    assert stairs("--stop-after", 30).code == 75
    assert rllab("resume", "run", "--record").code == 0
    assert (tmp_path / "run" / "media" / "episode-000000060.gif").is_file()


def test_a_model_of_data_is_neither_recorded_nor_filmed_at_its_end(rllab: Any) -> None:
    done = rllab("run", "majority", "crescents", "--record", "--run-dir", "fitted")
    assert (done.code, "--record: majority is no agent, and plays no episodes" in done.err) == (2, True)
    assert (
        rllab("run", "majority", "crescents", "--run-dir", "fitted", "--logger", "none", "--pictures-every", 0).code
        == 0
    )
    done = rllab("record", "fitted")
    assert (done.code, "is a run of majority, which is no agent" in done.err) == (2, True)


def test_ctrl_c_during_the_film_of_a_run_leaves_it_due(
    stairs: Any, rllab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as pressed:
        pressed.setattr(films.Gif, "add", lambda *_, **__: signal.raise_signal(signal.SIGINT))
        assert stairs("--record").code == 75
    assert not list((tmp_path / "run" / "media").glob("*"))
    assert rllab("resume", "run").code == 0
    assert (tmp_path / "run" / "media" / "episode-000000060.gif").is_file()
