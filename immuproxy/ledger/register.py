"""The write-once register of each tag: ABSENT -> CLAIMED -> ARMED -> COMMITTED, one script for each step.

The linearisation point of a push is the one script that makes its claim COMMITTED.  Every step may be repeated: after a
lost reply it answers what it answered before (H65).  The steps judge nothing; who may overwrite is decided by the
caller.

Every method raises `immuproxy.store.redis.LedgerUnavailableError` when Redis does not answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from immuproxy.ledger import keys
from immuproxy.ledger.attention import AttentionKind
from immuproxy.ledger.clock import Clock
from immuproxy.ledger.comparisons import Comparisons
from immuproxy.ledger.content import Content
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.going import Adoption, GoneTag, MovedTag, OverwriteArmedError, Permit
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.late import LateWrites
from immuproxy.ledger.model import (
    Action,
    Claim,
    ClaimReply,
    Event,
    Outcome,
    Reply,
    Step,
    StoredManifest,
    TagRecord,
    as_written,
)
from immuproxy.ledger.packing import packed
from immuproxy.ledger.reader import Range, Reader
from immuproxy.ledger.records import claim_reply_of, reply_of
from immuproxy.ledger.watch import Ages
from immuproxy.store import steady
from immuproxy.store.redis import Argument, Call, Store

QUARANTINE_MS = 300_000
"""That of the standard time limit of a manifest request.  Whoever sets tags says how long it really is."""


def _nobody(_repository: str) -> None:
    pass


def _nothing(_event: Event) -> None:
    pass


class Register(Reader):
    """The records of all tags: the questions of `Reader`, and every step that changes one."""

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
        super().__init__(store)
        self._epoch = epoch
        self._quarantine_ms = quarantine_ms
        self._published = published
        self._recorded = recorded
        self.comparisons = Comparisons(store)
        self.late = LateWrites(store)

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
        spelled: Sequence[str] = (),
        adoption: Adoption | None = None,
    ) -> ClaimReply:
        """Claim the tag for a digest (``claim.lua``).

        ``over_generation``: the generation that the caller may overwrite, and ``over_digest`` what it held, empty for a
        tombstone.  ``resolved_token``: the stale armed claim that the caller found absent upstream; it is replaced once
        it is ``quarantine_ms`` old, and ``closing`` is its event.  ``spelled``: digests of which the reply tells
        whether they lack anything, and ``adoption`` what it tells of that (`begin_adoption`).
        """
        seen, asked = await self._seen(repository), steady.now()
        written = ("marks", "pins", "manifests", "intents", "outbox", "claims")
        looked_at = ("deletes", "exceptions", "adopted", "moved")
        step = Call(
            "claim",
            _keys(repository, tag, *written, *looked_at),
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
                " ".join(spelled),
                adoption.part if adoption else "",
            ],
            durable=True,
        )
        claimed = claim_reply_of(repository, tag, await self._listed(repository, step))
        await self.clock.check(keys.tag(repository, tag), claimed.now, asked=asked)
        adopted = claimed.adopted and adoption is not None and adoption.lineage == self._epoch.lineage
        return replace(claimed, adopted=adopted)

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
        seen: Claim | None = None,
        first: bool = True,
        closing: Event | None = None,
    ) -> Reply:
        """Take what the upstream shows into the ledger, or finish somebody's armed claim (``adopt.lua``).

        ``seen``: the armed claim that the caller saw, of whose push it tells.  ``reuse``: whether the name of a deleted
        tag may be used again.  A ledger that lost something, or may have, does not know whether what it takes for a
        late write was pushed once more since: then it is adopted as well (H110).
        """
        await self._epoch.list(repository)
        kept = ("tags", "pins", "manifests", "intents", "outbox", "marks", "holders", "floor", "late")
        token = f"{seen.token} {seen.event}" if seen else ""
        given = [token, *self._held(tag, content, event, first=first, time=await self.clock.time())]

        async def step() -> Reply:
            whole = not self._epoch.unsure()
            arguments = [*given, *await self._seen(repository), int(whole), int(reuse), as_written(closing)]
            return reply_of(
                repository, tag, await self._publish(repository, "adopt", _keys(repository, tag, *kept), arguments)
            )

        held = await step()
        if held.step is Step.LATE:
            await self._epoch.beat()
            held = await step() if self._epoch.unsure() else held
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

    async def forget_unproved(self, repository: str, ids: Sequence[str]) -> None:
        """Nobody will know better about these."""
        if ids:
            await self._store.do(self._store.client.hdel(keys.unproved(repository), *ids))

    async def record(self, event: Event) -> None:
        """Record something that changes nothing: a refused delete, drift."""
        step = Call("record", _slot(event.repository, "outbox"), [as_written(event)], durable=True)
        await self._listed(event.repository, step)
        self._count(event, written=True)

    async def record_judged(self, event: Event, found: TagRecord) -> bool:
        """Record what a push came to by what its tag holds, unchanged or refused.

        False where the tag does not hold that any more: what replaced it is told already (H117).
        """
        keys_ = [*_slot(event.repository, "outbox"), keys.tag(event.repository, event.tag)]
        held = found.committed.digest if found.committed else ""
        step = Call("record", keys_, [as_written(event), held, found.generation], durable=True)
        return self._count(event, written=bool(await self._listed(event.repository, step)))

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

    async def begin_adoption(self, repository: str) -> Adoption:
        """To be called before all tags of a repository are looked at; what it says is for `begin_delete`.

        The same for every proxy until the ledger may have lost something: it is emptied or put back, its server is
        started anew, or a replica takes over.
        """
        lineage = await self._epoch.list(repository)
        part = await self._store.script("adoption", _slot(repository, "adopted"), [secrets.token_hex(8)])
        return Adoption(lineage, part.decode())

    async def forget_adoption(self, repository: str) -> None:
        """All tags have to be adopted anew, by every process, before anything relies on it."""
        await self._store.do(self._store.client.delete(keys.adopted(repository)))

    # --- drift

    async def open_drift(self, repository: str, tag: str, *, seen: str, held: str, event: Event) -> bool:
        """Note that the upstream shows ``seen`` (empty for nothing) where the tag holds ``held``; true when that is
        new.
        """
        await self.attention.expect(AttentionKind.DRIFT, repository)
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

    async def begin_heal(self, repository: str, tag: str, *, held: str, name: str) -> bool:
        """Before what the tag holds is put under it upstream again: no other content is claimed for it until
        `end_heal`, or until the PUT can no longer land (H121) (``heal_begin.lua``).

        ``name``: random.  False where the tag holds something else than ``held``, may be about to, or is being deleted.
        """
        keys_ = _keys(repository, tag, "pins", "manifests", "marks", "claims")
        return bool(await self._store.durable_script("heal_begin", keys_, [held, name, tag]))

    async def end_heal(self, repository: str, tag: str, *, name: str) -> None:
        """The heal has landed, or was not sent."""
        await self._store.do(self._store.client.hdel(keys.tag(repository, tag), f"heal_{name}"))

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

    async def _listed(self, repository: str, step: Call) -> Any:
        """List the repository, and take the step, in one trip where that can be."""
        try:
            return await self._epoch.list_and(repository, step)
        finally:
            self._published(repository)

    async def _publish(self, repository: str, name: str, keys_: Sequence[str], args: Sequence[Argument]) -> Any:
        run = self._store.durable_script if name in _WAITED_FOR else self._store.script
        try:
            return await run(name, keys_, args)
        finally:
            self._published(repository)


_AS_SECOND = 2
"""What ``conclude.lua`` answers where it wrote a second event."""

_SET = frozenset({Outcome.CREATED, Outcome.OVERWRITTEN, Outcome.UNCHANGED})
"""How a push ends whose tag holds its content from then on."""

_WAITED_FOR = frozenset({"arm", "commit", "adopt", "drift_open", "delete_end", "conclude"})
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
