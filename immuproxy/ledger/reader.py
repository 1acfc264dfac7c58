"""What the ledger holds: records, what they need, and what is open.  Nothing here changes it.

Every method raises `immuproxy.store.redis.LedgerUnavailableError` when Redis does not answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence

from immuproxy.ledger import keys
from immuproxy.ledger.attention import Attention, AttentionKind
from immuproxy.ledger.holders import Holders
from immuproxy.ledger.model import Event, Finding, FindingPage, StoredManifest, TagRecord, event_from_dict
from immuproxy.ledger.packing import unpacked
from immuproxy.ledger.records import FIELDS, finding_of, record_of
from immuproxy.oci import names
from immuproxy.store.redis import LedgerUnavailableError, Store

Range = tuple[int | str, int | str]
"""From and to, both belong to it: ms since 1970, or ``-inf`` and ``+inf``."""

Place = tuple[str, str]
"""A repository, and a tag or digest in it."""

_REPOSITORIES_A_CALL = 500
_TAGS_A_CALL = 2_000


class Reader:
    """Questions to the ledger."""

    def __init__(self, store: Store) -> None:
        """Use the connection of ``store``."""
        self._store = store
        self.attention = Attention(store)
        self.holders = Holders(store)

    async def read(self, repository: str, tag: str) -> TagRecord:
        """The record as it is now; ABSENT when there is none."""
        values = await self._store.do(self._store.client.hmget(keys.tag(repository, tag), FIELDS))
        return record_of(repository, tag, _fields(values))

    async def confirm(self) -> None:
        """Make sure that what was read just now is what the master says, not one that was replaced (H99)."""
        await self._store.confirm()

    async def stored(self, repository: str, digest: str) -> StoredManifest | None:
        """The stored bytes of a manifest that a committed tag needs."""
        value = await self._store.do(self._store.client.hget(keys.manifests(repository), digest))
        return unpacked(digest, value) if value else None

    async def stored_size(self, repository: str, digest: str) -> int:
        """How long its value is in bytes, of a large one the manifest's own size; 0 where it is not stored."""
        return int(await self._store.do(self._store.client.hstrlen(keys.manifests(repository), digest)))

    async def is_stored(self, repository: str, digest: str) -> bool:
        """Whether the digest is such a manifest's."""
        return bool(await self._store.do(self._store.client.hexists(keys.manifests(repository), digest)))

    async def stored_many(self, repository: str, digests: Sequence[str]) -> dict[str, StoredManifest]:
        """The stored ones of some manifests."""
        if not digests:
            return {}
        values = await self._store.do(self._store.client.hmget(keys.manifests(repository), digests))
        found = (unpacked(digest, value) for digest, value in zip(digests, values, strict=True) if value)
        return {manifest.digest: manifest for manifest in found if manifest}

    async def is_pinned(self, repository: str, digest: str) -> bool:
        """Whether a committed tag, or a push under way, needs the digest."""
        return bool(await self._store.do(self._store.client.hexists(keys.pins(repository), digest)))

    async def pin_count(self, repository: str, digest: str) -> int:
        """How many tags, and pushes under way, need the digest."""
        return int(await self._store.do(self._store.client.hget(keys.pins(repository), digest)) or 0)

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

    async def tags(self, repository: str) -> list[str]:
        """The names of all tags with a committed record, latest commit first."""
        found = await self._store.do(self._store.client.zrevrange(keys.tags(repository), 0, -1))
        return [name.decode() for name in found]

    async def standing_tags(self, repository: str) -> AsyncIterator[list[str]]:
        """The names of the tags that the repository has now, in parts and in no order, each once: those that the
        ledger holds, and those of no rule that were pushed and not deleted since.
        """
        client, key = self._store.client, keys.tags(repository)
        seen: set[str] = set()
        start = 0
        while found := await self._store.do(client.zrange(key, start, start + _TAGS_A_CALL - 1)):
            held = [name.decode() for name in found]
            seen.update(held)
            yield held
            start += len(held)
        place = -1
        while place:
            place, part = await self._store.do(client.hscan(keys.moved(repository), max(place, 0), count=_TAGS_A_CALL))
            fresh = {name.decode() for name in part} - seen
            seen |= fresh
            yield sorted(fresh)

    async def records(self, repository: str, tags: Sequence[str]) -> list[TagRecord]:
        """The records of many tags in one round trip."""
        return await self.records_at([(repository, tag) for tag in tags])

    async def records_at(self, places: Sequence[Place]) -> list[TagRecord]:
        """The same of any repositories; on a cluster, one round trip to each node."""
        pipeline = self._store.client.pipeline(transaction=False)
        for place in places:
            pipeline.hmget(keys.tag(*place), FIELDS)
        rows = await self._store.do(pipeline.execute())
        return [record_of(*place, _fields(row)) for place, row in zip(places, rows, strict=True)]

    async def stored_at(self, places: Sequence[Place]) -> list[StoredManifest | None]:
        """The stored manifests of some repositories and digests, or None, as `records_at`."""
        pipeline = self._store.client.pipeline(transaction=False)
        for repository, digest in places:
            pipeline.hget(keys.manifests(repository), digest)
        values = await self._store.do(pipeline.execute())
        return [unpacked(digest, value) if value else None for (_, digest), value in zip(places, values, strict=True)]

    async def are_stored(self, places: Sequence[Place]) -> list[bool]:
        """As `is_stored`, of some repositories and digests, as `records_at`."""
        pipeline = self._store.client.pipeline(transaction=False)
        for repository, digest in places:
            pipeline.hexists(keys.manifests(repository), digest)
        return [bool(found) for found in await self._store.do(pipeline.execute())]

    def node_of(self, place: Place) -> str:
        """Which node of a cluster knows of it; empty while that is not known, and where there is only one."""
        try:
            return self._store.node(keys.manifests(place[0]))
        except LedgerUnavailableError:
            return ""

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
            pipeline = self._store.client.pipeline(transaction=False)
            for repository in repositories[at : at + _REPOSITORIES_A_CALL]:
                pipeline.execute_command(command, key(repository))
            found += await self._store.do(pipeline.execute(raise_on_error=False))
            await asyncio.sleep(0)  # thousands of replies are a while for everybody else on the loop
        return found

    async def now_ms(self) -> int:
        """The clock of Redis, by which all records are dated (H73)."""
        return await self._store.now_ms()

    async def past_claims(self, repository: str, *, between: Range) -> list[str]:
        """Tags with a claim whose lease ends between these times (ms, both ends belong to it), and others that had
        one.
        """
        names = await self._store.do(self._store.client.zrange(keys.claims(repository), *between, byscore=True))
        return [name.decode() for name in names]

    async def intents(self, repository: str) -> list[Event]:
        """Drafts of what may have reached the upstream and has no outcome yet; ``time`` is when each was written."""
        found = await self._store.do(self._store.client.hgetall(keys.intents(repository)))
        return [event_from_dict(json.loads(draft)) for draft in found.values()]

    async def intent(self, repository: str, event_id: str) -> Event | None:
        """The draft of one such push."""
        draft = await self._store.do(self._store.client.hget(keys.intents(repository), event_id))
        return event_from_dict(json.loads(draft)) if draft else None

    async def unproved(self, repository: str) -> list[Event]:
        """The events that were told without proof and for which nobody has known better yet."""
        found = await self._store.do(self._store.client.hgetall(keys.unproved(repository)))
        return [event_from_dict(json.loads(event)) for event in found.values()]

    async def deletes(self, repository: str) -> int:
        """How many deletes in the repository have ended."""
        return int(await self._store.do(self._store.client.get(keys.deletes(repository))) or 0)

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
        page = await self.attention.page(AttentionKind.DRIFT, limit=limit, cursor=cursor)
        found = tuple((each.repository, finding_of(each.tag, each.value.decode())) for each in page.found)
        return FindingPage(found, page.next_cursor)


def _fields(values: Sequence[bytes | None]) -> dict[str, str]:
    return {name: value.decode() for name, value in zip(FIELDS, values, strict=True) if value is not None}
