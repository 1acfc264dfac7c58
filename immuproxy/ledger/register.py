"""The write-once register of each tag: ABSENT -> CLAIMED -> ARMED -> COMMITTED, one script for each step.

The linearisation point of a push is the one script that makes its claim COMMITTED.  Every step may be repeated: after a
lost reply it answers what it answered before (H65).  The steps judge nothing; who may overwrite is decided by the
caller.

Every method raises `immuproxy.ledger.redis.LedgerUnavailableError` when Redis does not answer.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from immuproxy.ledger import keys
from immuproxy.ledger.attention import Attention, Kind
from immuproxy.ledger.clock import Clock
from immuproxy.ledger.comparisons import Comparisons
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.holders import Holders
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.late import LateWrites
from immuproxy.ledger.model import (
    Action,
    Event,
    Finding,
    FindingPage,
    Outcome,
    Reply,
    Step,
    StoredManifest,
    TagRecord,
    as_written,
    event_from_dict,
)
from immuproxy.ledger.records import FIELDS, finding_of, packed, record_of, reply_of, stored_of
from immuproxy.ledger.redis import Argument, Store
from immuproxy.ledger.tag_names import standing_tags
from immuproxy.ledger.watch import Ages
from immuproxy.oci import names

Range = tuple[int | str, int | str]
QUARANTINE_MS = 300_000
"""How long a PUT may be on its way, by the standard time limit of a manifest request; more than that is safe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a tag is to hold: the digest, every digest it needs (its own included), and manifests' bytes.

    ``stored`` are the manifests that are written by the step that makes the tag hold it, ``apart`` the digests of those
    that `Register.keep` is called for one by one.  ``blobs`` are what cannot be missing from the registry.
    ``missing``: the children that the upstream did not have (H91).  ``unresolved``: the blobs of which it did not say
    by which digest it keeps them (H81).
    """

    digest: str
    needs: frozenset[str]
    missing: frozenset[str] = frozenset()
    unresolved: frozenset[str] = frozenset()
    stored: tuple[StoredManifest, ...] = ()
    apart: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    media_type: str = ""
    size: int = 0
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GoneTag:
    """A tag that a delete takes away, the digest it held, and whether its name stays taken.

    ``event`` tells of it, where it is not the tag that the delete itself names (H100); ``cut_off`` ends the overwrite
    of it that is armed, if one is (H101).
    """

    name: str
    digest: str
    tombstone: bool
    event: Event | None = None
    cut_off: Event | None = None


@dataclass(frozen=True, slots=True)
class Adoption:
    """What the ledger was when the tags of a repository began to be adopted.

    ``lineage``: of the whole ledger (H105); ``part``: of the repository's part of it, and of its server (H106).
    """

    lineage: str
    part: str


@dataclass(frozen=True, slots=True)
class MovedTag:
    """The same of a tag that no rule holds; ``digest`` is empty where it does not matter which one it held."""

    name: str
    digest: str = ""
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """A tag that only an exception lets go: the digest by which that was judged, and the event that granted it."""

    tag: str
    digest: str
    event: str


def _nobody(_repository: str) -> None:
    pass


def _nothing(_event: Event) -> None:
    pass


class OverwriteArmedError(Exception):
    """A tag that goes is being overwritten, and the caller did not know by which push."""


class Register:
    """The records of all tags."""

    def __init__(
        self,
        store: Store,
        epoch: Epoch,
        *,
        quarantine_ms: int = QUARANTINE_MS,
        published: Callable[[str], None] = _nobody,
        recorded: Callable[[Event], None] = _nothing,
    ) -> None:
        """Use the connection of ``store``.

        ``quarantine_ms``: how long after it was sent a PUT may still land.  ``published`` is told the repository after
        each step that may have written an event, ``recorded`` each event that this process surely wrote.
        """
        self._store = store
        self._epoch = epoch
        self._quarantine_ms = quarantine_ms
        self._published = published
        self._recorded = recorded
        self.attention = Attention(store)
        self.comparisons = Comparisons(store)
        self.holders = Holders(store)
        self.late = LateWrites(store)

    # --- reading

    async def read(self, repository: str, tag: str) -> TagRecord:
        """The record as it is now; ABSENT when there is none."""
        values = await self._store.do(self._store.client.hmget(keys.tag(repository, tag), FIELDS))
        fields = {name: value.decode() for name, value in zip(FIELDS, values, strict=True) if value is not None}
        return record_of(repository, tag, fields)

    async def confirm(self) -> None:
        """Make sure that what was read just now is what the master says, not one that was replaced (H99)."""
        await self._store.confirm()

    async def stored(self, repository: str, digest: str) -> StoredManifest | None:
        """The stored bytes of a manifest that a committed tag needs."""
        value = await self._store.do(self._store.client.hget(keys.manifests(repository), digest))
        return stored_of(digest, value) if value else None

    async def stored_size(self, repository: str, digest: str) -> int:
        """Its size in bytes, media type included; 0 where it is not stored."""
        return int(await self._store.do(self._store.client.hstrlen(keys.manifests(repository), digest)))

    async def is_stored(self, repository: str, digest: str) -> bool:
        """Whether the digest is such a manifest's."""
        return bool(await self._store.do(self._store.client.hexists(keys.manifests(repository), digest)))

    async def stored_many(self, repository: str, digests: Sequence[str]) -> dict[str, StoredManifest]:
        """The stored ones of some manifests."""
        if not digests:
            return {}
        values = await self._store.do(self._store.client.hmget(keys.manifests(repository), digests))
        return {digest: stored_of(digest, value) for digest, value in zip(digests, values, strict=True) if value}

    async def is_pinned(self, repository: str, digest: str) -> bool:
        """Whether a committed tag, or a push under way, needs the digest."""
        return bool(await self._store.do(self._store.client.hexists(keys.pins(repository), digest)))

    async def is_going(self, repository: str, tag: str, digest: str) -> bool:
        """Whether a delete of the tag, or of what it holds, is under way."""
        found = await self._store.do(self._store.client.zmscore(keys.marks(repository), [digest, f"tag:{tag}"]))
        return any(score is not None for score in found)

    async def tags(self, repository: str) -> list[str]:
        """The names of all tags with a committed record, latest commit first."""
        found = await self._store.do(self._store.client.zrevrange(keys.tags(repository), 0, -1))
        return [name.decode() for name in found]

    def standing_tags(self, repository: str) -> AsyncIterator[list[str]]:
        """The names of the tags that the repository has now, in parts; mutable ones as the audit knows them."""
        return standing_tags(self._store, repository)

    async def records(self, repository: str, tags: Sequence[str]) -> list[TagRecord]:
        """The records of many tags in one round trip."""
        pipeline = self._store.client.pipeline(transaction=False)
        for tag in tags:
            pipeline.hmget(keys.tag(repository, tag), FIELDS)
        rows = await self._store.do(pipeline.execute())
        return [
            record_of(
                repository,
                tag,
                {name: value.decode() for name, value in zip(FIELDS, row, strict=True) if value is not None},
            )
            for tag, row in zip(tags, rows, strict=True)
        ]

    async def moved(self, repository: str, tag: str) -> str:
        """What a tag that no rule holds was last pushed with; empty where nobody has pushed it, or it was deleted."""
        found = await self._store.do(self._store.client.hget(keys.moved(repository), tag))
        return found.decode() if found else ""

    async def repositories(self) -> list[str]:
        """Every repository that anything was written for, sorted."""
        found = await self._store.do(self._store.client.smembers(keys.REPOSITORIES))
        return sorted(name.decode() for name in found)

    async def knows(self, repository: str) -> bool:
        """Whether anything was ever written for the repository."""
        return bool(await self._store.do(self._store.client.sismember(keys.REPOSITORIES, repository)))

    async def unfinished(self, repositories: Sequence[str]) -> list[str]:
        """Those of some repositories with an intent, a claim or something unproved: one question for hundreds of idle
        ones (H96).
        """
        counts = (
            await self._counted(repositories, "hlen", keys.intents),
            await self._counted(repositories, "zcard", keys.claims),
            await self._counted(repositories, "hlen", keys.unproved),
        )
        return [name for name, *found in zip(repositories, *counts, strict=True) if any(found)]

    async def with_late_writes(self, repositories: Sequence[str]) -> list[str]:
        """Those of some repositories in which something may still land, or has landed, after its tag was deleted."""
        counts = await self._counted(repositories, "zcard", keys.late)
        return [name for name, count in zip(repositories, counts, strict=True) if count]

    async def tagged(self, repositories: Sequence[str]) -> list[str]:
        """Those of some repositories that have a tag with a committed record."""
        counts = await self._counted(repositories, "zcard", keys.tags)
        return [name for name, count in zip(repositories, counts, strict=True) if count]

    async def _counted(self, repositories: Sequence[str], command: str, key: Callable[[str], str]) -> list[int]:
        found: list[int] = []
        for at in range(0, len(repositories), _REPOSITORIES_A_CALL):
            async with self._store.client.pipeline(transaction=False) as pipeline:
                for repository in repositories[at : at + _REPOSITORIES_A_CALL]:
                    pipeline.execute_command(command, key(repository))
                found += await self._store.do(pipeline.execute(raise_on_error=False))
            await asyncio.sleep(0)  # thousands of replies are a while for everybody else on the loop
        return found

    async def now_ms(self) -> int:
        """The clock of Redis, by which all records are dated (H73)."""
        return await self._store.now_ms()

    async def intents(self, repository: str) -> list[Event]:
        """Drafts of what may have reached the upstream and has no outcome yet; ``time`` is when each was written."""
        found = await self._store.do(self._store.client.hgetall(keys.intents(repository)))
        return [event_from_dict(json.loads(draft)) for draft in found.values()]

    async def intent(self, repository: str, event_id: str) -> Event | None:
        """The draft of one such push."""
        draft = await self._store.do(self._store.client.hget(keys.intents(repository), event_id))
        return event_from_dict(json.loads(draft)) if draft else None

    @property
    def clock(self) -> Clock:
        """What time it is, and how long ago something was, where that must not go by a clock that jumps."""
        return self._epoch.clock

    async def ages(self, repository: str) -> Ages:
        """How long ago something in the repository was, at least (H112)."""
        return await self.clock.ages_now(keys.intents(repository))

    # --- the steps of a guarded push

    async def claim(
        self,
        repository: str,
        tag: str,
        content: Content,
        *,
        token: str,
        lease_ms: int,
        over_generation: int = 0,
        over_digest: str = "",
        resolved_token: str = "",
        quarantine_ms: int = 0,
        closing: Event | None = None,
    ) -> Reply:
        """Claim the tag for a digest (``claim.lua``).

        ``over_generation``: the generation that the caller may overwrite, and ``over_digest`` what it held, empty for a
        tombstone.  ``resolved_token``: the stale armed claim that the caller found absent upstream; it is replaced once
        it is ``quarantine_ms`` old, and ``closing`` is its event.
        """
        await self._epoch.list(repository)
        seen, asked = await self._seen(repository), asyncio.get_running_loop().time()
        reply = await self._publish(
            repository,
            "claim",
            _keys(repository, tag, "marks", "pins", "manifests", "intents", "outbox", "claims"),
            [
                content.digest,
                token,
                lease_ms,
                _needs(content),
                over_generation,
                resolved_token,
                quarantine_ms,
                as_written(closing),
                tag,
                over_digest,
                *seen,
            ],
        )
        claimed = reply_of(repository, tag, reply)
        await self.clock.check(keys.tag(repository, tag), claimed.now, asked=asked)
        return claimed

    async def past_claims(self, repository: str, *, between: Range) -> list[str]:
        """Tags with a claim whose lease ends between these times (ms, both ends belong to it), and others that had
        one.
        """
        names = await self._store.do(self._store.client.zrange(keys.claims(repository), *between, byscore=True))
        return [name.decode() for name in names]

    async def forget_claims(self, repository: str, *, between: Range) -> None:
        """`past_claims` have been seen to."""
        await self._store.do(self._store.client.zremrangebyscore(keys.claims(repository), *between))

    async def arm(
        self,
        repository: str,
        tag: str,
        content: Content,
        *,
        token: str,
        lease_ms: int,
        draft: Event,
        closing: Event | None,
    ) -> Reply:
        """Write the intent; from now on the PUT may be sent (``arm.lua``)."""
        reply = await self._publish(
            repository,
            "arm",
            _keys(repository, tag, "pins", "manifests", "intents", "outbox"),
            [token, lease_ms, _needs(content), draft.id, as_written(draft), as_written(closing)],
        )
        return reply_of(repository, tag, reply)

    async def keep(self, repository: str, manifest: StoredManifest) -> bool:
        """Store a manifest that is pinned; false when nothing needs it (any more) (``keep.lua``)."""
        kept: list[Argument] = [manifest.digest, packed(manifest)]
        return bool(await self._store.script("keep", _slot(repository, "pins", "manifests"), kept))

    async def release(
        self, repository: str, tag: str, *, token: str, event: Event | None, unarmed: bool = False
    ) -> Reply:
        """Give the claim back; only when the upstream surely did not take the push (``release.lua``).

        ``unarmed``: leave it when it has been armed meanwhile.
        """
        reply = await self._publish(
            repository,
            "release",
            _keys(repository, tag, "pins", "manifests", "intents", "outbox", "claims"),
            [token, as_written(event), int(unarmed), tag],
        )
        released = reply_of(repository, tag, reply)
        self._count(event, written=released.step is Step.RELEASED)
        return released

    async def give_back(self, repository: str, tag: str, *, token: str, own_event: str) -> Step:
        """Give back whatever of the tag is owned by the token: RELEASED, LET_GO or LOST (``give_back.lua``).

        ``own_event``: the id with which the caller may have armed it, where it has surely sent nothing.
        """
        keys_ = _keys(repository, tag, "pins", "manifests", "intents")
        return Step((await self._store.script("give_back", keys_, [token, own_event])).decode())

    async def commit(
        self, repository: str, tag: str, content: Content, *, token: str, event: Event, first: bool
    ) -> Reply:
        """Make the armed claim what the tag holds, with its event (``commit.lua``)."""
        reply = await self._publish(
            repository,
            "commit",
            _keys(repository, tag, "tags", "pins", "manifests", "intents", "outbox", "holders", "floor", "late"),
            [token, *self._held(tag, content, event, first=first, time=await self.clock.time())],
        )
        held = reply_of(repository, tag, reply)
        self._count(event, written=held.record.committed is not None and held.record.committed.event == event.id)
        return held

    async def adopt(
        self,
        repository: str,
        tag: str,
        content: Content,
        *,
        event: Event,
        reuse: bool,
        seen_token: str = "",
        first: bool = True,
        closing: Event | None = None,
    ) -> Reply:
        """Take what the upstream shows into the ledger, or finish somebody's armed claim (``adopt.lua``).

        ``reuse``: whether the name of a deleted tag may be used again.  A ledger that lost something does not know
        whether what it takes for a late write was pushed once more since: then it is adopted as well (H110).
        """
        await self._epoch.list(repository)
        kept = ("tags", "pins", "manifests", "intents", "outbox", "marks", "holders", "floor", "late")
        given = [seen_token, *self._held(tag, content, event, first=first, time=await self.clock.time())]

        async def step() -> Reply:
            whole = not self._epoch.recovering()
            arguments = [*given, *await self._seen(repository), int(whole), int(reuse), as_written(closing)]
            return reply_of(
                repository, tag, await self._publish(repository, "adopt", _keys(repository, tag, *kept), arguments)
            )

        held = await step()
        if held.step is Step.LATE:
            await self._epoch.beat()
            held = await step() if self._epoch.recovering() else held
        self._count(event, written=held.record.committed is not None and held.record.committed.event == event.id)
        return held

    # --- pushes that the register does not guard

    async def intend(
        self, repository: str, tag: str, needs: frozenset[str], draft: Event, *, over_generation: int = 0
    ) -> Step:
        """Write the intent of a push of a mutable tag, or by digest when ``tag`` is empty (``intend.lua``).

        ``over_generation``: that of the record which the tag may still have and which goes; CHANGED where it has
        another.
        """
        await self._epoch.list(repository)
        named, seen = [keys.tag(repository, tag)] if tag else [], await self._seen(repository)
        reply = await self._store.durable_script(
            "intend",
            [*_slot(repository, "intents", "marks", "pins", "manifests", "tags", "holders", "floor", "late"), *named],
            [
                *(draft.id, as_written(draft), " ".join(sorted(needs)), tag, over_generation),
                *(self._quarantine_ms, draft.digest, *seen),
            ],
        )
        return Step(reply[0].decode())

    async def conclude(self, repository: str, event: Event, *, holds: bool = True, unproved: bool = False) -> bool:
        """Record the outcome of an intent; false when it had one already (``conclude.lua``).

        Where others had told it without proof, this is a second event, which names the first and has its time.
        ``holds``: whether the tag of a push that arrived still holds its content.  ``unproved``: others may come to
        know better.
        """
        second = replace(event, id=new_event_id(), reason=f"{event.reason}; recorded before as event {event.id}")
        keys_ = _slot(repository, "intents", "outbox", "unproved")
        args: list[Argument] = [event.id, as_written(event), as_written(second), int(unproved)]
        if holds and event.tag and event.action is Action.PUSH and event.outcome in _SET:
            keys_ += [*_slot(repository, "moving", "moved"), keys.tag(repository, event.tag)]
            args += [event.tag, event.digest]
        written = int(await self._publish(repository, "conclude", keys_, args))
        return self._count(second if written == _AS_SECOND else event, written=written > 0)

    async def unproved(self, repository: str) -> list[Event]:
        """The events that were told without proof and for which nobody has known better yet."""
        found = await self._store.do(self._store.client.hgetall(keys.unproved(repository)))
        return [event_from_dict(json.loads(event)) for event in found.values()]

    async def forget_unproved(self, repository: str, ids: Sequence[str]) -> None:
        """Nobody will know better about these."""
        if ids:
            await self._store.do(self._store.client.hdel(keys.unproved(repository), *ids))

    async def record(self, event: Event) -> None:
        """Record something that changes nothing: a refused delete, drift."""
        await self._epoch.list(event.repository)
        await self._publish(event.repository, "record", _slot(event.repository, "outbox"), [as_written(event)])
        self._count(event, written=True)

    async def record_judged(self, event: Event, found: TagRecord) -> bool:
        """Record what a push came to by what its tag holds, unchanged or refused.

        False where the tag does not hold that any more: what replaced it is told already (H117).
        """
        await self._epoch.list(event.repository)
        keys_ = [*_slot(event.repository, "outbox"), keys.tag(event.repository, event.tag)]
        held = found.committed.digest if found.committed else ""
        told: list[Argument] = [as_written(event), held, found.generation]
        return self._count(event, written=bool(await self._publish(event.repository, "record", keys_, told)))

    # --- deletes

    async def begin_delete(
        self,
        repository: str,
        digest: str,
        *,
        holders: Sequence[str],
        deadline_ms: int,
        draft: Event,
        adoption: Adoption | None = None,
        permits: Sequence[Permit] = (),
    ) -> Step:
        """Mark a digest as about to go: GRANTED, PINNED, BUSY, UNADOPTED or CHANGED (``delete_begin.lua``).

        ``digest``: by all its names, with a space in between (H81).
        Waits as the deciding steps do: with the mark lost, a push could come to need what is just going.

        ``holders``: the tags that may go with it; for as long as they hold it, they do not count as needing it.
        ``adoption``: what `begin_adoption` said before all tags were adopted; when the ledger may have lost something
        since, the step is UNADOPTED.  ``permits``: those among the holders that only an exception lets go; where one no
        longer holds, the step is CHANGED.
        """
        first = [permit.tag for permit in permits]
        others = [tag for tag in holders if tag not in first]
        lineage = await self._epoch.list(repository)
        if adoption and adoption.lineage != lineage:
            return Step.UNADOPTED
        reply = await self._store.durable_script(
            "delete_begin",
            [
                *_slot(repository, "pins", "marks", "intents", "adopted", "exceptions"),
                *(keys.tag(repository, tag) for tag in (*first, *others)),
            ],
            [
                *(digest, deadline_ms, draft.id, as_written(draft), adoption.part if adoption else ""),
                await self.clock.time(),
                *(item for permit in permits for item in (permit.tag, permit.digest, permit.event)),
            ],
        )
        return Step(reply.decode())

    async def end_delete(
        self,
        repository: str,
        digest: str,
        event: Event,
        gone: Sequence[GoneTag] = (),
        moved: Sequence[MovedTag] = (),
    ) -> bool:
        """Record the outcome of a delete and drop the tags that went with it (``delete_end.lua``).

        ``gone`` are those that have a record, ``moved`` those that no rule holds; each is told where it still held what
        it was seen to hold.  Raises `OverwriteArmedError`.
        """
        told: list[Argument] = []
        for tag in gone:
            told += (tag.name, tag.digest, int(tag.tombstone), as_written(tag.event))
            told += (tag.cut_off.id if tag.cut_off else "", as_written(tag.cut_off))
        for each in moved:
            told += (each.name, each.digest, as_written(each.event))
        reply = await self._publish(
            repository,
            "delete_end",
            [
                *_slot(repository, "marks", "intents", "outbox", "tags", "pins", "manifests", "deletes", "holders"),
                *_slot(repository, "moving", "moved", "floor", "late"),
                *(keys.tag(repository, tag.name) for tag in gone),
            ],
            [digest, event.id, as_written(event), event.actor, self._quarantine_ms, *told],
        )
        if reply == b"CHANGED":
            raise OverwriteArmedError
        endings = [*(tag.event for tag in gone), *(tag.event for tag in moved)]
        for ending, went in zip(endings, reply or (), strict=False):
            self._count(ending, written=bool(went))
        return self._count(event, written=reply is not None)

    async def deletes(self, repository: str) -> int:
        """How many deletes in the repository have ended."""
        return int(await self._store.do(self._store.client.get(keys.deletes(repository))) or 0)

    async def attached(self, repository: str, digests: Sequence[str]) -> dict[str, bool]:
        """Those of the digests that are pinned, and whether all that they need is attached to them (H91).

        Not for sure where something of it is named by another algorithm than sha256: it may not have been there (H81).
        """
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.hmget(keys.pins(repository), digests)
        pipeline.hmget(keys.manifests(repository), [f"needs {digest}" for digest in digests])
        counts, attached = await self._store.do(pipeline.execute())
        return {
            digest: needs is not None and all(map(names.is_digest, needs.decode().split()))
            for digest, count, needs in zip(digests, counts, attached, strict=True)
            if count
        }

    async def attach(self, repository: str, digest: str, needs: frozenset[str]) -> Step:
        """Pin what a pinned manifest needs for as long as it is pinned: OK or DELETING (``attach.lua``)."""
        reply = await self._store.script(
            "attach", _slot(repository, "pins", "manifests", "marks"), [digest, " ".join(sorted(needs))]
        )
        return Step(reply.decode())

    async def free(self, repository: str) -> None:
        """Unpin to the end what was attached to what is needed no more, in many short steps (``free.lua``)."""
        while await self._store.script("free", _slot(repository, "pins", "manifests"), []):
            pass

    async def pin_count(self, repository: str, digest: str) -> int:
        """How many tags, and pushes under way, need the digest."""
        return int(await self._store.do(self._store.client.hget(keys.pins(repository), digest)) or 0)

    async def begin_adoption(self, repository: str) -> Adoption:
        """To be called before all tags of a repository are looked at; what it says is for `begin_delete`.

        The same for every proxy until the ledger may have lost something: it is emptied or put back, its server is
        started anew, or a replica takes over.
        """
        lineage = await self._epoch.list(repository)
        part = await self._store.script("adoption", _slot(repository, "adopted"), [secrets.token_hex(8)])
        return Adoption(lineage, part.decode())

    # --- drift

    async def open_drift(self, repository: str, tag: str, *, seen: str, held: str, event: Event) -> bool:
        """Note that the upstream shows ``seen`` (empty for nothing) where the tag holds ``held``; true when that is
        new.
        """
        await self.attention.expect(Kind.DRIFT, repository)
        reply = await self._publish(
            repository,
            "drift_open",
            [keys.drift(repository), keys.outbox(repository), keys.tag(repository, tag), keys.marks(repository)],
            [tag, seen or "-", held, as_written(event)],
        )
        return self._count(event, written=bool(reply))

    async def close_drift(self, repository: str, tag: str, event: Event) -> bool:
        """End a finding with the event of its repair; false when there was none."""
        reply = await self._publish(
            repository, "drift_close", [keys.drift(repository), keys.outbox(repository)], [tag, as_written(event)]
        )
        return self._count(event, written=bool(reply))

    async def drifts(self, repository: str) -> list[Finding]:
        """The open findings of a repository, by tag."""
        found = await self._store.do(self._store.client.hgetall(keys.drift(repository)))
        return [finding_of(tag.decode(), value.decode()) for tag, value in sorted(found.items())]

    async def drift_of(self, repository: str, tag: str) -> Finding | None:
        """The open finding of one tag."""
        found: bytes | None = await self._store.do(self._store.client.hget(keys.drift(repository), tag))
        return finding_of(tag, found.decode()) if found else None

    async def open_drifts(self, *, limit: int, cursor: str = "") -> FindingPage:
        """About ``limit`` open findings of all repositories, from ``cursor`` on; raises `BadCursorError`."""
        page = await self.attention.page(Kind.DRIFT, limit=limit, cursor=cursor)
        found = tuple((each.repository, finding_of(each.tag, each.value.decode())) for each in page.found)
        return FindingPage(found, page.next_cursor)

    async def _seen(self, repository: str) -> tuple[int, int]:
        """What a script that may take something away from others is told of this process' own clock (H112)."""
        ages = await self.clock.ages(keys.intents(repository))
        return ages.at, ages.watched

    def _held(self, tag: str, content: Content, event: Event, *, first: bool, time: int) -> list[Argument]:
        """The arguments that ``commit.lua`` and ``adopt.lua`` share, from the digest on; ``time``: the ledger's own."""
        shown: dict[str, Argument] = {
            "by": event.actor,
            "media_type": content.media_type,
            "size": content.size,
            "platforms": " ".join(content.platforms),
            "rule": event.rule,
            "event": event.id,
        }
        if first:
            shown["first_by"] = event.actor
            shown["first_adopted"] = int(event.action is Action.ADOPT)
            shown["aged_from"] = time
        fields = [item for pair in shown.items() for item in pair]
        stored = [item for manifest in content.stored for item in (manifest.digest, packed(manifest))]
        told: list[Argument] = [content.digest, tag, as_written(event), _needs(content), self._quarantine_ms]
        return [*told, len(fields), *fields, *stored]

    def _count(self, event: Event | None, *, written: bool) -> bool:
        if event is not None and written:
            self._recorded(event)
        return written

    async def _publish(self, repository: str, name: str, keys_: Sequence[str], args: Sequence[Argument]) -> Any:
        run = self._store.durable_script if name in _WAITED_FOR else self._store.script
        try:
            return await run(name, keys_, args)
        finally:
            self._published(repository)


_REPOSITORIES_A_CALL = 500

_AS_SECOND = 2
"""What ``conclude.lua`` answers where it wrote a second event."""

_SET = frozenset({Outcome.CREATED, Outcome.OVERWRITTEN, Outcome.UNCHANGED})
"""How a push ends whose tag holds its content from then on."""

_WAITED_FOR = frozenset({"claim", "arm", "commit", "adopt", "drift_open", "delete_end", "record", "conclude"})
"""Steps that wait for replicas or disk where told to: those whose loss could make two winners or undo one (H67, H68),
and those whose event goes with an answer (H109).
"""

_SLOT = {
    "tags": keys.tags,
    "holders": keys.holders,
    "moving": keys.moving,
    "moved": keys.moved,
    "floor": keys.floor,
    "late": keys.late,
    "marks": keys.marks,
    "pins": keys.pins,
    "manifests": keys.manifests,
    "intents": keys.intents,
    "unproved": keys.unproved,
    "outbox": keys.outbox,
    "claims": keys.claims,
    "deletes": keys.deletes,
    "adopted": keys.adopted,
    "exceptions": keys.exceptions,
}


def _slot(repository: str, *parts: str) -> list[str]:
    return [_SLOT[part](repository) for part in parts]


def _keys(repository: str, tag: str, *parts: str) -> list[str]:
    return [keys.tag(repository, tag), *_slot(repository, *parts)]


def _needs(content: Content) -> str:
    return " ".join(sorted(content.needs | {content.digest}))
