"""All tags of a repository in memory are what Redis says, whatever happened since the last look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from immuproxy.ledger import keys
from immuproxy.ledger.audit import Audit, TagFacts, roster
from immuproxy.ledger.content import Content
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.going import GoneTag
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from immuproxy.ledger.redis import Store, connect
from immuproxy.ledger.register import Register
from tests.ledger.audit_events import digest_of, fill
from tests.servers import RedisServer

START = 1_700_000_000_000
HERE = "team/app"
_numbers = iter(range(1, 10**6))


@pytest_asyncio.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=5) as opened:
        yield opened


def event(tag: str, outcome: Outcome = Outcome.CREATED, **fields: Any) -> Event:
    number = next(_numbers)
    usual: dict[str, Any] = {"action": Action.PUSH, "time": START + number, "repository": HERE, "digest": digest_of(1)}
    usual |= {"actor": "ci", "actor_source": ActorSource.BASIC}
    return Event(id=f"e{number:09d}", tag=tag, outcome=outcome, **(usual | fields))


async def add(audit: Audit, *events: Event) -> None:
    for each in events:
        await audit.append(each)


async def hold(store: Store, tag: str, digest: str, actor: str = "ci") -> int:
    """Commit a tag as a push does, without its event reaching the audit; since when it is held."""
    register = Register(store, Epoch(store, quarantine=0.0))
    content = Content(digest=digest, needs=frozenset({digest}))
    told = event(tag, digest=digest, actor=actor)
    await register.claim(HERE, tag, content, token="t", lease_ms=5000)
    await register.arm(HERE, tag, content, token="t", lease_ms=5000, draft=told, closing=None)
    reply = await register.commit(HERE, tag, content, token="t", event=told, first=True)
    assert reply.record.committed
    return reply.record.committed.since


async def test_a_tag_is_what_was_set_last_and_a_refused_push_sets_nothing(store: Store) -> None:
    audit = Audit(store)
    first, second = event("latest", digest=digest_of(1)), event("latest", Outcome.OVERWRITTEN, digest=digest_of(2))
    refused = event("latest", Outcome.REFUSED, digest=digest_of(3), actor="eve")
    await add(audit, first, second, refused)
    assert (await audit.roster(HERE)).tags == {
        "latest": TagFacts("latest", refused.time, 0, second.time, digest_of(2), "ci")
    }
    assert await audit.last_set(HERE, "latest") == TagFacts("latest", 0, 0, second.time, digest_of(2), "ci")


async def test_the_same_digest_again_was_set_when_it_came_first(store: Store) -> None:
    audit = Audit(store)
    first = event("latest", actor="mira jane")
    await add(audit, first, event("latest", Outcome.UNCHANGED, actor="jonas"))
    facts = await audit.last_set(HERE, "latest")
    assert (facts.changed, facts.by) == (first.time, "mira jane")


async def test_what_comes_late_changes_nothing(store: Store) -> None:
    audit = Audit(store)
    newest = event("latest", digest=digest_of(2))
    await add(audit, newest, event("latest", digest=digest_of(1), time=newest.time - 1000))
    assert (await audit.last_set(HERE, "latest")).digest == digest_of(2)


async def test_a_deleted_tag_is_gone_until_it_is_pushed_again(store: Store) -> None:
    audit = Audit(store)
    await add(audit, event("dev"), event("dev", Outcome.DELETED, action=Action.DELETE_TAG))
    gone = (await audit.roster(HERE)).tags["dev"]
    assert (gone.gone, gone.digest) == (True, "")
    await add(audit, event("dev"))
    back = (await audit.roster(HERE)).tags["dev"]
    assert (back.gone, back.digest) == (False, digest_of(1))


async def test_a_refused_delete_leaves_it(store: Store) -> None:
    audit = Audit(store)
    await add(audit, event("dev"), event("dev", Outcome.REFUSED, action=Action.DELETE_TAG))
    assert not (await audit.roster(HERE)).tags["dev"].gone


async def test_a_held_tag_is_known_before_its_event_has_arrived(store: Store) -> None:
    audit = Audit(store)
    await add(audit, event("other"))
    assert set((await audit.roster(HERE)).tags) == {"other"}
    since = await hold(store, "1.0", digest_of(5), actor="bot")
    assert (await audit.roster(HERE)).tags["1.0"] == TagFacts("1.0", 0, since, since, digest_of(5), "bot")


async def test_a_tag_that_is_held_no_more_is_seen_though_its_number_is_the_same(store: Store) -> None:
    audit = Audit(store)
    await hold(store, "1.0", digest_of(5))
    assert (await audit.roster(HERE)).tags["1.0"].held
    register = Register(store, Epoch(store, quarantine=0.0))
    draft = event("1.0", Outcome.DELETED, action=Action.DELETE_TAG, digest=digest_of(5))
    await register.begin_delete(HERE, digest_of(5), holders=["1.0"], deadline_ms=1, draft=draft)
    await register.end_delete(HERE, digest_of(5), draft, [GoneTag("1.0", digest_of(5), tombstone=True)])
    await hold(store, "2.0", digest_of(6))
    tags = (await audit.roster(HERE)).tags
    assert set(tags) == {"2.0"}


async def test_only_what_changed_is_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(store)
    await add(audit, *(event(f"v{number}") for number in range(30)))
    before = await audit.roster(HERE)
    version = before.version
    assert (await audit.roster(HERE)).version == version
    unchanged = before.tags["v8"]

    async def fail(*_: object) -> None:
        raise AssertionError("everything was read anew")

    monkeypatch.setattr(roster.Rosters, "_read", fail)
    await add(audit, event("v7", Outcome.OVERWRITTEN, digest=digest_of(9)), event("new"))
    after = await audit.roster(HERE)
    assert after.version > version
    assert after.tags["v7"].digest == digest_of(9)
    assert len(after.tags) == 31
    assert after.tags["v8"] is unchanged
    assert after.counts() == (31, 0)


async def test_a_pruned_tag_is_forgotten_and_a_held_one_still_says_who_set_it(store: Store) -> None:
    audit = Audit(store)
    since = await hold(store, "1.0", digest_of(5))
    told = event("1.0", digest=digest_of(5), actor="bot", time=START + 1)
    await add(audit, told, event("dev", time=START + 2))
    assert set((await audit.roster(HERE)).tags) == {"1.0", "dev"}
    async for _ in audit.prune(since - 1000):
        pass
    for fresh in (audit, Audit(store)):
        facts = TagFacts("1.0", told.time, since, told.time, digest_of(5), "bot")
        assert (await fresh.roster(HERE)).tags == {"1.0": facts}
        (row,) = (await fresh.repositories()).repositories
        assert (row.repository, row.tags, row.events, row.last) == (HERE, 1, 0, START + 2)
    assert not (await audit.last_set(HERE, "dev")).digest


async def test_a_flushed_redis_is_an_empty_roster(store: Store) -> None:
    audit = Audit(store)
    await add(audit, event("1.0"))
    assert (await audit.roster(HERE)).tags
    await store.client.flushall()
    assert not (await audit.roster(HERE)).tags


async def test_the_repositories_looked_at_longest_ago_are_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "MOST_TAGS", 5)
    audit = Audit(store)
    for name in ("a", "b", "c"):
        await add(audit, *(event(f"v{number}", repository=name) for number in range(3)))
        await audit.roster(name)
    assert set(audit._rosters._kept) == {"c"}


async def test_of_too_many_tags_the_last_active_ones_are_known(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "MOST_TAGS", 5)
    audit = Audit(store)
    await add(audit, *(event(f"v{number}") for number in range(8)))
    found = await audit.roster(HERE)
    assert not found.complete
    assert sorted(found.tags) == ["v3", "v4", "v5", "v6", "v7"]
    await add(audit, event("v0", digest=digest_of(4)))
    assert "v0" in (await audit.roster(HERE)).tags


async def test_more_tags_than_one_call_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "_NAMES_A_CALL", 7)
    monkeypatch.setattr(roster, "_TAGS_A_CALL", 5)
    await fill(store, [event(f"v{number}") for number in range(40)])
    assert len((await Audit(store).roster(HERE)).tags) == 40


async def test_actors_are_cut_where_they_are_long(store: Store) -> None:
    audit = Audit(store)
    await add(audit, event("a", actor="x" * 5000), event("b", actor=""))
    assert len((await audit.last_set(HERE, "a")).by) == 200
    assert (await audit.last_set(HERE, "b")).by == ""
    assert int(await store.client.hlen(keys.audit(f"sets:{HERE}"))) == 2
