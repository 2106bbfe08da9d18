import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rllab import recording
from rllab.cli import play
from rllab.cli.keyboard import keys_of
from rllab.errors import UsageError


class Numbers(gymnasium.Env[Any, Any]):
    """Counts what it is given; ends after three steps."""

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 10}

    def __init__(
        self, action_space: Any = None, observation_space: Any = None, render_mode: str | None = None, **said: Any
    ) -> None:
        self.action_space = action_space or spaces.Discrete(3)
        self.observation_space = observation_space or spaces.Box(0, 9, (1,))
        self.render_mode = render_mode
        self.given: list[Any] = []
        if said:
            self.get_keys_to_action = lambda: said["keys"]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.given = []
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.given.append(action)
        return np.zeros(1, np.float32), 1.5, len(self.given) == 3, False, {}

    def render(self) -> Any:
        return f"given {self.given}" if self.render_mode == "ansi" else np.full((4, 6, 3), 99, np.uint8)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Feed what is typed through a pipe."""

    def feed(typed: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))

    return feed


# --- keys -----------------------------------------------------------------------------------------


def test_arrows_and_letters_go_where_they_point_in_gymnasiums_own_environments() -> None:
    lake = keys_of(gymnasium.make("FrozenLake-v1"), "FrozenLake-v1")
    assert [lake.action({key}) for key in ("left", "a", "down", "s", "right", "d", "up", "w")] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    assert lake.waits
    assert lake.action(set()) is None


def test_cart_pole_is_pushed_to_and_fro_while_no_key_is_held() -> None:
    keys = keys_of(gymnasium.make("CartPole-v1"), "CartPole-v1")
    assert [keys.action(set()) for _ in range(4)] == [0, 1, 0, 1]
    assert (keys.action({"left"}), keys.action({"right"}), keys.waits) == (0, 1, False)


def test_an_environment_says_its_own_keys_and_the_action_without_one_is_idle() -> None:
    keys = keys_of(Numbers(keys={("a",): 0, (ord("d"),): 2}), "numbers")
    assert [keys.action(held) for held in (set(), {"a"}, {"left"}, {"d"}, {"right"})] == [1, 0, 0, 2, 2]
    assert not keys.waits


def test_several_keys_together_are_an_action_as_on_atari() -> None:
    said = {("e",): 0, ("w",): 1, (" ",): 2, (" ", "w"): 3}
    keys = keys_of(Numbers(spaces.Discrete(4), keys=said), "numbers")
    assert [keys.action(held) for held in (set(), {"w"}, {" "}, {" ", "up"}, {"w", "x"})] == [0, 1, 2, 3, 1]


def test_a_board_game_waits_for_a_key() -> None:
    assert keys_of(Numbers(observation_space=spaces.Discrete(9), keys={"a": 0, "d": 1}), "board").waits


def test_unknown_actions_are_on_the_digits_and_start_where_the_space_does() -> None:
    keys = keys_of(Numbers(spaces.Discrete(3, start=5)), "numbers")
    assert [keys.action({key}) for key in ("0", "2", "3")] == [5, 7, None]
    assert keys.help() == "0: 5 · 1: 6 · 2: 7"


def test_neither_r_nor_q_is_a_digit_as_they_begin_anew_and_quit() -> None:
    assert not keys_of(Numbers(spaces.Discrete(34)), "numbers").names() & {"r", "q"}


def test_a_box_is_pushed_to_its_bounds_and_an_infinite_one_to_one() -> None:
    space = spaces.Box(np.array([-2, -np.inf], np.float32), np.array([3, 5], np.float32))
    keys = keys_of(Numbers(space), "numbers")
    for held, action in (
        (set(), [0, 0]),
        ({"left"}, [-2, 0]),
        ({"d", "up"}, [3, 5]),
        ({"down"}, [0, -1]),
        ({"left", "right"}, [0, 0]),
    ):
        assert keys.action(held).tolist() == action
    assert keys.action(set()).dtype == np.float32


def test_the_pendulum_has_two_keys() -> None:
    keys = keys_of(gymnasium.make("Pendulum-v1"), "Pendulum-v1")
    assert keys.action({"left"}).tolist() == [-2.0]
    assert "up" not in keys.names()


def test_switches_are_on_while_held() -> None:
    assert keys_of(Numbers(spaces.MultiBinary(3)), "numbers").action({"0", "2"}).tolist() == [1, 0, 1]


def test_actions_that_no_keyboard_has_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be played with a keyboard"):
        keys_of(Numbers(spaces.Box(-1, 1, (6,))), "numbers")


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0", "Acrobot-v1", "Taxi-v4", "CliffWalking-v1"])
def test_every_key_of_what_is_known_is_an_action(name: str) -> None:
    env = gymnasium.make(name)
    keys = keys_of(env, name)
    assert all(keys.action({key}) in env.action_space for key in keys.names())
    assert "R" not in keys.help()


# --- in the terminal ------------------------------------------------------------------------------


def test_letters_from_a_pipe_are_steps(rllab: Any, terminal: Any) -> None:
    terminal("ddss\ndd")
    done = rllab("play", "FrozenLake-v1", "--text", "--env-kwarg", "is_slippery=false")
    assert done.code == 0
    shown = done.out.split("\n\n")
    assert shown[0] == "[S]FFF\nFHFH\nFFFH\nHFFG\nreturn 0   step 0   reward 0   episode 1"
    assert shown[1] == "  (Right)\nS[F]FF\nFHFH\nFFFH\nHFFG\nreturn 0   step 1   reward 0   episode 1"
    assert done.out.endswith("episode 1: return 0, 5 steps, terminated\n")


def test_r_begins_anew_q_quits_and_what_means_nothing_is_told(rllab: Any, terminal: Any) -> None:
    terminal("sss zr\nsSddsdq" + "d" * 99)
    done = rllab("play", "FrozenLake-v1", "--text", "--env-kwarg", "is_slippery=false")
    assert "the key 'z' means nothing here: ↑←↓→ or WASD · R: again · Q: quit" in done.err
    assert done.out.endswith("episode 1: return 0, 3 steps, terminated\nepisode 2: return 1, 6 steps, terminated\n")


def test_the_game_is_over_after_its_episodes(rllab: Any, terminal: Any) -> None:
    terminal("sssrssd" + "r" * 99)
    done = rllab("play", "FrozenLake-v1", "--text", "--episodes", 1, "--env-kwarg", "is_slippery=false")
    assert done.out.count("step 3") == 1
    assert "episode 2:" not in done.out


def test_without_a_display_a_text_environment_is_played_in_the_terminal(
    rllab: Any, terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "has_display", lambda: False)
    terminal("")
    done = rllab("play", "FrozenLake-v1")
    assert (done.code, "there is no display" in done.err) == (0, True)
    done = rllab("play", "CartPole-v1")
    assert done.code == 2
    assert "there is no display to show CartPole-v1 on, and it has no text for the terminal" in done.err


def test_text_that_is_not_there_is_told(rllab: Any) -> None:
    done = rllab("play", "CartPole-v1", "--text")
    assert done.code == 2
    assert "CartPole-v1 cannot be shown as text" in done.err
    assert "It has human, rgb_array." in done.err


def test_a_dataset_cannot_be_played(rllab: Any) -> None:
    done = rllab("play", "digits")
    assert done.code == 2
    assert "digits is a dataset, not an environment" in done.err


def test_a_pipe_is_read_letter_by_letter_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rllab", "play", "FrozenLake-v1", "--text", "--seed", "3"]
    done = subprocess.run(command, input="d\nD\n", cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "step 2" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.timeout(20)
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals of this kind here")
def test_keys_on_a_terminal_count_as_they_are_pressed_and_it_is_left_as_it_was() -> None:
    import termios

    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    with os.fdopen(slave, "r") as source:
        os.write(master, b"\x1b[A\x1b[D")
        keys = play.pressed_keys(source)
        found = [next(keys), next(keys)]
        for typed in (b"X", b"\x1b"):
            os.write(master, typed)
            found.append(next(keys))
        os.write(master, b"\x04")
        assert [*found, *keys] == ["up", "left", "x", "escape"]
        assert termios.tcgetattr(slave) == before
    os.close(master)


# --- in a window ----------------------------------------------------------------------------------


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Play in a window that nobody sees, with what is pressed at each look at the keyboard."""
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(pygame.time, "wait", lambda _: None)
    pictures: list[Any] = []

    def run(looks: list[str], game: play.Game, keys: Any) -> list[Any]:
        upcoming = iter(looks)

        def get() -> list[Any]:
            events = []
            for word in next(upcoming, "close").split():
                if word == "close":
                    events.append(pygame.event.Event(pygame.QUIT))
                    continue
                kind = pygame.KEYUP if word.startswith("-") else pygame.KEYDOWN
                events.append(pygame.event.Event(kind, key=pygame.key.key_code(word.lstrip("-"))))
            return events

        monkeypatch.setattr(pygame.event, "get", get)
        original = play._show
        monkeypatch.setattr(
            play, "_show", lambda pg, screen, image: (pictures.append(image), original(pg, screen, image))
        )
        play.play_in_window(game, keys, 1000)
        pygame.display.quit()
        return pictures

    return run


def _game(env: gymnasium.Env[Any, Any]) -> tuple[play.Game, Any]:
    task: Any = SimpleNamespace(name="numbers", metadata=env.metadata)
    return play.Game(task, env, 0, None), keys_of(env, "numbers")


def test_what_runs_by_itself_begins_with_a_key_and_goes_on_while_it_is_held(window: Any) -> None:
    env = Numbers(keys={"a": 0, "d": 2}, render_mode="rgb_array")
    pictures = window(["", "", "right", "", "-right", "", ""], *_game(env))
    assert env.given == [2, 2, 1]
    assert len(pictures) == 4  # nothing is drawn that has not changed
    assert pictures[0].size[0] >= 480


def test_a_key_that_was_let_go_at_once_counts(window: Any) -> None:
    env = Numbers(keys={"a": 0, "d": 2}, render_mode="rgb_array")
    window(["left -left", ""], *_game(env))
    assert env.given == [0, 1]


def test_a_board_game_takes_one_step_for_each_key(window: Any) -> None:
    env = Numbers(observation_space=spaces.Discrete(2), render_mode="rgb_array")
    window(["", "0 1", "", "", "-0 -1"], *_game(env))
    assert env.given == [0, 1]


def test_r_begins_anew_and_escape_quits(window: Any) -> None:
    env = Numbers(observation_space=spaces.Discrete(2), render_mode="rgb_array")
    game, keys = _game(env)
    window(["0", "0 1", "2", "r", "2 -2", "escape 0", "1"], game, keys)
    assert env.given == [2]
    assert [(scene.return_, scene.step, scene.ended) for scene in game.finished] == [(4.5, 3, "terminated")]


def test_a_window_that_cannot_be_opened_is_told(rllab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonsense")
    done = rllab("play", "FrozenLake-v1")
    assert done.code == 2
    assert "no window can be opened" in done.err or "cannot be rendered" in done.err


def test_without_pygame_the_command_to_install_it_is_told(rllab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(sys.modules, "pygame", None)
    done = rllab("play", "CartPole-v1")
    assert done.code == 4
    assert 'Install it: pip install "gymnasium[classic-control]"' in done.err
