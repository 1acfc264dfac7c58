"""Everything of a closed console is closed, however it is asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from immuproxy.console.access.guard import OPEN
from immuproxy.console.app import make_console
from immuproxy.console.sources import Dependency, Sources
from immuproxy.store.redis import Store
from tests.console.conftest import Console, Seed, State
from tests.console.events import push
from tests.console.logging_in import PASSWORDS, VIEWER, console_for, log_in, users_in
from tests.support.wire import WireAnswer, ask, request

SECRET = "a-repository-that-strangers-must-not-know"


@pytest.fixture
async def port(closed_console: Console, seed: Seed) -> int:
    await seed([push(repository=f"team/{SECRET}", id="known", actor=SECRET)])
    assert closed_console.port
    return int(closed_console.port)


async def sent(port: int, method: str, target: str, *headers: tuple[str, str]) -> WireAnswer:
    return await ask(port, request(method, target, [("Connection", "close"), *headers]), method=method)


def refused(answer: WireAnswer) -> bool:
    """401, or a way to the log-in page; nothing of what is inside."""
    leads = answer.status == 303 and (answer.header("Location") or "").startswith("/log-in")
    return (leads or answer.status == 401) and SECRET.encode() not in answer.body


def paths(sources: Sources) -> list[str]:
    """An address of each route that is not open to strangers."""
    spelt = {"place": f"team/{SECRET}", "id": "known"}
    return [
        re.sub(r"\{(\w+)[^}]*\}", lambda name: spelt.get(name[1], "x"), resource.canonical)
        for resource in make_console(sources).router.resources()
        if resource.canonical not in OPEN | {"/metrics"}
    ]


async def test_every_route_is_closed_to_strangers(port: int, sources: Sources) -> None:
    known = paths(sources)
    assert {"/", "/audit", "/events/known", "/api/v1/live", "/api/v1/events.csv", "/api/v1/openapi.json"} <= set(known)
    for path in known:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            answer = await sent(port, method, path)
            assert refused(answer), (method, path, answer)


async def test_they_are_what_somebody_who_logged_in_sees(closed_console: Console, port: int, sources: Sources) -> None:
    await log_in(closed_console, VIEWER)
    for path in ("/audit", "/events/known", "/api/v1/events", "/api/v1/events.csv", f"/repositories/team/{SECRET}"):
        async with closed_console.get(path) as response:
            assert response.status == 200
            assert SECRET in await response.text()


@pytest.mark.parametrize(
    "target",
    [
        "//static/../audit",
        "/static/../audit",
        "/static/%2e%2e/audit",
        "/static/..%2faudit",
        "/static/console.css/../../audit",
        "/static/console.css;/audit",
        "/healthz/../audit",
        "/healthz/..;/audit",
        "/log-in/../audit",
        "/log-in/../api/v1/events",
        "//audit",
        "/./audit",
        "/audit/",
        "/AUDIT",
        "/%61udit",
        "/audit%00",
        "/audit?/healthz",
        "/audit#/healthz",
        "/audit;/healthz",
        "http://x/audit",
        "http://x/healthz/../audit",
        "http://x//audit",
        "/api/v1/../v1/events",
        "//api/v1/events",
        "/api//v1/events",
        "/api/v1/events?x=/static/console.css",
        "*",
        "/metrics/../audit",
        "/notifications/../audit",
    ],
)
async def test_no_spelling_of_a_path_is_another_way_in(port: int, target: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        answer = await sent(port, method, target)
        assert answer.status in {301, 303, 400, 401, 404, 405}, answer
        assert SECRET.encode() not in answer.body
        assert not answer.body.startswith(b"id,")
        if answer.status in {301, 303}:
            assert re.match(r"/(?!/)", answer.header("Location") or "")


@pytest.mark.parametrize(
    "header",
    [
        ("X-Original-URL", "/healthz"),
        ("X-Rewrite-URL", "/static/console.css"),
        ("X-HTTP-Method-Override", "HEAD"),
        ("X-Forwarded-User", "anna"),
        ("X-Remote-User", "anna"),
        ("Remote-User", "anna"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1;by=anna"),
        ("Authorization", "Basic"),
        ("Authorization", "Basic !!!"),
        ("Authorization", "Basic YW5uYQ=="),
        ("Authorization", "Basic Og=="),
        ("Authorization", "Basic OmFubmE="),
        ("Authorization", "Bearer anna"),
        ("Authorization", ""),
        ("Cookie", "immuproxy="),
        ("Cookie", "immuproxy=anna"),
        ("Cookie", "__Host-immuproxy=anna"),
        ("Upgrade", "websocket"),
    ],
)
async def test_no_header_of_a_stranger_is_a_way_in(port: int, header: tuple[str, str]) -> None:
    for path in ("/audit", "/api/v1/events"):
        answer = await sent(port, "GET", path, header)
        assert refused(answer), answer


async def test_strangers_see_only_whether_it_works(
    closed_console: Console, state: State, sources: Sources, store: Store, tmp_path: Path
) -> None:
    gone = Dependency("redis", ok=False, detail="redis-7.internal:6379 refused", stops=frozenset({"pushes"}))
    state.parts = (gone, Dependency("upstream", ok=True))
    async with closed_console.get("/readyz?writes=1") as response:
        assert response.status == 503
        assert [part["ok"] for part in (await response.json())["parts"]] == [False, True]
        assert "internal" not in await response.text()
    async with closed_console.get("/static/console.css") as response:
        assert response.status == 200
    async with closed_console.get("/static/nothing") as response:
        assert response.status == 404
        assert "Repositories" not in await response.text()
    async with closed_console.get("/metrics") as response:
        assert response.status == 200
    async with console_for(sources, store, users_in(tmp_path, metrics="closed")) as client:
        async with client.get("/metrics", allow_redirects=False) as response:
            assert response.status == 303
        await log_in(client, VIEWER)
        async with client.get("/metrics") as response:
            assert "seen_total 3.0" in await response.text()


async def test_a_browser_is_never_asked_by_a_window_of_its_own(port: int) -> None:
    fetched = await sent(port, "GET", "/api/v1/events", ("Sec-Fetch-Mode", "cors"))
    assert fetched.status == 401
    assert fetched.header("WWW-Authenticate") == 'Session realm="immuproxy"'
    program = await sent(port, "GET", "/api/v1/events")
    assert program.header("WWW-Authenticate") == 'Basic realm="immuproxy"'
    page = await sent(port, "GET", "/audit?q=a")
    assert (page.status, page.header("Location")) == (303, "/log-in?next=/audit%3Fq%3Da")


async def test_what_is_refused_is_json_for_programs_and_a_page_for_people(closed_console: Console) -> None:
    async with closed_console.get("/api/v1/events") as response:
        assert (await response.json())["error"]["code"] == "not_logged_in"
    async with closed_console.post("/anything", data={"a": "b"}) as response:
        assert response.status == 401
        assert 'href="/log-in"' in await response.text()


async def test_an_open_console_lets_everybody_look_and_nobody_change(console: Console) -> None:
    async with console.get("/api/v1/viewer") as response:
        assert await response.json() == {"name": None, "role": "viewer"}
    async with console.get("/log-in") as response:
        assert response.status == 404
    async with console.get("/", headers={"Authorization": "Basic YW5uYTp4", "Cookie": "immuproxy=x"}) as response:
        assert response.status == 200
        assert "Log out" not in await response.text()


async def test_passwords_stand_in_no_address(closed_console: Console) -> None:
    async with closed_console.get("/log-in", params={"name": VIEWER, "password": PASSWORDS[VIEWER]}) as response:
        assert response.status == 200
        assert VIEWER not in await response.text()
    async with closed_console.get("/api/v1/viewer") as response:
        assert response.status == 401
