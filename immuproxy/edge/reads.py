"""``GET`` and ``HEAD /v2/<name>/manifests/<reference>`` of a protected tag, and of what one needs: answered according
to the ledger (H15, H23-H28).

The upstream is asked as the client asked, so that its own authorisation and content negotiation hold.  What it answers
is passed on only when it is what the ledger says; otherwise the content is fetched by its digest, which cannot lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from immuproxy.edge import answers, headers
from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.memory import Memory
from immuproxy.edge.push.model import ManifestStore
from immuproxy.edge.recovery import Recovery
from immuproxy.edge.upstream import PAUSE, TRIES, Found, Upstream, UpstreamUnavailableError
from immuproxy.ledger.model import Committed, State, StoredManifest, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci import errors, manifests
from immuproxy.oci.errors import OciError
from immuproxy.oci.manifests import MEDIA_TYPES, media_type_of
from immuproxy.oci.names import digest_of
from immuproxy.oci.routes import Operation, RouteKind, build_path
from immuproxy.rules.model import Policy, Rule
from immuproxy.store.redis import LedgerUnavailableError, ProxyOverloadedError

log = structlog.get_logger("immuproxy.edge")

NOT_ALLOWED = frozenset({401, 403, 429})
"""What the upstream answers to this client, and not of the content."""

Drifted = Callable[[TagRecord, str], None]


class Reads:
    """Reads of protected tags."""

    def __init__(
        self,
        register: Register,
        upstream: Upstream,
        manifest_store: ManifestStore,
        recovery: Recovery,
        drifted: Drifted,
        *,
        memory: Memory,
        pass_unknown: bool,
    ) -> None:
        """``drifted(record, seen)`` is told when the upstream holds something else, and must not wait;
        ``pass_unknown`` lets reads of tags pass that this process knows nothing of while Redis is down.
        """
        self._register = register
        self._upstream = upstream
        self._manifest_store = manifest_store
        self._recovery = recovery
        self._drifted = drifted
        self._memory = memory
        self._pass_unknown = pass_unknown

    async def read(self, operation: Operation, caller: Caller, rule: Rule) -> Answer:
        """The answer to a read; raises `OciError`, `UpstreamUnavailableError`."""
        try:
            found = await self._record(operation)
        except LedgerUnavailableError as error:
            return await self._without_ledger(operation, caller, rule, error)
        if found.committed is None:
            self._memory.forget(operation.repository, operation.reference)
            return await self._uncommitted(operation, caller, rule, found)
        self._memory.keep(found, found.committed)
        return await self._committed(operation, caller, found, found.committed)

    async def read_digest(self, operation: Operation, caller: Caller) -> Answer | None:
        """The answer to a read by digest of what a protected tag needs; None for all else, which goes straight through.

        A client resolves a tag to a digest first, and then asks for that, and for the children of an index.  So moments
        in which a link is half-written (H15), and a manifest that the upstream has lost, are bridged here too.
        """
        repository, digest = operation.repository, operation.reference
        try:
            if not await self._register.is_stored(repository, digest):
                return None
            answer = await self._as_asked(operation, caller, digest)
            if _is_exactly(operation, answer, digest):
                return self._conditional(caller, answer, digest)
            stored = await self._register.stored(repository, digest)
        except LedgerUnavailableError:
            return None
        tells_of_content = answer.status == 200 or (answer.status >= 400 and answer.status not in NOT_ALLOWED)
        if stored is None or not tells_of_content or _hides(answer, stored, caller):
            return answer
        if _is_content(operation, answer, stored):
            return self._conditional(caller, answer, digest)
        return await self._from_ledger(operation, caller, stored, answer)

    async def _record(self, operation: Operation) -> TagRecord:
        """What the ledger knows; asked a second time where only the proxy was to blame."""
        try:
            return await self._register.read(operation.repository, operation.reference)
        except ProxyOverloadedError:
            return await self._register.read(operation.repository, operation.reference)

    # --- the ledger knows

    async def _committed(self, operation: Operation, caller: Caller, found: TagRecord, held: Committed) -> Answer:
        answer = await self._as_asked(operation, caller, operation.reference)
        if answer.status in NOT_ALLOWED:
            return answer
        if await self._is_held(operation, caller, answer, held):
            return self._conditional(caller, answer, held.digest)
        if _hides(answer, held, caller):
            return await self._checked_hiding(operation, caller, answer, held)
        return await self._by_digest(operation, caller, found, held, answer)

    async def _is_held(self, operation: Operation, caller: Caller, answer: Answer, held: Committed) -> bool:
        """The digest held, or the one child that the registry gives to clients which know no lists (H23)."""
        if _is_content(operation, answer, held):
            return True
        if not _is_exactly(operation, answer, answer.digest):
            return False
        if held.media_type not in manifests.INDEX_TYPES or _accepts(caller, held.media_type):
            return False
        index = await self._manifest_store.manifest(operation.repository, held.digest, caller)
        return index is not None and answer.digest in index.children

    async def _checked_hiding(self, operation: Operation, caller: Caller, answer: Answer, held: Committed) -> Answer:
        """The client does not accept the type held, and the registry says so in its own way: fine, if it holds it."""
        seen = await self._upstream.probe(operation.repository, operation.reference, caller)
        if isinstance(seen, Found) and seen.digest == held.digest:
            return answer
        return await self._exactly(operation, caller, held)

    async def _by_digest(
        self, operation: Operation, caller: Caller, found: TagRecord, held: Committed, seen: Answer
    ) -> Answer:
        """The upstream shows something else: answer with what the tag holds, and say that it drifted."""
        if not (found.claim and seen.digest == found.claim.digest):
            self._drifted(found, seen.digest)
        return await self._exactly(operation, caller, held)

    async def _exactly(self, operation: Operation, caller: Caller, held: Committed) -> Answer:
        """The digest held: from the upstream by digest, or where that has lost it, from the ledger's own copy."""
        answer = await self._as_asked(operation, caller, held.digest)
        if answer.status in NOT_ALLOWED:
            return answer
        if _is_content(operation, answer, held):
            return self._conditional(caller, answer, held.digest)
        stored = await self._register.stored(operation.repository, held.digest)
        if stored is None:
            raise errors.unavailable(f"the upstream does not give out {held.digest}, which this tag holds")
        return await self._from_ledger(operation, caller, stored, answer)

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
        if not may:
            return answer
        return self._conditional(caller, answers.manifest(stored.digest, stored.media_type, stored.body), stored.digest)

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

    async def _as_asked(self, operation: Operation, caller: Caller, reference: str) -> Answer:
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

    @staticmethod
    def _conditional(caller: Caller, answer: Answer, digest: str) -> Answer:
        """304 where the client has it already, decided after the content was seen."""
        listed = ",".join(caller.headers.getall("If-None-Match", ()))
        wanted = {tag.strip().removeprefix("W/").strip('"') for tag in listed.split(",")}
        return answers.not_modified(digest) if wanted & {digest, answer.digest, "*"} else answer

    # --- the ledger does not know (yet)

    async def _uncommitted(self, operation: Operation, caller: Caller, rule: Rule, found: TagRecord) -> Answer:
        """Absent or only claimed: what the upstream shows is adopted; an armed claim is helped, or not visible yet
        (H28).
        """
        seen = await self._upstream.probe(operation.repository, operation.reference, caller)
        if not isinstance(seen, Found):
            return seen
        claim = found.claim
        if claim and claim.state is State.ARMED and claim.digest != seen.digest:
            raise _unknown_manifest(operation)
        try:
            await self._recovery.settle_as(found, seen, caller, rule)
        except OciError as error:
            if error.status >= 500 or claim:
                raise
            return await self._unadopted(operation, caller, error)
        now = await self._register.read(operation.repository, operation.reference)
        if now.committed is None:
            raise _unknown_manifest(operation)
        self._memory.keep(now, now.committed)
        return await self._committed(operation, caller, now, now.committed)

    async def _unadopted(self, operation: Operation, caller: Caller, error: OciError) -> Answer:
        """A tag that predates the proxy and needs more than one tag may (H85): nobody may move it, and whoever pulls it
        gets what the upstream shows.
        """
        log.warning(
            "a tag cannot be adopted, so what it holds is what the upstream shows",
            repository=operation.repository,
            tag=operation.reference,
            reason=error.message,
        )
        return await self._as_asked(operation, caller, operation.reference)

    # --- the ledger cannot be asked

    async def _without_ledger(
        self, operation: Operation, caller: Caller, rule: Rule, error: LedgerUnavailableError
    ) -> Answer:
        """An unknown tag passes only where Redis was asked and did not answer: the proxy's own shortage, which anybody
        can bring about, opens nothing (H82).
        """
        held = self._memory.of(operation.repository, operation.reference)
        if held:
            return await self._as_remembered(operation, caller, held, rule)
        if isinstance(error, ProxyOverloadedError):
            raise error
        if self._pass_unknown:
            return await self._as_asked(operation, caller, operation.reference)
        raise errors.unavailable("the ledger (Redis) does not answer, and what this tag holds is not known here")

    async def _as_remembered(self, operation: Operation, caller: Caller, held: Committed, rule: Rule) -> Answer:
        """What this process knows of the tag, unless it may have changed since.

        Anything else at the upstream is drift, or an overwrite that another proxy carried and recorded, by the rule or
        by an exception: only the ledger could tell.  Nothing there may be a delete, where those are allowed, and is
        otherwise a link half-written (H15) or lost.
        """
        seen: Found | Answer | None = None
        with suppress(UpstreamUnavailableError):
            seen = await self._upstream.probe(operation.repository, operation.reference, caller)
        if isinstance(seen, Answer) and (seen.status != 404 or rule.delete_allowed):
            return seen
        shown = seen.digest if isinstance(seen, Found) else ""
        if shown != held.digest and (shown or _may_change(rule)):
            raise errors.unavailable(
                "the ledger (Redis) does not answer, and the upstream does not show what this tag held before"
            )
        overwritable = _may_change(rule) or held.generation > 1
        if overwritable and not self._memory.is_settled(operation.repository, operation.reference):
            raise errors.unavailable(
                "the ledger (Redis) does not answer, and this tag may have been overwritten a short time ago"
            )
        return await self._exactly_without_ledger(operation, caller, held)

    async def _exactly_without_ledger(self, operation: Operation, caller: Caller, held: Committed) -> Answer:
        try:
            return await self._exactly(operation, caller, held)
        except LedgerUnavailableError as error:
            raise errors.unavailable(
                "neither the ledger (Redis) nor the upstream gives out what this tag holds"
            ) from error


def _may_change(rule: Rule) -> bool:
    return bool(rule.overwrite) or rule.policy not in {Policy.IMMUTABLE, Policy.FROZEN}


def _accepts(caller: Caller, media_type: str) -> bool:
    accepted = (
        part.partition(";")[0].strip() for value in caller.headers.getall("Accept", []) for part in value.split(",")
    )
    return media_type in accepted


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
    return (answer.status in {400, 404} or rewrites) and not _accepts(caller, held.media_type)


def _unknown_manifest(operation: Operation) -> OciError:
    return OciError(404, "MANIFEST_UNKNOWN", "manifest unknown", detail={"Tag": operation.reference})
