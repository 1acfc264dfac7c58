"""Each step of the register, taken in each situation that a tag can be in: exactly the rows of the protocol's table."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import product

import pytest

from immuproxy.edge.push.protocol import TRANSITIONS
from immuproxy.ledger.content import Content
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.going import GoneTag
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, Event, Outcome, Step, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.store.redis import connect
from tests.support.servers import RedisServer

TAG = "1.0"
OURS, THEIRS, HELD, GOING = (f"sha256:{letter * 64}" for letter in "abcd")
LIVE, OVER = 60_000, 0
"""Leases, in milliseconds."""

Row = tuple[str, str, Step, str]
"""The state before, a step, its reply, the state after."""


@dataclass(frozen=True)
class Situation:
    """How a tag came to be as it is.

    `base`: what it was before there was a claim.  `owner`: whose claim there is, '' for nobody's; `digest`, `armed`,
    `lease`: of that.
    """

    base: str
    owner: str = ""
    digest: str = ""
    armed: bool = False
    lease: int = LIVE


def situations() -> Iterator[Situation]:
    for base in ("left", "held", "healed", "buried", "finished", "finished and buried"):
        yield Situation(base)
        for (owner, digest), armed, lease in product(
            (("ours", OURS), ("theirs", OURS), ("theirs", THEIRS)), (False, True), (LIVE, OVER)
        ):
            if base != "healed" and not (base.startswith("finished") and owner == "ours"):
                yield Situation(base, owner, digest, armed, lease)


def content(digest: str, *needs: str) -> Content:
    return Content(digest=digest, needs=frozenset({digest, *needs}))


class Tag:
    """A tag of a repository of its own, and what a push of `OURS` may do to it."""

    def __init__(self, register: Register) -> None:
        self.register = register
        self.repository = f"t/{uuid.uuid4().hex[:12]}"
        self.draft = self.event(OURS)

    def event(self, digest: str) -> Event:
        return Event(
            id=new_event_id(),
            action=Action.PUSH,
            outcome=Outcome.FAILED,
            repository=self.repository,
            tag=TAG,
            digest=digest,
        )

    async def read(self) -> TagRecord:
        return await self.register.read(self.repository, TAG)

    async def state(self) -> str:
        found = await self.read()
        if found.claim:
            return str(found.claim.state)
        return "COMMITTED" if found.committed else "DELETED" if found.tombstone else "ABSENT"

    # --- how it comes to be as it is

    async def become(self, wanted: Situation) -> None:
        if wanted.base.startswith("finished"):
            await self.claim()
            await self.arm()
            await self.adopt(OURS)
        else:
            await self.adopt(HELD)
        if wanted.base in {"left", "buried", "finished and buried"}:
            await self.delete(tombstone=wanted.base != "left")
        if wanted.base == "healed":
            assert await self.register.begin_heal(self.repository, TAG, held=HELD, name="heal")
        if wanted.owner:
            await self.be_claimed(wanted)

    async def be_claimed(self, wanted: Situation) -> None:
        assert await self.claim(wanted.digest, wanted.owner, judged=True, lease_ms=wanted.lease) is Step.CLAIMED
        if wanted.armed:
            draft = self.draft if wanted.owner == "ours" else self.event(wanted.digest)
            assert await self.arm(wanted.digest, wanted.owner, draft, lease_ms=wanted.lease) is Step.ARMED

    async def delete(self, *, tombstone: bool) -> None:
        held = (await self.read()).committed
        assert held
        event = self.event(held.digest)
        begun = await self.register.begin_delete(
            self.repository, held.digest, holders=[TAG], deadline_ms=LIVE, draft=event
        )
        assert begun is Step.GRANTED
        await self.register.end_delete(self.repository, held.digest, event, [GoneTag(TAG, held.digest, tombstone)])

    async def mark(self) -> None:
        """A delete of what the push needs is under way."""
        begun = await self.register.begin_delete(
            self.repository, GOING, holders=[], deadline_ms=LIVE, draft=self.event(GOING)
        )
        assert begun is Step.GRANTED

    # --- the steps

    async def claim(
        self,
        digest: str = OURS,
        token: str = "ours",
        *,
        judged: bool = False,
        resolved: bool = False,
        marked: bool = False,
        lease_ms: int = LIVE,
    ) -> Step:
        found = await self.read()
        if marked:
            await self.mark()
        held = found.committed.digest if found.committed else ""
        reply = await self.register.claim(
            self.repository,
            TAG,
            content(digest, *([GOING] if marked else [])),
            token=token,
            lease_ms=lease_ms,
            over_generation=found.generation if judged else 0,
            over_digest=held if judged else "",
            resolved_token=found.claim.token if found.claim and resolved else "",
            quarantine_ms=0 if resolved else LIVE,
        )
        return reply.step

    async def arm(
        self, digest: str = OURS, token: str = "ours", draft: Event | None = None, *, lease_ms: int = LIVE
    ) -> Step:
        reply = await self.register.arm(
            self.repository,
            TAG,
            content(digest),
            token=token,
            lease_ms=lease_ms,
            draft=draft or self.draft,
            closing=None,
        )
        return reply.step

    async def commit(self) -> Step:
        reply = await self.register.commit(
            self.repository, TAG, content(OURS), token="ours", event=self.draft, first=True
        )
        return reply.step

    async def release(self) -> Step:
        return (await self.register.release(self.repository, TAG, token="ours", event=None)).step

    async def give_back(self, *, sent: bool = False) -> Step:
        own_event = "" if sent else self.draft.id
        return await self.register.give_back(self.repository, TAG, token="ours", own_event=own_event)

    async def adopt(
        self, digest: str = OURS, *, reuse: bool = True, marked: bool = False, saw_claim: bool = True
    ) -> Step:
        found = await self.read()
        if marked:
            await self.mark()
        reply = await self.register.adopt(
            self.repository,
            TAG,
            content(digest, *([GOING] if marked else [])),
            event=self.draft if digest == OURS else self.event(digest),
            reuse=reuse,
            seen=found.claim if saw_claim else None,
        )
        return reply.step


Way = Callable[[Tag], Awaitable[Step]]

WAYS: dict[str, tuple[Way, ...]] = {
    "claim": (
        Tag.claim,
        lambda tag: tag.claim(judged=True),
        lambda tag: tag.claim(judged=True, marked=True),
        lambda tag: tag.claim(judged=True, resolved=True),
    ),
    "arm": (Tag.arm, lambda tag: tag.arm(lease_ms=OVER)),
    "commit": (Tag.commit,),
    "release": (Tag.release,),
    "give_back": (Tag.give_back, lambda tag: tag.give_back(sent=True)),
    "adopt": (
        lambda tag: tag.adopt(OURS),
        lambda tag: tag.adopt(THEIRS),
        lambda tag: tag.adopt(HELD),
        lambda tag: tag.adopt(OURS, reuse=False),
        lambda tag: tag.adopt(OURS, marked=True),
        lambda tag: tag.adopt(OURS, saw_claim=False),
    ),
}
"""All that is different in what a step may be given."""


@pytest.fixture
async def register(shared_redis: RedisServer) -> AsyncIterator[Register]:
    async with connect(shared_redis.url, timeout=5.0) as store:
        yield Register(store, Epoch(store, quarantine=0.0))


def rows(step: str) -> set[Row]:
    return {
        (str(before.name), step, row.reply, str(after.name))
        for row in TRANSITIONS
        if row.step == step
        for before in row.before
        for after in (before if row.after is None else row.after)
    }


async def row_of(register: Register, situation: Situation, step: str, way: Way) -> tuple[Row, Situation]:
    tag = Tag(register)
    await tag.become(situation)
    before = await tag.state()
    reply = await way(tag)
    return (before, step, reply, await tag.state()), situation


@pytest.mark.parametrize("step", WAYS)
async def test_a_step_does_what_its_rows_say_and_nothing_else(register: Register, step: str) -> None:
    cases = product(situations(), WAYS[step])
    seen = dict(await asyncio.gather(*(row_of(register, situation, step, way) for situation, way in cases)))
    assert {row: example for row, example in seen.items() if row not in rows(step)} == {}
    assert rows(step) - set(seen) == set()


def test_every_step_of_the_table_is_taken() -> None:
    assert set(WAYS) == {row.step for row in TRANSITIONS}
