"""The command line. Nothing heavy is imported before a command runs; one broken plugin disturbs no other."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from rllab import plugins
from rllab.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_STOPPED, PluginError, RllabError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "run": ("rllab.cli.run:run_command", "Train a method on a target: rllab run dqn CartPole-v1."),
    "resume": ("rllab.cli.runs:resume_command", "Go on with a run that was stopped."),
    "eval": ("rllab.cli.runs:eval_command", "Measure a trained model anew."),
    "record": ("rllab.cli.record:record_command", "Film a trained agent at play, with the return on screen."),
    "predict": ("rllab.cli.predict:predict_command", "Ask a trained model about pictures, rows, numbers or texts."),
    "sample": ("rllab.cli.sample:sample_command", "Draw from a trained generative model: images, or a text."),
    "play": ("rllab.cli.play:play_command", "Play an environment yourself, with the keyboard."),
    "list": ("rllab.cli.listing:list_command", "List methods, environments, datasets and other plugins."),
    "info": ("rllab.cli.info:info_command", "Show what a method or dataset takes, or what a run was."),
    "data": ("rllab.cli.data:data_command", "List, show and fetch datasets."),
    "plugins": (
        "rllab.cli.listing:plugins_command",
        "List plugins and where they come from; --check imports them.",
    ),
    "doctor": ("rllab.cli.doctor:doctor_command", "Look at machine, versions, extras and plugins."),
    "new": (
        "rllab.cli.new:new_command",
        "Write a small installable package to start from: rllab new agent NAME.",
    ),
    "completion": ("rllab.cli.completion:completion_command", "Print the completion script of a shell."),
}
_PLUGIN_GROUP = "rllab.commands"


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and only that one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return our commands in the order one meets them, then those of plugins."""
        return [*COMMANDS, *(name for name in plugins.names(_PLUGIN_GROUP) if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name in COMMANDS:
            module, _, attribute = COMMANDS[cmd_name][0].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        if cmd_name not in plugins.names(_PLUGIN_GROUP):
            return None
        loaded = plugins.load(_PLUGIN_GROUP, cmd_name)
        if not isinstance(loaded, click.Command):
            raise PluginError(f"the plugin {cmd_name!r} in {_PLUGIN_GROUP} is no click.Command")
        return loaded

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one gets the nearest names."""
        name = args[0]
        if not name.startswith("-") and name not in self.list_commands(ctx):
            from rllab.errors import did_you_mean

            raise click.UsageError(
                " ".join(filter(None, [f"there is no command {name!r}.", did_you_mean(name, self.list_commands(ctx))])),
                ctx,
            )
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands without importing one."""
        from rllab.cli.completion import complete

        return [*complete(self.list_commands(ctx), incomplete), *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their help without importing one."""
        rows = [(name, COMMANDS[name][1] if name in COMMANDS else "(plugin)") for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _print_version(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from rllab import __version__

        click.echo(f"rllab {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show it.")
def cli() -> None:
    """rllab: a lab bench for deep learning.

    \b
    rllab run dqn CartPole-v1        train, with progress on screen
    rllab eval last                  measure the newest run anew
    rllab run dqn --help             every hyperparameter of a method
    """  # noqa: D301 - click reads \b as "do not wrap"


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with DESIGN's exit codes."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _show_warnings()
    hook, threading.excepthook = threading.excepthook, _explain_thread
    with _noted_interrupts() as interrupts:
        try:
            code = cli.main(arguments, prog_name="rllab", standalone_mode=False)
            sys.stdout.flush()
        except BrokenPipeError:  # `rllab list | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = EXIT_DONE  # who reads has read enough
        except BaseException as error:  # noqa: BLE001 - every error ends here, as one or two lines
            code = _explain(error, debug="--debug" in arguments, interrupted=bool(interrupts))
        finally:
            threading.excepthook = hook
    code = code if isinstance(code, int) else EXIT_DONE
    sys.exit(EXIT_INTERRUPTED if interrupts and code not in {EXIT_DONE, EXIT_STOPPED} else code)


@contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """Note each Ctrl-C before it becomes a KeyboardInterrupt, which a library may turn into an ImportError.

    Outside the main thread, or where Ctrl-C is handled otherwise already, nothing is noted.
    """
    noted: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield noted
        return

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _explain(error: BaseException, *, debug: bool, interrupted: bool = False) -> int:
    """Print an error as its user should see it, and after a Ctrl-C just that; return the exit code."""
    if debug and not isinstance(error, SystemExit | click.exceptions.Exit):
        traceback.print_exception(error)
    if interrupted:
        error = KeyboardInterrupt()
    match error:
        case SystemExit() | click.exceptions.Exit():
            code = error.code if isinstance(error, SystemExit) else error.exit_code
            return code if isinstance(code, int) else 0 if code is None else 1
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return error.exit_code
        case click.ClickException():
            click.echo(f"Error: {error.format_message()}", err=True)
            if isinstance(error, click.UsageError) and error.ctx is not None:
                click.echo(f"`{error.ctx.command_path} --help` shows what there is.", err=True)
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            click.echo("Interrupted.", err=True)
            return EXIT_INTERRUPTED
        case RllabError():
            click.echo(f"Error: {error}", err=True)
            return error.exit_code
    click.echo(
        f"Error: {_in_one_line(error)}\nThis is a fault of the program; --debug shows the traceback.",
        err=True,
    )
    return 1


def _explain_thread(arguments: threading.ExceptHookArgs) -> None:
    """Say in one line what ended a thread, such as TensorBoard's; whoever waits for it raises the error as well."""
    if arguments.exc_value is not None:
        click.echo(f"Note: in the background: {_in_one_line(arguments.exc_value)}", err=True)


def _in_one_line(error: BaseException) -> str:
    """Return the type and text of an unforeseen error, and the place it was raised at."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}{place}"


def _show_warnings() -> None:
    """Send rllab's own warnings to stderr, a line each."""
    log = logging.getLogger("rllab")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("Note: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
