"""The list of repositories, and one repository with its tags.  PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from immuproxy.ledger.audit import RepositoryPage
from immuproxy.ledger.model import Event, Outcome, TagRecord
from immuproxy.rules.model import RuleSet
from immuproxy.web.contexts.tag import HOLDS, standing

ORDERS = (
    ("activity", "Last active first"),
    ("name", "By name"),
    ("events", "Most events first"),
    ("refusals", "Most refusals first"),
)


def repositories_context(page: RepositoryPage, *, filter_text: str, order: str) -> dict[str, Any]:
    """The list of repositories."""
    return {
        "matching": page.matching,
        "filter": filter_text,
        "order": order,
        "repositories": [
            {
                "repository": found.repository,
                "tags": found.tags,
                "events": found.events,
                "refusals": found.refusals,
                "last": found.last,
            }
            for found in page.repositories
        ],
        "next_cursor": page.next_cursor or None,
    }


@dataclass(frozen=True, slots=True)
class TagRow:
    """What is known of one tag: its record, and its last event."""

    record: TagRecord
    last: Event | None


def tag_row(row: TagRow, rules: RuleSet) -> dict[str, Any]:
    """One line of a repository's tags; ``digest`` is what a pull gets as far as the proxy knows."""
    record, held, last = row.record, row.record.committed, row.last
    word = standing(record)
    rule = rules.match(record.repository, record.tag)
    moved = last is not None and last.outcome in HOLDS | {Outcome.UNCHANGED}
    seen = last if moved and not record.claim and not record.tombstone else None
    return {
        "tag": record.tag,
        "state": "moves" if held is None and seen else word.state,
        "tone": "calm" if held is None and seen else word.tone,
        "shape": "cycle" if held is None and seen else word.shape,
        "digest": held.digest if held else (seen.digest if seen else ""),
        "rule": rule.name,
        "policy": rule.policy.value,
        "since": held.since if held else (seen.time if seen else None),
        "by": held.by if held else (seen.actor if seen else ""),
        "generation": record.generation,
        "platforms": list(held.platforms) if held else [],
        "size": held.size if held else None,
        "last_event": last.id if last else None,
    }


def rows(records: Sequence[TagRecord], latest: Mapping[str, Event]) -> list[TagRow]:
    """Records and last events put together."""
    return [TagRow(record, latest.get(record.tag)) for record in records]


def repository_context(
    repository: str,
    tags: Sequence[TagRow],
    events: Sequence[Event],
    rules: RuleSet,
    *,
    total: int,
    filter_text: str,
    next_cursor: str,
) -> dict[str, Any]:
    """A repository's tags, as far as they are shown, and its latest events; ``total`` counts all its tags."""
    return {
        "repository": repository,
        "total": total,
        "filter": filter_text,
        "tags": [tag_row(row, rules) for row in tags],
        "events": [event.to_dict() for event in events],
        "next_cursor": next_cursor or None,
    }
