"""``PUT /v2/<name>/manifests/<reference>``: read it whole, ask whether the client may, then guard or record it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from immuproxy.ledger.model import Action
from immuproxy.oci import errors, manifests, names
from immuproxy.oci.manifests import MAX_MANIFEST_BYTES, Manifest
from immuproxy.oci.routes import Operation
from immuproxy.proxy import bodies, record
from immuproxy.proxy.answers import Answer
from immuproxy.proxy.authority import Authority
from immuproxy.proxy.caller import Caller
from immuproxy.proxy.guard import Guard
from immuproxy.proxy.push import Push
from immuproxy.proxy.recorded import Recorder
from immuproxy.rules.model import Rule, RuleSet

CREATED = 201


class Pushes:
    """The door for manifests.

    Every push runs in a task of its own: neither a client that hangs up nor the end of its request stops it half-way
    (H47).
    """

    def __init__(self, rules: Callable[[], RuleSet], authority: Authority, guard: Guard, recorder: Recorder) -> None:
        """``rules`` gives the rule set in force."""
        self._rules = rules
        self._authority = authority
        self._guard = guard
        self._recorder = recorder
        self._running: set[asyncio.Task[Answer]] = set()
        self._room = bodies.Room()

    async def push(self, request: web.BaseRequest, operation: Operation, caller: Caller) -> Answer:
        """Carry one push; raises what `immuproxy.proxy.guard.Guard.push` raises."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise errors.unsupported_media_type("a manifest must be sent without Content-Encoding")
        bodies.check_length(request, MAX_MANIFEST_BYTES)
        refused = await self._authority.refuse_push(operation.repository, caller)
        if refused is not None:
            return refused
        with self._room.share() as take:
            body = await bodies.read_whole(request, MAX_MANIFEST_BYTES, take)
            if not body:
                raise errors.bad_manifest("the manifest is empty")
            return await self._carry(operation, caller, body)

    async def _carry(self, operation: Operation, caller: Caller, body: bytes) -> Answer:
        references = (operation.reference, *operation.tags) if operation.is_tag else operation.tags
        if not references:
            push = self._by_digest(operation, caller, body)
            return await self._to_its_end(self._recorder.push_digest(push, operation.reference))
        return await self._to_its_end(self._push_tags(operation, caller, body, references))

    async def _push_tags(self, operation: Operation, caller: Caller, body: bytes, tags: Sequence[str]) -> Answer:
        """One manifest to one or more tags: the protected ones first, all or none of them (H11)."""
        rules = self._rules()
        matched = [(tag, rules.match(operation.repository, tag)) for tag in sorted(set(tags))]
        guarded = any(rule.protects for _, rule in matched)
        manifest = _acceptable(body, caller) if guarded else _described(body, caller)
        _check_digest(operation, manifest)
        pushes = [self._push(operation.repository, tag, manifest, caller, rule) for tag, rule in matched]
        answer = await self._guarded([push for push in pushes if push.rule.protects])
        for push in pushes:
            if not push.rule.protects and (answer is None or answer.status == CREATED):
                answer = await self._recorder.push_tag(push)
        if answer is None:  # pragma: no cover  # there is at least one tag
            raise AssertionError
        return _with_tags(answer, operation.tags)

    async def _guarded(self, pushes: Sequence[Push]) -> Answer | None:
        if len(pushes) > 1:
            return await self._guard.push_all(pushes)
        return await self._guard.push(pushes[0]) if pushes else None

    def _by_digest(self, operation: Operation, caller: Caller, body: bytes) -> Push:
        manifest = _described(body, caller)
        _check_digest(operation, manifest)
        return self._push(operation.repository, "", manifest, caller, self._rules().default)

    def _push(self, repository: str, tag: str, manifest: Manifest, caller: Caller, rule: Rule) -> Push:
        draft = record.draft(Action.PUSH, caller, repository, tag=tag, manifest=manifest)
        draft = replace(draft, actor_confirmed=self._authority.confirms(repository, caller))
        if tag:
            draft = replace(draft, rule=rule.name, rule_line=rule.line)
        return Push(repository=repository, tag=tag, manifest=manifest, caller=caller, rule=rule, draft=draft)

    async def finished(self) -> None:
        """Wait for every push under way; each is bounded by the upstream's time limits."""
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)
        await self._guard.ended()

    async def _to_its_end(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)


def _acceptable(body: bytes, caller: Caller) -> Manifest:
    """The manifest for a protected tag; what no registry takes is refused before the tag is claimed for it (H93)."""
    manifest = manifests.read(body, caller.headers.get("Content-Type", ""))
    if manifest.fault:
        raise errors.bad_manifest(f"no registry takes this manifest: {manifest.fault}")
    return manifest


def _described(body: bytes, caller: Caller) -> Manifest:
    return manifests.describe(body, caller.headers.get("Content-Type", ""))


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
