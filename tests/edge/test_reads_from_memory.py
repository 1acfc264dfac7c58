"""Reads of protected tags from memory: as true as if the registry and the ledger were asked for each, and for nobody
whom the registry would turn away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from multidict import CIMultiDict

from immuproxy.edge import pull_rights, second_look
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, Event, Outcome, TagRecord
from immuproxy.ledger.reader import Place
from immuproxy.ledger.register import Register
from immuproxy.oci.manifests import ACCEPT_ALL
from immuproxy.service.assembly import Choices
from tests.support.between import Between, Request, between
from tests.support.clusters import cluster_url, master_of, started_cluster
from tests.support.conversation import Answer, Client, Image, RunningEdge, edge_over, image, index
from tests.support.servers import RedisServer, RegistryServer
from tests.support.tokens import TokenIssuer

REPOSITORY = "team/app"
OURS, NEW = image("ours"), image("new")


@pytest.fixture(autouse=True)
def _seldom_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look at the registry behind an answer, where a test does not ask for it."""
    monkeypatch.setattr(second_look, "AT_ONCE", 0)


@pytest.fixture
async def relay(registry: RegistryServer) -> AsyncIterator[Between]:
    async with between(registry.url) as standing:
        yield standing


@pytest.fixture
async def edge(relay: Between, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(relay.url, redis_server.url) as running:
        yield running


def trusting(seconds: float) -> Choices:
    return Choices(manifest_timeout=5.0, trust=lambda: seconds)


async def asked_for(relay: Between, pulling: Client, reference: str = "1.0") -> tuple[Answer, int]:
    """The answer, and how often the registry was asked for it."""
    before = len(relay.asked)
    answer = await pulling.pull(REPOSITORY, reference)
    return answer, len(relay.asked) - before


# --- never stale


@asynccontextmanager
async def two_proxies(registry: RegistryServer, redis: RedisServer) -> AsyncIterator[tuple[RunningEdge, RunningEdge]]:
    """The tag is in the memory of both, and the next push may overwrite it."""
    async with edge_over(registry.url, redis.url) as left, edge_over(registry.url, redis.url) as right:
        await left.client.push(REPOSITORY, "1.0", OURS)
        for each in (left, right):
            assert (await each.client.pull(REPOSITORY, "1.0")).digest == OURS.digest
        granted = Event(id=new_event_id(), action=Action.EXCEPTION, outcome=Outcome.GRANTED)
        await left.parts.exceptions.grant(replace(granted, repository=REPOSITORY, tag="1.0"), lasts_ms=60_000)
        await left.client.blobs(REPOSITORY, NEW)
        yield left, right


async def test_h134_what_another_proxy_overwrites_is_read_at_once(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with two_proxies(registry, redis_server) as (left, right):
        assert (await right.client.put(REPOSITORY, "1.0", NEW)).status == 201
        for each in (left, right):
            for method in ("GET", "HEAD"):
                assert (await each.client.pull(REPOSITORY, "1.0", method=method)).digest == NEW.digest


async def test_h134_nobody_joins_a_look_that_began_before_they_asked(
    registry: RegistryServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look has its reply and is held up; an overwrite is answered; whoever reads now hears of it."""
    look, held_up, go_on, looks = Register.records_at, asyncio.Event(), asyncio.Event(), []

    async def first_held_up(register: Register, places: list[Place]) -> list[TagRecord]:
        looks.append(places)
        found = await look(register, places)
        if len(looks) == 1:
            held_up.set()
            await go_on.wait()
        return found

    async with two_proxies(registry, redis_server) as (_, right):
        monkeypatch.setattr(Register, "records_at", first_held_up)
        async with edge_over(registry.url, redis_server.url) as late:
            early = asyncio.create_task(late.client.pull(REPOSITORY, "1.0"))
            await held_up.wait()
            assert (await right.client.put(REPOSITORY, "1.0", NEW)).status == 201
            assert (await late.client.pull(REPOSITORY, "1.0")).digest == NEW.digest
            assert not early.done()
            go_on.set()
            assert (await early).digest == OURS.digest
            assert len(looks) == 2


async def test_a_deleted_tag_is_gone_at_once(relay: Between, redis_server: RedisServer) -> None:
    rules = "rules: [{name: loose, policy: immutable, delete: allow}]"
    async with edge_over(relay.url, redis_server.url, rules=rules) as edge:
        await edge.client.push(REPOSITORY, "1.0", OURS)
        for reference in ("1.0", OURS.digest):
            assert (await edge.client.pull(REPOSITORY, reference)).status == 200
        assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{OURS.digest}")).status == 202
        for reference in ("1.0", OURS.digest):
            assert (await edge.client.pull(REPOSITORY, reference)).status == 404


# --- few looks


async def commands(edge: RunningEdge) -> dict[str, int]:
    told = await edge.store.client.info("commandstats")
    return {name.removeprefix("cmdstat_"): values["calls"] for name, values in told.items()}


async def test_a_thousand_reads_cost_few_looks_and_no_question_to_the_registry(
    edge: RunningEdge, relay: Between
) -> None:
    tags = [f"1.{number}" for number in range(5)]
    for tag in tags:
        await edge.client.push(REPOSITORY, tag, OURS)
    assert (await edge.client.pull(REPOSITORY, "1.0")).status == 200
    before, relay.asked[:] = (await commands(edge))["hmget"], []
    reads = [edge.client.pull(REPOSITORY, tag) for tag in tags * 200]
    assert {(each.status, each.body) for each in await asyncio.gather(*reads)} == {(200, OURS.body)}
    assert not relay.asked
    counted = await asyncio.to_thread(lambda: {each.name: each.samples for each in edge.metrics.registry.collect()})
    assert [(each.labels["source"], each.value) for each in counted["immuproxy_manifest_reads"]] == [
        ("memory", 1_001.0),
        ("upstream", 0.0),
    ]
    assert 1 < counted["immuproxy_ledger_looks"][0].value < 300
    assert (await commands(edge))["hmget"] - before < 300  # a hundred connections of the client at a time


async def test_a_manifest_is_read_from_the_ledger_once(edge: RunningEdge) -> None:
    await edge.client.push(REPOSITORY, "1.0", OURS)
    for _ in range(2):
        await edge.client.pull(REPOSITORY, "1.0")
    before = (await commands(edge))["hget"]
    for reference in ("1.0", OURS.digest) * 3:
        assert (await edge.client.pull(REPOSITORY, reference)).body == OURS.body
    assert (await commands(edge))["hget"] == before


# --- the registry's own answer


@pytest.mark.parametrize("pushed", [OURS, index(OURS, NEW)], ids=["image", "index"])
async def test_what_comes_from_memory_is_the_registrys_answer_to_the_last_header(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer, pushed: Image
) -> None:
    registry = start_registry(more={"http": {"headers": {"X-Content-Type-Options": ["nosniff"]}}})
    async with between(registry.url) as relay, edge_over(relay.url, redis_server.url) as edge:
        await edge.client.push(REPOSITORY, "1.0", pushed)
        await edge.client.pull(REPOSITORY, "1.0")
        relay.asked.clear()
        for reference in ("1.0", pushed.digest):
            for method in ("GET", "HEAD"):
                ours = await edge.client.pull(REPOSITORY, reference, method=method)
                theirs = await edge.direct.pull(REPOSITORY, reference, method=method)
                for answer in (ours, theirs):
                    answer.headers.popall("Date")
                assert (ours.status, sorted(ours.headers.items()), ours.body) == (
                    theirs.status,
                    sorted(theirs.headers.items()),
                    theirs.body,
                )
        assert len(relay.asked) == 4  # directly


async def test_what_a_client_has_already_is_not_sent_again(edge: RunningEdge, relay: Between) -> None:
    await edge.client.push(REPOSITORY, "1.0", OURS)
    await edge.client.pull(REPOSITORY, "1.0")
    relay.asked.clear()
    path = f"/v2/{REPOSITORY}/manifests/1.0"
    same = await edge.client.ask("GET", path, If_None_Match=f'"{OURS.digest}"', Accept=ACCEPT_ALL)
    assert (same.status, same.body) == (304, b"")
    other = await edge.client.ask("GET", path, If_None_Match=f'"{NEW.digest}"', Accept=ACCEPT_ALL, Range="bytes=0-1")
    assert (other.status, other.body) == (200, OURS.body)
    assert not relay.asked


async def test_h23_the_registry_is_asked_for_who_does_not_name_the_type(edge: RunningEdge, relay: Between) -> None:
    await edge.client.push(REPOSITORY, "1.0", OURS)
    await edge.client.pull(REPOSITORY, "1.0")
    relay.asked.clear()
    answer = await edge.client.pull(REPOSITORY, "1.0", "*/*")
    assert (answer.status, answer.body) == (404, (await edge.direct.pull(REPOSITORY, "1.0", "*/*")).body)


# --- who may pull


@asynccontextmanager
async def closed(
    start_registry: Callable[..., RegistryServer], redis: RedisServer, choices: Choices | None = None
) -> AsyncIterator[tuple[RunningEdge, Between, Client]]:
    """A registry with two users, what stands before it, and the client of one, who has pushed and not read."""
    registry = start_registry(htpasswd={"alice": "secret", "bob": "secret"})
    async with between(registry.url) as relay, edge_over(relay.url, redis.url, choices=choices) as edge:
        alice = edge.client.as_user("alice")
        for repository in (REPOSITORY, "other/app"):
            await alice.push(repository, "1.0", OURS)
        yield edge, relay, alice


async def test_h135_a_push_lets_nobody_read_from_memory_and_a_read_does(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    async with closed(start_registry, redis_server) as (_, relay, alice):
        answer, times = await asked_for(relay, alice)
        assert (answer.status, times) == (200, 2)  # whether strangers may, and for Alice
        for reference in ("1.0", OURS.digest):
            answer, times = await asked_for(relay, alice, reference)
            assert (answer.body, times) == (OURS.body, 0)


async def test_h135_nobody_else_hears_anything_from_memory(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    async with closed(start_registry, redis_server) as (edge, relay, alice):
        await alice.pull(REPOSITORY, "1.0")
        for stranger in (edge.client, edge.client.as_user("alice", "wrong"), edge.client.as_user("mallory")):
            for reference in ("1.0", OURS.digest):
                for method in ("GET", "HEAD"):
                    assert (await stranger.pull(REPOSITORY, reference, method=method)).status == 401
            conditional = replace(stranger, headers=stranger.headers | {"If-None-Match": f'"{OURS.digest}"'})
            assert (await conditional.pull(REPOSITORY, "1.0")).status == 401
        assert (await asked_for(relay, edge.client.as_user("bob")))[1] == 1


async def test_h135_who_may_read_one_repository_is_not_trusted_in_another(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    async with closed(start_registry, redis_server) as (_, relay, alice):
        await alice.pull(REPOSITORY, "1.0")
        relay.asked.clear()
        assert (await alice.pull("other/app", "1.0")).status == 200
        assert ("GET", "/v2/other/app/manifests/1.0") in relay.asked


async def test_h135_a_credential_beside_the_authorization_counts_too(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    """A door may go by a cookie or a key of its own."""
    async with closed(start_registry, redis_server) as (_, relay, alice):
        with_key = replace(alice, headers=alice.headers | {"X-Api-Key": "one"})
        await with_key.pull(REPOSITORY, "1.0")
        assert [(await asked_for(relay, each))[1] for each in (with_key, alice)] == [0, 1]


async def test_h135_trust_ends_with_its_time_and_with_nought_never_begins(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    seconds = [60.0]
    choices = Choices(manifest_timeout=5.0, trust=lambda: seconds[0])
    async with closed(start_registry, redis_server, choices) as (_, relay, alice):
        assert [(await asked_for(relay, alice))[1] for _ in range(3)] == [2, 0, 0]
        seconds[0] = 0.0001
        assert [(await asked_for(relay, alice))[1] for _ in range(2)] == [1, 1]
        seconds[0] = 0.0
        assert [(await asked_for(relay, alice))[1] for _ in range(2)] == [1, 1]


async def test_h135_with_a_trust_of_nought_an_open_registry_is_asked_for_each_read(
    relay: Between, redis_server: RedisServer
) -> None:
    async with edge_over(relay.url, redis_server.url, choices=trusting(0.0)) as edge:
        await edge.client.push(REPOSITORY, "1.0", OURS)
        assert [(await asked_for(relay, edge.client))[1] for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_h135_a_refusal_ends_trust_at_once(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer, status: int
) -> None:
    async def refuse(request: Request) -> Answer | None:
        answer = await request.forward()
        return replace(answer, status=status, body=b'{"errors": [{"code": "DENIED"}]}')

    async with closed(start_registry, redis_server) as (_, relay, alice):
        await alice.pull(REPOSITORY, "1.0")
        relay.act = refuse
        assert (await alice.pull(REPOSITORY, "1.0")).status == 200
        assert (await alice.pull(REPOSITORY, "1.0", "*/*")).status == status  # the registry is asked
        assert (await alice.pull(REPOSITORY, "1.0")).status == status


async def test_h135_a_doors_page_is_not_the_registrys_yes(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    """A door that shows who is not logged in a page, with 200 (H83)."""
    page = Answer(200, CIMultiDict({"Content-Type": "text/html"}), b"<html>log in</html>")
    async with closed(start_registry, redis_server) as (_, relay, alice):
        known = alice.headers["Authorization"]

        async def door(request: Request) -> Answer | None:
            return await request.forward() if request.headers.get("Authorization") == known else page

        relay.act = door
        await alice.pull(REPOSITORY, "1.0")
        mallory = alice.as_user("mallory")
        for method in ("HEAD", "GET", "GET"):
            assert OURS.body not in (await mallory.pull(REPOSITORY, "1.0", method=method)).body
        assert (await asked_for(relay, mallory))[1] > 0


async def test_h135_where_a_door_goes_by_addresses_who_says_nothing_else_is_asked_for_each_time(
    relay: Between, edge: RunningEdge
) -> None:
    async def door(request: Request) -> Answer | None:
        address = request.headers.get("X-Forwarded-For", "127.0.0.1")  # the proxy's own, where none is told
        answer = await request.forward()
        return answer if address == "127.0.0.1" else replace(answer, status=401)

    await edge.client.push(REPOSITORY, "1.0", OURS)
    relay.act = door
    assert [(await asked_for(relay, edge.client))[1] for _ in range(3)] == [2, 1, 1]


async def test_h135_a_door_that_is_silent_to_strangers_only_is_no_registry_that_is_away(
    relay: Between, edge: RunningEdge
) -> None:
    async def door(request: Request) -> Answer | None:
        return await request.forward() if "Authorization" in request.headers else Answer(503, CIMultiDict(), b"")

    await edge.client.push(REPOSITORY, "1.0", OURS)
    await edge.client.pull(REPOSITORY, "1.0")
    relay.act = door
    edge.parts.pull_rights._strangers[REPOSITORY].until = 0.0  # a minute is over
    assert (await edge.client.pull(REPOSITORY, "1.0")).body == OURS.body
    assert (await edge.client.as_user("alice").pull(REPOSITORY, "1.0", "*/*")).status == 404  # the registry's word
    assert (await edge.client.pull(REPOSITORY, "1.0")).status == 503


async def test_h135_a_token_for_another_repository_opens_nothing(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    issuer = TokenIssuer()
    registry = start_registry(token=issuer)
    async with between(registry.url) as relay, edge_over(relay.url, redis_server.url) as edge:

        def holder(repository: str, *actions: str) -> Client:
            token = issuer.issue("ci", {repository: actions})
            return replace(edge.client, headers={"Authorization": f"Bearer {token}"})

        await holder(REPOSITORY, "pull", "push").push(REPOSITORY, "1.0", OURS)
        puller = holder(REPOSITORY, "pull")
        assert [(await asked_for(relay, puller))[1] for _ in range(2)] == [2, 0]
        for other in (holder("other/app", "pull"), holder(REPOSITORY, "push"), edge.client):
            answer, times = await asked_for(relay, other)
            assert (answer.status, times) == (401, 1)


async def test_h135_a_repository_that_closes_is_closed_within_a_minute(
    relay: Between, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def login_page(request: Request) -> Answer | None:
        answer = await request.forward()
        return replace(answer, headers=CIMultiDict({"Content-Type": "text/html"}), body=b"<html>log in</html>")

    monkeypatch.setattr(pull_rights, "ASKED_AGAIN", 0.0)
    monkeypatch.setattr(pull_rights, "SILENT", 0.0)
    async with edge_over(relay.url, redis_server.url) as edge:
        await edge.client.push(REPOSITORY, "1.0", OURS)
        assert (await edge.client.pull(REPOSITORY, "1.0")).body == OURS.body
        relay.act = login_page
        assert (await edge.client.pull(REPOSITORY, "1.0")).body != OURS.body


# --- drift


@pytest.fixture
async def watching(
    relay: Between, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningEdge]:
    """An edge that looks behind its answers, and heals; the tag is in its memory."""
    monkeypatch.setattr(second_look, "AT_ONCE", 8)
    async with edge_over(relay.url, redis_server.url) as running:
        await running.client.push(REPOSITORY, "1.0", OURS)
        healer = asyncio.create_task(running.parts.healer.run())
        yield running
        healer.cancel()


async def test_h136_drift_is_found_and_healed_behind_an_answer_from_memory(
    watching: RunningEdge, registry: RegistryServer
) -> None:
    straight = Client(registry.url, watching.client.session)
    await straight.push(REPOSITORY, "1.0", NEW)
    assert (await watching.client.pull(REPOSITORY, "1.0")).digest == OURS.digest
    async with asyncio.timeout(10):
        while (await straight.pull(REPOSITORY, "1.0")).digest != OURS.digest:
            await asyncio.sleep(0.01)
    found = [event.outcome for event in await watching.events(REPOSITORY) if event.action is Action.DRIFT]
    assert found == [Outcome.FOUND]


async def test_h136_a_slow_registry_delays_no_answer_and_is_asked_once(watching: RunningEdge, relay: Between) -> None:
    await watching.client.pull(REPOSITORY, "1.0")
    await watching.parts.reads.ended()
    watching.parts.reads._second_looks._asked.clear()
    never = asyncio.Event()

    async def silent(_request: Request) -> Answer | None:
        await never.wait()
        return None

    relay.act = silent
    relay.asked.clear()
    async with asyncio.timeout(3):
        for _ in range(50):
            assert (await watching.client.pull(REPOSITORY, "1.0")).body == OURS.body
    assert relay.asked == [("GET", f"/v2/{REPOSITORY}/manifests/1.0")]
    never.set()


# --- who is away


async def test_a_registry_that_is_away_stops_no_pull_of_what_is_known(
    registry: RegistryServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_look, "AT_ONCE", 8)
    async with edge_over(registry.url, redis_server.url) as edge:
        await edge.client.push(REPOSITORY, "1.0", OURS)
        await edge.client.pull(REPOSITORY, "1.0")
        registry.kill()
        monkeypatch.setattr(pull_rights, "ASKED_AGAIN", -60.0)
        edge.parts.pull_rights._strangers[REPOSITORY].until = 0.0  # a minute is over
        for _ in range(3):
            for reference in ("1.0", OURS.digest):
                assert (await edge.client.pull(REPOSITORY, reference)).body == OURS.body


async def test_a_registry_that_is_frozen_is_waited_for_once(
    registry: RegistryServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_rights, "SILENT", 0.0)
    async with edge_over(registry.url, redis_server.url, choices=replace(trusting(60), manifest_timeout=0.5)) as edge:
        await edge.client.push(REPOSITORY, "1.0", OURS)
        await edge.client.pull(REPOSITORY, "1.0")
        registry.pause()
        try:
            edge.parts.pull_rights._strangers[REPOSITORY].until = 0.0
            assert (await edge.client.pull(REPOSITORY, "1.0")).body == OURS.body
            async with asyncio.timeout(0.4):
                assert (await edge.client.pull(REPOSITORY, "1.0")).body == OURS.body
        finally:
            registry.resume()


async def test_a_redis_that_is_away_leaves_the_registrys_word(edge: RunningEdge, redis_server: RedisServer) -> None:
    await edge.client.push(REPOSITORY, "1.0", OURS)
    await edge.client.pull(REPOSITORY, "1.0")
    redis_server.kill()
    for reference in ("1.0", OURS.digest):
        assert (await edge.client.pull(REPOSITORY, reference)).body == OURS.body
    await edge.direct.push(REPOSITORY, "1.0", NEW)
    assert (await edge.client.pull(REPOSITORY, "1.0")).status == 503


async def test_a_node_of_a_cluster_that_stands_still_holds_up_no_read_of_what_another_has(
    registry: RegistryServer, start_redis: Callable[..., RedisServer]
) -> None:
    servers = started_cluster(start_redis, masters=2)
    names = [next(name for name in map("team/{}".format, range(99)) if master_of(name, 2) == at) for at in range(2)]
    async with edge_over(registry.url, cluster_url(servers)) as edge:
        for name in names:
            await edge.client.push(name, "1.0", OURS)
            assert (await edge.client.pull(name, "1.0")).status == 200
        servers[1].pause()
        try:
            held_up = []
            async with asyncio.timeout(1.5):
                for _ in range(10):
                    held_up.append(asyncio.create_task(edge.client.pull(names[1], "1.0")))
                    assert (await edge.client.pull(names[0], "1.0")).body == OURS.body
            assert not any(read.done() for read in held_up)
        finally:
            servers[1].resume()
        await asyncio.gather(*held_up)


# --- the way by the registry is left


async def test_a_copy_in_the_ledger_that_is_not_its_digest_is_never_given(edge: RunningEdge, relay: Between) -> None:
    await edge.client.push(REPOSITORY, "1.0", OURS)
    key = f"immuproxy:{{{REPOSITORY}}}:manifests"
    await edge.store.client.hset(key, OURS.digest, b"application/vnd.oci.image.manifest.v1+json\n{}")
    for _ in range(2):
        answer, times = await asked_for(relay, edge.client)
        assert (answer.body, times > 0) == (OURS.body, True)


async def test_a_reader_who_leaves_takes_nothing_from_the_others(edge: RunningEdge) -> None:
    await edge.client.push(REPOSITORY, "1.0", OURS)
    reads = [asyncio.create_task(edge.client.pull(REPOSITORY, "1.0")) for _ in range(40)]
    await asyncio.sleep(0.005)
    for read in reads[::2]:
        read.cancel()
    answers = await asyncio.gather(*reads[1::2])
    assert {answer.body for answer in answers} == {OURS.body}
