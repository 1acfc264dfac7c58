"""What can be wrong with a request, as values that become a page or JSON in one place.  PURE."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestProblem(Exception):
    """Why there is no answer.

    ``code`` is for programs, ``message`` says what is wrong and ``advice`` what to do; ``parameter`` names the one at
    fault; ``headers`` go with the answer.
    """

    status: int
    code: str
    title: str
    message: str
    advice: str = ""
    parameter: str = ""
    links: tuple[tuple[str, str], ...] = (("/", "Overview"), ("/audit", "Audit log"))
    headers: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, dict[str, str | None]]:
        """The body of a JSON error."""
        message = f"{self.message} {self.advice}".strip()
        return {"error": {"code": self.code, "message": message, "parameter": self.parameter or None}}


def not_found(message: str, advice: str = "") -> RequestProblem:
    """Nothing is there."""
    return RequestProblem(404, "not_found", "Not found", message, advice)


def unknown_repository(name: str) -> RequestProblem:
    """The proxy has never written anything for this repository."""
    return RequestProblem(
        404,
        "unknown_repository",
        "Unknown repository",
        f"The proxy has never seen a push to {name}.",
        "Check the spelling. A repository shows here with its first push through the proxy; "
        "`immuproxy import` takes in those that the registry has already.",
        links=(("/repositories", "All repositories"), ("/", "Overview")),
    )


def bad_parameter(name: str, message: str, advice: str = "") -> RequestProblem:
    """A parameter of the query does not say anything that can be done."""
    return RequestProblem(
        400, "bad_parameter", "This address asks for something impossible", message, advice, parameter=name
    )


def overloaded() -> RequestProblem:
    """Redis was not asked, for want of something on this side (H82)."""
    return RequestProblem(
        503,
        "too_busy",
        "Too busy",
        "The proxy has more to do than it can just now, and could not ask Redis.",
        "Load this page again in a moment.",
        headers=(("Retry-After", "5"),),
        links=(),
    )


def index_being_built(reason: str) -> RequestProblem:
    """The audit cannot be searched, or not far enough back."""
    return RequestProblem(
        503,
        "audit_being_built",
        "The audit's index is being built",
        reason,
        "Pushes and pulls do not need it, and nothing is lost. Load this page again in a moment.",
        headers=(("Retry-After", "5"),),
        links=(),
    )


def index_cannot_be_written(reason: str) -> RequestProblem:
    """There is no index, or none that goes on, until somebody makes room for it."""
    return RequestProblem(
        503,
        "audit_unavailable",
        "The audit cannot be searched for now",
        f"{reason[:1].upper()}{reason[1:]}.",
        "Pushes and pulls do not need it, and nothing is lost: it is tried again each second.",
        headers=(("Retry-After", "5"),),
        links=(),
    )


def index_too_small() -> RequestProblem:
    """What is asked for may be older than all that there is room for: to ask again would not help."""
    return RequestProblem(
        503,
        "audit_out_of_reach",
        "Older events cannot be searched here",
        "The audit's index is in memory and has room for the newest events only. They do not tell of this.",
        "Let audit.index in the configuration name a folder to have all of them searched; until then "
        "`immuproxy history` on the command line reads all that is recorded.",
    )


def too_slow(reason: str) -> RequestProblem:
    """A count or a list was cut, and a part of one would be wrong."""
    return RequestProblem(
        503,
        "audit_too_slow",
        "This takes too long",
        f"The audit's index was asked for more than it can count or look through in time: {reason}.",
        "Choose a shorter time or a narrower filter, or load this page again in a moment: the machine may be busy.",
    )


def ledger_down(reason: str) -> RequestProblem:
    """Redis did not answer."""
    return RequestProblem(
        503,
        "ledger_unavailable",
        "Redis does not answer",
        f"What the proxy knows about tags is in Redis, and Redis did not answer: {reason.rstrip('.')}.",
        "Pulls go on; pushes are refused until it is back. Check that Redis runs and that redis.url in the "
        "configuration names it, then load this page again.",
        links=(),
    )
