"""Taking all protected tags of the upstream into the ledger at once, before anybody touches them (H71).

Without it each tag is adopted when it is first pushed, pulled or threatened by a delete.  Walked in order, and
resumable: what has a record already costs no question to the upstream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from immuproxy.drift.polite_client import Questions
from immuproxy.edge import listing
from immuproxy.edge.listing import ListingRefusedError
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.upstream import Found, UpstreamUnavailableError
from immuproxy.ledger.model import TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import names
from immuproxy.oci.errors import OciError
from immuproxy.rules.model import Policy, RuleSet

CHUNK = 500
"""Records read in one round trip."""

_NOT_FOUND = 404


class ImportResult(StrEnum):
    """What became of a tag that the upstream lists."""

    ADOPTED = "adopted"
    KNOWN = "known"
    MUTABLE = "mutable"
    SHADOW = "shadow"
    GHOST = "ghost"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class ListedRepository:
    """A repository, and how many tags the upstream lists in it; its tags come next."""

    repository: str
    tags: int


@dataclass(frozen=True, slots=True)
class Imported:
    """One tag, or with an empty ``tag`` a whole repository that could not be listed."""

    repository: str
    tag: str
    result: ImportResult
    digest: str = ""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "repository": self.repository,
            "tag": self.tag,
            "result": self.result.value,
            "digest": self.digest,
            "reason": self.reason,
        }


class Importer:
    """Walks over what the upstream lists."""

    def __init__(self, rules: RuleSet, register: Register, recovery: Recovery, questions: Questions) -> None:
        """``recovery`` must ask the upstream as ``questions`` does."""
        self._rules = rules
        self._register = register
        self._recovery = recovery
        self._questions = questions

    async def repositories(self) -> list[str]:
        """Those that the catalog lists, and those that the ledger knows: a catalog may leave some out (H27).

        Raises `ListingRefusedError`, `UpstreamUnavailableError`.
        """
        listed = await listing.repositories(self._questions.upstream, self._questions.caller)
        return sorted({*listed, *await self._register.repositories()})

    async def run(self, repositories: Sequence[str]) -> AsyncIterator[ListedRepository | Imported]:
        """Import them one after the other; raises `UpstreamUnavailableError` where the upstream is gone."""
        for repository in repositories:
            if not names.is_repository(repository):
                reason = "this is no repository name of the specification, and the proxy does not serve it"
                yield Imported(repository, "", ImportResult.UNREADABLE, reason=reason)
                continue
            async for step in self._repository(repository):
                yield step

    async def _repository(self, repository: str) -> AsyncIterator[ListedRepository | Imported]:
        try:
            tags = await listing.tags(self._questions.upstream, repository, self._questions.caller)
        except (ListingRefusedError, UpstreamUnavailableError) as error:
            await self._questions.alive()
            yield Imported(repository, "", ImportResult.UNREADABLE, reason=str(error))
            return
        yield ListedRepository(repository, len(tags))
        for at in range(0, len(tags), CHUNK):
            async for imported in self._chunk(repository, tags[at : at + CHUNK]):
                yield imported

    async def _chunk(self, repository: str, tags: Sequence[str]) -> AsyncIterator[Imported]:
        valid = [tag for tag in tags if names.is_tag(tag)]
        records = {found.tag: found for found in await self._register.records(repository, valid)}
        for tag in tags:
            found = records.get(tag)
            if found is None:
                yield Imported(repository, tag, ImportResult.UNREADABLE, reason="this is no tag of the specification")
            else:
                yield await self._tag(found)

    async def _tag(self, found: TagRecord) -> Imported:
        repository, tag = found.repository, found.tag
        if found.committed is not None:
            return Imported(repository, tag, ImportResult.KNOWN, found.committed.digest)
        rule = self._rules.match(repository, tag)
        if not rule.protects:
            return Imported(
                repository, tag, ImportResult.MUTABLE if rule.policy is Policy.MUTABLE else ImportResult.SHADOW
            )
        seen, manifest = await self._questions.manifest(repository, tag)
        if manifest is not None:
            return await self._adopt(found, manifest)
        if seen.status == _NOT_FOUND:
            return Imported(
                repository, tag, ImportResult.GHOST, reason="the upstream lists it and does not give it out"
            )
        reason = seen.failure or f"the upstream answered {seen.status}: immuproxy may not look (upstream.username)"
        return Imported(repository, tag, ImportResult.UNREADABLE, reason=reason)

    async def _adopt(self, found: TagRecord, manifest: Found) -> Imported:
        repository, tag = found.repository, found.tag
        rule = self._rules.match(repository, tag)
        try:
            await self._recovery.settle_as(found, manifest, self._questions.caller, rule)
        except (OciError, UpstreamUnavailableError) as error:
            return Imported(repository, tag, ImportResult.UNREADABLE, manifest.digest, str(error))
        now = await self._register.read(repository, tag)
        if now.tombstone is not None:
            return Imported(repository, tag, ImportResult.KNOWN, reason="it was deleted, and its name stays taken")
        if now.committed is None:
            late = "it was deleted, and a push from before that has arrived since"
            return Imported(
                repository, tag, ImportResult.KNOWN, reason="a push of it is under way" if now.claim else late
            )
        return Imported(repository, tag, ImportResult.ADOPTED, now.committed.digest)
