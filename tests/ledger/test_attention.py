"""What is open over all repositories is found without a look at each of them, and never stays unknown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest

from immuproxy.allow.exceptions import Exceptions
from immuproxy.ledger import attention, keys
from immuproxy.ledger.attention import AttentionKind
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.ledger.register import Register
from immuproxy.store.redis import Store, connect
from immuproxy.values.cursors import BadCursorError, write
from tests.support.servers import RedisServer

HELD, SEEN = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=2.0) as opened:
        yield opened


@pytest.fixture
def register(store: Store) -> Register:
    return Register(store, Epoch(store, quarantine=0.0))


@pytest.fixture
def exceptions(store: Store) -> Exceptions:
    return Exceptions(store, lambda _repository: None)


def event(repository: str, tag: str, action: Action = Action.DRIFT, outcome: Outcome = Outcome.FOUND) -> Event:
    return Event(id=f"{repository}:{tag}:{outcome}", action=action, outcome=outcome, repository=repository, tag=tag)


async def drifted(register: Register, repository: str, *tags: str) -> None:
    client: Any = register._store.client
    await client.sadd(keys.REPOSITORIES, repository)
    for tag in tags:
        await client.hset(keys.tag(repository, tag), mapping={"digest": HELD, "generation": 1, "since": 1, "first": 1})
        assert await register.open_drift(repository, tag, seen=SEEN, held=HELD, event=event(repository, tag))


async def open_tags(register: Register, limit: int) -> list[list[str]]:
    """All that is open, page by page, as repository:tag."""
    pages, cursor = [], ""
    while True:
        page = await register.open_drifts(limit=limit, cursor=cursor)
        pages.append([f"{repository}:{finding.tag}" for repository, finding in page.found])
        cursor = page.next_cursor
        if not cursor:
            return pages


async def test_findings_of_all_repositories_are_paged_by_name(register: Register) -> None:
    await drifted(register, "b/two", "1", "2")
    await drifted(register, "a/one", "1")
    await drifted(register, "c/three", "9")
    assert await open_tags(register, 100) == [["a/one:1", "b/two:1", "b/two:2", "c/three:9"]]
    one_by_one = [*chain(*await open_tags(register, 1))]  # the tags of a repository come as its hash has them
    assert [found.partition(":")[0] for found in one_by_one] == ["a/one", "b/two", "b/two", "c/three"]
    assert sorted(one_by_one) == ["a/one:1", "b/two:1", "b/two:2", "c/three:9"]
    assert await register.attention.counts(AttentionKind.DRIFT) == {"a/one": 1, "b/two": 2, "c/three": 1}
    found = (await register.open_drifts(limit=1)).found[0][1]
    assert (found.seen, found.since > 0) == (SEEN, True)


async def test_a_repository_with_very_many_is_read_in_parts(register: Register) -> None:
    tags = [f"v{number}" for number in range(700)]
    await drifted(register, "team/app", *tags)
    await drifted(register, "zoo", "1")
    pages = await open_tags(register, 50)
    assert {*chain(*pages)} == {*(f"team/app:{tag}" for tag in tags), "zoo:1"}
    assert max(map(len, pages)) < 150
    assert len(pages) > 5


async def test_what_was_closed_is_gone_at_once_and_unlisted_by_the_sweep(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drifted(register, "team/app", "1", "2")
    await register.close_drift("team/app", "1", event("team/app", "1", Action.REPAIR, Outcome.HEALED))
    assert await open_tags(register, 10) == [["team/app:2"]]
    await register.close_drift("team/app", "2", event("team/app", "2", Action.REPAIR, Outcome.HEALED))
    assert await open_tags(register, 10) == [[]]
    client: Any = register._store.client
    assert (await register.attention.tidy(["team/app"]))[AttentionKind.DRIFT] == frozenset()
    assert await client.zcard(keys.DRIFTING) == 1  # its script could yet be on its way
    monkeypatch.setattr(attention, "SETTLED_MS", -1)
    await register.attention.tidy(["team/app"])
    assert await client.zcard(keys.DRIFTING) == 0


async def test_what_an_older_release_left_is_listed_by_the_sweep(register: Register, exceptions: Exceptions) -> None:
    await drifted(register, "team/app", "1")
    await exceptions.grant(event("team/api", "2", Action.EXCEPTION, Outcome.GRANTED), lasts_ms=1000)
    client: Any = register._store.client
    await client.delete(keys.DRIFTING, keys.EXCEPTED)
    assert await open_tags(register, 10) == [[]]
    found = await register.attention.tidy(await register.repositories())
    assert found == {AttentionKind.DRIFT: {"team/app"}, AttentionKind.EXCEPTION: {"team/api"}}
    assert await open_tags(register, 10) == [["team/app:1"]]
    assert await exceptions.count() == 1


async def test_exceptions_of_all_repositories(exceptions: Exceptions) -> None:
    for number, repository in enumerate(("b", "a", "c")):
        granted = replace(event(repository, "1", Action.EXCEPTION, Outcome.GRANTED), actor="mira", reason="why")
        await exceptions.grant(granted, lasts_ms=1000 * number)
    first = await exceptions.standing(limit=2)
    rest = await exceptions.standing(limit=2, cursor=first.next_cursor)
    assert [found.repository for found in (*first.found, *rest.found)] == ["a", "b", "c"]
    assert (first.found[0].by, first.found[0].reason, rest.next_cursor) == ("mira", "why", "")
    assert await exceptions.count() == 3


@pytest.mark.parametrize(
    "cursor", ["x", write("EXCEPTION", "a", "0"), write("DRIFT", "a", "-1"), write("DRIFT", "a", "9" * 21), "é"]
)
async def test_a_cursor_that_nobody_gave_out(register: Register, cursor: str) -> None:
    with pytest.raises(BadCursorError):
        await register.open_drifts(limit=1, cursor=cursor)


async def test_how_far_the_comparison_is(register: Register) -> None:
    client: Any = register._store.client
    await client.sadd(keys.REPOSITORIES, "a", "b", "c")
    found = await register.comparisons.progress()
    assert (found.known, found.repositories, found.oldest, found.newest) == (3, 0, None, None)
    await register.comparisons.finish("b")
    await client.zadd(keys.COMPARISONS, {"a": 1000})
    found = await register.comparisons.progress()
    assert (found.known, found.repositories, found.oldest, found.oldest_repository) == (3, 2, 1000, "a")
    assert found.newest is not None
    assert found.newest > 1_700_000_000_000
