"""HTTP Basic, for programs."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import bcrypt
import pytest

from immuproxy.console.access.basic import MOST, Remembered, read_basic
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import Outcome
from immuproxy.store import keys
from immuproxy.store.redis import Store
from tests.console.conftest import Console
from tests.console.logging_in import ADMINISTRATOR, PASSWORDS, VIEWER, console_for, log_in, told, users_in, users_text
from tests.support.wire import ask, request


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


ANNA = basic(ADMINISTRATOR, PASSWORDS[ADMINISTRATOR])


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Basic YTpi", ("a", "b")),
        ("basic  YTpi ", ("a", "b")),
        ("Basic YTpiOmM=", ("a", "b:c")),
        ("Basic asO8OsO8", ("jü", "ü")),
        ("Basic YTo=", ("a", "")),
        ("Basic YQ==", None),
        ("Basic OmI=", None),
        ("Basic YTpi!", None),
        ("Basic /zo=", None),
        ("Bearer YTpi", None),
        ("Basic", None),
        ("", None),
    ],
)
def test_what_a_header_holds(header: str, found: tuple[str, str] | None) -> None:
    assert read_basic(header) == found


async def test_programs_read_with_a_password_and_get_no_cookie(closed_console: Console, store: Store) -> None:
    for path in ("/api/v1/viewer", "/api/v1/events", "/api/v1/events.csv", "/audit"):
        async with closed_console.get(path, headers=ANNA) as response:
            assert response.status == 200
            assert "Set-Cookie" not in response.headers
    assert await store.do(store.client.keys(keys.session("*"))) == []


async def test_a_wrong_one_is_401_and_not_a_page(closed_console: Console) -> None:
    for path in ("/api/v1/viewer", "/audit"):
        async with closed_console.get(path, headers=basic(ADMINISTRATOR, "wrong"), allow_redirects=False) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == 'Basic realm="immuproxy"'


async def test_a_credential_counts_before_a_session(closed_console: Console) -> None:
    await log_in(closed_console, ADMINISTRATOR)
    async with closed_console.get("/api/v1/viewer", headers=basic(VIEWER, PASSWORDS[VIEWER])) as response:
        assert (await response.json())["name"] == VIEWER
    async with closed_console.get("/api/v1/viewer", headers=basic(VIEWER, "wrong")) as response:
        assert response.status == 401


async def test_two_credentials_are_none(closed_console: Console) -> None:
    assert closed_console.port
    for twice in ([ANNA, ANNA], [ANNA, basic(VIEWER, PASSWORDS[VIEWER])]):
        headers = [pair for each in twice for pair in each.items()]
        answer = await ask(closed_console.port, request("GET", "/api/v1/viewer", headers))
        assert answer.status in {400, 401}


async def test_a_program_that_asks_often_costs_one_check_and_one_event(
    closed_console: Console, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = 0
    real = bcrypt.checkpw

    def counting(password: bytes, hashed: bytes) -> bool:
        nonlocal checked
        checked += 1
        return real(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counting)
    for _ in range(30):
        async with closed_console.get("/api/v1/viewer", headers=ANNA) as response:
            assert response.status == 200
    assert checked == 1
    assert [each.outcome for each in await told(sources)] == [Outcome.GRANTED]


async def test_a_changed_password_is_not_remembered(
    sources: Sources, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immuproxy.console.access.passwords.INTERVAL", 0.02)
    auth = users_in(tmp_path)
    assert auth.users_file
    async with console_for(sources, store, auth) as client:

        async def status() -> int:
            async with client.get("/api/v1/viewer", headers=ANNA) as response:
                return int(response.status)

        assert await status() == 200
        auth.users_file.write_text(users_text({ADMINISTRATOR: "another"}))
        async with asyncio.timeout(5):
            while await status() != 401:
                await asyncio.sleep(0.05)
        auth.users_file.write_text("")
        await asyncio.sleep(0.1)  # five looks at the file
        assert await status() == 401


def test_what_is_remembered_is_bounded_and_told_apart() -> None:
    remembered = Remembered()
    remembered.add("a", "b", "line", "192.0.2.1")
    assert remembered.knows("a", "b", "line", "192.0.2.1")
    for other in (("a", "b", "line", "192.0.2.2"), ("a", "bl", "ine", "192.0.2.1"), ("ab", "", "line", "192.0.2.1")):
        assert not remembered.knows(*other)
    for number in range(MOST):
        remembered.add(str(number))
    assert not remembered.knows("a", "b", "line", "192.0.2.1")
    assert not Remembered().knows("0")
