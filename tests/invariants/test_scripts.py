"""The register's scripts on a real Redis (H34, H65, H70, I10, I12).

Random steps in any order keep records, pins, manifests, intents and events in accord; a step that fails half-way leaves
nothing behind.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from immuproxy.allow.exceptions import Allows, Exceptions
from immuproxy.ledger import keys
from immuproxy.ledger.content import Content
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.going import GoneTag, MovedTag, Permit
from immuproxy.ledger.model import Action, Event, Outcome, State, Step, StoredManifest, TagRecord, event_from_dict
from immuproxy.ledger.register import Register
from immuproxy.store.redis import LedgerUnavailableError, Store, connect
from tests.invariants.pins import Pins
from tests.support.servers import RedisServer, running_redis

REPOSITORY = "team/app"
TAGS = ("1.0", "2.0")
DIGESTS = tuple(f"sha256:{letter * 64}" for letter in "abc")
LAYERS = tuple(f"sha256:{number * 64}" for number in "123")
LEAVES = tuple(f"sha256:{number * 64}" for number in "89")
OTHERWISE = tuple(f"sha512:{letter * 128}" for letter in "abc")
"""The manifests of `DIGESTS` by another algorithm (H81)."""

LATE = {
    LAYERS[0]: (LAYERS[1], *LEAVES),
    LAYERS[1]: LEAVES,
    LAYERS[2]: LEAVES[:1],
    LEAVES[0]: LEAVES[1:],
}
"""What turns out to need more: a chain, as no content can hold its own digest (H91)."""

INDEX = 2
LONG = 600_000

Drawn = list[tuple[str, str, int, int]]


def content(number: int) -> Content:
    """Each digest shares a layer with the next; the last is an index that lists the first by two digests."""
    digest = DIGESTS[number]
    needs = frozenset({digest, LAYERS[number], LAYERS[(number + 1) % 3]})
    if number == INDEX:
        needs |= {DIGESTS[0], OTHERWISE[0]}
    return Content(digest=digest, needs=needs, stored=(StoredManifest(digest, "type", f"{number}".encode()),))


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@dataclass
class Ledger:
    """A register, the claims that pushers made, and what was seen of the tags."""

    store: Store
    register: Register
    count: int = 0
    tokens: list[tuple[str, int, str]] = field(default_factory=list)
    drafts: list[Event] = field(default_factory=list)
    deletes: list[tuple[str, Event]] = field(default_factory=list)
    allowed: set[tuple[str, int]] = field(default_factory=set)
    held: dict[str, tuple[int, str]] = field(default_factory=dict)
    model: Pins = field(default_factory=Pins)
    generations: dict[str, int] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    """What each tag was last pushed with while no rule held it."""
    last: dict[str, str] = field(default_factory=dict)
    """What each tag held when that was last checked, where nothing was pushed past the claims since."""

    @property
    def exceptions(self) -> Exceptions:
        return Exceptions(self.store, lambda _: None)

    def event(self, **values: Any) -> Event:
        self.count += 1
        event_id = f"{self.count:022x}"
        return Event(id=event_id, action=Action.PUSH, outcome=Outcome.FAILED, repository=REPOSITORY, **values)

    def draft(self, **values: Any) -> Event:
        event = self.event(**values)
        self.drafts.append(event)
        return event

    async def closing(self, record: TagRecord) -> Event | None:
        """What `Recovery.closing` makes of the claim's intent."""
        if record.claim is None or not record.claim.event:
            return None
        return await self.register.intent(REPOSITORY, record.claim.event)

    # --- the steps; `choice` is whatever else has to be chosen

    async def claim(self, tag: str, number: int, choice: int) -> object:
        record = await self.register.read(REPOSITORY, tag)
        over = record.generation if choice % 2 else 0
        if over:
            self.allowed.add((tag, over))
        token = f"token {self.count}"
        self.count += 1
        closing = await self.closing(record)
        self.tokens.append((tag, number, token))
        return await self.register.claim(
            REPOSITORY,
            tag,
            content(number),
            token=token,
            lease_ms=LONG if choice % 5 == 0 else 0,
            over_generation=over,
            over_digest=record.committed.digest if over and record.committed else "",
            resolved_token=record.claim.token if record.claim and choice % 3 else "",
            quarantine_ms=LONG if choice % 7 == 0 else 0,
            closing=closing,
        )

    async def arm(self, tag: str, number: int, choice: int) -> object:
        tag, number, token = self.pusher(tag, number, choice)
        closing = await self.closing(await self.register.read(REPOSITORY, tag))
        lease = LONG if choice % 5 == 0 else 0
        draft = self.draft(tag=tag)
        reply = await self.register.arm(
            REPOSITORY, tag, content(number), token=token, lease_ms=lease, draft=draft, closing=closing
        )
        if reply.step is Step.LOST:
            self.drafts.remove(draft)
        return reply

    async def release(self, tag: str, number: int, choice: int) -> object:
        tag, _, token = self.pusher(tag, number, choice)
        record = await self.register.read(REPOSITORY, tag)
        return await self.register.release(REPOSITORY, tag, token=token, event=await self.closing(record))

    async def commit(self, tag: str, number: int, choice: int) -> object:
        tag, number, token = self.pusher(tag, number, choice)
        draft = await self.closing(await self.register.read(REPOSITORY, tag)) or self.event(tag=tag)
        event = replace(draft, outcome=Outcome.CREATED)
        return await self.register.commit(REPOSITORY, tag, content(number), token=token, event=event, first=True)

    async def adopt(self, tag: str, number: int, choice: int) -> object:
        record = await self.register.read(REPOSITORY, tag)
        claim = record.claim
        own = claim is not None and claim.digest == DIGESTS[number]
        closing = await self.closing(record)
        event = replace(closing if own and closing else self.event(tag=tag), outcome=Outcome.CREATED)
        seen = claim if choice % 3 else None
        ending = None if own else closing
        return await self.register.adopt(
            REPOSITORY, tag, content(number), event=event, reuse=True, seen=seen, closing=ending
        )

    async def intend(self, tag: str, number: int, choice: int) -> object:
        name = tag if choice % 2 else ""
        draft = self.draft(tag=name, digest=DIGESTS[number])
        over = (await self.register.read(REPOSITORY, name)).generation if name and choice % 3 else 0
        step = await self.register.intend(REPOSITORY, name, content(number).needs, draft, over_generation=over)
        if step is Step.OK:
            self.held.pop(name, None)
            self.last.pop(name, None)
        else:
            self.drafts.remove(draft)
        return step

    async def attach(self, tag: str, number: int, choice: int) -> object:
        """The manifest of a digest comes late, or what one of its layers turns out to need."""
        if choice % 2:
            digest = tuple(LATE)[choice // 2 % len(LATE)]
            needs = frozenset(LATE[digest][: 1 + number])
        else:
            digest = (DIGESTS, OTHERWISE)[choice // 2 % 2][number]
            needs = content(number).needs
        step = await self.register.attach(REPOSITORY, digest, needs)
        if step is Step.OK:
            self.model.attach(digest, needs)
        return step

    async def keep(self, tag: str, number: int, choice: int) -> object:
        digest = (*LAYERS, *OTHERWISE)[choice % 6]
        kept = await self.register.keep(REPOSITORY, StoredManifest(digest, "type", b"kept"))
        assert kept == (digest in self.model.counts())
        return kept

    async def grant(self, tag: str, number: int, choice: int) -> object:
        """An exception for a delete; or the end of one."""
        if choice % 3 == 0:
            found = await self.exceptions.of(REPOSITORY, tag)
            return found and await self.exceptions.end(found, self.event(tag=tag))
        event = self.event(tag=tag, digest=DIGESTS[number] if choice % 2 else "")
        lasts = LONG if choice % 5 else 0
        return await self.exceptions.grant(event, lasts_ms=lasts, allows=Allows.DELETE)

    async def conclude(self, tag: str, number: int, choice: int) -> object:
        draft = self.drafts[choice % len(self.drafts)] if self.drafts else self.event()
        if draft.id in {event.id for _, event in self.deletes} or await self.is_claims(draft):
            return None
        ended = replace(draft, outcome=Outcome.CREATED if choice % 3 else Outcome.FAILED)
        stands = draft.tag and (await self.register.read(REPOSITORY, draft.tag)).committed
        told = await self.register.conclude(REPOSITORY, ended)
        if told and ended.outcome is Outcome.CREATED and draft.tag and not stands:
            self.moved[draft.tag] = draft.digest
        return told

    async def begin_delete(self, tag: str, number: int, choice: int) -> object:
        """By one digest or by two, some of the tags that hold it by an exception, which may have ended."""
        digest = (*DIGESTS, *LAYERS)[choice % 6]
        named = f"{OTHERWISE[choice % 6]} {digest}" if choice % 6 < len(DIGESTS) and choice % 4 < 2 else digest
        holders = [tag for tag, (_, held) in self.held.items() if held == digest]
        permits = await self.permits(holders) if choice % 5 < 2 else []
        valid = await self.valid(permits)
        draft = self.draft(digest=digest)
        step = await self.register.begin_delete(
            REPOSITORY, named, holders=holders, deadline_ms=LONG, draft=draft, permits=permits
        )
        assert valid or step is Step.CHANGED
        if step is Step.GRANTED:
            self.deletes.append((named, draft))
            counts = self.model.counts()
            assert counts.get(digest, 0) <= len(holders)
            assert not any(counts.get(name) for name in named.split()[:-1])
        else:
            self.drafts.remove(draft)
        return step

    async def permits(self, holders: list[str]) -> list[Permit]:
        found = [await self.exceptions.of(REPOSITORY, tag) for tag in holders]
        return [Permit(each.tag, self.held[each.tag][1], each.event) for each in found if each]

    async def valid(self, permits: list[Permit]) -> bool:
        now = await self.register.now_ms()
        found = [await self.exceptions.of(REPOSITORY, permit.tag) for permit in permits]
        return all(each and each.ends > now for each in found)

    async def end_delete(self, tag: str, number: int, choice: int) -> object:
        if not self.deletes:
            return None
        named, draft = self.deletes[choice % len(self.deletes)]
        digest = named.split()[-1]
        going = [tag for tag, (_, held) in self.held.items() if held == digest]
        records = await self.register.records(REPOSITORY, going)
        gone = [GoneTag(record.tag, digest, bool(choice % 2), cut_off=await self.closing(record)) for record in records]
        moved = await self.moving_with(digest)
        ended = await self.register.end_delete(REPOSITORY, named, draft, gone, moved)
        for name in going if ended else ():
            del self.held[name]
        went = [record.tag for record in records if record.committed and record.committed.digest == digest]
        for name in (*went, *(each.name for each in moved)) if ended else ():
            self.moved.pop(name, None)
        return ended

    async def moving_with(self, digest: str) -> list[MovedTag]:
        """Those that would go with the digest, each with its event; a tag that has moved on keeps its life."""
        found = await self.register.holders.moving(REPOSITORY, digest)
        assert set(found) == {tag for tag, held in self.moved.items() if held == digest}
        return [MovedTag(tag, digest, self.event(tag=tag, digest=digest)) for tag in found]

    async def flush_scripts(self, tag: str, number: int, choice: int) -> object:
        client: Any = self.store.client
        return await client.script_flush()

    def pusher(self, tag: str, number: int, choice: int) -> tuple[str, int, str]:
        """One of the pushers that have claimed, lately rather than long ago."""
        return self.tokens[-1 - choice % min(4, len(self.tokens))] if self.tokens else (tag, number, "nobody's")

    async def is_claims(self, draft: Event) -> bool:
        """Whether the intent belongs to an armed claim, which ends it itself."""
        records = await self.register.records(REPOSITORY, TAGS)
        return any(record.claim and record.claim.event == draft.id for record in records)

    # --- what must always be true

    async def check(self) -> None:
        client: Any = self.store.client
        records = await self.follow()
        pins = {digest.decode(): int(count) for digest, count in (await client.hgetall(keys.pins(REPOSITORY))).items()}
        stored = {name.decode(): value for name, value in (await client.hgetall(keys.manifests(REPOSITORY))).items()}
        manifests = {name for name in stored if not name.startswith("needs ")}
        assert {name.removeprefix("needs ") for name in stored} <= set(pins)
        attached = {name: frozenset(value.decode().split()) for name, value in stored.items() if name not in manifests}
        assert attached == {f"needs {digest}": needs for digest, needs in self.model.attached.items()}
        assert pins == self.model.counts()
        held = {record.committed.digest for record in records.values() if record.committed}
        assert held <= manifests <= set(pins)
        assert set(await self.register.tags(REPOSITORY)) == {tag for tag in TAGS if records[tag].committed}
        entries = await client.zrange(keys.holders(REPOSITORY), 0, -1)
        assert {entry.decode() for entry in entries} == {
            f"{record.committed.digest} {tag}" for tag, record in records.items() if record.committed
        }
        await self.check_moving()
        await self.check_late(records)
        await self.check_events(records)
        self.check_generations(records)
        async for key in client.scan_iter():
            assert await client.ttl(key) == -1

    async def check_moving(self) -> None:
        """Both ways of the index of tags that no rule holds say the same (H100)."""
        client: Any = self.store.client
        moved = await client.hgetall(keys.moved(REPOSITORY))
        assert {tag.decode(): digest.decode() for tag, digest in moved.items()} == self.moved
        entries = await client.zrange(keys.moving(REPOSITORY), 0, -1, withscores=True)
        assert {entry.decode(): score for entry, score in entries} == {
            f"{digest} {tag}": 0 for tag, digest in self.moved.items()
        }

    async def check_late(self, records: dict[str, TagRecord]) -> None:
        """What a tag stopped holding is remembered until it can land no more (H110)."""
        client: Any = self.store.client
        late = {put.decode() for put in await client.zrange(keys.late(REPOSITORY), 0, -1)}
        for tag, record in records.items():
            now = record.committed.digest if record.committed else ""
            before = self.last.get(tag, "")
            assert before in {"", now} or f"{tag} {before}" in late
            self.last[tag] = now

    async def follow(self) -> dict[str, TagRecord]:
        """After each step.  What each tag and claim needs is known from its digest, whatever the ledger says of it."""
        await self.register.free(REPOSITORY)
        records = dict(zip(TAGS, await self.register.records(REPOSITORY, TAGS), strict=True))
        for tag, record in records.items():
            if record.committed is None:
                self.model.see(tag, "holds", ())
            elif record.committed.generation != self.generations.get(tag):
                self.model.hold(tag, record.committed.digest, content(DIGESTS.index(record.committed.digest)).needs)
            self.generations[tag] = record.committed.generation if record.committed else 0
            claimed = content(DIGESTS.index(record.claim.digest)).needs if record.claim else ()
            self.model.see(tag, "claims", claimed)
            self.model.forget()
        return records

    async def check_events(self, records: dict[str, TagRecord]) -> None:
        """A draft is an intent, or has had exactly one event; nothing has had two."""
        intents = {event.id for event in await self.register.intents(REPOSITORY)}
        claims = [record.claim for record in records.values() if record.claim]
        assert {claim.event for claim in claims if claim.state is State.ARMED} <= intents
        client: Any = self.store.client
        entries = await client.xrange(keys.outbox(REPOSITORY))
        written = Counter(event_from_dict(json.loads(values[b"event"])).id for _, values in entries)
        assert set(written.values()) <= {1}
        for draft in self.drafts:
            assert (draft.id in intents) + written[draft.id] == 1, draft

    def check_generations(self, records: dict[str, TagRecord]) -> None:
        """What a tag holds changes only where the generation that it replaces was allowed to be overwritten."""
        for tag, record in records.items():
            now = (record.committed.generation, record.committed.digest) if record.committed else None
            before = self.held.get(tag)
            if before is not None:
                assert now is not None
                if now != before:
                    assert now[0] == before[0] + 1
                    assert (tag, before[0]) in self.allowed
            if now is not None:
                self.held[tag] = now

    async def settle(self) -> None:
        """End all that is open: the pins of claims go back to nothing."""
        for tag in TAGS:
            record = await self.register.read(REPOSITORY, tag)
            if record.claim:
                closing = await self.closing(record)
                await self.register.release(REPOSITORY, tag, token=record.claim.token, event=closing)
            if record.committed:
                await self.delete_tag(tag, record.committed.digest)
        for named, draft in self.deletes:
            await self.register.end_delete(REPOSITORY, named, draft)
        for draft in self.drafts:
            await self.register.conclude(REPOSITORY, draft)
        await self.check()
        client: Any = self.store.client
        for part in (keys.pins, keys.manifests, keys.intents, keys.marks, keys.tags, keys.holders):
            assert not await client.exists(part(REPOSITORY))

    async def delete_tag(self, tag: str, digest: str) -> None:
        draft = self.draft(tag=tag)
        step = await self.register.begin_delete(REPOSITORY, f"tag:{tag}", holders=(), deadline_ms=LONG, draft=draft)
        assert step is Step.GRANTED
        assert await self.register.end_delete(REPOSITORY, f"tag:{tag}", draft, [GoneTag(tag, digest, False)])
        self.held.pop(tag, None)
        self.moved.pop(tag, None)


OTHERS = (
    *("release", "adopt", "intend", "attach", "attach", "keep", "grant"),
    *("conclude", "begin_delete", "begin_delete", "end_delete", "flush_scripts"),
)
step = st.tuples(
    st.sampled_from(("claim", "arm", "commit") * 2 + OTHERS),
    st.sampled_from(TAGS),
    st.integers(0, 2),
    st.integers(0, 209),
)
quick = settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def on_an_empty_ledger(url: str, work: Any) -> None:
    async with connect(url, timeout=5.0) as store:
        client: Any = store.client
        await client.flushall()
        await work(Ledger(store, Register(store, Epoch(store, quarantine=1.0))))


@quick
@given(st.lists(step, max_size=40))
def test_random_steps_keep_the_ledger_in_accord(redis: RedisServer, steps: Drawn) -> None:
    async def work(ledger: Ledger) -> None:
        for name, *arguments in steps:
            await getattr(ledger, name)(*arguments)
            await ledger.check()
        await ledger.settle()

    asyncio.run(on_an_empty_ledger(redis.url, work))


@quick
@given(st.lists(step, max_size=30))
def test_h65_a_step_that_is_repeated_answers_the_same_and_changes_nothing(redis: RedisServer, steps: Drawn) -> None:
    async def work(ledger: Ledger) -> None:
        patched: Any = ledger.store
        real = ledger.store.script
        told: list[tuple[str, Any, Any]] = []

        async def twice(name: str, named: Any, arguments: Any) -> Any:
            first = await real(name, named, arguments)
            if name == "exception_grant":  # another grant is another event
                return first
            before = await state(ledger)
            second = await real(name, named, arguments)
            if name in {"claim", "arm", "commit", "adopt"}:
                told.append((name, first[0], second[0]))
            if name not in {"arm", "intend", "clock"}:  # arming again renews the lease, the others tell the time
                assert await state(ledger) == before, name
            return first

        patched.script = twice
        for name, *arguments in steps:
            await getattr(ledger, name)(*arguments)
            await ledger.follow()
        await ledger.check()
        assert all(first == second for _, first, second in told), told

    asyncio.run(on_an_empty_ledger(redis.url, work))


@quick
@given(st.lists(step, max_size=25), st.data())
def test_h70_a_step_that_fails_leaves_nothing_behind(redis: RedisServer, steps: Drawn, data: st.DataObject) -> None:
    """A key of a wrong type, or no memory left, at any step."""

    async def work(ledger: Ledger) -> None:
        patched: Any = ledger.store
        real = ledger.store.script

        async def failing(name: str, named: Any, arguments: Any) -> Any:
            broken = data.draw(st.sampled_from(["memory", *sorted(set(named))]), label=name)
            await fail(ledger, real, broken, (name, named, arguments))
            return await real(name, named, arguments)

        patched.script = failing
        for name, *arguments in steps:
            await getattr(ledger, name)(*arguments)
            await ledger.follow()
        await ledger.check()

    asyncio.run(on_an_empty_ledger(redis.url, work))


async def fail(ledger: Ledger, real: Any, broken: str, call: tuple[str, Any, Any]) -> None:
    """Run one step with a fault; it says so, and nothing has changed."""
    client: Any = ledger.store.client
    kept = await client.dump(broken)
    if broken == "memory":
        await client.config_set("maxmemory", 1)
    else:
        await client.delete(broken)
        await client.rpush(broken, "no key of the ledger is a list")
    before = await state(ledger)
    try:
        with pytest.raises(LedgerUnavailableError, match=r"WRONGTYPE|OOM|maxmemory"):
            await real(*call)
        assert await state(ledger) == before, call[0]
    finally:
        await client.config_set("maxmemory", 0)
        await client.delete(broken)
        if kept is not None:
            await client.restore(broken, 0, kept)


async def state(ledger: Ledger) -> dict[bytes, Any]:
    """Everything in Redis, by value: DUMP compresses, and not always in the same way."""
    client: Any = ledger.store.client
    readers = {
        b"hash": client.hgetall,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"string": client.get,
    }
    return {key: await readers[await client.type(key)](key) async for key in client.scan_iter()}


def test_h34_a_holder_that_has_moved_on_no_longer_makes_up_for_a_pin(redis: RedisServer) -> None:
    """Between looking which tags would go and the delete, one of them was overwritten and another took the digest."""

    async def work(ledger: Ledger) -> None:
        for number, tag in enumerate(TAGS):
            await ledger.adopt(tag, number, 0)
        draft = ledger.draft(digest=DIGESTS[1])
        step = await ledger.register.begin_delete(
            REPOSITORY, DIGESTS[1], holders=["1.0"], deadline_ms=LONG, draft=draft
        )
        assert step is Step.PINNED

    asyncio.run(on_an_empty_ledger(redis.url, work))


def test_h85_what_was_attached_to_a_tag_that_goes_is_unpinned_in_short_steps(redis: RedisServer) -> None:
    """A sparse index of a few kilobytes whose children came late, each with thousands of digests."""
    children = [f"sha256:{number:064x}" for number in range(6)]
    late = [frozenset(f"sha256:{child}{number:062x}" for number in range(4000)) for child in range(10, 16)]
    held = replace(content(0), needs=frozenset(children))

    async def work(ledger: Ledger) -> None:
        register, client = ledger.register, ledger.store.client
        await register.adopt(REPOSITORY, "1.0", held, event=ledger.event(tag="1.0"), reuse=True)
        for child, needs in zip(children, late, strict=True):
            await register.attach(REPOSITORY, child, needs)
        await ledger.delete_tag("1.0", DIGESTS[0])
        left = await client.hlen(keys.pins(REPOSITORY))
        assert left > 4 * 4000
        # Needed again before its turn, it keeps what was attached to it.
        await register.adopt(
            REPOSITORY, "2.0", replace(held, needs=frozenset(children[:1])), event=ledger.event(), reuse=True
        )
        while await ledger.store.script("free", [keys.pins(REPOSITORY), keys.manifests(REPOSITORY)]):
            before, left = left, await client.hlen(keys.pins(REPOSITORY))
            assert before - left < 5000
        assert await client.hlen(keys.pins(REPOSITORY)) == 2 + 4000
        assert await register.attached(REPOSITORY, children) == {children[0]: True}
        await ledger.delete_tag("2.0", DIGESTS[0])
        await register.free(REPOSITORY)
        assert not await client.exists(keys.pins(REPOSITORY), keys.manifests(REPOSITORY))

    asyncio.run(on_an_empty_ledger(redis.url, work))


def test_h100_the_index_of_moving_tags_follows_each_push_and_delete(redis: RedisServer) -> None:
    """The same accord, on a way that random steps seldom take."""

    async def work(ledger: Ledger) -> None:
        for number in (0, 1):
            for tag in TAGS:
                await ledger.intend(tag, number, 1)
                latest, count = len(ledger.drafts) - 1, len(ledger.drafts)
                await ledger.conclude(tag, number, latest if latest % 3 else latest + count)
                await ledger.check()
        assert ledger.moved == dict.fromkeys(TAGS, DIGESTS[1])
        await ledger.adopt("1.0", 1, 0)
        await ledger.check()
        await ledger.begin_delete("1.0", 0, 1)
        await ledger.end_delete("1.0", 0, 0)
        await ledger.check()
        assert not ledger.moved

    asyncio.run(on_an_empty_ledger(redis.url, work))
