"""Random clients on a few hot tags.  They note what they asked for and what they were told; they judge nothing.

A tag's first letter says what its rule allows: v nothing, o overwrites, x overwrites while an exception is in force,
d the delete of its manifest, m everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from immuproxy.allow.exceptions import Exceptions
from immuproxy.edge import record
from immuproxy.ledger.model import Action, Outcome
from immuproxy.store.redis import LedgerUnavailableError, connect
from tests.invariants.checker import DECLINED, MISSING, OK, REFUSED, UNKNOWN, Kind, Operation
from tests.invariants.moving import Grant
from tests.invariants.world import World
from tests.support.conversation import Answer, Client, Image, image, index, sha256

REPOSITORIES = ("team/app", "team/web")
CLIENTS = 16
HOT_TAGS = 5
TAG_ENDS = 1 / 40
"""The chance after each request that the oldest hot tag makes room for a new one."""

KINDS = {"v": 12, "o": 3, "x": 2, "d": 2, "m": 1}
LONGEST_REQUEST = 20.0
LONGEST_GRANT = 3.0


@dataclass
class Report:
    """What a soak did and found."""

    seed: int
    operations: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    tags: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    stories: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        requests = sum(self.operations.values())
        lines = [
            f"seed {self.seed}: {requests} requests on {self.tags} tags in {self.seconds:.0f} s",
            f"  {len(self.violations)} violations",
            "  " + ", ".join(f"{count} {what}" for what, count in sorted(self.operations.items())),
            "  " + ", ".join(f"{count} {what}" for what, count in sorted(self.happened.items())),
        ]
        return "\n".join([*lines, *(f"  {line}" for line in (*self.violations, *self.stories))])


@dataclass
class Load:
    """The clients of one world.

    `images` are those that any tag of a repository may come to hold; `known` is every manifest by its digest, also
    those that were made for one push.  `faithful` clients ask for nothing that goes round the proxies or deletes, and
    only for write-once tags.  Where the registry is ``exclusive``, nobody goes round the proxies.
    """

    world: World
    session: aiohttp.ClientSession
    random: random.Random
    images: dict[str, list[Image]] = field(default_factory=dict)
    known: dict[str, Image] = field(default_factory=dict)
    pushed: dict[str, list[Image]] = field(default_factory=dict)
    history: list[Operation] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    report: Report = field(default_factory=lambda: Report(0))
    hot: list[tuple[str, str]] = field(default_factory=list)
    count: int = 0
    faithful: bool = False
    exclusive: bool = False

    @property
    def direct(self) -> Client:
        return Client(self.world.registry.url, self.session)

    def proxy(self, name: str = "") -> Client:
        """Some proxy; `name` is what the audit and the relay call this client."""
        running = [proxy for proxy in self.world.proxies if proxy.is_running]
        chosen = self.random.choice(running or self.world.proxies)
        return Client(chosen.url, self.session, {"User-Agent": name})

    async def work_until(self, is_over: Callable[[], bool]) -> None:
        """One client; more than one run at the same time."""
        choices = {
            self.push: 40,
            self.read: 40,
            self.hang_up: 5,
            self.push_several: 4,
            self.bypass: 0 if self.faithful or self.exclusive else 4,
            self.delete: 0 if self.faithful else 5,
            self.allow: 0 if self.faithful else 3,
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
        kinds = ["v"] if self.faithful else list(KINDS)
        (kind,) = self.random.choices(kinds, [KINDS[kind] for kind in kinds])
        repository, tag = self.random.choice(REPOSITORIES), f"{kind}{self.count}"
        self.hot = [*self.hot[-HOT_TAGS + 1 :], (repository, tag)]
        self.report.tags += 1
        if self.random.random() < 0.2 and not (self.faithful or self.exclusive):
            await self.bypass(repository, tag)

    # --- images

    def chosen(self, repository: str, tags: Sequence[str], *, known: bool = True) -> Image:
        """Where the order matters in which a tag came to hold what, mostly an image that nobody else pushes."""
        base = self.random.choice(self.images[repository])
        name = f"{repository}:{tags[0]}"
        if all(tag.startswith("v") for tag in tags) and (len(tags) == 1 or self.random.random() < 0.5):
            return base
        if known and self.pushed.get(name) and self.random.random() < 0.3:
            return self.random.choice(self.pushed[name])
        body = json.dumps(json.loads(base.body) | {"annotations": {"made.for": self.name("image")}}).encode()
        made = replace(base, body=body)
        self.known[made.digest] = made
        for tag in tags:
            self.pushed.setdefault(f"{repository}:{tag}", []).append(made)
        return made

    # --- requests

    async def push(self, repository: str, tag: str, *, patience: float = LONGEST_REQUEST) -> None:
        await self._push(repository, [tag], self.chosen(repository, [tag]), patience, f"manifests/{tag}")

    async def hang_up(self, repository: str, tag: str) -> None:
        await self.push(repository, tag, patience=self.random.uniform(0.001, 0.1))

    async def push_several(self, repository: str, tag: str) -> None:
        """By digest, to two tags at once: both or none."""
        others = [name for where, name in self.hot if where == repository and name != tag and name[0] in "vox"]
        if not others or tag[0] not in "vox":
            return
        tags = [tag, self.random.choice(others)]
        pushed = self.chosen(repository, tags)
        path = f"manifests/{pushed.digest}?tag={tags[0]}&tag={tags[1]}"
        await self._push(repository, tags, pushed, LONGEST_REQUEST, path)

    async def _push(self, repository: str, tags: Sequence[str], pushed: Image, patience: float, path: str) -> None:
        name = self.name("push")
        began = time.monotonic()
        request = self.proxy(name).ask("PUT", f"/v2/{repository}/{path}", pushed.body, Content_Type=pushed.media_type)
        answer = await self.asked(request, patience)
        for tag in tags:
            told, held = _told(answer, tag)
            self.note(Operation(name, Kind.PUSH, f"{repository}:{tag}", began, 0.0, told, pushed.digest, held))
        self.count_answer("push" if len(tags) == 1 else "push to two", answer)
        if answer and answer.status in {400, 404}:  # a killed registry lost a blob, or a delete took it
            await self.asked(self.direct.blobs(repository, pushed), LONGEST_REQUEST)

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
        self.note(Operation(name, Kind.READ, f"{repository}:{tag}", began, 0.0, told, digest))
        self.count_answer("read", answer)

    async def bypass(self, repository: str, tag: str) -> None:
        """Straight to the registry, as somebody who must not.

        A deleted tag would come back that way; what a tag held once would look as if it had never been overwritten.
        """
        if tag.startswith("d"):
            return
        pushed = self.chosen(repository, [tag], known=False)
        name, began = self.name("bypass"), time.monotonic()
        answer = await self.asked(self.direct.put(repository, tag, pushed), LONGEST_REQUEST)
        told = OK if answer and answer.status == 201 else UNKNOWN
        self.note(Operation(name, Kind.BYPASS, f"{repository}:{tag}", began, 0.0, told, pushed.digest))
        self.count_answer("bypass", answer)

    async def delete(self, repository: str, tag: str) -> None:
        """By tag, by manifest digest or by layer; what a tag holds must survive it where its rule does not allow it."""
        mine = self.pushed.get(f"{repository}:{tag}", [])
        pushed = self.random.choice(mine if mine and self.random.random() < 0.7 else self.images[repository])
        layers = [f"blobs/{sha256(blob)}" for blob in pushed.blobs[-1:]]
        path = self.random.choice([f"manifests/{tag}", f"manifests/{pushed.digest}", *layers])
        name, began = self.name("delete"), time.monotonic()
        answer = await self.asked(self.proxy(name).ask("DELETE", f"/v2/{repository}/{path}"))
        if path == f"manifests/{pushed.digest}":
            told = {202: OK, 405: DECLINED}.get(answer.status if answer else 0, UNKNOWN)
            self.note(Operation(name, Kind.DELETE, f"{repository}:{tag}", began, 0.0, told, pushed.digest))
        self.count_answer("delete", answer)

    async def allow(self, repository: str, tag: str) -> None:
        """As `immuproxy allow` does it; counts as granted also where Redis did not answer."""
        if not tag.startswith("x"):
            return
        lasts, began = self.random.uniform(0.1, LONGEST_GRANT), time.monotonic()
        event = record.own(Action.EXCEPTION, Outcome.GRANTED, repository, tag=tag, reason="a soak")
        told = "granted"
        try:
            async with connect(self.world.ledger.url, timeout=1.0) as store:
                await Exceptions(store, lambda _repository: None).grant(event, lasts_ms=round(lasts * 1000))
        except LedgerUnavailableError:
            told = "not sure"
        self.grants.append(Grant(f"{repository}:{tag}", began, time.monotonic() + lasts))
        self.report.operations[f"exception {told}"] += 1

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

    def note(self, operation: Operation) -> None:
        self.history.append(replace(operation, ended=time.monotonic()))

    def count_answer(self, what: str, answer: Answer | None) -> None:
        self.report.operations[f"{what} {answer.status if answer else 'cut off'}"] += 1


def _told(answer: Answer | None, tag: str) -> tuple[str, str]:
    """What the answer of a push says of one of its tags, and which digest it says that the tag holds."""
    if answer is None or answer.status not in {201, 409}:
        return UNKNOWN, ""
    if answer.status == 201:
        return OK, ""
    detail = answer.error["detail"]
    return (REFUSED, detail["current_digest"] or "") if detail["tag"] == tag else (DECLINED, "")


async def uploaded(direct: Client, repository: str) -> list[Image]:
    """Five images and two indexes, whose blobs and children the registry has."""
    plain = [image(f"{repository} {number}") for number in range(5)]
    children = [image(f"{repository} child {number}") for number in range(3)]
    made = [*plain, index(*children[:2]), index(*children)]
    for pushed in made:
        await direct.blobs(repository, pushed)
    return made
