"""What must be true when the clients have gone and all faults are over: which function checks which invariant.

| | checked by |
|---|---|
| I1 to I4 | `checker.violations`; of tags that may change `moving.overwritten_violations`, `mortal_violations` |
| I5 | `_needless_writes`: what reached the registry |
| I6 | `_forbidden_deletes`: what reached the registry; `_incomplete`: every digest of the closure can be read |
| I7 | `_disagreement` |
| I8 | every kill in the soak; each single step in tests/edge/test_recovery.py; `_left_over`: nothing stays open |
| I9 | tests/edge/test_authority.py, test_tokens.py: the registry of a soak asks nobody for credentials |
| I10 | all functions of `audit_checker`; `moving.ungranted`; `_never_stored` |
| I11 | tests/edge/test_transparency.py |
| I12 | `_left_over` (no key expires) and `_disagreement` (never overwritten, the digest that was seen first) |
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from immuproxy.audit import Visitor
from immuproxy.audit.record import Projector
from immuproxy.audit.search import Search
from immuproxy.ledger import keys
from immuproxy.ledger.model import Event
from immuproxy.service.assembly import Choices
from immuproxy.store.redis import LedgerUnavailableError
from tests.drift.test_sweep import sweep_with
from tests.invariants.audit_checker import audit_violations, beginnings, moving_violations, unexplained_adoptions
from tests.invariants.checker import Kind, Operation, Recorded, by_tag, seen_at, value_of, violations
from tests.invariants.clients import REPOSITORIES, Load
from tests.invariants.moving import is_dead, last_of, mortal_violations, overwritten_violations, ungranted
from tests.invariants.story import stories
from tests.invariants.world import MANIFEST_SECONDS, QUARANTINE, RULES
from tests.support.conversation import Client, Image, RunningEdge, edge_over, sha256

LONGEST_STAY = QUARANTINE + 4 * MANIFEST_SECONDS
"""Seconds after which nothing that was sent can arrive any more."""

FAILED_OVER = 30.0
"""Seconds in which everybody has come to know the master."""


async def check_all(load: Load, *, audit: bool = True) -> None:
    """Rest, recovery, then all that must be true; what is not ends in the report."""
    world, found = load.world, load.report.violations
    choices = Choices(manifest_timeout=10 * MANIFEST_SECONDS)
    async with edge_over(world.registry.url, world.ledger.url, rules=RULES, choices=choices) as edge:
        await _begin_to_watch(edge)
        await asyncio.sleep(LONGEST_STAY)
        await _sweep(edge)
        for repository, tag in sorted(_names(load.history)):
            for proxy in world.proxies:
                await load.read_from(Client(proxy.url, load.session), repository, tag)
        events = await _events(edge) if audit else []
        found += _of_history(load, events)
        found += [*_needless_writes(load), *_forbidden_deletes(load)]
        await _sweep(edge)
        for tag, value in sorted(_values(load.history, events).items()):
            found += [problem async for problem in _of_tag(load, edge, tag, value)]
        found += [problem async for problem in _left_over(edge)]
        found += world.complaints()
        load.report.stories += stories(found, world, load.history, events)


async def _begin_to_watch(edge: RunningEdge) -> None:
    """What is left over counts from when its clock was first seen (H112); a failover may have just ended."""
    async with asyncio.timeout(FAILED_OVER):
        for repository in REPOSITORIES:
            while True:
                with contextlib.suppress(LedgerUnavailableError):
                    await edge.parts.register.ages(repository)
                    break
                await asyncio.sleep(0.2)


def _kind(history: list[Operation], letters: str) -> list[Operation]:
    """The operations on tags of these kinds, by the first letter of the tag."""
    return [operation for operation in history if operation.tag.partition(":")[2][0] in letters]


def _names(history: list[Operation]) -> set[tuple[str, str]]:
    found = (operation.tag.partition(":") for operation in _kind(history, "voxd"))
    return {(repository, tag) for repository, _, tag in found}


def _of_history(load: Load, events: list[Recorded]) -> list[str]:
    once, mortal = _kind(load.history, "v"), _kind(load.history, "d")
    found = violations(once) + mortal_violations(mortal)
    if events:
        found += audit_violations(load.history, events)
        found += beginnings([*once, *mortal], events)
        found += unexplained_adoptions(_kind(load.history, "voxd"), events)
        found += _never_stored(load, events)
        sent, stored = ({(each.sender, each.tag) for each in some} for some in (load.world.writes, load.world.stored))
        found += moving_violations(_kind(load.history, "m"), events, sent, stored)
        found += overwritten_violations(_kind(load.history, "ox"), events)
        found += ungranted(_kind(load.history, "x"), events, load.grants)
    return found


def _values(history: list[Operation], events: list[Recorded]) -> dict[str, str]:
    """What each tag holds in the end, by the answers; of tags that may be overwritten, by the audit."""
    found = {tag: value_of(operations) for tag, operations in by_tag(_kind(history, "v")).items()}
    for tag, operations in by_tag(_kind(history, "d")).items():
        value = value_of(operations)
        found[tag] = "" if value and is_dead(operations, value) else value
    last = last_of(events)
    found |= {tag: last.get(tag, "") for tag in by_tag(_kind(history, "ox"))}
    return {tag: value for tag, value in found.items() if value}


# --- what reached the registry


def _needless_writes(load: Load) -> Iterator[str]:
    """I5: a push of what the tag holds already writes nothing."""
    sent = {(write.sender, write.repository, write.reference) for write in load.world.writes if write.method == "PUT"}
    for tag, operations in by_tag(_kind(load.history, "v")).items():
        repository, _, name = tag.partition(":")
        value = value_of(operations)
        since = seen_at(operations, value)
        for operation in operations:
            again = operation.kind is Kind.PUSH and operation.digest == value and operation.began > since
            if again and (operation.name, repository, name) in sent:
                yield f"I5: {operation.name} wrote {value}, which {tag} held already"


def _never_stored(load: Load, events: list[Recorded]) -> Iterator[str]:
    """H16, H63: what is recorded as created or overwritten has been sent to the registry under its tag."""
    sent = {(write.tag, write.digest) for write in load.world.writes}
    sent |= {(operation.tag, operation.digest) for operation in load.history if operation.kind is Kind.BYPASS}
    for event in events:
        stored = event.outcome in {"created", "overwritten"} and event.tag
        if stored and (event.tag, event.digest) not in sent:
            yield f"{event.tag}: {event.operation} is recorded, and {event.digest} never went to the registry"


def _forbidden_deletes(load: Load) -> Iterator[str]:
    """I6: no delete of anything that a tag needed arrived at the registry."""
    needed: dict[tuple[str, str], tuple[float, str]] = {}
    for tag, operations in by_tag(_kind(load.history, "v")).items():
        value = value_of(operations)
        since = seen_at(operations, value)
        for digest in _closure(load.known, value) if value else ():
            key = tag.partition(":")[0], digest
            needed[key] = min(needed.get(key, (since, tag)), (since, tag))
    for write in load.world.writes:
        since, tag = needed.get((write.repository, write.digest), (write.time, ""))
        if write.method == "DELETE" and since < write.time:
            yield f"I6: {write.digest}, which {tag} needed, was deleted by {write.sender}"


def _closure(known: Mapping[str, Image], digest: str) -> Iterator[str]:
    yield digest
    image = known[digest]
    yield from (sha256(blob) for blob in image.blobs)
    for child in image.children:
        yield from _closure(known, child.digest)


# --- ledger and upstream


async def _sweep(edge: RunningEdge) -> None:
    """As every proxy does by and by: finish what is open, then compare every tag and heal it."""
    sweep = sweep_with(edge, edge.parts.limits.of(MANIFEST_SECONDS))
    for repository in REPOSITORIES:
        await edge.store.client.delete(keys.compared(repository))
    await sweep.once()


async def _events(edge: RunningEdge) -> list[Recorded]:
    """Everything in the audit, in its order."""
    await Projector(edge.store).sweep()
    clock = time.monotonic() - time.time()
    newest_first = [_recorded(event, clock) async for event in Visitor(edge.store, None).export(Search())]
    return newest_first[::-1]


def _recorded(event: Event, clock: float) -> Recorded:
    """`clock`: what the history's clock is ahead of the time of day."""
    return Recorded(
        event.id,
        f"{event.repository}:{event.tag}" if event.tag else "",
        event.action,
        event.outcome,
        event.digest,
        event.user_agent,
        event.previous_digest,
        event.time / 1000 + clock,
        event.duration_ms is None,
        event.reason,
    )


async def _of_tag(load: Load, edge: RunningEdge, tag: str, value: str) -> AsyncIterator[str]:
    repository, _, _ = tag.partition(":")
    if _is_damaged(load.world.registry.storage, value):
        load.report.happened["storage damaged for good"] += 1
        return
    async for problem in _disagreement(load, edge, tag, value):
        yield problem
    held = load.known[value]
    for image in (held, *held.children):
        async for problem in _incomplete(edge, repository, image):
            yield f"{problem}, which {tag} needs"


async def _disagreement(load: Load, edge: RunningEdge, tag: str, value: str) -> AsyncIterator[str]:
    """I7: the upstream shows what the tag holds; I12: so does the ledger, and nobody overwrote what is write-once."""
    repository, _, name = tag.partition(":")
    seen = await load.direct.pull(repository, name)
    found = await edge.parts.register.read(repository, name)
    if seen.digest != value:
        yield f"I7: {tag} holds {value}, the upstream shows {seen.status} {seen.digest}; the record: {found}"
    digest, overwrites = (found.committed.digest, found.committed.overwrites) if found.committed else ("", 0)
    if digest != value or (name[0] in "vd" and overwrites):
        yield f"I12: {tag} holds {value}, the ledger has {digest} after {overwrites} overwrites"


async def _incomplete(edge: RunningEdge, repository: str, image: Image) -> AsyncIterator[str]:
    """I6: a manifest and its blobs, byte for byte."""
    answer = await edge.client.pull(repository, image.digest)
    if answer.body != image.body:
        yield f"I6: {answer.status} for the manifest {image.digest}"
    for blob in image.blobs:
        answer = await edge.client.ask("GET", f"/v2/{repository}/blobs/{sha256(blob)}")
        if answer.body != blob:
            yield f"I6: {answer.status} for the blob {sha256(blob)}"


def _is_damaged(storage: Path, digest: str) -> bool:
    """A registry that was killed while it wrote a manifest's bytes for the first time keeps it empty for ever (H16)."""
    algorithm, _, digits = digest.partition(":")
    data = storage / f"docker/registry/v2/blobs/{algorithm}/{digits[:2]}/{digits}/data"
    return data.exists() and sha256(data.read_bytes()) != digest


async def _left_over(edge: RunningEdge) -> AsyncIterator[str]:
    """I12, and nothing is open any more."""
    client: Any = edge.store.client
    async for key in client.scan_iter("*:tag:*"):
        if await client.ttl(key) != -1:
            yield f"I12: {key.decode()} will expire"
    for repository in REPOSITORIES:
        for intent in await edge.parts.register.intents(repository):
            yield f"still open: {json.dumps(intent.to_dict())}"
        for digest in await client.zrange(keys.marks(repository), 0, -1):
            yield f"still marked: {digest.decode()}"
