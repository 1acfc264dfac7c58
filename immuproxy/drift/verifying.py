"""Whether every tag can still be pulled as the ledger holds it: the tag, the manifests by their digests, a first byte
of every blob (H25), children included.

Nothing is written, unless the links are to be repaired: then manifests that are missing are put back by digest from the
stored bytes, and tags are set right.  Blobs are nowhere but at the upstream: who pushed the image has to push it again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from immuproxy.drift import compare
from immuproxy.drift.compare import ContentKind, Discrepancy, Fault
from immuproxy.drift.healer import Healer
from immuproxy.drift.polite_client import Questions
from immuproxy.edge import headers, record
from immuproxy.edge.closure import MAX_CLOSURE
from immuproxy.edge.refusals import first_message
from immuproxy.edge.upstream import UpstreamUnavailableError
from immuproxy.ledger.model import Action, Event, Outcome, Step, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import manifests
from immuproxy.oci.names import digest_of, is_digest_of

CHUNK = 100
"""Records read in one round trip; they should not be old when their turn comes."""

_ACCEPTED = range(200, 300)


@dataclass(frozen=True, slots=True)
class Checked:
    """One tag: what it holds, what does not hold (any more), and whether something was repaired."""

    repository: str
    tag: str
    digest: str
    faults: tuple[Fault, ...]
    healed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
            "holds": not self.faults,
            "healed": self.healed,
            "faults": [fault.to_dict() for fault in self.faults],
        }


@dataclass(frozen=True, slots=True)
class _Looked:
    """A manifest that was looked at, and what it needs."""

    fault: Fault | None
    children: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()


@dataclass(slots=True)
class _Memory:
    """What was looked at in one repository; tags share much of it."""

    manifests: dict[str, _Looked] = field(default_factory=dict)
    blobs: dict[str, Fault | None] = field(default_factory=dict)


class Verifier:
    """Walks over what the ledger holds."""

    def __init__(self, register: Register, healer: Healer, questions: Questions) -> None:
        """``healer`` must ask the upstream as ``questions`` does."""
        self._register = register
        self._healer = healer
        self._questions = questions

    async def count(self, repositories: Sequence[str]) -> int:
        """How many tags they hold."""
        return sum([len(await self._register.tags(repository)) for repository in repositories])

    async def run(self, repositories: Sequence[str], *, heal: bool) -> AsyncIterator[Checked]:
        """Check them one after the other; raises `UpstreamUnavailableError` where the upstream is gone."""
        await self._questions.alive()
        for repository in repositories:
            memory = _Memory()
            tags = sorted(await self._register.tags(repository))
            for at in range(0, len(tags), CHUNK):
                for found in await self._register.records(repository, tags[at : at + CHUNK]):
                    if found.committed is not None:
                        yield await self._tag(found, found.committed.digest, memory, heal=heal)

    async def _tag(self, found: TagRecord, digest: str, memory: _Memory, *, heal: bool) -> Checked:
        faults = await self._faults(found, digest, memory)
        if not faults or not heal:
            return Checked(found.repository, found.tag, digest, faults)
        await self._heal(found, faults)
        for fault in faults:
            memory.manifests.pop(fault.digest, None)
        left = await self._faults(found, digest, memory)
        return Checked(found.repository, found.tag, digest, left, healed=left != faults)

    async def _faults(self, found: TagRecord, digest: str, memory: _Memory) -> tuple[Fault, ...]:
        seen, _ = await self._questions.manifest(found.repository, found.tag)
        of_tag = compare.tag_fault(found, seen)
        of_content = await self._closure(found.repository, digest, memory)
        return (of_tag, *of_content) if of_tag else tuple(of_content)

    async def _closure(self, repository: str, digest: str, memory: _Memory) -> list[Fault]:
        """What is wrong with the manifest and all that it needs; a child comes behind its index."""
        faults: list[Fault] = []
        left, visited = [digest], set[str]()
        while left and len(visited) < MAX_CLOSURE:
            digest = left.pop()
            visited.add(digest)
            looked = await self._manifest(repository, digest, memory)
            of_blobs = [await self._blob(repository, blob, memory) for blob in looked.blobs]
            faults += [fault for fault in (looked.fault, *of_blobs) if fault]
            left += (child for child in looked.children if child not in visited)
        return list(dict.fromkeys(faults))

    async def _manifest(self, repository: str, digest: str, memory: _Memory) -> _Looked:
        known = memory.manifests.get(digest)
        if known is None:
            known = memory.manifests[digest] = await self._look(repository, digest)
        return known

    async def _look(self, repository: str, digest: str) -> _Looked:
        seen, found = await self._questions.manifest(repository, digest)
        fault = None if found and is_digest_of(digest, found.body) else compare.manifest_fault(digest, seen)
        known = found if found and fault is None else await self._register.stored(repository, digest)
        if known is None:
            return _Looked(fault)
        manifest = manifests.describe(known.body, known.media_type)
        return _Looked(fault, manifest.children, manifests.required_blobs(manifest))

    async def _blob(self, repository: str, digest: str, memory: _Memory) -> Fault | None:
        if digest not in memory.blobs:
            seen = await self._questions.blob(repository, digest)
            memory.blobs[digest] = compare.blob_fault(digest, seen)
        return memory.blobs[digest]

    async def _heal(self, found: TagRecord, faults: Sequence[Fault]) -> None:
        """Children first: a registry takes no index whose children it does not have."""
        try:
            for fault in reversed(faults):
                if fault.part is ContentKind.MANIFEST and fault.problem is Discrepancy.MISSING:
                    await self._put_back(found, fault.digest)
            if any(fault.part is ContentKind.TAG and fault.problem is not Discrepancy.UNREADABLE for fault in faults):
                await self._healer.check(found)
        except UpstreamUnavailableError:
            await self._questions.alive()  # what was not healed is seen when the tag is looked at again

    async def _put_back(self, found: TagRecord, digest: str) -> None:
        stored = await self._register.stored(found.repository, digest)
        if stored is None or digest_of(stored.body) != digest:
            return
        sent = headers.without(self._questions.caller.headers, ())
        sent["Content-Type"] = stored.media_type
        caller = self._questions.caller.with_headers(sent)
        reason = "a manifest that the tag needs was put back from the stored bytes"
        event = record.own(Action.REPAIR, Outcome.HEALED, found.repository, tag=found.tag, digest=digest, reason=reason)
        if not await self._intend(event):
            return
        answer = await self._questions.upstream.put_manifest(found.repository, digest, stored.body, caller)
        if answer.status not in _ACCEPTED:
            reason = f"the upstream answered {answer.status}: {first_message(answer)}"
            event = replace(event, outcome=Outcome.FAILED, reason=reason)
        await self._register.conclude(found.repository, event)

    async def _intend(self, event: Event) -> bool:
        """Before the PUT (H92); false while a delete of the manifest is under way."""
        draft = replace(event, outcome=Outcome.FAILED, reason=record.UNKNOWN)
        needs = frozenset({event.digest})
        return await self._register.intend(event.repository, "", needs, draft) is Step.OK
