"""The command ``immuproxy``.

A command is imported when it is called, so that ``--help``, ``check`` and ``explain`` answer at once.
Exit status: 0 done, 1 it could not be done, 2 a wrong command line or a wrong file, 130 interrupted
before the server was up.
"""

from __future__ import annotations

from importlib import import_module

import click

from immuproxy import __version__
from immuproxy.commands.command_line import SETTINGS

COMMANDS = {
    "check": ("check:check", "List everything that is wrong with a file."),
    "explain": ("explain:explain", "Say which rule decides about a tag, and why."),
    "serve": ("serve:serve", "Run the proxy."),
    "history": ("history:history", "Show the life of a tag or repository."),
    "tail": ("tail:tail", "Follow events as they happen."),
    "allow": ("allow:allow", "Allow a tag to be overwritten or deleted for a while."),
    "import": ("importing:import_", "Take the tags that the upstream holds into the ledger."),
    "verify": ("verify:verify", "Compare what the ledger holds with the upstream."),
    "simulate": ("simulate:simulate", "Replay the past under other rules."),
    "prune": ("prune:prune", "Remove old events from the audit."),
}
"""Where in `immuproxy.commands` each is, and what the list says of it."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"immuproxy.commands.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="immuproxy")
def main() -> None:
    """A registry proxy that makes image tags immutable."""
