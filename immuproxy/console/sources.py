"""What the console reads, and the values in which the composition root hands it over.  No I/O here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from immuproxy.allow.exceptions import Exceptions
from immuproxy.audit import Audit, Rosters
from immuproxy.console.manifests.contents import NoContents, RegistryReader
from immuproxy.ledger.register import Register
from immuproxy.rules.model import RuleSet

PULLS, PUSHES = "pulls", "pushes"


@dataclass(frozen=True, slots=True)
class Dependency:
    """Redis or the upstream: whether it answers, and in ``detail`` where it is or what is wrong with it.

    ``stops`` says what cannot be served meanwhile: `PULLS`, `PUSHES`.
    """

    name: str
    ok: bool
    detail: str = ""
    stops: frozenset[str] = frozenset()


def status_dict(parts: Sequence[Dependency]) -> dict[str, Any]:
    """What can be served: ``ready`` is for pulls, ``writes`` for pushes too; ``degraded`` is ready, but not whole."""
    stopped = frozenset[str]().union(*(part.stops for part in parts))
    whole = all(part.ok for part in parts) and not stopped
    return {
        "status": "unavailable" if PULLS in stopped else "ready" if whole else "degraded",
        "ready": PULLS not in stopped,
        "writes": not stopped,
        "parts": [
            {"name": part.name, "ok": part.ok, "detail": part.detail, "stops": sorted(part.stops)} for part in parts
        ],
    }


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """The rules that decide now.

    ``text`` is the file they were read from, as it was then; ``since`` is when they came into force (ms).  ``error``
    says why a newer version of the file is not in force, and is empty when there is none.  ``restart_needed``: settings
    that were changed in the file since the start, and are not in force before a restart.
    """

    rules: RuleSet
    text: str = ""
    since: int = 0
    error: str = ""
    restart_needed: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The rules file, without its text."""
        return {
            "source": self.rules.source,
            "digest": self.rules.digest,
            "since": self.since or None,
            "error": self.error or None,
            "restart_needed": list(self.restart_needed),
            "rules": len(self.rules.rules),
        }


@dataclass(frozen=True, slots=True)
class ComparisonPace:
    """How the ledger is compared with the upstream: each repository every so many seconds, so many tags a second."""

    every_seconds: int
    tags_a_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """All that the console needs.

    ``status`` is what was found when the parts were looked at last, a few seconds ago: no page waits for one that
    hangs.  ``probe`` asks them now, for machines that watch; it takes at most two seconds and never raises.  ``clock``
    gives milliseconds since 1970-01-01 UTC.  ``edge`` is the address that people push to, as it stands in a
    ``docker push``: host, or host and port.  ``metrics`` gives those of all processes, as they are now.  ``pace`` is
    None where nothing compares.
    """

    audit: Audit
    rosters: Rosters
    register: Register
    exceptions: Exceptions
    rules: Callable[[], RulesInForce]
    status: Callable[[], Sequence[Dependency]]
    probe: Callable[[], Awaitable[Sequence[Dependency]]]
    metrics: Callable[[], Awaitable[CollectorRegistry]]
    clock: Callable[[], int]
    edge: str
    version: str
    pace: ComparisonPace | None = None
    contents: RegistryReader = field(default_factory=NoContents)
