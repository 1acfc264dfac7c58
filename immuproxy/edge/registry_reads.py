"""A read for which the registry is asked: as the client asked, so that its own authorisation and content negotiation
hold.

What it answers is passed on only when it is what the ledger says; otherwise the content is fetched by its digest, which
cannot lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from immuproxy.edge import answers, headers
from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.pull_rights import PullRights
from immuproxy.edge.push.model import ManifestStore
from immuproxy.edge.upstream import PAUSE, TRIES, Found, Upstream, UpstreamUnavailableError
from immuproxy.ledger.model import Committed, StoredManifest, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import errors, manifests
from immuproxy.oci.manifests import MEDIA_TYPES, media_type_of
from immuproxy.oci.names import digest_of
from immuproxy.oci.routes import Operation, RouteKind, build_path

NOT_ALLOWED = frozenset({401, 403, 429})
"""What the upstream answers to this client, and not of the content."""

Drifted = Callable[[TagRecord, str], None]


class RegistryReads:
    """Reads of what the ledger knows."""

    def __init__(
        self,
        register: Register,
        upstream: Upstream,
        manifest_store: ManifestStore,
        drifted: Drifted,
        *,
        pull_rights: PullRights,
    ) -> None:
        """``drifted(record, seen)`` is told when the upstream holds something else, and must not wait; ``pull_rights``
        of all that it answers.
        """
        self._register = register
        self._upstream = upstream
        self._manifest_store = manifest_store
        self._drifted = drifted
        self._pull_rights = pull_rights

    async def tag(self, operation: Operation, caller: Caller, found: TagRecord, held: Committed) -> Answer:
        """What the tag holds, to whom the registry answers; raises `OciError`, `UpstreamUnavailableError`."""
        answer = await self._asked(operation, caller, operation.reference, held.digest)
        if answer.status in NOT_ALLOWED:
            return answer
        if await self._is_held(operation, caller, answer, held):
            return answers.conditional(caller.headers, answer, held.digest)
        if _hides(answer, held, caller):
            return await self._checked_hiding(operation, caller, answer, held)
        return await self._by_digest(operation, caller, found, held, answer)

    async def digest(self, operation: Operation, caller: Caller) -> Answer:
        """The answer to a read by digest of what a protected tag needs; raises `UpstreamUnavailableError`.

        A client resolves a tag to a digest first, and then asks for that, and for the children of an index.  So moments
        in which a link is half-written (H15), and a manifest that the upstream has lost, are bridged here too.
        """
        digest = operation.reference
        answer = await self._asked(operation, caller, digest, digest)
        if _is_exactly(operation, answer, digest):
            return answers.conditional(caller.headers, answer, digest)
        stored = await self._register.stored(operation.repository, digest)
        tells_of_content = answer.status == 200 or (answer.status >= 400 and answer.status not in NOT_ALLOWED)
        if stored is None or not tells_of_content or _hides(answer, stored, caller):
            return answer
        if _is_content(operation, answer, stored):
            return answers.conditional(caller.headers, answer, digest)
        return await self._from_ledger(operation, caller, stored, answer)

    async def exactly(self, operation: Operation, caller: Caller, held: Committed) -> Answer:
        """The digest held: from the upstream by digest, or where that has lost it, from the ledger's own copy."""
        answer = await self._asked(operation, caller, held.digest, held.digest)
        if answer.status in NOT_ALLOWED:
            return answer
        if _is_content(operation, answer, held):
            return answers.conditional(caller.headers, answer, held.digest)
        stored = await self._register.stored(operation.repository, held.digest)
        if stored is None:
            raise errors.unavailable(f"the upstream does not give out {held.digest}, which this tag holds")
        return await self._from_ledger(operation, caller, stored, answer)

    async def as_asked(self, operation: Operation, caller: Caller, reference: str) -> Answer:
        """The client's own request, without conditions (H24); a 5xx is tried again: links are half-written for
        moments (H15).
        """
        sent = headers.without(caller.headers, headers.CONDITIONAL | {"content-length"})
        target = build_path(RouteKind.MANIFEST, operation.repository, reference)
        for _ in range(TRIES - 1):
            try:
                answer = await self._upstream.exchange(operation.method, target, sent)
            except UpstreamUnavailableError:
                pass
            else:
                if answer.status < 500:
                    return answer
            await asyncio.sleep(PAUSE)
        return await self._upstream.exchange(operation.method, target, sent)

    async def _asked(self, operation: Operation, caller: Caller, reference: str, digest: str) -> Answer:
        """As `as_asked`; ``digest`` is what the ledger says that it should give."""
        asked = asyncio.get_running_loop().time()
        answer = await self.as_asked(operation, caller, reference)
        self._pull_rights.notice(operation.repository, caller, answer, digest, asked)
        return answer

    async def _is_held(self, operation: Operation, caller: Caller, answer: Answer, held: Committed) -> bool:
        """The digest held, or the one child that the registry gives to clients which know no lists (H23)."""
        if _is_content(operation, answer, held):
            return True
        if not _is_exactly(operation, answer, answer.digest):
            return False
        if held.media_type not in manifests.INDEX_TYPES or caller.accepts(held.media_type):
            return False
        index = await self._manifest_store.manifest(operation.repository, held.digest, caller)
        return index is not None and answer.digest in index.children

    async def _checked_hiding(self, operation: Operation, caller: Caller, answer: Answer, held: Committed) -> Answer:
        """The client does not accept the type held, and the registry says so in its own way: fine, if it holds it."""
        seen = await self._upstream.probe(operation.repository, operation.reference, caller)
        if isinstance(seen, Found) and seen.digest == held.digest:
            return answer
        return await self.exactly(operation, caller, held)

    async def _by_digest(
        self, operation: Operation, caller: Caller, found: TagRecord, held: Committed, seen: Answer
    ) -> Answer:
        """The upstream shows something else: answer with what the tag holds, and say that it drifted."""
        if not (found.claim and seen.digest == found.claim.digest):
            self._drifted(found, seen.digest)
        return await self.exactly(operation, caller, held)

    async def _from_ledger(
        self, operation: Operation, caller: Caller, stored: StoredManifest, answer: Answer
    ) -> Answer:
        """The ledger's own copy; the upstream's ``answer`` for who may not pull."""
        knows = answer.status == 200 and answer.digest  # a door's log-in page names no digest (H83)
        try:
            may = knows or await self._may_pull(operation.repository, stored, caller)
        except UpstreamUnavailableError as error:  # its words name what the manifest needs
            message = f"{error.status or 'no answer'} when asked whether this client may pull"
            raise UpstreamUnavailableError(f"the upstream gave {message}", error.status) from error
        own = answers.manifest(stored, self._upstream.standing)
        return answers.conditional(caller.headers, own, stored.digest) if may else answer

    async def _may_pull(self, repository: str, stored: StoredManifest, caller: Caller) -> bool:
        """Before the ledger's own copy is given out: the upstream lets this client have something the manifest needs.

        Some registries answer 404 to whom they hide a repository from (H54, H55), and a door may answer anything: only
        the very bytes of a config tell (H83).
        """
        needs = manifests.describe(stored.body, stored.media_type)
        if needs.is_index:
            children = [await self._manifest_store.manifest(repository, child, caller) for child in needs.children]
            configs = [child.config for child in children if child]
        else:
            configs = [needs.config]
        for config in filter(None, configs):
            there = await self._upstream.has_blob(repository, config, caller)
            if there and await self._upstream.small_blob(repository, config, caller) is not None:
                return True
        return False


def _is_exactly(operation: Operation, answer: Answer, digest: str) -> bool:
    """A 200 with these bytes (H25); HEAD has none to look at."""
    told = answer.status == 200 and answer.digest == digest
    return told and (operation.method == "HEAD" or digest_of(answer.body) == digest)


def _is_content(operation: Operation, answer: Answer, held: Committed | StoredManifest) -> bool:
    """As `_is_exactly`; the bytes of schema 1 do not tell (H17)."""
    if held.media_type not in MEDIA_TYPES:
        return answer.status == 200 and answer.digest == held.digest
    return _is_exactly(operation, answer, held.digest)


def _is_known_type(answer: Answer) -> bool:
    return media_type_of(answer.headers.get("Content-Type", "")) in MEDIA_TYPES


def _hides(answer: Answer, held: Committed | StoredManifest, caller: Caller) -> bool:
    """The registry refuses for a client that does not accept the type held, or makes a schema 1 of it (H23)."""
    rewrites = answer.status == 200 and not _is_known_type(answer)
    return (answer.status in {400, 404} or rewrites) and not caller.accepts(held.media_type)
