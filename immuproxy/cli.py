"""The command ``immuproxy``.

The server, and whatever speaks to Redis or the upstream, is imported only by the command that needs it, so that
``--help``, ``check`` and ``explain`` answer at once.
Exit status: 0 done, 1 it could not be done, 2 a wrong command line or a wrong file, 130 interrupted
before the server was up.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import click

from immuproxy import __version__
from immuproxy.commands.check import check
from immuproxy.commands.command_line import SETTINGS, config_option, examples
from immuproxy.commands.explain import explain

if TYPE_CHECKING:
    from immuproxy.service.config import Config


FAILED, WRONG_FILE, INTERRUPTED = 1, 2, 130
LATER = {
    "history": ("history:history", "Show the life of a tag or repository."),
    "tail": ("tail:tail", "Follow events as they happen."),
    "allow": ("allow:allow", "Allow a tag to be overwritten or deleted for a while."),
    "import": ("importing:import_", "Take the tags that the upstream holds into the ledger."),
    "verify": ("verify:verify", "Compare what the ledger holds with the upstream."),
    "simulate": ("simulate:simulate", "Replay the past under other rules."),
    "prune": ("prune:prune", "Remove old events from the audit."),
}
"""Commands that are imported when they are called: where in `immuproxy.commands` they are, and what the list says."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *LATER]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in LATER:
            return super().get_command(ctx, cmd_name)
        module, _, name = LATER[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"immuproxy.commands.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        """The list of commands, without importing those that come later."""
        rows = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        rows += [(name, text) for name, (_, text) in LATER.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_Commands, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="immuproxy")
def main() -> None:
    """A registry proxy that makes image tags immutable."""


main.add_command(check)
main.add_command(explain)


@main.command(short_help="Run the proxy.", epilog=examples("immuproxy serve --config immuproxy.yml"))
@config_option
def serve(path: Path) -> None:
    """Serve the edge, which clients push to, and the console, until stopped by SIGINT or SIGTERM."""
    try:
        _load_and_serve(path)
    except KeyboardInterrupt:  # before the server has set its own handler
        raise SystemExit(INTERRUPTED) from None


def _load_and_serve(path: Path) -> None:
    from immuproxy.rules.problems import DocumentErrors  # noqa: PLC0415
    from immuproxy.service.config import load_config  # noqa: PLC0415  # see the module's docstring

    try:
        config = load_config(path)
    except OSError as error:
        _give_up(WRONG_FILE, [f"cannot read {path}: {error.strerror}; name the file with --config"])
    except DocumentErrors as errors:
        _give_up(WRONG_FILE, str(errors).splitlines())
    _serve(path, config)


def _serve(path: Path, config: Config) -> None:
    import structlog  # noqa: PLC0415

    from immuproxy.service import app, memory  # noqa: PLC0415
    from immuproxy.service.connections import CannotOpenError  # noqa: PLC0415
    from immuproxy.telemetry import logs  # noqa: PLC0415

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server has set its own handler
    logs.configure(level=config.log.level, form=config.log.format)
    for warning in config.warnings:
        structlog.get_logger("immuproxy").warning(
            warning.message, file=str(path), line=warning.line, suggestion=warning.suggestion
        )
    memory.give_back_large_blocks()
    try:
        asyncio.run(app.serve(path, config))
    except CannotOpenError as error:
        _give_up(FAILED, [str(error)], form=config.log.format)


def _give_up(status: int, problems: Sequence[str], *, form: Literal["json", "console"] = "json") -> NoReturn:
    """Say what keeps the proxy from starting, in plain sentences to a person and as lines of the log to a collector.

    ``form``: that of the log; a file that cannot be used does not say which one it is.
    """
    if form == "console" or sys.stderr.isatty():
        click.echo("Error: " + "\n".join(problems), err=True)
        raise SystemExit(status)
    import structlog  # noqa: PLC0415

    from immuproxy.telemetry import logs  # noqa: PLC0415

    logs.configure()
    for problem in problems:
        structlog.get_logger("immuproxy").critical("cannot start", problem=problem)
    raise SystemExit(status)
