"""Random clients on a few hot tags, and what must be true when they have gone.

    report = await soak(seed=1, seconds=30)
    assert not report.violations, report

The same seed gives the same requests and faults in the same order of choice; how they meet depends on the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from immuproxy.assembly import Choices
from immuproxy.drift.service import service_caller
from immuproxy.drift.sweep import Sweep
from immuproxy.ledger import keys
from immuproxy.ledger.audit import Projector
from tests.conversation import Answer, Client, Image, RunningEdge, edge_over, image, index, sha256
from tests.invariants.checker import (
    MISSING,
    OK,
    REFUSED,
    UNKNOWN,
    Kind,
    Operation,
    Recorded,
    audit_violations,
    value_of,
    violations,
)
from tests.invariants.world import FAULTS, FAULTS_WITH_LOSS, MANIFEST_SECONDS, QUARANTINE, World, running_world

REPOSITORIES = ("team/app", "team/web")
CLIENTS = 16
HOT_TAGS = 4
TAG_ENDS = 1 / 40
"""The chance after each request that the oldest hot tag makes room for a new one."""

LONGEST_REQUEST = 20.0


@dataclass
class Report:
    """What a soak did and found."""

    seed: int
    operations: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    tags: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        requests = sum(self.operations.values())
        lines = [
            f"seed {self.seed}: {requests} requests on {self.tags} tags in {self.seconds:.0f} s",
            f"  {len(self.violations)} violations",
            "  " + ", ".join(f"{count} {what}" for what, count in sorted(self.operations.items())),
            "  " + ", ".join(f"{count} {what}" for what, count in sorted(self.happened.items())),
        ]
        return "\n".join([*lines, *(f"  {problem}" for problem in self.violations)])


@dataclass
class Load:
    """The clients of one world."""

    world: World
    session: aiohttp.ClientSession
    random: random.Random
    images: dict[str, list[Image]]
    history: list[Operation] = field(default_factory=list)
    report: Report = field(default_factory=lambda: Report(0))
    hot: list[tuple[str, str]] = field(default_factory=list)
    count: int = 0
    faithful: bool = False

    @property
    def direct(self) -> Client:
        return Client(self.world.registry.url, self.session)

    def proxy(self, name: str = "") -> Client:
        """Some proxy; `name` is what the audit calls this client."""
        running = [proxy for proxy in self.world.proxies if proxy.is_running]
        chosen = self.random.choice(running or self.world.proxies)
        return Client(chosen.url, self.session, {"User-Agent": name})

    async def work_until(self, is_over: Callable[[], bool]) -> None:
        """One client; more than one run at the same time."""
        choices = {
            self.push: 40,
            self.read: 40,
            self.hang_up: 5,
            self.bypass: 0 if self.faithful else 4,
            self.delete: 0 if self.faithful else 4,
        }
        while not is_over():
            if self.random.random() < TAG_ENDS or not self.hot:
                await self.new_tag()
            repository, tag = self.random.choice(self.hot)
            (what,) = self.random.choices(list(choices), list(choices.values()))
            await what(repository, tag)

    async def new_tag(self) -> None:
        """Some tags predate the ledger."""
        self.count += 1
        repository, tag = self.random.choice(REPOSITORIES), f"v{self.count}"
        self.hot = [*self.hot[-HOT_TAGS + 1 :], (repository, tag)]
        self.report.tags += 1
        if self.random.random() < 0.2 and not self.faithful:
            await self.bypass(repository, tag)

    # --- requests

    async def push(self, repository: str, tag: str, *, patience: float = LONGEST_REQUEST) -> None:
        pushed = self.random.choice(self.images[repository])
        name = self.name("push")
        path = f"/v2/{repository}/manifests/{tag}"
        began = time.monotonic()
        answer = await self.asked(
            self.proxy(name).ask("PUT", path, pushed.body, Content_Type=pushed.media_type), patience
        )
        told, held = UNKNOWN, ""
        if answer and answer.status == 201:
            told = OK
        elif answer and answer.status == 409:
            told, held = REFUSED, answer.error["detail"]["current_digest"]
        self.note(Operation(name, Kind.PUSH, f"{repository}:{tag}", began, 0.0, told, pushed.digest, held), answer)
        if answer and answer.status == 400:
            await self.asked(self.direct.blobs(repository, pushed), LONGEST_REQUEST)

    async def hang_up(self, repository: str, tag: str) -> None:
        await self.push(repository, tag, patience=self.random.uniform(0.001, 0.1))

    async def read(self, repository: str, tag: str) -> None:
        await self.read_from(self.proxy(), repository, tag)

    async def read_from(self, client: Client, repository: str, tag: str) -> None:
        name, method = self.name("read"), self.random.choice(["GET", "HEAD"])
        began = time.monotonic()
        answer = await self.asked(client.pull(repository, tag, method=method), LONGEST_REQUEST)
        told, digest = UNKNOWN, ""
        if answer and answer.status == 404:
            told = MISSING
        elif answer and answer.status == 200:
            told, digest = OK, sha256(answer.body) if method == "GET" else answer.digest
        self.note(Operation(name, Kind.READ, f"{repository}:{tag}", began, 0.0, told, digest), answer)

    async def bypass(self, repository: str, tag: str) -> None:
        """Straight to the registry, as somebody who must not."""
        pushed = self.random.choice(self.images[repository])
        name, began = self.name("bypass"), time.monotonic()
        answer = await self.asked(self.direct.put(repository, tag, pushed), LONGEST_REQUEST)
        told = OK if answer and answer.status == 201 else UNKNOWN
        self.note(Operation(name, Kind.BYPASS, f"{repository}:{tag}", began, 0.0, told, pushed.digest), answer)

    async def delete(self, repository: str, tag: str) -> None:
        """By tag, by manifest digest or by layer; what a tag holds must survive all of it."""
        pushed = self.random.choice(self.images[repository])
        path = self.random.choice(
            [
                f"manifests/{tag}",
                f"manifests/{pushed.digest}",
                *(f"blobs/{sha256(blob)}" for blob in pushed.blobs[-1:]),
            ]
        )
        answer = await self.asked(self.proxy(self.name("delete")).ask("DELETE", f"/v2/{repository}/{path}"))
        self.report.operations[f"delete {answer.status if answer else 'cut off'}"] += 1

    def name(self, what: str) -> str:
        self.count += 1
        return f"{what}-{self.count}"

    async def asked(self, request: Any, patience: float = LONGEST_REQUEST) -> Answer | None:
        """The answer; None where there was none."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, AssertionError):
            async with asyncio.timeout(patience):
                answer: Answer | None = await request
                return answer
        await asyncio.sleep(0.05)  # where nobody listens, that is known at once
        return None

    def note(self, operation: Operation, answer: Answer | None) -> None:
        ended = time.monotonic()
        self.history.append(
            Operation(
                operation.name,
                operation.kind,
                operation.tag,
                operation.began,
                ended,
                operation.answer,
                operation.digest,
                operation.held,
            )
        )
        self.report.operations[f"{operation.kind} {answer.status if answer else 'cut off'}"] += 1


def check(report: Report, *, at_least: int) -> None:
    """No violation, and that it was not for want of trying."""
    print(report)  # noqa: T201  # shown when the test fails, or with -s
    assert not report.violations, str(report)
    assert sum(report.operations.values()) >= at_least
    for answer in ("push 201", "push 409", "read 200"):
        assert report.operations[answer] >= 5, answer


async def soak(seed: int, seconds: float, *, proxies: int = 2) -> Report:
    """All faults but a lost ledger, for a while; then rest, then every check."""
    async with _loaded(seed, proxies=proxies) as load:
        load.world.unruly = True
        await _under(load, seconds, load.world.misbehave(FAULTS))
        await _check(load)
    return load.report


async def soak_with_loss(seed: int, seconds: float) -> Report:
    """The ledger is emptied again and again: tags keep what they hold, though the audit of before is gone.

    Nothing goes round the proxies here, and no request is delayed: with the ledger, what was known about those is lost.
    """
    async with _loaded(seed) as load:
        load.faithful = True
        await _under(load, seconds, load.world.misbehave(FAULTS_WITH_LOSS))
        await _check(load, audit=False)
    return load.report


async def restarts(seed: int, faults: Sequence[str]) -> Report:
    """The faults one after another under load, on a Redis that syncs its file every second."""
    async with _loaded(seed, appendfsync="everysec") as load:

        async def in_order() -> None:
            for fault in faults:
                await asyncio.sleep(1.0)
                await load.world.suffer(fault)
            await asyncio.sleep(1.0)

        working = asyncio.create_task(in_order())
        await asyncio.gather(working, *(load.work_until(working.done) for _ in range(CLIENTS)))
        await _check(load)
    return load.report


@contextlib.asynccontextmanager
async def _loaded(seed: int, *, proxies: int = 2, appendfsync: str = "always") -> AsyncIterator[Load]:
    began = time.monotonic()
    async with running_world(seed, proxies=proxies, appendfsync=appendfsync) as world, _session() as session:
        load = Load(world, session, random.Random(seed + 1), {}, report=Report(seed))
        load.report.happened = world.happened
        await _upload(load)
        yield load
        load.report.seconds = time.monotonic() - began


async def _under(load: Load, seconds: float, faults: Coroutine[Any, Any, None]) -> None:
    """All clients at work for so long, and faults meanwhile."""
    until = time.monotonic() + seconds
    misbehaving = asyncio.create_task(faults)
    await asyncio.gather(*(load.work_until(lambda: time.monotonic() > until) for _ in range(CLIENTS)))
    misbehaving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await misbehaving
    await load.world.calm()


@contextlib.asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield session


async def _upload(load: Load) -> None:
    """Five images and two indexes in each repository, of which any tag may come to hold any."""
    for repository in REPOSITORIES:
        plain = [image(f"{repository} {number}") for number in range(5)]
        children = [image(f"{repository} child {number}") for number in range(3)]
        load.images[repository] = [*plain, index(*children[:2]), index(*children)]
        for pushed in load.images[repository]:
            await load.direct.blobs(repository, pushed)


async def _check(load: Load, *, audit: bool = True) -> None:
    """Rest, recovery, then all that must be true."""
    world, found = load.world, load.report.violations
    await asyncio.sleep(QUARANTINE + 4 * MANIFEST_SECONDS)
    choices = Choices(manifest_timeout=10 * MANIFEST_SECONDS)
    async with edge_over(world.registry.url, world.redis.url, choices=choices) as edge:
        await _sweep(edge)
        by_tag = _by_tag(load.history)
        for tag in by_tag:
            repository, _, name = tag.partition(":")
            for proxy in world.proxies:
                await load.read_from(Client(proxy.url, load.session), repository, name)
        found += violations(load.history)
        if audit:
            found += audit_violations(load.history, await _events(edge))
        await _sweep(edge)
        for tag, operations in _by_tag(load.history).items():
            found += await _agreement(load, edge, tag, value_of(operations))
        found += [problem async for problem in _left_over(edge)]


def _by_tag(history: list[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = {}
    for operation in history:
        found.setdefault(operation.tag, []).append(operation)
    return found


async def _sweep(edge: RunningEdge) -> None:
    """As every proxy does by and by: finish what is open, then compare every tag and heal it."""
    parts = edge.parts
    sweep = Sweep(
        rules=lambda: edge.rules[0],
        register=parts.register,
        exceptions=parts.exceptions,
        upstream=parts.healer._upstream,
        recovery=parts.recovery,
        limits=parts.limits.of(MANIFEST_SECONDS),
        healer=parts.healer,
        caller=service_caller(None, None),
    )
    for repository in REPOSITORIES:
        await edge.store.client.delete(keys.compared(repository))
    await sweep.once()


async def _events(edge: RunningEdge) -> list[Recorded]:
    """Everything in the audit."""
    await Projector(edge.store).sweep()
    client: Any = edge.store.client
    told = []
    for _, entry in await client.xrange(keys.audit("events")):
        fields = {name.decode(): value.decode() for name, value in entry.items()}
        told.append(
            Recorded(
                fields["id"],
                f"{fields.get('repository', '')}:{fields['tag']}" if fields.get("tag") else "",
                fields["action"],
                fields["outcome"],
                fields.get("digest", ""),
                fields.get("user_agent", ""),
            )
        )
    return told


async def _agreement(load: Load, edge: RunningEdge, tag: str, value: str) -> list[str]:
    """I6 and I7: the upstream shows what the tag holds, and every part of it can be pulled."""
    if not value:
        return []
    repository, _, name = tag.partition(":")
    if _is_damaged(load.world.registry.storage, value):
        load.report.happened["storage damaged for good"] += 1
        return []
    seen = await load.direct.pull(repository, name)
    found = [] if seen.digest == value else [f"I7: {tag} holds {value}, the upstream shows {seen.status} {seen.digest}"]
    (held,) = [pushed for pushed in load.images[repository] if pushed.digest == value]
    for pushed in (held, *held.children):
        answer = await edge.client.pull(repository, pushed.digest)
        if answer.body != pushed.body:
            found.append(f"I6: {tag} needs the manifest {pushed.digest}, the answer is {answer.status}")
        for blob in pushed.blobs:
            answer = await edge.client.ask("GET", f"/v2/{repository}/blobs/{sha256(blob)}")
            if answer.body != blob:
                found.append(f"I6: {tag} needs the blob {sha256(blob)}, the answer is {answer.status}")
    return found


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
