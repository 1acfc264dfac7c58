"""``immuproxy serve``: the proxy itself."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import click

from immuproxy.commands import quick_start
from immuproxy.commands.command_line import SETTINGS, config_option, examples

if TYPE_CHECKING:
    from immuproxy.service.config import Config

FAILED, WRONG_FILE, INTERRUPTED = 1, 2, 130


@click.command(
    context_settings=SETTINGS, short_help="Run the proxy.", epilog=examples("immuproxy serve --config immuproxy.yml")
)
@config_option
@click.option("--single", is_flag=True, help="All in one process, for small machines and for debugging.")
def serve(path: Path, *, single: bool) -> None:
    """Serve the edge, which clients push to, and the console, until stopped by SIGINT or SIGTERM."""
    try:
        with quick_start.imports():
            config = _load(path)
            from immuproxy.service import processes  # noqa: F401, PLC0415  # a wrong file is told before all of it
        _serve(path, config, single=single)
    except KeyboardInterrupt:  # before the server has set its own handler
        raise SystemExit(INTERRUPTED) from None


def _load(path: Path) -> Config:
    from immuproxy.rules.problems import DocumentErrors  # noqa: PLC0415
    from immuproxy.service.config import load_config  # noqa: PLC0415  # not for --help

    try:
        return load_config(path)
    except OSError as error:
        _give_up(WRONG_FILE, [f"cannot read {path}: {error.strerror}; name the file with --config"])
    except DocumentErrors as errors:
        _give_up(WRONG_FILE, str(errors).splitlines())


def _serve(path: Path, config: Config, *, single: bool) -> None:
    import structlog  # noqa: PLC0415

    from immuproxy.listening import files  # noqa: PLC0415
    from immuproxy.service import app, memory, processes  # noqa: PLC0415
    from immuproxy.service.base import Start  # noqa: PLC0415
    from immuproxy.service.connections import CannotOpenError  # noqa: PLC0415
    from immuproxy.service.listeners import Sockets  # noqa: PLC0415
    from immuproxy.store import attached, embedded  # noqa: PLC0415
    from immuproxy.telemetry import logs  # noqa: PLC0415

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server has set its own handler
    logs.configure(level=config.log.level, form=config.log.format)
    for warning in config.warnings:
        structlog.get_logger("immuproxy").warning(
            warning.message, file=str(path), line=warning.line, suggestion=warning.suggestion
        )
    memory.give_back_large_blocks()
    files.raise_limit()
    server = embedded.running if single else attached.kept
    try:
        start = Start(path=path, config=config, latest=config, sockets=Sockets.open(config), server=server)
        if single:
            asyncio.run(app.serve_alone(start))
        else:
            processes.serve(start)
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
