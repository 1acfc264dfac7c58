"""Deletes, by tag, manifest digest or blob digest: nothing that a protected tag needs may go (H29-H37, H77)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from multidict import CIMultiDict

from immuproxy.allow.exceptions import Allows, Exceptions, Exemption
from immuproxy.edge import answers, headers, record
from immuproxy.edge.adoptions import Adoptions, UnseenError
from immuproxy.edge.answers import Answer
from immuproxy.edge.authority import Authority
from immuproxy.edge.caller import Caller
from immuproxy.edge.needed import by_whom
from immuproxy.edge.refusals import first_message
from immuproxy.edge.taken import Taken
from immuproxy.edge.upstream import NOT_EXECUTED, Upstream, UpstreamUnavailableError
from immuproxy.ledger.going import Adoption, GoneTag, Permit
from immuproxy.ledger.model import Action, Event, Outcome, Step
from immuproxy.ledger.register import Register
from immuproxy.oci import names
from immuproxy.oci.errors import OciError, unavailable
from immuproxy.oci.routes import METHODS, Operation, RouteKind
from immuproxy.rules.decide import BY_EXCEPTION, decide_delete, shown
from immuproxy.rules.model import Rule, RuleSet
from immuproxy.store.redis import LedgerUnavailableError

ADOPTIONS = 3
"""How often all tags of a repository are adopted for one delete, where something may be lost each time after that."""

JUDGED = 3
"""How often one delete is judged, where an exception or its tag changes each time after that."""

ACCEPTED = 202
DONE = frozenset({200, ACCEPTED, 204})
"""What a registry answers to a delete that it has carried out."""


class _UnadoptedError(Exception):
    """The ledger may have lost something after the tags of the repository were adopted."""


class _ChangedError(Exception):
    """An exception ended, or its tag changed, after the delete was judged."""


@dataclass(frozen=True, slots=True)
class _Going:
    """The tags that a delete takes along, and the exceptions without which some of them would stay."""

    tags: tuple[GoneTag, ...] = ()
    exceptions: tuple[Exemption, ...] = ()

    @property
    def permits(self) -> list[Permit]:
        """The exceptions, each with the digest that its tag was seen to hold."""
        held = {tag.name: tag.digest for tag in self.tags}
        return [Permit(each.tag, held.get(each.tag, ""), each.event) for each in self.exceptions]


class Deletes:
    """The door for deletes."""

    def __init__(
        self,
        rules: Callable[[], RuleSet],
        register: Register,
        upstream: Upstream,
        *,
        adoptions: Adoptions,
        authority: Authority,
        exceptions: Exceptions,
        longest: float,
    ) -> None:
        """``longest``: seconds that one delete may take at the upstream."""
        self._rules = rules
        self._register = register
        self._upstream = upstream
        self._adoptions = adoptions
        self._authority = authority
        self._exceptions = exceptions
        self._longest = longest
        self._taken = Taken(rules, register, upstream)

    async def delete(self, operation: Operation, caller: Caller) -> Answer:
        """Carry one delete to its end, or refuse it with 405 (the specification's answer for a disabled delete)."""
        refused = await self._authority.refuse_delete(operation, caller)
        if refused is not None:
            return refused
        carry = self._delete_tag if operation.is_tag else self._delete_digest
        for _ in range(JUDGED):
            with suppress(_ChangedError):
                return await carry(operation, caller)
        raise unavailable("the tag, or the exception that allows its delete, changes all the time; try again")

    # --- by tag

    async def _delete_tag(self, operation: Operation, caller: Caller) -> Answer:
        repository, tag = operation.repository, operation.reference
        rule = self._rules().match(repository, tag)
        # A tag that was protected once may still have its record, which has to go with it (H59).
        known = (
            self._adoptions.record(repository, tag, caller) if rule.protects else self._register.read(repository, tag)
        )
        found = await known
        held = found.committed.digest if found.committed else ""
        exception = await self._exception(repository, tag, held, rule)
        permitted = exception.words if exception else None
        verdict = decide_delete(rule, repository=repository, tag=tag, permitted=permitted)
        draft = self._draft(Action.DELETE_TAG, caller, operation, tag=tag, digest=held)
        draft = replace(draft, rule=verdict.rule, rule_line=verdict.line, shadow=verdict.shadow)
        if rule.protects and not verdict.allowed:
            return await self._refuse(replace(draft, reason=verdict.reason), caller, operation)
        gone = (GoneTag(tag, held, rule.protects and not rule.reuse_allowed),) if held else ()
        going = _Going(gone, (exception,) if exception else ())
        event = replace(draft, outcome=Outcome.DELETED, reason=verdict.reason)
        return await self._forward(operation, caller, event, going, mark=f"tag:{tag}")

    async def _exception(self, repository: str, tag: str, held: str, rule: Rule) -> Exemption | None:
        """The exception in force that lets the tag go while it holds ``held``, where its rule does not."""
        if rule.delete_allowed or not rule.protects:
            return None
        found = await self._exceptions.of(repository, tag)
        now = await self._register.clock.looked() if found else 0
        return found if found and found.covers(Allows.DELETE, held, now) else None

    # --- by digest

    async def _delete_digest(self, operation: Operation, caller: Caller) -> Answer:
        if not await self._register.knows(operation.repository) and not await self._exists(operation, caller):
            return _nothing(operation)  # names that mean nothing leave no key (H96)
        for _ in range(ADOPTIONS):
            try:
                adoption = await self._adoptions.all(operation.repository, caller)
                return await self._delete_adopted(operation, caller, adoption)
            except UnseenError as unseen:
                draft = self._draft(_action(operation), caller, operation, digest=operation.reference)
                return await self._refuse(replace(draft, reason=str(unseen)), caller, operation)
            except _UnadoptedError:
                self._adoptions.forget(operation.repository)
        raise unavailable("the ledger was lost or restored in the middle of this delete; try again")

    async def _delete_adopted(self, operation: Operation, caller: Caller, adoption: Adoption) -> Answer:
        repository, digest = operation.repository, operation.reference
        manifest_route = operation.kind is RouteKind.MANIFEST
        digests = await self._digests(operation, caller)
        await self._register.free(repository)
        draft = self._draft(_action(operation), caller, operation, digest=digest)
        if not digests:
            return await self._unknown(draft, caller, operation)
        draft = replace(draft, previous_digest=digests[-1] if len(digests) > 1 else "")
        if not all(digests):
            reason = "the registry does not say by which digest it keeps it"
            return await self._refuse(replace(draft, reason=reason), caller, operation)
        going = await self._going(repository, digests[-1]) if manifest_route else _Going()
        if await self._is_needed(repository, digests, len(going.tags)):
            return await self._refuse_needed(draft, caller, operation, digests[-1])
        # 2.8 unlinks a layer that is deleted as a manifest (H33); where a delete is cut off, nothing else tells that
        # there was something to take (H114).
        if not await self._exists(operation, caller):
            return await self._unknown(draft, caller, operation)
        event = replace(draft, outcome=Outcome.DELETED, reason="no protected tag needs it")
        if going.tags:
            event = replace(event, reason="; ".join(_why(going)))
        return await self._forward(operation, caller, event, going, mark=" ".join(digests), adoption=adoption)

    async def _exists(self, operation: Operation, caller: Caller) -> bool:
        repository, digest = operation.repository, operation.reference
        if operation.kind is RouteKind.MANIFEST:
            return await self._upstream.manifest(repository, digest, caller) is not None
        return await self._upstream.blob_digest(repository, digest, caller) is not None

    async def _digests(self, operation: Operation, caller: Caller) -> tuple[str, ...]:
        """The digest asked for, then the one by which the upstream keeps the content, where that is another (H81);
        empty where it does not say, and none where it has none such.
        """
        repository, digest = operation.repository, operation.reference
        if names.is_digest(digest):
            return (digest,)
        if operation.kind is RouteKind.MANIFEST:
            found = await self._upstream.manifest(repository, digest, caller)
            kept = found.digest if found else None
        else:
            kept = await self._upstream.blob_digest(repository, digest, caller)
        return () if kept is None else tuple(dict.fromkeys((digest, kept)))

    async def _is_needed(self, repository: str, digests: Sequence[str], going: int) -> bool:
        """By any of its digests, by more than the ``going`` tags that hold it by the last of them."""
        counts = [await self._register.pin_count(repository, digest) for digest in digests]
        return any(counts[:-1]) or counts[-1] > going

    async def _going(self, repository: str, digest: str) -> _Going:
        """The tags that hold the digest and would go with it, when its rule or an exception lets each of them go."""
        rules = self._rules()
        records = await self._register.records(repository, await self._register.holders.of(repository, digest))
        holders = [found.tag for found in records if found.committed and found.committed.digest == digest]
        matched = [rules.match(repository, tag) for tag in holders]
        exceptions: list[Exemption] = []
        for tag, rule in zip(holders, matched, strict=True):
            exception = await self._exception(repository, tag, digest, rule)
            if exception:
                exceptions.append(exception)
            elif rule.protects and not rule.delete_allowed:
                return _Going()
        gone = (
            GoneTag(tag, digest, rule.protects and not rule.reuse_allowed)
            for tag, rule in zip(holders, matched, strict=True)
        )
        return _Going(tuple(gone), tuple(exceptions))

    # --- both

    def _draft(self, action: Action, caller: Caller, operation: Operation, *, tag: str = "", digest: str) -> Event:
        draft = record.draft(action, caller, operation.repository, tag=tag, digest=digest)
        return replace(draft, actor_confirmed=self._authority.confirms_delete(operation, caller))

    async def _refuse_needed(self, draft: Event, caller: Caller, operation: Operation, digest: str) -> Answer:
        """A refusal that names the tag which needs the digest, and the rule which holds it."""
        found = await by_whom(self._register, self._rules(), operation.repository, digest)
        event = replace(draft, reason=found.reason)
        if found.rule is not None:
            event = replace(event, rule=found.rule.name, rule_line=found.rule.line)
        return await self._refuse(event, caller, operation, needed_by=found.tag)

    async def _refuse(self, event: Event, caller: Caller, operation: Operation, *, needed_by: str = "") -> Answer:
        refused = replace(event, outcome=Outcome.REFUSED)
        await self._register.record(record.timed(refused, caller))
        allowed = tuple(method for method in METHODS[operation.kind] if method != "DELETE")
        raise OciError(
            405,
            "UNSUPPORTED",
            # The reason of a rule names the tag, and says so already.
            event.reason if operation.is_tag else f"{operation.reference} cannot be deleted: {event.reason}",
            headers={"Allow": ", ".join(allowed)},
            detail={
                "repository": operation.repository,
                "reference": operation.reference,
                "needed_by": needed_by or None,
                "rule": event.rule or None,
                "event": event.id,
            },
        )

    async def _forward(
        self,
        operation: Operation,
        caller: Caller,
        event: Event,
        going: _Going,
        *,
        mark: str,
        adoption: Adoption | None = None,
    ) -> Answer:
        """The mark, one DELETE, the outcome.  An unknown outcome keeps the mark until the sweep has looked (H35)."""
        repository = operation.repository
        began = asyncio.get_running_loop().time()
        match await self._begin(operation, event, going, mark=mark, adoption=adoption):
            case Step.CHANGED:
                raise _ChangedError
            case Step.UNADOPTED:
                raise _UnadoptedError
            case Step.PINNED:
                return await self._refuse(replace(event, reason="a push under way needs it"), caller, operation)
            case Step.BUSY:
                raise unavailable("another delete of this has not ended yet; try again")
        if asyncio.get_running_loop().time() - began > self._longest:
            raise unavailable("the proxy stood still for too long in the middle of this delete; try again")
        answer = await self._upstream.exchange("DELETE", operation.target, _sent(caller))
        if not self._is_done(operation, answer):
            reason = f"the upstream answered {answer.status}: {first_message(answer)}"
            missing = (answer.status == 404 and answer.codes) or await self._is_no_tag(operation, caller)
            outcome = Outcome.MISSING if missing else Outcome.FAILED
            event = replace(event, outcome=outcome, reason=reason)
            await self._register.end_delete(repository, mark, record.timed(event, caller))
            return answer
        await self._taken.end(mark, record.timed(event, caller), caller, going.tags)
        with suppress(LedgerUnavailableError):  # it has ended; the next delete goes on with this
            await self._register.free(repository)
        return answer

    async def _begin(
        self, operation: Operation, event: Event, going: _Going, *, mark: str, adoption: Adoption | None
    ) -> Step:
        """Set the mark, with a draft that tells of an interrupted delete: with the exception that let it go."""
        unknown = event.reason if going.exceptions else record.UNKNOWN
        return await self._register.begin_delete(
            operation.repository,
            mark,
            holders=[tag.name for tag in going.tags],
            deadline_ms=round(self._longest * 1000),
            draft=replace(event, outcome=Outcome.FAILED, reason=unknown),
            adoption=adoption,
            permits=going.permits,
        )

    def _is_done(self, operation: Operation, answer: Answer) -> bool:
        """Whether the registry has deleted it; raises `UpstreamUnavailableError` where that is unknown.

        It says 202 (specification, "Deleting manifests"; some say 200 or 204).  A door says such things too, of what
        never came to the registry, and gives up waiting for what did; so only the registry's own yes counts (H83).
        """
        if answer.status in DONE and self._authority.is_registrys(operation, answer, sure=answer.status != ACCEPTED):
            return True
        if answer.status in NOT_EXECUTED or answer.status in headers.REDIRECTS:
            return False
        raise UpstreamUnavailableError(f"the upstream answered {answer.status} to the delete")

    async def _unknown(self, draft: Event, caller: Caller, operation: Operation) -> Answer:
        """404 for a digest that the upstream does not have; recorded like any other delete of nothing."""
        missing = replace(draft, outcome=Outcome.MISSING, reason=f"the upstream has no such {_kind(operation)}")
        await self._register.record(record.timed(missing, caller))
        return _nothing(operation)

    async def _is_no_tag(self, operation: Operation, caller: Caller) -> bool:
        """Whether a tag that was not deleted does not exist: 2.8, which deletes none by name, answers 400 to any."""
        if not operation.is_tag:
            return False
        try:
            seen = await self._upstream.probe(operation.repository, operation.reference, caller)
        except UpstreamUnavailableError:
            return False
        return isinstance(seen, Answer) and seen.status == 404


def _why(going: _Going) -> Iterator[str]:
    """Why tags may go with their digest: what the audit says, and by what it finds the use of an exception."""
    yield f"its tags may be deleted: {', '.join(tag.name for tag in going.tags)}"
    for exception in going.exceptions:
        yield f"{BY_EXCEPTION}{shown(exception.words, 200)}"


def _action(operation: Operation) -> Action:
    """What a delete by digest is called in the audit."""
    return Action.DELETE_MANIFEST if operation.kind is RouteKind.MANIFEST else Action.DELETE_BLOB


def _kind(operation: Operation) -> str:
    return "manifest" if operation.kind is RouteKind.MANIFEST else "blob"


def _nothing(operation: Operation) -> Answer:
    """As distribution says it."""
    if operation.kind is RouteKind.BLOB:
        return answers.error(OciError(404, "BLOB_UNKNOWN", "blob unknown to registry"))
    detail = {"digest": operation.reference}
    return answers.error(OciError(404, "MANIFEST_UNKNOWN", "manifest unknown", detail=detail))


def _sent(caller: Caller) -> CIMultiDict[str]:
    return headers.without(caller.headers, headers.CONDITIONAL | {"content-length", "content-type"})
