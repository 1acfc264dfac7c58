"""The command ``immuproxy``.

The server is imported only by the command that serves, so that ``check`` and ``explain`` answer at once.
Exit status: 0 done, 1 it could not be done, 2 a wrong command line or a wrong file.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from immuproxy import __version__
from immuproxy.commands_rules import check, explain

if TYPE_CHECKING:
    from immuproxy.config import Config


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="immuproxy")
def main() -> None:
    """A registry proxy that makes image tags immutable."""


main.add_command(check)
main.add_command(explain)


@main.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("immuproxy.yml"),
    show_default=True,
    help="The configuration file.",
)
def serve(path: Path) -> None:
    """Serve the edge, which clients push to, and the console, until stopped by SIGINT or SIGTERM."""
    from immuproxy.config import load_config  # noqa: PLC0415  # see the module's docstring
    from immuproxy.rules.problems import DocumentErrors  # noqa: PLC0415

    try:
        config = load_config(path)
    except OSError as error:
        raise _WrongFile(f"cannot read {path}: {error.strerror}; name the file with --config") from error
    except DocumentErrors as errors:
        raise _WrongFile(str(errors)) from errors
    _serve(path, config)


def _serve(path: Path, config: Config) -> None:
    from immuproxy import app  # noqa: PLC0415
    from immuproxy.telemetry import logs  # noqa: PLC0415

    logs.configure(level=config.log.level, form=config.log.format)
    for warning in config.warnings:
        click.echo(f"{path}:{warning}", err=True)
    try:
        asyncio.run(app.serve(path, config))
    except app.CannotServeError as error:
        raise click.ClickException(str(error)) from error


class _WrongFile(click.ClickException):
    exit_code = 2
