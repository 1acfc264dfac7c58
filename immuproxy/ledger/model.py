"""The values of the ledger: events, tag records, claims.  No I/O here.

Times are integers: milliseconds since 1970-01-01 UTC, by the clock of Redis unless said otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    """What was asked for or found: the ``action`` of an event."""

    PUSH = "push"
    DELETE_TAG = "delete-tag"
    DELETE_MANIFEST = "delete-manifest"
    DELETE_BLOB = "delete-blob"
    ADOPT = "adopt"
    DRIFT = "drift"
    REPAIR = "repair"
    EXCEPTION = "exception"
    RULES = "rules"
    LOG_IN = "log-in"


class Outcome(StrEnum):
    """How it ended: the ``outcome`` of an event."""

    CREATED = "created"
    OVERWRITTEN = "overwritten"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"
    DELETED = "deleted"
    MISSING = "missing"
    ADOPTED = "adopted"
    FOUND = "found"
    HEALED = "healed"
    GRANTED = "granted"
    ENDED = "ended"
    LOADED = "loaded"
    REJECTED = "rejected"


class ActorSource(StrEnum):
    """How the actor of an event was established."""

    ANONYMOUS = "anonymous"
    BASIC = "basic"
    TOKEN = "token"  # noqa: S105  # the kind of credential, not one
    PROXY = "proxy"
    OPERATOR = "operator"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the audit.

    Empty strings and ``None`` mean "does not apply".  ``id`` is unique and sorts by the time at which the request
    began; ``time`` is when the outcome was recorded, or when the intent was written where others than its proxy tell
    how it ended (H115).  ``actor_confirmed`` is true only when the upstream, or the log-in of the console, accepted
    that credential.  ``platforms`` are ``os/architecture[/variant]``: of what an index lists, or of a single image
    whose config was read in time.  ``size`` is in bytes: the manifest with its config and layers, or the sum an index
    states for its children.  ``duration_ms`` runs from the request's head to the outcome.  ``rule_line`` is the line
    of the rule in the file in force.  ``shadow`` marks a push that a rule in shadow mode would have refused.
    ``previous_digest`` of a delete is the digest by which the upstream kept the content, where it was asked for by
    another (H81).
    """

    id: str
    action: Action
    outcome: Outcome
    time: int = 0
    repository: str = ""
    tag: str = ""
    digest: str = ""
    previous_digest: str = ""
    media_type: str = ""
    size: int | None = None
    platforms: tuple[str, ...] = ()
    rule: str = ""
    rule_line: int | None = None
    shadow: bool = False
    reason: str = ""
    actor: str = ""
    actor_source: ActorSource = ActorSource.ANONYMOUS
    actor_confirmed: bool = False
    client_address: str = ""
    user_agent: str = ""
    request_id: str = ""
    duration_ms: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The event as plain JSON values, every field present."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"platforms": list(self.platforms)}


def event_from_dict(values: dict[str, Any]) -> Event:
    """The inverse of `Event.to_dict`; unknown keys are dropped, so that an older proxy reads a newer one's events."""
    known = {field.name for field in fields(Event)}
    kept = {key: value for key, value in values.items() if key in known}
    return Event(
        **(
            kept
            | {
                "action": Action(kept["action"]),
                "outcome": Outcome(kept["outcome"]),
                "actor_source": ActorSource(kept.get("actor_source", ActorSource.ANONYMOUS)),
                "platforms": tuple(kept.get("platforms", ())),
            }
        )
    )


def as_written(event: Event | None) -> str:
    """An event as the scripts want it: a JSON object that begins with its time, which they put in front where it is 0.

    No event is the empty string.
    """
    if event is None:
        return ""
    values = event.to_dict()
    time = values.pop("time")
    return json.dumps({"time": time} | values if time else values, separators=(",", ":"))


class State(StrEnum):
    """The states of a tag's record, by the names of the protocol."""

    ABSENT = "ABSENT"
    CLAIMED = "CLAIMED"
    ARMED = "ARMED"
    COMMITTED = "COMMITTED"


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody's wish to set the tag.

    ``lease`` is its deadline, and ``term`` how long it stood by then, None where nobody wrote that; ``armed`` is when
    the PUT became possible, or 0.
    """

    state: State
    digest: str
    token: str
    lease: int
    armed: int = 0
    event: str = ""
    term: int | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What the tag holds.

    ``since`` is when it came to hold this digest, ``first`` when it first held anything; ``by`` the actor of this
    digest, ``first_by`` the actor of the first; ``first_adopted`` tells that the tag predates the ledger, so that
    ``first`` is only when it was found.  ``generation`` grows with each allowed overwrite, from ``born`` on, and never
    goes back: where a record goes, those that come to its repository later are born above it (H102).  ``aged_from`` is
    ``first`` by the ledger's own time (H113).
    """

    digest: str
    generation: int
    since: int
    first: int
    by: str = ""
    born: int = 1
    first_by: str = ""
    first_adopted: bool = False
    media_type: str = ""
    size: int = 0
    platforms: tuple[str, ...] = ()
    rule: str = ""
    event: str = ""
    aged_from: int = 0

    @property
    def overwrites(self) -> int:
        """How often it was overwritten since it came to be."""
        return self.generation - self.born


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A deleted tag whose name stays taken."""

    deleted: int
    digest: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class TagRecord:
    """All that the ledger knows about one tag.  A claim beside a committed part is an overwrite under way."""

    repository: str
    tag: str
    committed: Committed | None = None
    claim: Claim | None = None
    tombstone: Tombstone | None = None
    generation: int = 0

    @property
    def state(self) -> State:
        """The state by the protocol's names."""
        if self.committed:
            return State.COMMITTED
        return self.claim.state if self.claim else State.ABSENT


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest's raw bytes as pushed, kept so that the upstream can be healed."""

    digest: str
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """An open drift: what the upstream shows under a tag instead (empty: nothing), and since when that is known."""

    tag: str
    seen: str
    since: int


@dataclass(frozen=True, slots=True)
class FindingPage:
    """Open findings, each with its repository; ``next_cursor`` is empty at the end."""

    found: tuple[tuple[str, Finding], ...]
    next_cursor: str


class Step(StrEnum):
    """What a step of the protocol answered; see the scripts of the same names."""

    CLAIMED = "CLAIMED"
    RESUMED = "RESUMED"
    COMMITTED = "COMMITTED"
    DELETED = "DELETED"
    BUSY = "BUSY"
    STALE = "STALE"
    DELETING = "DELETING"
    ARMED = "ARMED"
    RELEASED = "RELEASED"
    LET_GO = "LET_GO"
    LOST = "LOST"
    CONFLICT = "CONFLICT"
    LATE = "LATE"
    CHANGED = "CHANGED"
    OK = "OK"
    GRANTED = "GRANTED"
    PINNED = "PINNED"
    UNADOPTED = "UNADOPTED"


@dataclass(frozen=True, slots=True)
class Reply:
    """A step's answer: what happened, when (ms, clock of Redis), and the record after it."""

    step: Step
    now: int
    record: TagRecord


@dataclass(frozen=True, slots=True)
class ClaimReply(Reply):
    """That of a claim, with what else a push has to know, as it was in that very step.

    ``deletes``: how many have ended in the repository.  ``excepted``: somebody allowed something of the tag for a
    while, and has not ended it.  ``unattached``: those of the digests asked for that something needs, and to which not
    all is attached that they need (H81, H91).  ``adopted``: the adoption that the claim was given still holds, so a tag
    without a record is not there.
    """

    deletes: int = 0
    excepted: bool = False
    unattached: tuple[str, ...] = ()
    adopted: bool = False
