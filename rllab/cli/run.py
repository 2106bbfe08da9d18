"""`rllab run METHOD TARGET`: a subcommand for each method, made from its Config when it is called."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from rllab import plugins
from rllab.cli.completion import complete


class Methods(click.Group):
    """The methods as subcommands, listed from metadata, imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all methods."""
        return sorted({name for group in plugins.METHOD_GROUPS for name in plugins.names(group)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import a method and make its command; a shell that asks for completions gets one that knows targets only."""
        if ctx.resilient_parsing:
            return click.Command(cmd_name, params=[click.Argument(["target"], shell_complete=_complete_target)])
        from rllab.cli.method import MethodCommand
        from rllab.planning import load_method

        return MethodCommand(load_method(cmd_name))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str, click.Command, list[str]]:
        """Find the method; options come after it."""
        if args[0].startswith("-"):
            raise click.UsageError(
                f"options come after the method and the target: rllab run METHOD TARGET {args[0]} ..."
            )
        return args[0], self.get_command(ctx, args[0]), args[1:]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave options before the method to `resolve_command`."""
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            self.resolve_command(ctx, args)
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of methods from metadata."""
        return complete(self.list_commands(ctx), incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the methods by kind, without importing one."""
        for group in plugins.METHOD_GROUPS:
            rows = [(plugin.name, f"{plugin.distribution} {plugin.version}") for plugin in plugins.find(group)]
            if rows:
                with formatter.section(group.removeprefix("rllab.").capitalize()):
                    formatter.write_dl(rows)


def _complete_target(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return complete(plugins.names(("rllab.envs", "rllab.datasets", "rllab.texts")), incomplete)


@click.group("run", cls=Methods, subcommand_metavar="METHOD TARGET [OPTIONS]")
def run_command() -> None:
    """Train a method on a target.

    \b
    rllab run dqn CartPole-v1 --seed 1 --lr 0.001
    rllab run dqn --help             every option of a method
    """  # noqa: D301 - click reads \b as "do not wrap"
