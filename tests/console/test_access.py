"""Logging in and out, and what a session is."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from aiohttp import ClientResponse

from immuproxy.console.access import guard
from immuproxy.console.settings import SessionSettings
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import ActorSource, Outcome
from immuproxy.store import keys
from immuproxy.store.redis import Store
from tests.console.conftest import Console, Seed
from tests.console.events import push
from tests.console.logging_in import (
    ADMINISTRATOR,
    FROM_HERE,
    PASSWORDS,
    VIEWER,
    Client,
    console_for,
    log_in,
    send_form,
    send_log_in,
    told,
    users_in,
    users_text,
)
from tests.support.servers import RedisServer

COOKIE = "immuproxy"


def cookie_of(client: Client) -> str:
    return client.session.cookie_jar.filter_cookies(client.make_url("/"))[COOKIE].value


async def status_of(client: Client, path: str = "/api/v1/viewer", **more: object) -> int:
    async with client.get(path, allow_redirects=False, **more) as response:  # type: ignore[arg-type]
        return int(response.status)


@pytest.mark.parametrize(("name", "role"), [(ADMINISTRATOR, "administrator"), (VIEWER, "viewer")])
async def test_a_log_in_opens_the_pages(closed_console: Console, name: str, role: str) -> None:
    await log_in(closed_console, name)
    async with closed_console.get("/api/v1/viewer") as response:
        assert await response.json() == {"name": name, "role": role}
    for path in ("/", "/audit", "/rules", "/api/v1/events", "/api/v1/events.csv"):
        assert await status_of(closed_console, path) == 200
    async with closed_console.get("/") as response:
        page = await response.text()
    assert name in page
    assert ("administrator</span>" in page) == (role == "administrator")


async def test_a_page_leads_to_the_log_in_and_the_log_in_back_to_the_page(closed_console: Console) -> None:
    wanted = "/audit?q=repo:team/**%20outcome:refused&limit=7"
    async with closed_console.get(wanted) as response:
        assert response.url.path == "/log-in"
        page = await response.text()
    found = re.search(r'name="next" value="([^"]*)"', page)
    assert found
    assert found[1].replace("&amp;", "&") == wanted
    response = await send_log_in(
        closed_console, ADMINISTRATOR, PASSWORDS[ADMINISTRATOR], data={"next": found[1].replace("&amp;", "&")}
    )
    assert (response.status, response.headers["Location"]) == (303, wanted)


async def test_a_stranger_learns_nothing_from_the_log_in_page(closed_console: Console) -> None:
    async with closed_console.get("/log-in") as response:
        page = await response.text()
    for inside in ("1.2.3", "registry.example", "Repositories", "/metrics", "Redis", "version", "openapi"):
        assert inside not in page


@pytest.mark.parametrize(
    ("name", "password"),
    [
        (ADMINISTRATOR, "mistaken"),
        (ADMINISTRATOR, ""),
        ("", ""),
        ("nobody", PASSWORDS[ADMINISTRATOR]),
        (ADMINISTRATOR.upper(), PASSWORDS[ADMINISTRATOR]),
        (ADMINISTRATOR, PASSWORDS[VIEWER]),
        (ADMINISTRATOR, PASSWORDS[ADMINISTRATOR] + "\0"),
        (ADMINISTRATOR, PASSWORDS[ADMINISTRATOR] + "\0more"),
        (ADMINISTRATOR, PASSWORDS[ADMINISTRATOR] + " "),
        (ADMINISTRATOR + "\0", PASSWORDS[ADMINISTRATOR]),
        (ADMINISTRATOR, "x" * 20_000),
        ("x" * 20_000, "x"),
        (ADMINISTRATOR, "\ud800"),
    ],
)
async def test_a_wrong_name_or_password_is_told_in_the_same_words(
    closed_console: Console, name: str, password: str
) -> None:
    data = f"name={_quoted(name)}&password={_quoted(password)}"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    async with closed_console.post("/log-in", data=data, headers={**FROM_HERE, **headers}) as response:
        page = await response.text()
        assert response.status == 401
        assert "Basic" not in response.headers["WWW-Authenticate"]
        assert "Set-Cookie" not in response.headers
    assert "This name and this password do not belong together." in page
    assert password not in page or len(password) < 2
    assert await status_of(closed_console) == 401


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode(errors="surrogatepass"))


async def test_a_stranger_sends_little(closed_console: Console) -> None:
    async with closed_console.post(
        "/log-in", data={"name": "x" * 70_000, "password": "x"}, headers=FROM_HERE
    ) as response:
        assert response.status == 413


async def test_a_password_is_never_cut_to_the_72_bytes_that_bcrypt_sees(
    sources: Sources, store: Store, tmp_path: Path
) -> None:
    long = "é" * 36
    auth = users_in(tmp_path)
    assert auth.users_file
    auth.users_file.write_text(users_text({"long": long}))
    async with console_for(sources, store, auth) as client:
        for wrong in (long + "x", long + "é" * 100, long[:-1]):
            assert (await send_log_in(client, "long", wrong)).status == 401
        assert (await send_log_in(client, "long", long)).status == 303


async def test_the_cookie_is_for_this_host_and_no_script(closed_console: Console) -> None:
    response = await send_log_in(closed_console, ADMINISTRATOR, PASSWORDS[ADMINISTRATOR])
    (cookie,) = response.headers.getall("Set-Cookie")
    assert re.fullmatch(r"immuproxy=[\w-]{43}; HttpOnly; Path=/; SameSite=Lax", cookie)


async def test_by_tls_the_cookie_is_secure_and_the_plain_one_does_not_count(
    sources: Sources, store: Store, tmp_path: Path
) -> None:
    by_tls = {"X-Forwarded-Proto": "https"}
    async with console_for(sources, store, users_in(tmp_path, trusted_proxies=["127.0.0.1/32"])) as client:
        response = await send_log_in(client, ADMINISTRATOR, PASSWORDS[ADMINISTRATOR], headers=by_tls)
        (cookie,) = response.headers.getall("Set-Cookie")
        assert re.fullmatch(r"__Host-immuproxy=[\w-]{43}; HttpOnly; Path=/; SameSite=Lax; Secure", cookie)
        secret = cookie.partition("=")[2].partition(";")[0]
        client.session.cookie_jar.clear()
        secure, planted = {"Cookie": f"__Host-immuproxy={secret}"}, {"Cookie": f"immuproxy={secret}"}
        assert await status_of(client, headers=by_tls | secure) == 200
        assert await status_of(client, headers=by_tls | planted) == 401
        assert await status_of(client, headers=secure) == 401


async def test_only_a_trusted_proxy_may_say_that_it_was_tls(closed_console: Console) -> None:
    response = await send_log_in(
        closed_console, ADMINISTRATOR, PASSWORDS[ADMINISTRATOR], headers={"X-Forwarded-Proto": "https"}
    )
    assert "Secure" not in response.headers["Set-Cookie"]


async def test_a_log_out_ends_the_session_on_the_server_and_everywhere(
    closed_console: Console, sources: Sources, store: Store, tmp_path: Path
) -> None:
    await log_in(closed_console)
    kept = {"Cookie": f"{COOKIE}={cookie_of(closed_console)}"}
    async with console_for(sources, store, users_in(tmp_path)) as replica:
        assert await status_of(replica, headers=kept) == 200
        response = await send_form(closed_console, "/log-out", allow_redirects=False)
        assert (response.status, response.headers["Location"]) == (303, "/log-in?out")
        assert 'immuproxy=""; expires=Thu, 01 Jan 1970' in response.headers["Set-Cookie"]
        assert await status_of(replica, headers=kept) == 401
    assert await status_of(closed_console, headers=kept) == 401
    assert await store.do(store.client.keys(keys.session("*"))) == []


async def test_a_log_in_never_goes_on_with_a_session_that_was_there(closed_console: Console, store: Store) -> None:
    await log_in(closed_console, VIEWER)
    before = cookie_of(closed_console)
    await log_in(closed_console, ADMINISTRATOR)
    after = cookie_of(closed_console)
    assert after != before
    closed_console.session.cookie_jar.clear()
    assert await status_of(closed_console, headers={"Cookie": f"{COOKIE}={before}"}) == 401
    assert len(await store.do(store.client.keys(keys.session("*")))) == 1
    planted = "A" * 43
    response = await send_log_in(
        closed_console, ADMINISTRATOR, PASSWORDS[ADMINISTRATOR], headers={"Cookie": f"{COOKIE}={planted}"}
    )
    assert planted not in response.headers["Set-Cookie"]


async def test_no_other_spelling_of_the_cookie_is_a_session(closed_console: Console) -> None:
    await log_in(closed_console)
    secret = cookie_of(closed_console)
    closed_console.session.cookie_jar.clear()
    flipped = ("B" if secret[0] == "A" else "A") + secret[1:]
    for wrong in (flipped, secret.swapcase(), secret + "=", secret[:-1], "", "*", f"{secret}, {secret}"):
        assert await status_of(closed_console, headers={"Cookie": f"{COOKIE}={wrong}"}) == 401
    assert await status_of(closed_console, headers={"Cookie": f"{COOKIE}={secret}"}) == 200


async def test_a_changed_password_ends_sessions_and_so_does_a_removed_user(
    sources: Sources, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immuproxy.console.access.passwords.INTERVAL", 0.02)
    auth = users_in(tmp_path)
    file = auth.users_file
    assert file
    async with console_for(sources, store, auth) as anna, console_for(sources, store, auth) as vera:
        await log_in(anna, ADMINISTRATOR)
        await log_in(vera, VIEWER)
        _replace(file, users_text({ADMINISTRATOR: "another", VIEWER: PASSWORDS[VIEWER]}))
        await _until(anna, 401)
        assert await status_of(vera) == 200
        assert (await send_log_in(anna, ADMINISTRATOR, "another")).status == 303
        _replace(file, users_text({ADMINISTRATOR: "another"}))
        await _until(vera, 401)
        _replace(file, "anna:plain\n")
        await asyncio.sleep(0.1)  # five looks at the file
        assert await status_of(anna) == 200, "a wrong file is not taken"


def _replace(file: Path, text: str) -> None:
    """At once: who looks at a file that is being written may find it empty."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


async def _until(client: Client, status: int) -> None:
    async with asyncio.timeout(5):
        while await status_of(client) != status:
            await asyncio.sleep(0.02)


async def test_an_unused_session_ends(sources: Sources, store: Store, tmp_path: Path) -> None:
    auth = users_in(tmp_path, sessions=SessionSettings.model_validate({"idle": "300ms", "longest": "1h"}))
    async with console_for(sources, store, auth) as client:
        assert (await send_log_in(client, VIEWER, PASSWORDS[VIEWER])).status == 303
        await asyncio.sleep(0.4)  # longer than a session may be idle, by Redis's clock
        assert await status_of(client) == 401


async def test_a_live_tail_is_cut_when_its_viewer_logs_out(
    closed_console: Console, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "RECHECKED", 0.05)
    await log_in(closed_console)
    async with closed_console.get("/api/v1/live") as tail:
        assert (await tail.content.readline()).startswith(b"retry")
        await asyncio.sleep(0.2)  # it was looked at again, and went on
        await seed([push(tag="seen")])
        assert b"seen" in await _next_data(tail)
        await send_form(closed_console, "/log-out")
        with pytest.raises(Exception, match=r"not completed|Connection|disconnected|reset"):
            async with asyncio.timeout(5):
                await tail.read()


async def _next_data(tail: ClientResponse) -> bytes:
    async with asyncio.timeout(5):
        while True:
            line = await tail.content.readline()
            if line.startswith(b"data"):
                return line


async def test_without_redis_nobody_gets_in_and_strangers_are_not_told_why(
    closed_console: Console, redis_server: RedisServer
) -> None:
    await log_in(closed_console)
    redis_server.kill()
    for path in ("/", "/api/v1/rules", "/rules"):
        async with closed_console.get(path) as response:
            assert response.status == 503
            text = await response.text()
            assert "Redis" in text
            assert "127.0.0.1" not in text
            assert "releases" not in text
    response = await send_log_in(closed_console, VIEWER, PASSWORDS[VIEWER])
    assert response.status == 503
    assert "127.0.0.1" not in await response.text()
    for path in ("/healthz", "/log-in", "/metrics"):
        assert await status_of(closed_console, path) == 200


async def test_every_log_in_and_log_out_is_an_event(closed_console: Console, sources: Sources) -> None:
    await send_log_in(closed_console, "my secret password", "typed into the wrong field")
    await send_log_in(closed_console, ADMINISTRATOR, "wrong", headers={"User-Agent": "test\u200bagent"})
    await log_in(closed_console)
    await send_form(closed_console, "/log-out")
    events = await told(sources)
    assert [(each.outcome, each.actor, each.reason) for each in events] == [
        (Outcome.REJECTED, "", "unknown name"),
        (Outcome.REJECTED, ADMINISTRATOR, "wrong password"),
        (Outcome.GRANTED, ADMINISTRATOR, ""),
        (Outcome.ENDED, ADMINISTRATOR, "logged out"),
    ]
    assert [each.actor_confirmed for each in events] == [False, False, True, True]
    assert {each.client_address for each in events} == {"127.0.0.1"}
    assert events[1].actor_source is ActorSource.CONSOLE
    assert events[1].user_agent == "test\N{REPLACEMENT CHARACTER}agent"
    assert "secret" not in str([each.to_dict() for each in events])


async def test_whoever_is_logged_in_goes_on_at_once(closed_console: Console) -> None:
    await log_in(closed_console)
    async with closed_console.get("/log-in?next=/rules", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, "/rules")
    async with closed_console.get("/log-in?next=//evil.example", allow_redirects=False) as response:
        assert response.headers["Location"] == "/"


@pytest.mark.parametrize("there", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nX-Y: z"])
async def test_a_log_in_leads_to_no_other_site(closed_console: Console, there: str) -> None:
    response = await send_log_in(closed_console, VIEWER, PASSWORDS[VIEWER], data={"next": there})
    assert (response.status, response.headers["Location"]) == (303, "/")
    assert "X-Y" not in response.headers


async def test_a_role_is_that_of_the_settings_and_not_of_the_log_in(
    sources: Sources, store: Store, tmp_path: Path
) -> None:
    auth = users_in(tmp_path)
    async with console_for(sources, store, auth) as client:
        response = await send_log_in(client, ADMINISTRATOR, PASSWORDS[ADMINISTRATOR])
        secret = response.cookies[COOKIE].value
    async with console_for(sources, store, auth.model_copy(update={"administrators": (VIEWER,)})) as client:
        headers = {"Cookie": f"{COOKIE}={secret}"}
        async with client.get("/api/v1/viewer", headers=headers) as answer:
            assert await answer.json() == {"name": ADMINISTRATOR, "role": "viewer"}
        async with client.delete("/api/v1/exceptions?tag=team/app:1.0", headers=headers) as answer:
            assert answer.status == 403
