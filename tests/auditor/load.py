"""Random clients that send every kind of push and delete, while everything breaks; then the audit in all its forms."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf

import aiohttp

from immuproxy.allow.exceptions import Exceptions
from immuproxy.edge import record
from immuproxy.ledger.model import Action, Event, Outcome, event_from_dict
from immuproxy.store.redis import LedgerUnavailableError, connect
from tests.auditor.checker import violations
from tests.auditor.evidence import evidence, places
from tests.auditor.reading import Listener, listening, read_views, settled
from tests.auditor.recording import Flaw, Grant, Recording, Request
from tests.auditor.sending import (
    ACCOUNTS,
    FRONT,
    PASSWORD,
    PATIENCE,
    PROGRAMS,
    SERVICE,
    Draft,
    Senders,
    flawed,
    senders,
    to_tag,
    to_tags,
)
from tests.auditor.views import differences
from tests.invariants.clients import REPOSITORIES, uploaded
from tests.invariants.world import CONFIGURATION, LEASE, World, running_world
from tests.invariants.world import RULES as SOAKED
from tests.support.conversation import Client, Image, image, sha256

CLIENTS = 10
HOT_TAGS = 8
TAG_ENDS = 1 / 60
"""The chance after each request that the oldest hot tag makes room for a new one."""

KINDS = {"v": 4, "o": 3, "x": 2, "d": 2, "r": 2, "m": 6}
LONGEST_GRANT = 3.0

RULES = f"""{SOAKED}
  - {{name: reused, tags: ["r*"], policy: immutable, delete: allow, reuse: allow}}
"""

FAULTS = (
    "kill_proxy",
    "kill_proxy",
    "stop_proxy",
    "freeze_proxy",
    "freeze_proxy",
    "kill_registry",
    "kill_redis",
    "flush_scripts",
)

FLAWS = tuple(flaw for flaw in Flaw if flaw)


@dataclass
class Report:
    """What was done and found; `platforms`: how many pushes of single images had to name theirs; `evidence`: what
    explains each violation.
    """

    seed: int
    requests: int = 0
    events: int = 0
    platforms: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {self.requests} requests, {self.events} events in {self.seconds:.0f} s",
            f"  {len(self.violations)} violations",
            *("  " + _listed(counts) for counts in (self.answers, self.outcomes, self.happened)),
        ]
        return "\n".join([*lines, *(f"  {line}" for line in (*self.violations, *self.evidence))])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


@dataclass
class Load:
    """The clients of one world, and what they noted."""

    world: World
    senders: Senders
    random: random.Random
    images: dict[str, list[Image]] = field(default_factory=dict)
    hot: list[tuple[str, str]] = field(default_factory=list)
    tags: set[tuple[str, str]] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    count: int = 0
    calm: float = inf

    async def work_until(self, is_over: Callable[[], bool]) -> None:
        """One client; more than one run at the same time."""
        choices = {
            self.push: 40,
            self.hang_up: 5,
            self.push_by_digest: 4,
            self.push_several: 6,
            self.race: 4,
            self.spoil: 8,
            self.lack: 2,
            self.delete: 12,
            self.allow: 3,
        }
        while not is_over():
            if self.random.random() < TAG_ENDS or len(self.hot) < HOT_TAGS:
                self.new_tag()
            repository, tag = self.random.choice(self.hot)
            (what,) = self.random.choices(list(choices), list(choices.values()))
            await what(repository, tag)

    def new_tag(self) -> None:
        self.count += 1
        (kind,) = self.random.choices(list(KINDS), list(KINDS.values()))
        named = self.random.choice(REPOSITORIES), f"{kind}{self.count}"
        self.tags.add(named)
        self.hot = [*self.hot[-HOT_TAGS + 1 :], named]

    def chosen(self, repository: str, tag: str = "v") -> Image:
        """Any tag may come to hold any; what may be deleted is mostly nobody else's, or it could never go."""
        base = self.random.choice(self.images[repository])
        if tag[0] not in "dr" or self.random.random() < 0.2:
            return base
        body = json.dumps(json.loads(base.body) | {"annotations": {"made.for": tag}}).encode()
        return replace(base, body=body)

    # --- requests

    async def push(self, repository: str, tag: str, *, patience: float = PATIENCE) -> None:
        await self.ask(to_tag(repository, self.chosen(repository, tag), tag), patience=patience)

    async def hang_up(self, repository: str, tag: str) -> None:
        await self.push(repository, tag, patience=self.random.uniform(0.001, 0.1))

    async def push_by_digest(self, repository: str, tag: str) -> None:
        await self.ask(to_tags(repository, self.chosen(repository), []))

    async def push_several(self, repository: str, tag: str) -> None:
        others = [name for where, name in self.hot if where == repository and name != tag]
        if others:
            tags = [tag, *self.random.sample(others, min(len(others), self.random.randint(1, 2)))]
            await self.ask(to_tags(repository, self.chosen(repository), tags))

    async def race(self, repository: str, tag: str) -> None:
        """The same tag through all proxies at the same moment."""
        pushed = [to_tag(repository, self.chosen(repository, tag), tag) for _ in range(4)]
        await asyncio.gather(*map(self.ask, pushed))

    async def spoil(self, repository: str, tag: str) -> None:
        """Something is wrong with the request itself."""
        flaw = self.random.choice(FLAWS)
        pushed = self.chosen(repository, tag)
        if flaw is Flaw.DIGEST:
            wrong = to_tags(repository, pushed, [tag])
            await self.ask(replace(wrong, reference=sha256(secrets.token_bytes(8)), flaw=flaw))
        else:
            await self.ask(flawed(to_tag(repository, pushed, tag), flaw))

    async def lack(self, repository: str, tag: str) -> None:
        """A manifest whose layer nobody has uploaded."""
        await self.ask(to_tag(repository, image(self.name("lacking")), tag))

    async def delete(self, repository: str, tag: str) -> None:
        pushed = self.chosen(repository, tag)
        choices = [("manifests", tag), ("manifests", pushed.digest), ("manifests", pushed.digest)]
        choices += [("blobs", sha256(blob)) for blob in pushed.blobs[-1:]]
        choices.append(("manifests", sha256(secrets.token_bytes(8))))
        kind, reference = self.random.choice(choices)
        flaw = Flaw.STRANGER if self.random.random() < 0.05 else Flaw.NONE
        tags = (tag,) if reference == tag else ()
        await self.ask(Draft("DELETE", kind, repository, reference, tags, flaw=flaw))

    async def allow(self, repository: str, tag: str) -> None:
        """As `immuproxy allow` does it."""
        if not tag.startswith("x"):
            return
        lasts, began = self.random.uniform(0.5, LONGEST_GRANT), time.monotonic()
        event = record.own(Action.EXCEPTION, Outcome.GRANTED, repository, tag=tag, reason="an audit of the audit")
        sure = False
        with contextlib.suppress(LedgerUnavailableError):
            async with connect(self.world.ledger.url, timeout=1.0) as store:
                await Exceptions(store, lambda _repository: None).grant(event, lasts_ms=round(lasts * 1000))
            sure = True
        self.grants.append(Grant(event.id, repository, tag, began, time.monotonic() + lasts, sure))

    async def show_platforms(self) -> None:
        """Each single image twice through each proxy, while nothing is disturbed."""
        self.calm = time.monotonic()
        for _ in range(2):
            for proxy in range(len(self.world.proxies)):
                for repository, pushed in self.single_images():
                    tag = self.name("m")
                    self.tags.add((repository, tag))
                    await self.ask(to_tag(repository, pushed, tag), proxy=proxy)

    def single_images(self) -> Iterator[tuple[str, Image]]:
        for repository, images in self.images.items():
            yield from ((repository, pushed) for pushed in images if not pushed.children)

    async def ask(self, draft: Draft, *, patience: float = PATIENCE, proxy: int | None = None) -> Request:
        """Through some proxy that runs, or a given one."""
        if proxy is None:
            running = [number for number, each in enumerate(self.world.proxies) if each.is_running]
            proxy = self.random.choice(running or [0])
        name = f"{self.random.choice(PROGRAMS)} {self.name('request')}"
        url = self.world.proxies[proxy].url
        request = await self.senders.send(draft, url, proxy, name, patience)
        self.requests.append(request)
        if request.status in {400, 404} and not request.flaw and draft.method == "PUT":
            await self.bring_back(draft)
        return request

    async def bring_back(self, draft: Draft) -> None:
        """A killed registry lost a blob, or a delete took it; not what nobody has ever uploaded."""
        for known in self.images[draft.repository]:
            if json.loads(known.body).get("config") == json.loads(draft.body).get("config"):
                with contextlib.suppress(AssertionError, OSError, aiohttp.ClientError):
                    await self.direct.blobs(draft.repository, known)

    @property
    def direct(self) -> Client:
        return Client(self.world.registry.url, self.senders.sessions[FRONT]).as_user("ci", PASSWORD)

    def name(self, what: str) -> str:
        self.count += 1
        return f"{what}-{self.count}"

    # --- what it was

    async def damaged(self) -> frozenset[tuple[str, str]]:
        """What a registry that was killed in the middle of a write has and cannot read, also after the same again."""
        unsure = {(write.repository, write.digest) for write in self.world.writes if not write.status}
        answers = {place: await self.direct.pull(*place) for place in unsure}
        return frozenset(place for place, answer in answers.items() if answer.status >= 500)

    async def evidence(self, wrong: Sequence[str], recording: Recording, events: Sequence[Event]) -> list[str]:
        """All that explains what is wrong, with what the registry shows now."""
        lines = []
        for violation in wrong:
            shown: dict[tuple[str, str], str] = {}
            for place in places(violation, recording, events):
                answer = await self.direct.pull(*place)
                shown[place] = f"{answer.status} {answer.digest if answer.status == 200 else ''}"
            lines += [f"- {violation}", *evidence(violation, recording, events, self.world.faults, shown)]
        return lines

    async def recording(self) -> Recording:
        """With what readers get in the end."""
        held: dict[tuple[str, str], str] = {}
        for repository, tag in sorted(self.tags):
            reader = Client(self.world.proxies[0].url, self.senders.sessions[FRONT]).as_user("ci", PASSWORD)
            answer = await reader.pull(repository, tag)
            if answer.status in {200, 404}:
                held[repository, tag] = answer.digest if answer.status == 200 else ""
        return Recording(tuple(self.requests), tuple(self.world.writes), tuple(self.grants), held, LEASE, self.calm)


async def audited(seed: int, seconds: float, faults: Sequence[str] = FAULTS) -> Report:
    """Load and disturbances for so long, rest, then the audit held against what was."""
    began = time.monotonic()
    report = Report(seed)
    async with _loaded(seed) as (load, listeners):
        report.happened = load.world.happened
        await _under(load, seconds, faults)
        damaged = await load.damaged()
        report.violations += await settled(load.world, REPOSITORIES, damaged)
        await load.show_platforms()
        recording = replace(await load.recording(), damaged=damaged)
        views = await read_views(load.world, load.senders.sessions[FRONT], listeners, load.tags)
        events = [event_from_dict(dict(line)) for line in reversed(views.listed)]
        report.violations += violations(recording, events)
        report.violations += differences(views)
        report.violations += load.world.complaints()
        report.evidence = await load.evidence(report.violations, recording, events)
    _count(report, recording, events)
    report.seconds = time.monotonic() - began
    return report


def _count(report: Report, recording: Recording, events: Sequence[Event]) -> None:
    report.requests, report.events = len(recording.requests), len(events)
    report.platforms = sum(
        request.began.steady >= recording.calm and recording.must_name_platform(request)
        for request in recording.requests
    )
    report.answers = Counter(f"{request.method} {request.status or 'unanswered'}" for request in recording.requests)
    report.outcomes = Counter(f"{event.action} {event.outcome}" for event in events)


@contextlib.asynccontextmanager
async def _loaded(seed: int) -> AsyncIterator[tuple[Load, Sequence[Listener]]]:
    upstream = dict(CONFIGURATION["upstream"]) | {"username": SERVICE, "password": PASSWORD}
    configuration = {**CONFIGURATION, "upstream": upstream, "edge": {"trusted_proxies": [f"{FRONT}/32"]}}
    async with (
        running_world(seed, rules=RULES, configuration=configuration, users=ACCOUNTS) as world,
        senders(seed + 2) as everybody,
    ):
        load = Load(world, everybody, random.Random(seed + 1))
        for repository in REPOSITORIES:
            load.images[repository] = await uploaded(load.direct, repository)
        async with listening(world, everybody.sessions[FRONT]) as listeners:
            yield load, listeners


async def _under(load: Load, seconds: float, faults: Sequence[str]) -> None:
    """All clients at work for so long, and faults meanwhile."""
    until = time.monotonic() + seconds
    load.world.unruly = bool(faults)
    misbehaving = asyncio.create_task(load.world.misbehave(faults)) if faults else None
    await asyncio.gather(*(load.work_until(lambda: time.monotonic() > until) for _ in range(CLIENTS)))
    if misbehaving:
        misbehaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await misbehaving
    await load.world.calm()
