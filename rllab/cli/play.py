"""`rllab play ENV`: a person plays, in a window or in the terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import click
from click.shell_completion import CompletionItem

from rllab import plugins
from rllab.cli.completion import complete
from rllab.errors import EXIT_DONE, UsageError, one_line

if TYPE_CHECKING:
    from rllab.cli.keyboard import Keys
    from rllab.environments import EnvironmentTask
    from rllab.envstate import Env
    from rllab.recording import Scene

_SMALLEST = 480
"""Pixels of the longer side of what a window shows, at least."""
_WAITING_FPS = 30.0
"""How often a window looks for keys while the environment waits."""
_ESCAPES = {"A": "up", "B": "down", "C": "right", "D": "left", "\x1b": "escape"}
"""What a terminal sends for keys that are no letters: the last one of three characters, or one."""


def _complete_env(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return complete(plugins.names("rllab.envs"), incomplete)


@click.command("play")
@click.argument("env", shell_complete=_complete_env)
@click.option("--text", is_flag=True, help="In the terminal; by itself where there is no display.")
@click.option("--episodes", type=click.IntRange(min=1), help="End after so many.  [default: when you quit]")
@click.option("--seed", type=click.IntRange(min=0), show_default="a new one each time", help="Of the environment.")
@click.option(
    "--fps",
    type=click.FloatRange(min=1, max=1000),
    show_default="the environment's, or what a person can follow",
    help="Steps per second.",
)
@click.option(
    "--wait/--no-wait", default=None, help="Whether it stands still until a key is pressed.  [default: board games do]"
)
@click.option("--max-episode-steps", type=click.IntRange(min=1), help="Steps after which an episode is cut off.")
@click.option("--env-kwarg", multiple=True, metavar="KEY=VALUE", help="For the environment's constructor.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def play_command(
    env: str,
    text: bool,
    episodes: int | None,
    seed: int | None,
    fps: float | None,
    wait: bool | None,
    max_episode_steps: int | None,
    env_kwarg: tuple[str, ...],
    debug: bool,
) -> int:
    """Play ENV yourself: arrows or WASD where they make sense, else digits; R begins anew, Esc or Q quits.

    It is shown in a window, or as text in the terminal, where keys may also come through a pipe: echo ddss | rllab
    play FrozenLake-v1 --text
    """
    from rllab import recording
    from rllab.cli.keyboard import keys_of
    from rllab.environments import EnvironmentConfig, EnvironmentTask

    options = {"max_episode_steps": max_episode_steps, "env_kwarg": list(env_kwarg)}
    task = EnvironmentTask.open(env, EnvironmentConfig.parse(options), seed=0)
    mode = "ansi" if text else recording.mode_for(task)
    if mode == "ansi":
        recording.mode_for(task, text=True)
    elif not recording.has_display():
        if "ansi" not in recording.modes(task):
            raise UsageError(
                f"there is no display to show {env} on, and it has no text for the terminal",
                "`rllab record RUN` films an agent there without a display.",
            )
        click.echo("Note: there is no display: the terminal is played in.", err=True)
        mode = "ansi"
    with closing(recording.opened(task, mode)) as made:
        keys = keys_of(made, env)
        if wait is not None:
            keys.waits = wait
        game = Game(task, made, seed, episodes)
        if mode == "ansi":
            play_in_terminal(game, keys)
        else:
            play_in_window(game, keys, fps or keys.fps or recording.fps_of(task, mode))
    for scene in game.finished:
        cause = f"return {scene.return_:.6g}, {scene.step:,} steps, {scene.ended}"
        click.echo(f"episode {scene.episode}: {cause}")
    return EXIT_DONE


class Game:
    """An environment that is played, and where in it one is.

    Args:
        task: what it is.
        env: the environment, not reset yet.
        seed: of the first episode; None: a new one each time.
        episodes: after how many it is over; None: never.

    Attributes:
        scene: what is seen now.
        finished: the last scene of each whole episode.
    """

    scene: Scene

    def __init__(self, task: EnvironmentTask, env: Env, seed: int | None, episodes: int | None) -> None:
        self.name = task.name
        self.finished: list[Scene] = []
        self._task, self._env, self._seed, self._episodes = task, env, seed, episodes
        self.restart()

    @property
    def over(self) -> bool:
        """Whether all episodes have been played."""
        return self._episodes is not None and len(self.finished) >= self._episodes

    def restart(self) -> None:
        """Begin a new episode."""
        from rllab import recording

        with recording.faults_of(self._task, "at a reset"):
            self._env.reset(seed=self._seed)
        self._seed = None
        frame = recording.render(self._env, self._task)
        self.scene = recording.Scene(frame, len(self.finished) + 1, 0, 0.0, 0.0, "")

    def move(self, action: Any) -> None:
        """Take a step."""
        from rllab import recording

        before = self.scene
        with recording.faults_of(self._task, f"step {before.step + 1}"):
            _, reward, terminated, truncated, _ = self._env.step(action)
        ended = recording.end_of(terminated, truncated, False)
        frame, total = recording.render(self._env, self._task), before.return_ + float(reward)
        self.scene = recording.Scene(frame, before.episode, before.step + 1, float(reward), total, ended)
        if ended:
            self.finished.append(self.scene._replace(frame=None))


# --- in a window ----------------------------------------------------------------------------------


def play_in_window(game: Game, keys: Keys, fps: float) -> None:
    """Play in a window until it is closed; every step is one of the environment, `fps` of them a second.

    Raises:
        UsageError: if no window can be opened.
    """
    from rllab.cli.keyboard import QUIT, RESTART

    pygame = _pygame(game.name)
    try:
        pygame.display.init()
        pygame.display.set_caption(f"{game.name} - rllab")
        screen = pygame.display.set_mode(_picture(game, keys, begun=False).size, pygame.RESIZABLE)
    except pygame.error as error:
        raise UsageError(f"no window can be opened: {one_line(error)}", "Text environments take --text.") from error
    clock, held, names = pygame.time.Clock(), set[str](), keys.names()
    begun = keys.waits  # what runs by itself waits for the first key
    changed = True
    while True:
        tapped: list[str] = []
        for event in pygame.event.get():
            name = _name_of(pygame, event) if event.type in (pygame.KEYDOWN, pygame.KEYUP) else ""
            if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and name in QUIT - names):
                return
            if event.type == pygame.KEYDOWN and name in RESTART - names:
                game.restart()
                held.clear()
                begun, changed = keys.waits, True
            elif event.type == pygame.KEYDOWN and name in names:
                held.add(name)
                tapped.append(name)
            elif event.type == pygame.KEYUP:
                held.discard(name)
            changed = changed or event.type in (pygame.VIDEORESIZE, pygame.VIDEOEXPOSE)
        begun = begun or bool(tapped)
        if begun and not game.scene.ended:
            for pressed in [{key} for key in tapped] if keys.waits else [held | set(tapped)]:
                if not game.scene.ended and (action := keys.action(pressed)) is not None:
                    game.move(action)
                    changed = True
        if changed:
            screen = pygame.display.get_surface() or screen
            _show(pygame, screen, _picture(game, keys, begun=begun))
            changed = False
        if game.over:
            pygame.time.wait(1000)  # the last picture is looked at
            return
        clock.tick(max(fps, _WAITING_FPS) if keys.waits else fps)


def _pygame(name: str) -> Any:
    try:
        import pygame
    except ImportError as error:
        from rllab.environments import missing_package

        cause = ImportError('a window needs pygame, `pip install "gymnasium[classic-control]"`')
        raise missing_package(name, cause) from error
    return pygame


def _name_of(pygame: Any, event: Any) -> str:
    """Return the name of a key, a letter as what it is."""
    name = str(pygame.key.name(event.key)).lower()
    return {"space": " ", "return": "enter"}.get(name, name.removeprefix("[").removesuffix("]"))


def _picture(game: Game, keys: Keys, *, begun: bool) -> Any:
    from rllab import recording
    from rllab.parts import screen

    scene = game.scene
    now = "R plays again" if scene.ended else keys.help() if begun else f"Press a key to begin. {keys.help()}"
    note = f"{now} · {'' if scene.ended else 'R: again · '}Esc: quit"
    assert scene.frame is not None
    image = screen.picture(scene.frame, _SMALLEST)
    return screen.captioned(image, recording.cells(scene), ended=bool(scene.ended), note=note)


def _show(pygame: Any, screen: Any, image: Any) -> None:
    """Show a picture as large as fits into the window."""
    surface = pygame.image.frombuffer(image.tobytes(), image.size, "RGB")
    wide, tall = screen.get_size()
    share = min(wide / image.width, tall / image.height)
    if share != 1:
        size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
        surface = pygame.transform.smoothscale(surface, size)
    screen.fill((0, 0, 0))
    screen.blit(surface, ((wide - surface.get_width()) // 2, (tall - surface.get_height()) // 2))
    pygame.display.flip()


# --- in the terminal ------------------------------------------------------------------------------


def play_in_terminal(game: Game, keys: Keys) -> None:
    """Play as text on stdout: a step for each key, from a terminal as it is pressed, else letter by letter."""
    from rllab.cli.keyboard import QUIT, RESTART

    names = keys.names()
    guide = f"{keys.help()} · R: again · Q: quit"
    click.echo(guide, err=True)
    live = sys.stdin.isatty()
    _print(game, guide if live else "")
    with closing(pressed_keys(sys.stdin)) as pressed:
        for key in pressed:
            if key in names and not game.scene.ended:
                game.move(keys.action({key}))
            elif key in RESTART:
                game.restart()
            elif key in QUIT:
                return
            elif not live and key.strip() and key not in names:
                click.echo(f"Note: the key {key!r} means nothing here: {guide}", err=True)
                continue
            else:
                continue
            _print(game, guide if live else "")
            if game.over:
                return


def _print(game: Game, guide: str) -> None:
    """Print where one is; on a terminal in the place of what was there."""
    from rllab import recording
    from rllab.parts.screen import plain_text

    scene, stdout = game.scene, sys.stdout
    said = "   ".join(f"{cell.label} {cell.value}".strip() for cell in recording.cells(scene))
    if scene.ended:
        said += "   (R plays again)"
    text = str(scene.frame).strip("\n")
    if stdout.isatty():
        click.echo(f"\x1b[H\x1b[2J{text}\n\n{said}\n{guide}")
    else:
        click.echo(f"{plain_text(text)}\n{said}\n")


def pressed_keys(source: TextIO) -> Generator[str, None, None]:
    """Yield the names of keys: as they are pressed if `source` is a terminal, else letter by letter to its end."""
    if not source.isatty():
        for line in source:
            for letter in line.rstrip("\r\n"):
                yield letter.lower()
        return
    with _single_keys(source) as read:
        while text := read():
            for key in re.findall(r"\x1b[\[O][A-D]|\x1b|[^\x1b]", text):
                if key == "\x04":  # Ctrl-D
                    return
                yield _ESCAPES[key[-1]] if key.startswith("\x1b") else key.lower()


@contextmanager
def _single_keys(source: TextIO) -> Iterator[Any]:
    """Have a terminal hand over each key as it is pressed; yield what reads one, "" at the end."""
    try:
        import termios
        import tty
    except ImportError:
        yield _windows_key
        return
    file = source.fileno()
    before = termios.tcgetattr(file)
    try:
        tty.setcbreak(file, termios.TCSANOW)
        # an arrow comes as three bytes at once
        yield lambda: os.read(file, 8).decode("utf-8", "ignore")
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _windows_key() -> str:
    """Return a key as it is pressed on Windows, an arrow as other terminals write it."""
    import msvcrt

    read: Any = getattr(msvcrt, "getwch")  # noqa: B009 - there only on Windows, and so in its stubs
    key: str = read()
    if key in ("\x00", "\xe0"):
        return {"H": "\x1b[A", "P": "\x1b[B", "M": "\x1b[C", "K": "\x1b[D"}.get(read(), "\x00")
    if key == "\x03":
        raise KeyboardInterrupt
    return key
