"""``PUT /v2/<name>/manifests/<reference>``: read it whole, ask whether the client may, then guard or record it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from immuproxy.edge import bodies, record
from immuproxy.edge.answers import Answer
from immuproxy.edge.authority import Authority
from immuproxy.edge.caller import Caller
from immuproxy.edge.closure import Take
from immuproxy.edge.push.in_turn import Waits
from immuproxy.edge.push.model import Push, RuleChangedError
from immuproxy.edge.push.multi_tag import MultiTag
from immuproxy.edge.push.platforms import Platforms
from immuproxy.edge.push.protocol import Guard
from immuproxy.edge.push.recorded import Recorder
from immuproxy.edge.refusals import Refusals
from immuproxy.edge.server import ending_with_client
from immuproxy.ledger.model import Action, Event
from immuproxy.oci import errors, manifests, names
from immuproxy.oci.errors import OciError
from immuproxy.oci.manifests import MAX_MANIFEST_BYTES, Manifest
from immuproxy.oci.routes import Operation
from immuproxy.rules.model import Rule, RuleSet

CREATED, UNAVAILABLE = 201, 503


@dataclass(frozen=True, slots=True)
class _Sent:
    """A manifest as it came.

    ``take`` is the share of the room for bodies that lasts as long as its push, ``waits`` makes what it may wait for
    others in.
    """

    operation: Operation
    caller: Caller
    body: bytes
    take: Take
    waits: Waits

    @property
    def content_type(self) -> str:
        return self.caller.headers.get("Content-Type", "")


class ManifestPuts:
    """The door for manifests.

    Every push runs in a task of its own: neither a client that hangs up nor the end of its request stops it half-way
    (H47).
    """

    def __init__(
        self,
        rules: Callable[[], RuleSet],
        authority: Authority,
        *,
        guard: Guard,
        multi_tag: MultiTag,
        recorder: Recorder,
        refusals: Refusals,
        platforms: Platforms,
    ) -> None:
        """``rules`` gives the rule set in force."""
        self._rules = rules
        self._authority = authority
        self._guard = guard
        self._multi_tag = multi_tag
        self._recorder = recorder
        self._refusals = refusals
        self._platforms = platforms
        self._running: set[asyncio.Task[Answer]] = set()
        self._room = bodies.Room()

    async def push(self, request: web.BaseRequest, operation: Operation, caller: Caller) -> Answer:
        """Carry one push; raises what `immuproxy.edge.push.protocol.Guard.push` raises."""
        if {coding.lower() for coding in request.headers.getall("Content-Encoding", [])} - {"identity"}:
            raise errors.unsupported_media_type("a manifest must be sent without Content-Encoding")
        bodies.check_length(request, MAX_MANIFEST_BYTES)
        refused = await self._authority.refuse_push(operation.repository, caller)
        if refused is not None:
            return refused
        with ExitStack() as kept:
            take = kept.enter_context(self._room.share())
            async with self._told(operation, caller):
                body = await bodies.read_whole(request, MAX_MANIFEST_BYTES, take)
                if not body and not _asks(operation):
                    raise _empty()
            if not body:
                raise _empty()
            waits = partial(ending_with_client, request)
            return await self._to_its_end(self._carry(_Sent(operation, caller, body, take, waits)), kept)

    async def _carry(self, sent: _Sent) -> Answer:
        operation = sent.operation
        tags = _tags(operation)
        async with self._told(operation, sent.caller, names.digest_of(sent.body)):
            if tags:
                return await self._push_tags(sent, tags)
            return await self._recorder.push_digest(self._by_digest(sent), operation.reference)

    @asynccontextmanager
    async def _told(self, operation: Operation, caller: Caller, digest: str = "") -> AsyncIterator[None]:
        """What is wrong with a push is told for each of its tags before it is answered; 503 is tried again (I10)."""
        try:
            yield
        except OciError as problem:
            if problem.status < UNAVAILABLE:
                await self._tell(operation, caller, digest, problem)
            raise

    async def _tell(self, operation: Operation, caller: Caller, digest: str, problem: OciError) -> None:
        repository = operation.repository
        for tag in sorted(set(_tags(operation))) or [""]:
            draft = record.draft(Action.PUSH, caller, repository, tag=tag, digest=digest)
            rule = self._rules().match(repository, tag) if tag else None
            await self._refusals.unfit(self._drafted(draft, caller, rule), caller, problem)

    def _drafted(self, draft: Event, caller: Caller, rule: Rule | None) -> Event:
        """With what is known of who pushes, and by which rule; by digest no rule decides."""
        confirmed = replace(draft, actor_confirmed=self._authority.confirms(draft.repository, caller))
        return replace(confirmed, rule=rule.name, rule_line=rule.line) if rule else confirmed

    async def _push_tags(self, sent: _Sent, tags: Sequence[str]) -> Answer:
        """By the rules that are in force until it is answered (H103, H104)."""
        while True:
            with suppress(RuleChangedError):
                return await self._push_by(self._rules(), sent, tags)

    async def _push_by(self, rules: RuleSet, sent: _Sent, tags: Sequence[str]) -> Answer:
        """One manifest to one or more tags: the protected ones first, all or none of them (H11)."""
        repository = sent.operation.repository
        matched = [(tag, rules.match(repository, tag)) for tag in sorted(set(tags))]
        guarded = any(rule.protects for _, rule in matched)
        manifest = _acceptable(sent) if guarded else _described(sent)
        _check_digest(sent.operation, manifest)
        pushes = [self._push(sent, manifest, tag, rule) for tag, rule in matched]
        answer = await self._guarded([push for push in pushes if push.rule.protects])
        for push in pushes:
            if not push.rule.protects and (answer is None or answer.status == CREATED):
                answer = await self._recorder.push_tag(push)
        if answer is None:  # pragma: no cover  # there is at least one tag
            raise AssertionError
        return _with_tags(answer, sent.operation.tags)

    async def _guarded(self, pushes: Sequence[Push]) -> Answer | None:
        if len(pushes) > 1:
            return await self._multi_tag.push(pushes)
        return await self._guard.push(pushes[0]) if pushes else None

    def _by_digest(self, sent: _Sent) -> Push:
        manifest = _described(sent)
        _check_digest(sent.operation, manifest)
        return self._push(sent, manifest, "", self._rules().default)

    def _push(self, sent: _Sent, manifest: Manifest, tag: str, rule: Rule) -> Push:
        repository, caller = sent.operation.repository, sent.caller
        draft = record.draft(Action.PUSH, caller, repository, tag=tag, manifest=manifest)
        draft = self._platforms.shown(draft, manifest)
        return Push(
            repository=repository,
            tag=tag,
            manifest=manifest,
            caller=caller,
            rule=rule,
            draft=self._drafted(draft, caller, rule if tag else None),
            take=sent.take,
            waits=sent.waits,
        )

    async def finished(self) -> None:
        """Wait for every push under way; each is bounded by the upstream's time limits."""
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)
        await self._platforms.ended()
        await self._guard.ended()

    async def _to_its_end(self, work: Coroutine[Any, Any, Answer], kept: ExitStack) -> Answer:
        """``kept`` is closed at the end of the work, which may be long after the client has gone."""
        task, until_then = asyncio.create_task(work), kept.pop_all()
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: until_then.close())
        try:
            return await asyncio.shield(task)
        finally:
            del task  # its error names this frame: a circle, in which the body would wait for the collector (H85)


def _tags(operation: Operation) -> Sequence[str]:
    """All that a push is to set, however it says so."""
    return (operation.reference, *operation.tags) if operation.is_tag else operation.tags


def _asks(operation: Operation) -> bool:
    """Whether an empty push is how a proxy in front of this one asks whether its client may push."""
    return not _tags(operation) and operation.reference == manifests.EMPTY_BLOB


def _empty() -> OciError:
    return errors.bad_manifest("the manifest is empty")


def _acceptable(sent: _Sent) -> Manifest:
    """The manifest for a protected tag; what no registry takes is refused before the tag is claimed for it (H93)."""
    manifest = manifests.read(sent.body, sent.content_type)
    if manifest.fault:
        raise errors.bad_manifest(f"no registry takes this manifest: {manifest.fault}")
    return manifest


def _described(sent: _Sent) -> Manifest:
    return manifests.describe(sent.body, sent.content_type)


def _check_digest(operation: Operation, manifest: Manifest) -> None:
    if not operation.is_tag and not names.is_digest_of(operation.reference, manifest.body):
        raise errors.bad_digest(f"the body's digest is {manifest.digest}, not the one in the request")


def _with_tags(answer: Answer, tags: Sequence[str]) -> Answer:
    """``OCI-Tag`` for each tag that ``?tag=`` asked for: the specification's sign that they were set (H11)."""
    if answer.status != CREATED or not tags:
        return answer
    told = CIMultiDict(answer.headers)
    told.popall("OCI-Tag", None)
    for tag in tags:
        told.add("OCI-Tag", tag)
    return replace(answer, headers=told)
