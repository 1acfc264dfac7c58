"""From a search to the postings that answer it.

A `Group` is a union of postings; an event must stand in every group.  What no posting says exactly (patterns over
too many values, free text, exclusions) is left to `matching.event_test`, which sees every event before it is shown.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from immuproxy.ledger.audit import entries
from immuproxy.ledger.audit.matching import matching_values
from immuproxy.ledger.audit.vocabulary import Lasts, Vocabulary
from immuproxy.ledger.redis import Store
from immuproxy.ledger.search import Search, Term

FEW_KEYS = 128
"""Postings that a step opens without thinking."""

MOST_KEYS = 1_024
"""Postings that a step opens at most."""

_SCAN_COUNT = 2_000


@dataclass(frozen=True, slots=True)
class Group:
    """A union of postings, last active first; ``lasts`` are the milliseconds of their last events, or empty."""

    keys: tuple[str, ...]
    lasts: tuple[int, ...] = ()

    def near(self, bound_ms: int) -> tuple[tuple[str, ...], int] | None:
        """Few postings that are enough from ``bound_ms`` down to a floor (in milliseconds), with that floor.

        None when they would be too many: then the group is no help here.
        """
        if len(self.keys) <= FEW_KEYS:
            return self.keys, 0
        count = FEW_KEYS
        while count < len(self.lasts) and self.lasts[count] >= bound_ms:
            count *= 2
        if min(count, len(self.keys)) > MOST_KEYS:
            return None
        if count < len(self.lasts):
            return self.keys[:count], self.lasts[count] + 1
        return (self.keys, 0) if len(self.keys) <= MOST_KEYS else None


class Planner:
    """Turns searches into groups, with the help of the known values."""

    def __init__(self, store: Store, vocabulary: Vocabulary) -> None:
        """``store`` is asked for the tags of a repository."""
        self._store = store
        self._vocabulary = vocabulary

    async def groups(self, search: Search) -> tuple[Group, ...] | None:
        """The groups of a search; none at all means every event; None means that nothing can match."""
        tagged = await self._tagged(search)
        found = [*_exact_groups(search), *tagged, *await self._value_groups(search, {"repo"} if tagged else set())]
        if not tagged:
            found += _tag_names(search)
        usable = [group for group in found if len(group.keys) <= MOST_KEYS or group.lasts]
        return None if any(not group.keys for group in usable) else tuple(usable)

    async def _value_groups(self, search: Search, without: set[str]) -> list[Group]:
        fields = [field for field in entries.VALUE_FIELDS if search.values(field) and field not in without]
        groups = [await self._including(field, search.values(field)) for field in fields]
        excluded = ((field, search.values(field, exclude=True)) for field in ("outcome", "action"))
        return groups + [await self._excluding(field, terms) for field, terms in excluded if terms]

    async def _including(self, field: str, terms: Sequence[Term]) -> Group:
        if field == "ip" and all("/" not in term.value for term in terms):
            return Group(tuple(dict.fromkeys(entries.bucket("address", term.value) for term in terms)))
        exact = field != "ip" and _all_exact(terms)
        if exact and len(terms) <= FEW_KEYS:
            return Group(tuple(entries.posting(field, term.value) for term in terms))
        known = await self._vocabulary.values(field)
        return _group(field, matching_values(terms, known), known)

    async def _excluding(self, field: str, terms: Sequence[Term]) -> Group:
        known = await self._vocabulary.values(field)
        return _group(field, set(known).difference(matching_values(terms, known)), known)

    async def _tagged(self, search: Search) -> list[Group]:
        """The tags of named repositories, where those are few enough to name: one group, which knows both."""
        tags, repositories = search.values("tag"), search.values("repo")
        if not tags or not repositories or not _all_exact(repositories):
            return []
        names = [term.value for term in tags] if _all_exact(tags) else await self._tags_like(repositories, tags)
        if names is None or len(names) * len(repositories) > FEW_KEYS:
            return []
        pairs = product((term.value for term in repositories), names)
        return [Group(tuple(dict.fromkeys(entries.bucket("tagged", *pair) for pair in pairs)))]

    async def _tags_like(self, repositories: Sequence[Term], tags: Sequence[Term]) -> list[str] | None:
        """The tags of one repository that match; None when that is not known, or they are too many."""
        if len(repositories) != 1:
            return None
        repository, found = repositories[0].value, dict[str, None]()
        keys = (entries.tags_key(repository), entries.excepted_tags_key(repository))
        for term, key in product(tags, keys):
            beginning = term.value if term.exact else re.split(r"[*?]", term.value)[0]
            async for name in scan_members(self._store, key, beginning):
                found |= dict.fromkeys(matching_values([term], [name]))
                if len(found) > FEW_KEYS:
                    return None
        return list(found)


async def scan_members(store: Store, key: str, beginning: str) -> AsyncIterator[str]:
    """Members of a sorted set that begin so, in no order, each once."""
    # A beginning is all that Redis is asked to match: its own patterns can be made to take very long.
    match = "".join(f"\\{character}" if character in "*?[]\\^" else character for character in beginning) + "*"
    cursor, seen = 0, set[bytes]()
    while True:
        cursor, pairs = await store.do(store.client.zscan(key, cursor, match=match, count=_SCAN_COUNT))
        for member, _ in pairs:
            if member not in seen:
                seen.add(member)
                yield member.decode()
        if not cursor:
            return


def _all_exact(terms: Sequence[Term]) -> bool:
    return all(term.exact for term in terms)


def _tag_names(search: Search) -> list[Group]:
    tags = search.values("tag")
    if not tags or not _all_exact(tags):
        return []
    return [Group(tuple(dict.fromkeys(entries.bucket("tag", term.value) for term in tags)))]


def _group(field: str, values: Iterable[str], known: Lasts) -> Group:
    ordered = sorted(values, key=lambda value: known.get(value, 0), reverse=True)
    return Group(
        tuple(entries.posting(field, value) for value in ordered), tuple(known.get(value, 0) for value in ordered)
    )


def _exact_groups(search: Search) -> list[Group]:
    groups = []
    if terms := search.values("id"):
        groups.append(Group(tuple(dict.fromkeys(entries.bucket("id", term.value) for term in terms))))
    if terms := search.values("digest"):
        groups.append(Group(tuple(_digest_buckets(terms))))
    if [term.value for term in search.values("shadow")] == ["yes"]:
        groups.append(Group((entries.SHADOW,)))
    return groups


def _digest_buckets(terms: Sequence[Term]) -> Iterable[str]:
    names: dict[str, None] = {}
    for term in terms:
        digits = entries.hex_digits(term.value)[: entries.BUCKET_DIGITS]
        open_digits = entries.BUCKET_DIGITS - len(digits)
        for rest in range(16**open_digits):
            names[digits + f"{rest:0{open_digits}x}" if open_digits else digits] = None
    return (entries.digest_bucket(name) for name in names)
