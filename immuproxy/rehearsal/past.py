"""What the ledger has recorded, for rules to judge it anew.  All raise `LedgerUnavailableError`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Protocol

from immuproxy.audit.search import Moment, Search, from_parameters
from immuproxy.ledger.model import Event
from immuproxy.ledger.register import Register
from immuproxy.rehearsal.replay import REQUESTS, was_judged
from immuproxy.rules.model import RuleSet

_CHUNK = 500

Tag = tuple[str, str]
"""Repository and tag."""


class RecordedPast(Protocol):
    """Where events are found."""

    def export(self, search: Search) -> AsyncIterator[Event]:
        """All that match, newest first."""


async def judged_requests(audit: RecordedPast, *, most: int, since: int = 0) -> AsyncIterator[Event]:
    """The newest ``most`` pushes and deletes of tags that came to a verdict, newest first, none before ``since``
    (ms).
    """
    search = replace(from_parameters(0, action=list(REQUESTS)), since=Moment(since, str(since)))
    left = most
    async for event in audit.export(search):
        if was_judged(event):
            yield event
            left -= 1
        if not left:
            return


def needs_first_pushes(rules: RuleSet) -> bool:
    """Whether a verdict can depend on when a tag was first pushed (``within``)."""
    return any(condition.within_ms is not None for rule in rules.rules for condition in rule.overwrite)


async def first_pushes(register: Register, tags: Iterable[Tag]) -> AsyncIterator[tuple[Tag, int]]:
    """When each (repository, tag) was first pushed, in ms; nothing where the ledger adopted it or does not know."""
    for repository, names in _by_repository(tags):
        for at in range(0, len(names), _CHUNK):
            for found in await register.records(repository, names[at : at + _CHUNK]):
                if found.committed and not found.committed.first_adopted:
                    yield (repository, found.tag), found.committed.first


def _by_repository(tags: Iterable[Tag]) -> Iterator[tuple[str, list[str]]]:
    for repository, group in groupby(sorted(set(tags)), key=lambda tag: tag[0]):
        yield repository, [name for _, name in group]
