"""``PUT /v2/<name>/manifests/<reference>``: read it whole, ask whether the client may, then guard or record it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from aiohttp import web

from immuproxy.ledger.model import Action, Event
from immuproxy.oci import errors, manifests
from immuproxy.oci.manifests import MAX_MANIFEST_BYTES, Manifest
from immuproxy.oci.routes import Operation
from immuproxy.proxy import record
from immuproxy.proxy.answers import Answer
from immuproxy.proxy.authority import Authority
from immuproxy.proxy.caller import Caller
from immuproxy.proxy.guard import Guard
from immuproxy.proxy.push import Push
from immuproxy.proxy.recorded import Recorder
from immuproxy.rules.model import Rule, RuleSet


class Pushes:
    """The door for manifests.

    Every push runs in a task of its own: neither a client that hangs up nor the end of its request stops it half-way (H47).
    """

    def __init__(self, rules: Callable[[], RuleSet], authority: Authority, guard: Guard, recorder: Recorder) -> None:
        """``rules`` gives the rule set in force."""
        self._rules = rules
        self._authority = authority
        self._guard = guard
        self._recorder = recorder
        self._running: set[asyncio.Task[Answer]] = set()

    async def push(self, request: web.BaseRequest, operation: Operation, caller: Caller) -> Answer:
        """Carry one push; raises what `immuproxy.proxy.guard.Guard.push` raises."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise errors.unsupported_media_type("a manifest must be sent without Content-Encoding")
        body = await read_body(request)
        if not body:
            raise errors.bad_manifest("the manifest is empty")
        refused = await self._authority.refuse_push(operation.repository, caller)
        if refused is not None:
            return refused
        push = self._parsed(operation, caller, body)
        way = self._guard.push if self._is_guarded(operation) else self._open_way(operation)
        return await self._to_its_end(way(push))

    async def finished(self) -> None:
        """Wait for every push under way; each is bounded by the upstream's time limits."""
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    def _is_guarded(self, operation: Operation) -> bool:
        return operation.is_tag and self._rules().protects(operation.repository, operation.reference)

    def _open_way(self, operation: Operation) -> Callable[[Push], Coroutine[Any, Any, Answer]]:
        return self._recorder.push_tag if operation.is_tag else self._recorder.push_digest

    def _parsed(self, operation: Operation, caller: Caller, body: bytes) -> Push:
        content_type = caller.headers.get("Content-Type", "")
        guarded = self._is_guarded(operation)
        manifest = (manifests.read if guarded else manifests.describe)(body, content_type)
        tag = operation.reference if operation.is_tag else ""
        if not operation.is_tag and manifest.digest != operation.reference:
            raise errors.bad_digest(f"the body's digest is {manifest.digest}, not the one in the request")
        rule = self._rules().match(operation.repository, tag) if tag else self._rules().default
        return Push(
            repository=operation.repository,
            tag=tag,
            manifest=manifest,
            caller=caller,
            rule=rule,
            draft=self._draft(caller, operation.repository, tag, manifest, rule),
        )

    def _draft(self, caller: Caller, repository: str, tag: str, manifest: Manifest, rule: Rule) -> Event:
        draft = record.draft(Action.PUSH, caller, repository, tag=tag, manifest=manifest)
        draft = replace(draft, actor_confirmed=self._authority.confirms(caller))
        return replace(draft, rule=rule.name, rule_line=rule.line) if tag else draft

    async def _to_its_end(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole raw body, at most a manifest's size (H18); nothing is decided before all of it is here (H47)."""
    if request.content_length is not None and request.content_length > MAX_MANIFEST_BYTES:
        raise errors.too_large(MAX_MANIFEST_BYTES)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_MANIFEST_BYTES:
            raise errors.too_large(MAX_MANIFEST_BYTES)
    return bytes(body)
