"""Users, and how a test becomes one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import bcrypt
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from immuproxy.audit.record import Record
from immuproxy.audit.search import Search
from immuproxy.console.access.opening import open_door
from immuproxy.console.app import make_console
from immuproxy.console.settings import ConsoleAuth
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import Action, Event
from immuproxy.store.redis import Store
from tests.console.events import now

ADMINISTRATOR, VIEWER = "anna", "vera"
PASSWORDS = {ADMINISTRATOR: "anna's password", VIEWER: "vera's password"}
COST = 4

FROM_HERE = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says of a request from a page of the console."""

RECORD: web.AppKey[Record] = web.AppKey("record", Record)
"""Where the routes of a test put events."""

Client = TestClient[web.Request, web.Application]


@cache
def hashed(password: str) -> str:
    """A bcrypt hash that is quick to check."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST)).decode()


def users_text(passwords: dict[str, str] | None = None) -> str:
    """A users file."""
    return "".join(f"{name}:{hashed(password)}\n" for name, password in (passwords or PASSWORDS).items())


def users_in(folder: Path, **more: Any) -> ConsoleAuth:
    """Settings with a users file in ``folder``: anna is an administrator, vera a viewer."""
    file = folder / "users"
    file.write_text(users_text())
    return ConsoleAuth(users_file=file, administrators=(ADMINISTRATOR,), **more)


@asynccontextmanager
async def console_for(
    sources: Sources, store: Store, auth: ConsoleAuth | None, *, add: Callable[[web.Application], None] | None = None
) -> AsyncIterator[Client]:
    """A console with these settings, and a client that keeps cookies; ``add`` puts routes of the test's own in."""
    open_metrics = auth is None or auth.metrics == "open"
    app = make_console(sources, await open_door(auth, store, Record(store).append, now), open_metrics=open_metrics)
    app[RECORD] = Record(store)
    if add:
        add(app)
    async with TestClient(TestServer(app)) as client:
        yield client


async def told(sources: Sources) -> list[Event]:
    """The events of the log-in, oldest first."""
    page = await sources.audit.events(Search().with_term("action", Action.LOG_IN), limit=200)
    return list(page.events)[::-1]


async def send_form(client: Client, path: str, data: Any = None, **more: Any) -> ClientResponse:
    """Send a form as a browser does from a page of the console itself."""
    headers = {**FROM_HERE, **more.pop("headers", {})}
    return await client.post(path, data=data, headers=headers, **more)


async def send_log_in(client: Client, name: str, password: str, **more: Any) -> ClientResponse:
    """Send the form, and follow nothing."""
    data = {"name": name, "password": password, **more.pop("data", {})}
    return await send_form(client, "/log-in", data, allow_redirects=False, **more)


async def log_in(client: Client, name: str = ADMINISTRATOR) -> None:
    """Log in."""
    assert (await send_log_in(client, name, PASSWORDS[name])).status == 303
