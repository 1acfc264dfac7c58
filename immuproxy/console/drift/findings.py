"""The drift page: where the registry shows something else than a tag holds, in plain words.  PURE."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from immuproxy.console.sources import ComparisonPace
from immuproxy.ledger.comparisons import Compared
from immuproxy.ledger.model import Action, Event, Finding, Outcome, TagRecord
from immuproxy.rules.model import RuleSet

_STATUS = re.compile(r"answered (\d{3})")
_ACCOUNT = (
    "Give the proxy an account of its own that may push: upstream.username and upstream.password_file in the "
    "configuration. It tries again by itself."
)
_PARTS_MISSING = (
    "Run immuproxy verify {repository} to see what is missing, and push the same image again through the proxy, or "
    "bring the registry's storage back from a copy."
)


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """A finding with what the ledger holds for its tag, and the last attempt to repair it, if there was one."""

    repository: str
    finding: Finding
    record: TagRecord
    attempt: Event | None = None


def what_is_wrong(finding: Finding) -> str:
    """The finding in one sentence."""
    if finding.seen:
        return "The registry shows another image under this tag: somebody has written to it past the proxy."
    return "The registry does not give out this tag any more: it was deleted past the proxy, or its storage is damaged."


def what_readers_get(each: OpenFinding, rules: RuleSet) -> str:
    """What a pull through the proxy is answered with meanwhile."""
    if each.record.committed is None:
        return "The tag holds nothing any more. The finding ends with the next look of the proxy, within a minute."
    if not rules.match(each.repository, each.finding.tag).protects:
        return "The rule in force lets this tag move, so a pull gets what the registry shows."
    if each.finding.seen:
        return "A pull through the proxy still gets what the tag holds. Only who asks the registry itself is misled."
    return "A pull through the proxy still gets what the tag holds, for as long as the registry has its layers."


def what_to_do(each: OpenFinding) -> str:
    """The next step for a person."""
    if each.record.committed is None:
        return "Nothing."
    if each.attempt is None:
        return "Nothing yet: the proxy is about to set the registry right. If that fails, this page will say why."
    reason, status = each.attempt.reason, _STATUS.search(each.attempt.reason)
    if status and status[1] in {"401", "403"}:
        return _ACCOUNT
    if status and status[1] == "405":
        return "The registry takes no pushes. Allow them, so that the proxy can write the tag again."
    if "no copy" in reason:
        return "Push the same image again through the proxy. It then has the manifest, and sets the tag right."
    return _PARTS_MISSING.format(repository=each.repository)


def finding_dict(each: OpenFinding, rules: RuleSet) -> dict[str, Any]:
    """One open finding; ``held`` is what the tag holds now, empty where it holds nothing any more."""
    attempt = each.attempt
    return {
        "repository": each.repository,
        "tag": each.finding.tag,
        "kind": "moved" if each.finding.seen else "missing",
        "seen": each.finding.seen,
        "held": each.record.committed.digest if each.record.committed else "",
        "since": each.finding.since,
        "problem": what_is_wrong(each.finding),
        "readers": what_readers_get(each, rules),
        "advice": what_to_do(each),
        "attempt": None
        if attempt is None
        else {"event": attempt.id, "time": attempt.time, "outcome": attempt.outcome.value, "reason": attempt.reason},
    }


def history_rows(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Drift and repairs, newest first; ``after_ms`` says how long after the finding of the same page it ended."""
    found: list[dict[str, Any]] = []
    ends: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        row = event.to_dict() | {"after_ms": None}
        tag = (event.repository, event.tag)
        if event.action is Action.REPAIR and event.outcome is not Outcome.FAILED:
            ends[tag] = row
        elif event.action is Action.DRIFT and (ended := ends.pop(tag, None)) is not None:
            ended["after_ms"] = max(0, ended["time"] - event.time)
        found.append(row)
    return found


def comparison_dict(compared: Compared, pace: ComparisonPace | None) -> dict[str, Any]:
    """How far the comparison with the registry is, and how fast it goes."""
    return {
        "repositories": compared.repositories,
        "known": compared.known,
        "newest": compared.newest,
        "oldest": compared.oldest,
        "oldest_repository": compared.oldest_repository,
        "every_seconds": pace.every_seconds if pace else None,
        "tags_a_second": pace.tags_a_second if pace else None,
    }


def drift_context(
    found: Sequence[OpenFinding],
    *,
    counts: Mapping[str, int],
    totals: Mapping[str, int],
    history: Sequence[Event],
    rules: RuleSet,
    comparison: Mapping[str, Any],
    cursors: tuple[str, str],
) -> dict[str, Any]:
    """``counts``: open findings of each repository; ``totals``: events of the last 30 days by outcome.

    ``cursors``: those of the next open findings and of older history.
    """
    return {
        "open": sum(counts.values()),
        "open_repositories": len(counts),
        "found": totals.get(Outcome.FOUND, 0),
        "healed": totals.get(Outcome.HEALED, 0),
        "findings": [finding_dict(each, rules) for each in found],
        "history": history_rows(history),
        "comparison": comparison,
        "next_cursor": cursors[0] or None,
        "history_cursor": cursors[1] or None,
    }
