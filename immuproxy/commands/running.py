"""How a command is carried out: the file is read, the work is done, and what went wrong is put into words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from immuproxy.audit import Visitor
from immuproxy.audit.record import Projector
from immuproxy.commands.screen import plain, progress_bar, say
from immuproxy.drift.polite_client import AccountRefusedError
from immuproxy.edge.upstream import UpstreamUnavailableError
from immuproxy.oci.errors import OciError
from immuproxy.rules.problems import DocumentErrors
from immuproxy.service.config import Config, load_config
from immuproxy.service.connections import CannotOpenError, open_ledger
from immuproxy.store.redis import LedgerUnavailableError, PasswordRefusedError, Store
from immuproxy.telemetry import logs

GOOD, WRONG, MISUSED, INTERRUPTED = 0, 1, 2, 130

Work = Callable[[Config], Coroutine[Any, Any, int]]


def carry_out(path: Path, work: Work, *, interrupted: int = INTERRUPTED) -> NoReturn:
    """Do ``work`` with the configuration at ``path``, and end the process with the status that it returns.

    ``interrupted``: the status after Ctrl-C; the command has said by then what it left undone.
    """
    config = _configuration(path)
    logs.configure(level="critical")  # a command tells of its own failures, once and in its own words
    try:
        status = asyncio.run(work(config))
    except KeyboardInterrupt:
        status = interrupted
    except LedgerUnavailableError as error:
        status = _fail(
            f"Redis at {config.redis.shown} does not do what it was asked: {error}", _redis_remedy(config, error)
        )
    except UpstreamUnavailableError as error:
        remedy = f"is the registry running, and is upstream.url in {path} right?"
        status = _fail(f"the upstream {config.upstream.url} does not answer: {error}{_detail(error)}", remedy)
    except AccountRefusedError:
        remedy = f"are upstream.username and its password in {path} right?"
        status = _fail(f"the upstream {config.upstream.url} does not let in {config.upstream.username!r}", remedy)
    except (CannotOpenError, OciError) as error:
        status = _fail(str(error))
    raise SystemExit(status)


def _configuration(path: Path) -> Config:
    try:
        return load_config(path)
    except OSError as error:
        misused(f"cannot read {path}: {error.strerror}; name the file with --config")
    except DocumentErrors as errors:
        for line in str(errors).splitlines():
            say(line)
        raise SystemExit(MISUSED) from None


def misused(message: str) -> NoReturn:
    """End the process because of a wrong file."""
    say(message)
    raise SystemExit(MISUSED)


def _fail(message: str, remedy: str = "") -> int:
    click.echo(f"{click.style('error', fg='red')}: {plain(message)}", err=True)
    if remedy:
        say(remedy)
    return WRONG


def _detail(error: BaseException) -> str:
    """What the client library said, which clients of the edge are not told."""
    return f" ({error.__cause__})" if error.__cause__ and str(error.__cause__) else ""


def _redis_remedy(config: Config, error: LedgerUnavailableError) -> str:
    if config.redis.embedded is not None:
        return f"its log is {config.redis.embedded / 'redis.log'}"
    if isinstance(error, PasswordRefusedError):
        return f"redis.url in {config.source} takes user and password as redis://USER:PASSWORD@HOST:6379/0"
    return f"is it running, and is redis.url in {config.source} right?"


@asynccontextmanager
async def ledger_of(config: Config) -> AsyncIterator[Store]:
    """The ledger, with all that was written to it so far in the audit; at the end what the command wrote, too."""
    async with open_ledger(config) as store:
        await Projector(store).sweep()
        yield store
        await Projector(store).sweep()


@asynccontextmanager
async def visit(config: Config, *, as_json: bool) -> AsyncIterator[tuple[Visitor, Store]]:
    """The audit, with all that was written so far, and the ledger that it belongs to.

    Asked with the index of the proxy on this machine, and with a bar for what is read beside it.
    """
    async with ledger_of(config) as store:
        with progress_bar("reading", "events", as_json=as_json) as bar:

            def progress(done: int, total: int) -> None:
                bar.total(total)
                bar.done(done)

            yield Visitor(store, config.audit.index, progress=progress), store


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
