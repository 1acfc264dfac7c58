"""The ledger and the upstream that a configuration names, opened; decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from immuproxy.edge.upstream import Answered, Upstream, opened
from immuproxy.service.config import Config
from immuproxy.store import embedded
from immuproxy.store.attached import reached
from immuproxy.store.redis import Durability, Store, connect
from immuproxy.store.turns import Turns

EmbeddedServer = Callable[[Path], AbstractAsyncContextManager[str]]
"""Gives the URL of the private Redis of a folder."""


class CannotOpenError(Exception):
    """Something cannot be opened as the file says; the message says what to do."""


@asynccontextmanager
async def open_ledger(
    config: Config, *, server: EmbeddedServer = reached, answered: Callable[[float], None] | None = None
) -> AsyncIterator[Store]:
    """The ledger; ``answered`` is told the seconds of each of its answers.

    ``server`` is where an embedded one comes from: as it is, that of the proxy which runs already, else one that runs
    as long as the context.  Raises `CannotOpenError`.
    """
    chosen = config.redis
    wait = Durability(chosen.wait.replicas, chosen.wait.aof, chosen.wait.timeout)
    async with AsyncExitStack() as stack:
        url = chosen.url.get_secret_value() if chosen.url else ""
        if chosen.embedded is not None:
            url = await stack.enter_async_context(open_server(chosen.embedded, server))
        turns = Turns(answered=answered) if answered else None
        opening = connect(url, timeout=chosen.timeout, durability=wait, turns=turns)
        try:
            store = await stack.enter_async_context(opening)
        except ValueError as error:
            raise CannotOpenError(str(error)) from error
        yield store


@asynccontextmanager
async def open_server(directory: Path, server: EmbeddedServer) -> AsyncIterator[str]:
    """The private Redis of a folder, as ``server`` gives it; its URL.  Raises `CannotOpenError`."""
    async with AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(server(directory))
        except embedded.EmbeddedRedisError as error:
            raise CannotOpenError(str(error)) from error
        except OSError as error:
            raise CannotOpenError(f"redis.embedded: {directory} cannot be used: {error.strerror}") from error
        yield url


@asynccontextmanager
async def open_upstream(config: Config, *, answered: Answered | None = None) -> AsyncIterator[Upstream]:
    """The upstream, as clients are forwarded to it; ``answered`` as of `Upstream`.  Raises `CannotOpenError`."""
    chosen = config.upstream
    ca_file = str(chosen.ca_file) if chosen.ca_file else None
    async with AsyncExitStack() as stack:
        try:
            upstream = await stack.enter_async_context(
                opened(chosen.url, timeouts=chosen.timeouts, ca_file=ca_file, answered=answered)
            )
        except OSError as error:  # a certificate that is none is one, too
            raise CannotOpenError(f"upstream.ca_file: cannot use {ca_file}: {error.strerror or error}") from error
        yield upstream


def notifications_token(config: Config) -> str:
    """The secret that the registry's notifications must carry, empty where they need none; raises `CannotOpenError`."""
    path = config.console.notifications.token_file
    if path is None:
        return ""
    token = _secret("console.notifications.token_file", path)
    if not token or not token.isascii() or not token.isprintable():
        raise CannotOpenError(f"console.notifications.token_file: {path} is to hold one line of printable ASCII")
    return token


def service_password(config: Config) -> str | None:
    """The password of the proxy's own account; raises `CannotOpenError` where its file cannot be read."""
    chosen = config.upstream
    if chosen.password_file is not None:
        return _secret("upstream.password_file", chosen.password_file)
    return chosen.password.get_secret_value() if chosen.password else None


def _secret(key: str, path: Path) -> str:
    """What a file holds, without blanks around it; raises `CannotOpenError`, which names the key and the file."""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise CannotOpenError(f"{key}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CannotOpenError(f"{key}: {path} is no text") from error
