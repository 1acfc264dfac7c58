"""What the auditor saw with its own eyes: each request that was sent and how it was answered, each write that came to
the registry.  Values only; `checker.py` holds the audit against them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from math import inf
from typing import Any

from tests.invariants.world import Write

OPEN = 0
"""The status of a request that nobody answered."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment by two clocks, in seconds: one that nobody sets, and the time of day."""

    steady: float
    wall: float


class Flaw(StrEnum):
    """What is wrong with a request on purpose."""

    NONE = ""
    EMPTY = "an empty body"
    DIGEST = "a digest in the path that is not the body's"
    BROKEN = "a body that is no chunked coding"
    LARGE = "a body over the limit that does not say so"
    LENGTH = "a length over the limit"
    CODING = "a Content-Encoding"
    TYPE = "a type that no manifest has"
    SYNTAX = "a body that is no JSON"
    STRANGER = "a credential that the registry does not take, or none"


NEVER_TOLD = frozenset({Flaw.LENGTH, Flaw.CODING, Flaw.STRANGER})
"""Refused by its head alone, or before its client was let in: docs/audit.md says that there is no event."""

NOT_READ = frozenset({Flaw.EMPTY, Flaw.BROKEN, Flaw.LARGE})
"""The proxy has no body of which it could tell a digest."""

RELAYED = frozenset({Flaw.TYPE, Flaw.SYNTAX})
"""Judged by the proxy for tags that a rule holds; for others, and by digest, passed on for the registry to judge."""


@dataclass(frozen=True, slots=True)
class Content:
    """A body as it was sent, and what the audit is to say of it.

    `by_config`: whether only its config tells the platform.
    """

    digest: str
    media_type: str
    size: int
    platforms: tuple[str, ...] = ()
    by_config: bool = False


@dataclass(frozen=True, slots=True)
class Sender:
    """Who asked: the actor that the credential names, how it was sent, and from where."""

    actor: str
    actor_source: str
    confirmed: bool
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One push or delete.

    `name` is its User-Agent, which no other request has; the relay sees it, too.  `tags`: those that it names.
    `reference` is that of its path.  `status`: `OPEN` where there was no answer; `request_id` and `error` are the
    answer's.
    """

    name: str
    method: str
    kind: str
    repository: str
    reference: str
    tags: tuple[str, ...]
    sender: Sender
    proxy: int
    began: Moment
    ended: Moment
    status: int
    flaw: Flaw = Flaw.NONE
    content: Content | None = None
    request_id: str = ""
    error: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.ended.steady - self.began.steady

    @property
    def decides(self) -> bool:
        """Whether its answer says how it ended: not that nobody can say now."""
        return OPEN < self.status < 500

    @property
    def action(self) -> str:
        if self.method == "PUT":
            return "push"
        if self.tags:
            return "delete-tag"
        return "delete-manifest" if self.kind == "manifests" else "delete-blob"

    @property
    def told_of(self) -> tuple[str, ...]:
        """The tags of which its events tell; that of none is empty."""
        return tuple(dict.fromkeys(self.tags)) or ("",)

    @property
    def refused_tag(self) -> str:
        """The tag because of which it was refused, as the answer says."""
        return str(self.detail.get("tag", ""))

    @property
    def detail(self) -> Mapping[str, Any]:
        detail = self.error.get("detail")
        return detail if isinstance(detail, dict) else {}

    def reaches(self, tag: str) -> str:
        """The reference under which the registry gets it for a tag."""
        return tag or self.reference


@dataclass(frozen=True, slots=True)
class Grant:
    """An exception: the event that granted it, and from when to when it is in force at the most (steady clock)."""

    event: str
    repository: str
    tag: str
    began: float
    ends: float
    sure: bool


@dataclass(frozen=True)
class Recording:
    """All of it, in the order in which it ended.  `finally_held`: what readers got of each tag when all was over.

    `lease`: seconds after which others take the owner of a push for lost.  `calm`: from when on (steady clock) nothing
    was disturbed.  `damaged`: contents, by repository and digest, that a killed registry says it has and cannot read
    (H16).
    """

    requests: Sequence[Request]
    writes: Sequence[Write]
    grants: Sequence[Grant] = ()
    finally_held: Mapping[tuple[str, str], str] = field(default_factory=dict)
    lease: float = 3.0
    calm: float = inf
    damaged: frozenset[tuple[str, str]] = frozenset()

    @cached_property
    def by_name(self) -> Mapping[str, Request]:
        return {request.name: request for request in self.requests}

    @cached_property
    def _puts(self) -> Mapping[tuple[str, str, str], Sequence[Write]]:
        found: dict[tuple[str, str, str], list[Write]] = defaultdict(list)
        for write in self.writes:
            if write.method == "PUT":
                found[write.sender, write.repository, write.reference].append(write)
        return found

    @cached_property
    def puts_by_tag(self) -> Mapping[tuple[str, str], Sequence[Write]]:
        """What was sent to each tag."""
        found: dict[tuple[str, str], list[Write]] = defaultdict(list)
        for write in self.writes:
            if write.method == "PUT":
                found[write.repository, write.reference].append(write)
        return found

    @cached_property
    def _by_digest(self) -> Mapping[str, Sequence[Write]]:
        found: dict[str, list[Write]] = defaultdict(list)
        for write in self.writes:
            found[write.digest].append(write)
        return found

    def writes_of(self, digest: str) -> Sequence[Write]:
        return self._by_digest.get(digest, ())

    @cached_property
    def deletes(self) -> Mapping[str, Sequence[Write]]:
        """By repository."""
        found: dict[str, list[Write]] = defaultdict(list)
        for write in self.writes:
            if write.method == "DELETE":
                found[write.repository].append(write)
        return found

    @cached_property
    def _configs_read(self) -> Mapping[tuple[str, int, str], float]:
        """When a proxy had stored an image of which it can have read the config undisturbed; the first time counts."""
        found: dict[tuple[str, int, str], float] = {}
        for request in sorted(self.requests, key=lambda request: request.ended.steady):
            undisturbed = request.method == "PUT" and request.status == 201 and request.began.steady >= self.calm
            if undisturbed and request.content and any(self.own_puts(request, tag) for tag in request.told_of):
                place = (request.repository, request.proxy, request.content.digest)
                found.setdefault(place, request.ended.steady)
        return found

    def is_damaged(self, request: Request) -> bool:
        return request.content is not None and (request.repository, request.content.digest) in self.damaged

    def must_name_platform(self, request: Request) -> bool:
        """Whether its proxy has to know the platform of a single image by now; before, a config may come too late."""
        if request.content is None or not request.content.by_config:
            return True
        place = (request.repository, request.proxy, request.content.digest)
        return self._configs_read.get(place, inf) <= request.began.steady

    def landed_in_time(self, write: Write) -> bool:
        """Taken before its push was answered with success, and not later, when nobody waited for it any more."""
        request = self.by_name.get(write.sender)
        return (
            request is not None and request.status == 201 and was_taken(write) and write.ended <= request.ended.steady
        )

    def own_puts(self, request: Request, tag: str) -> list[Write]:
        """What the registry got of a push under one of its tags; not what its proxy sent of others to help them."""
        found = self._puts.get((request.name, request.repository, request.reaches(tag)), ())
        return [write for write in found if request.content and write.digest == request.content.digest]


def was_taken(write: Write) -> bool:
    """The registry said so."""
    return write.status in {201, 202}


def may_be_taken(write: Write) -> bool:
    """The registry did not say no."""
    return write.status < 400 or write.status >= 500
