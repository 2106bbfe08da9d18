"""`rllab completion`: the script that lets a shell complete rllab's commands, options and names."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

_INSTALL = {
    "bash": "To install: echo 'eval \"$(rllab completion bash)\"' >> ~/.bashrc",
    "zsh": "To install: echo 'eval \"$(rllab completion zsh)\"' >> ~/.zshrc (after compinit)",
    "fish": "To install: rllab completion fish > ~/.config/fish/completions/rllab.fish",
}


def complete(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return those of `names` that begin like `incomplete`; nothing is imported to find out more about them."""
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command("completion")
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.option("--debug", is_flag=True, hidden=True, expose_value=False, help="Show the traceback of an error.")
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell, with a line on how to install it."""
    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise click.UsageError(f"click {shell} completion is not available")
    script = completion_class(context.find_root().command, {}, "rllab", "_RLLAB_COMPLETE").source().strip()
    # zsh finds a completion in a folder by its first line
    first, _, rest = script.partition("\n")
    comment = f"# {_INSTALL[shell]}"
    click.echo("\n".join([first, comment, rest] if first.startswith("#compdef") else [comment, script]))
