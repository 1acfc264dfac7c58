"""Random searches against the evaluator that was written from docs/audit.md, while events arrive and old ones go.

The long form: ``python -m tests.audit.searching [SEARCHES] [EVENTS] [SEED]``, 3,000 searches as a rule.
"""

from __future__ import annotations

import random
import sqlite3
import sys
from dataclasses import dataclass, field

from immuproxy.audit import conditions, paging, schema
from immuproxy.audit.search import Search
from immuproxy.audit.writing import Writer
from immuproxy.ledger.model import Event
from tests.audit import naive, odd_events

MOST_PAGES = 20_000


@dataclass(slots=True)
class World:
    """An index, and the same events in a list, oldest first."""

    chance: random.Random
    connection: sqlite3.Connection
    writer: Writer
    events: list[tuple[int, Event]] = field(default_factory=list)
    made: int = 0
    floor: int = 0

    def arrive(self, count: int) -> None:
        new = list(odd_events.events(self.chance, count, self.made))
        floor = self.events[-1][0] + 1 if self.events else 0
        new = [(max(place, floor + number), event) for number, (place, event) in enumerate(new)]
        self.made += count
        self.events += new
        self.writer.take([(place, odd_events.written(event)) for place, event in new])
        self.writer.commit()

    def prune(self, count: int) -> None:
        before = self.events[min(count, len(self.events) - 1)][0]
        while self.writer.forget(before, 7):
            self.writer.commit()
        self.writer.commit()
        self.events = [(place, event) for place, event in self.events if place >= before]
        self.floor = before

    @property
    def newest_first(self) -> list[Event]:
        return [event for _, event in reversed(self.events)]


def world(seed: int, count: int) -> World:
    """Built as a first start does: the newest events first, then older ones, and new ones in between."""
    chance = random.Random(seed)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(schema.TABLES)
    conditions.prepare(connection)
    made = World(chance, connection, Writer(connection))
    made.events, made.made = list(odd_events.events(chance, count)), count
    raw = [(place, odd_events.written(event)) for place, event in made.events]
    middle, step = count // 2, max(1, count // 9)
    made.writer.take(raw[middle : middle + step])
    older = list(range(middle, 0, -step))
    for at in older:
        made.writer.take(raw[max(0, at - step) : at], complete=at <= step)
        made.writer.commit()
    made.writer.take(raw[middle + step :])
    made.writer.commit()
    return made


def check(made: World) -> bool:
    """One search, all its pages followed; whether anything was found."""
    searches = [odd_events.search(made.chance, made.newest_first)]
    if made.chance.random() < 0.2:
        searches.append(odd_events.search(made.chance, made.newest_first))
    before, end, floor = made.newest_first, made.events[-1][0], made.floor
    limit = made.chance.choice((1, 7, 50, 1_000))
    stirring = made.chance.random() < 0.3
    found = _follow(made, searches, limit, stirring=stirring)
    wanted = naive.found(searches, before)
    # What was pruned while the pages were followed may be there or not; nothing else may differ.
    gone = {event.id for event in before} - {event.id for event in made.newest_first} if made.floor > floor else set()
    ids = [event.id for _, event in found]
    _same([id_ for id_ in ids if id_ not in gone], [id_ for id_ in wanted if id_ not in gone], searches)
    if set(ids) - set(wanted) or len(ids) != len(set(ids)) or any(place > end for place, _ in found):
        raise AssertionError(f"{searches} finds what it must not, or twice")
    if not stirring:
        ascending = _followed_up(made, searches, limit)
        _same(ascending[::-1], wanted, searches)
        if [event for _, event in found] != [event for event in before if event.id in set(wanted)]:
            raise AssertionError(f"{searches} finds events that were changed")
    return bool(wanted)


def _followed_up(made: World, searches: list[Search], limit: int) -> list[str]:
    """As a live tail goes on."""
    found: list[str] = []
    after, looked_to = -1, 0
    while after < looked_to:
        after = looked_to
        walked = paging.newer(made.connection, searches, after, limit, made.chance.choice((0.0, 1.0)))
        if len(walked.found) > limit:
            raise AssertionError(f"{searches} finds more than were asked for")
        found += [each.event.id for each in walked.found]
        looked_to = walked.high
    return found


def _follow(made: World, searches: list[Search], limit: int, *, stirring: bool) -> list[tuple[int, Event]]:
    found: list[tuple[int, Event]] = []
    start: int | None = made.events[-1][0]
    for _ in range(MOST_PAGES):
        if start is None:
            return found
        walked = paging.walk(made.connection, searches, limit, start, made.chance.choice((0.0, 1.0)))
        if len(walked.found) > limit:
            raise AssertionError(f"{searches} finds more than were asked for")
        found += [(each.place, each.event) for each in walked.found]
        start = walked.resume
        if stirring and made.chance.random() < 0.1:
            made.arrive(made.chance.randrange(1, 4))
            made.prune(made.chance.randrange(4))
    raise AssertionError(f"{searches} never ends")


def _same(found: list[str], wanted: list[str], searches: list[Search]) -> None:
    if found != wanted:
        raise AssertionError(f"{searches} finds {len(found)} events instead of {len(wanted)}")


def main(searches: int = 3_000, events: int = 1_000, seed: int = 1) -> None:
    made, hits = world(seed, events), 0
    for number in range(searches):
        hits += check(made)
        if number % 500 == 499:
            print(f"{number + 1} searches agree, {hits} of them find something; {len(made.events)} events")  # noqa: T201


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
