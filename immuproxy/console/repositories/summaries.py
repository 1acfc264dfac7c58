"""The list of repositories, and one repository with its tags.  PURE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from immuproxy.audit.values import RepositoryPage, TagFacts
from immuproxy.console.repositories.tag_list import Chosen, TagQuery
from immuproxy.console.tags.life import MOVES, standing_of
from immuproxy.ledger.model import Event, TagRecord
from immuproxy.rules.model import RuleSet

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
class ListedTags:
    """The tags of one page, with their records, and what else the page of a repository says."""

    chosen: Chosen
    records: Sequence[TagRecord]
    events: Sequence[Event]
    rules: Sequence[str]
    total: int
    complete: bool


def tag_row(facts: TagFacts, record: TagRecord, rules: RuleSet) -> dict[str, Any]:
    """One line of a repository's tags; ``digest`` is what a pull gets as far as the proxy knows."""
    held, rule = record.committed, rules.match(record.repository, record.tag)
    word = standing_of(record, facts)
    moves = word is MOVES
    return {
        "tag": record.tag,
        "state": word.state,
        "tone": word.tone,
        "shape": word.shape,
        "digest": held.digest if held else (facts.digest if moves else ""),
        "rule": rule.name,
        "policy": rule.policy.value,
        "since": held.since if held else (facts.changed if moves else None),
        "by": held.by if held else (facts.by if moves else ""),
        "generation": record.generation,
        "platforms": list(held.platforms) if held else [],
        "size": held.size if held else None,
        "last": facts.last or None,
    }


def repository_context(repository: str, listed: ListedTags, wish: TagQuery, rules: RuleSet) -> dict[str, Any]:
    """A repository's tags, as far as they are shown, and its latest events; ``total`` counts all its tags."""
    chosen = listed.chosen
    return {
        "repository": repository,
        "total": listed.total,
        "complete": listed.complete,
        "filter": wish.text,
        "state": wish.state,
        "rule": wish.rule,
        "order": wish.order,
        "matching": chosen.matching,
        "first": chosen.first,
        "states": [{"state": state, "count": count} for state, count in chosen.states.items()],
        "rules": list(listed.rules),
        "tags": [tag_row(*pair, rules) for pair in zip(chosen.facts, listed.records, strict=True)],
        "events": [event.to_dict() for event in listed.events],
        "previous_cursor": chosen.previous,
        "next_cursor": chosen.following,
    }
