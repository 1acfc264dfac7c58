"""The proxy's own account fetches its tokens as a client would, at a real registry that asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import aiohttp
import pytest

from immuproxy.drift.service import service_caller
from immuproxy.edge import listing, tokens
from immuproxy.edge.settings import Timeouts
from immuproxy.edge.tokens import AccountUpstream, Challenge, read_challenge, read_token
from immuproxy.edge.upstream import Found, UpstreamUnavailableError, opened
from immuproxy.ledger.model import Action, Outcome
from tests.support.answering import Said
from tests.support.conversation import Client, edge_over, image
from tests.support.servers import RedisServer, RegistryServer
from tests.support.tokens import TokenIssuer, TokenServer, running_token_server

CALLER = service_caller("immuproxy", "secret")
ONE = image("one")


@pytest.fixture
def token_server() -> Iterator[TokenServer]:
    with running_token_server("immuproxy", "secret") as running:
        yield running


@pytest.fixture
def closed(start_registry: Callable[..., RegistryServer], token_server: TokenServer) -> RegistryServer:
    return start_registry(token=token_server.issuer)


async def push(closed: RegistryServer, issuer: TokenIssuer, tag: str, pushed: object = ONE) -> None:
    async with aiohttp.ClientSession() as session:
        token = issuer.issue("alice", {"team/app": ["pull", "push"]})
        client = Client(closed.url, session, {"Authorization": f"Bearer {token}"})
        assert (await client.push("team/app", tag, pushed)).status == 201  # type: ignore[arg-type]


async def test_reading_writing_and_listing(closed: RegistryServer, token_server: TokenServer) -> None:
    await push(closed, token_server.issuer, "1.0")
    async with opened(closed.url, timeouts=Timeouts()) as upstream:
        account = AccountUpstream(upstream, "immuproxy", "secret")
        seen = await account.probe("team/app", "1.0", CALLER)
        assert isinstance(seen, Found)
        assert seen.digest == ONE.digest
        assert await listing.tags(account, "team/app", CALLER) == ["1.0"]
        sent = CALLER.headers.copy()
        sent["Content-Type"] = ONE.media_type
        assert (await account.put_manifest("team/app", "1.1", ONE.body, CALLER.with_headers(sent))).status == 201
        # Clients are asked for tokens of their own.
        assert not isinstance(await upstream.probe("team/app", "1.0", CALLER), Found)


async def test_one_token_serves_until_it_ends(closed: RegistryServer, token_server: TokenServer) -> None:
    await push(closed, token_server.issuer, "1.0")
    async with opened(closed.url, timeouts=Timeouts()) as upstream:
        account = AccountUpstream(upstream, "immuproxy", "secret")
        for _ in range(5):
            assert isinstance(await account.probe("team/app", "1.0", CALLER), Found)
        assert len(token_server.server.asked) == 1
        token_server.seconds = tokens.MARGIN
        await account.exchange("PUT", "/v2/team/app/manifests/x", CALLER.headers.copy(), b"")
        await account.exchange("PUT", "/v2/team/app/manifests/x", CALLER.headers.copy(), b"")
        assert len(token_server.server.asked) == 3


async def test_a_token_that_is_refused_before_its_end_is_fetched_anew(
    closed: RegistryServer, token_server: TokenServer
) -> None:
    await push(closed, token_server.issuer, "1.0")
    async with opened(closed.url, timeouts=Timeouts()) as upstream:
        account = AccountUpstream(upstream, "immuproxy", "secret")
        account._tokens[tokens._place("GET", "/v2/team/app/manifests/1.0")] = tokens.Token("stale", 1e12)
        assert isinstance(await account.probe("team/app", "1.0", CALLER), Found)


async def test_an_account_that_gets_no_token_is_refused_as_any_client(
    closed: RegistryServer, token_server: TokenServer
) -> None:
    async with opened(closed.url, timeouts=Timeouts()) as upstream:
        for username in ("immuproxy", None):
            account = AccountUpstream(upstream, username, "wrong")
            answer = await account.probe("team/app", "1.0", service_caller(username, "wrong"))
            assert not isinstance(answer, Found)
            assert answer.status == 401


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Said(503), "answered 503"),
        (Said(302, headers={"Location": "http://127.0.0.1:1/"}), "answered 302"),
        (Said(body=b"<html>"), "holds no token"),
        (Said(body=b'{"token": "a\\r\\nX-Other: b"}'), "holds no token"),
        (Said(body=b'{"token": ' + b'"' + b"a" * 300_000 + b'"}'), "holds no token"),
    ],
)
async def test_a_token_server_that_gives_none(
    closed: RegistryServer, token_server: TokenServer, said: Said, why: str
) -> None:
    token_server.said.append(said)
    async with opened(closed.url, timeouts=Timeouts()) as upstream:
        account = AccountUpstream(upstream, "immuproxy", "secret")
        with pytest.raises(UpstreamUnavailableError, match=why):
            await account.probe("team/app", "1.0", CALLER)


async def test_a_token_server_that_is_down(start_registry: Callable[..., RegistryServer]) -> None:
    closed = start_registry(token=TokenIssuer("http://127.0.0.1:1/token"))
    async with opened(closed.url, timeouts=Timeouts()) as upstream:
        account = AccountUpstream(upstream, "immuproxy", "secret")
        with pytest.raises(UpstreamUnavailableError, match=r"the token server http://127\.0\.0\.1:1 does not answer"):
            await account.probe("team/app", "1.0", CALLER)


@pytest.mark.parametrize("realm", ["http://tokens.example/token", "ftp://tokens.example/", "tokens", "http://[::"])
async def test_the_password_goes_only_where_it_may(realm: str) -> None:
    async with opened("https://registry.example", timeouts=Timeouts()) as upstream:
        account = AccountUpstream(upstream, "immuproxy", "secret")
        with pytest.raises(UpstreamUnavailableError, match=r"realm that is no URL|without TLS"):
            account._realm(realm)
        assert account._realm("https://tokens.example/token").host == "tokens.example"


async def test_the_healer_sets_a_tag_right_with_a_token(
    closed: RegistryServer, token_server: TokenServer, redis_server: RedisServer
) -> None:
    async with edge_over(closed.url, redis_server.url) as edge, opened(closed.url, timeouts=Timeouts()) as upstream:
        token = token_server.issuer.issue("alice", {"team/app": ["pull", "push"]})
        edge.client.headers["Authorization"] = f"Bearer {token}"
        assert (await edge.client.push("team/app", "1.0", ONE)).status == 201
        await push(closed, token_server.issuer, "1.0", image("other"))
        account = AccountUpstream(upstream, "immuproxy", "secret")
        edge.parts.healer._upstream, edge.parts.healer._service = account, CALLER
        assert await edge.parts.healer.check(await edge.parts.register.read("team/app", "1.0"))
        found = [event.outcome for event in await edge.events("team/app") if event.action is Action.REPAIR]
        assert found == [Outcome.HEALED]


@pytest.mark.parametrize(
    ("values", "challenge"),
    [
        ([], None),
        (["Basic realm=tests"], None),
        (['Bearer service="s"'], None),
        (['Bearer realm="https://t/x",service="s",scope="repository:a:pull,push"'],
         Challenge("https://t/x", "s", "repository:a:pull,push")),
        (['bearer  scope="x", REALM="https://t"'], Challenge("https://t", "", "x")),
        (["Basic realm=a", 'Bearer realm="https://t"'], Challenge("https://t")),
        (['Basic realm="a", Bearer realm="https://t",error="invalid_token"'], Challenge("https://t")),
        (['Bearer realm="https://t"garbage'], None),
    ],
)  # fmt: skip
def test_challenges(values: list[str], challenge: Challenge | None) -> None:
    assert read_challenge(values) == challenge


@pytest.mark.parametrize(
    ("document", "text", "seconds"),
    [
        ({"token": "a", "expires_in": 100}, "a", 100),
        ({"access_token": "b"}, "b", tokens.DEFAULT_SECONDS),
        ({"token": "a", "access_token": "b", "expires_in": -1}, "a", tokens.DEFAULT_SECONDS),
        ({"token": "a", "expires_in": True}, "a", tokens.DEFAULT_SECONDS),
        ({"token": "a", "expires_in": "100"}, "a", tokens.DEFAULT_SECONDS),
    ],
)
def test_answers_of_token_servers(document: dict[str, object], text: str, seconds: int) -> None:
    token = read_token(json.dumps(document).encode(), 1000.0)
    assert (token.text, token.until) == (text, 1000 + seconds - tokens.MARGIN)
    assert text not in repr(token).replace("Token", "")


@pytest.mark.parametrize("received", [b"", b"[]", b"{}", b'{"token": 7}', b'{"token": "a b"}', b"[" * 100_000])
def test_answers_without_a_token(received: bytes) -> None:
    with pytest.raises(UpstreamUnavailableError):
        read_token(received, 0.0)
