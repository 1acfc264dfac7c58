"""Every question to the index ends in time; one that is cut says so, and is in nobody's way afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from time import monotonic

import pytest
import pytest_asyncio

from immuproxy.audit import Audit, OutOfTimeError, deadline, paging, views
from immuproxy.audit.conditions import Compiler, Condition
from immuproxy.audit.search import Search, parse
from immuproxy.store.redis import Store
from immuproxy.values import cursors
from immuproxy.values.cursors import Position
from tests.audit.following import followed
from tests.audit.made_up import fill, made_up_events

COUNT = 300
LOOKED_AT = 250
"""Events that a search looks at even on a slow machine."""

START, END = 1_700_000_000_000, 1_700_000_000_000 + 90 * 86_400_000
BEGINNING = cursors.write_position("newer", Position(0, 0))
QUESTIONS: dict[str, Callable[[Audit], Awaitable[object]]] = {
    "chart": lambda audit: audit.ask(views.chart, "action", START, END, 30),
    "shadowed": lambda audit: audit.ask(views.shadowed, START, END),
    "top": lambda audit: audit.ask(views.top, "tag", since=START, until=END, outcome="refused"),
    "known values": lambda audit: audit.ask(views.known_values, "repo", "team"),
    "known tags": lambda audit: audit.ask(views.known_values, "tag", "v1"),
    "repositories": lambda audit: audit.repositories("team"),
    "total": lambda audit: audit.total(),
    "mark": lambda audit: audit.mark(),
    "last set": lambda audit: audit.last_set("team-1/sub/app-1", "latest"),
    "words of a search": lambda audit: audit.events(parse("repo:**3** agent:*o*", END)),
    "tail": lambda audit: anext(audit.tail(parse("repo:**3**", END), after=BEGINNING)),
}


@pytest_asyncio.fixture(params=["file", "memory"])
async def audit(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> AsyncIterator[Audit]:
    await fill(store, made_up_events(COUNT, start=START))
    async with followed(store, tmp_path if request.param == "file" else None) as here:
        await here.until_all(COUNT)
        yield here.audit


async def test_a_question_that_takes_too_long_is_cut_and_says_so(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hurry:
        hurry.setattr(deadline, "SECONDS", -1.0)
        hurry.setattr(paging, "DEADLINE", -1.0)
        hurry.setattr(deadline, "OPCODES", 1)
        for name, ask in QUESTIONS.items():
            with pytest.raises(OutOfTimeError):
                raise AssertionError((name, await ask(audit)))
    for ask in QUESTIONS.values():
        assert await ask(audit) is not None
    assert await audit.total() == COUNT


async def test_a_question_whose_time_is_over_before_its_turn_is_not_asked(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with followed(store, tmp_path) as here:
        await here.until_all(0)
        monkeypatch.setattr(deadline, "SECONDS", 0.0)
        turn, seen = threading.Event(), list[object]()
        before = asyncio.create_task(here.index.read(lambda _: turn.wait()))
        asked = asyncio.create_task(here.audit.ask(seen.append))
        await asyncio.sleep(0)  # both have begun
        turn.set()
        with pytest.raises(OutOfTimeError):
            await asked
        assert await before
        assert not seen


async def test_looking_up_words_takes_nothing_of_the_time_of_a_search(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a search of many patterns gets on by some hundred events at a time."""
    ahead = 0.0

    def clock() -> float:
        return monotonic() + ahead

    def slow(compiler: Compiler, searches: Sequence[Search]) -> list[Condition]:
        nonlocal ahead
        found = quick(compiler, searches)
        ahead += 1.0
        return found

    quick = Compiler.conditions
    monkeypatch.setattr(paging, "DEADLINE", 0.9)
    monkeypatch.setattr(paging, "monotonic", clock)
    monkeypatch.setattr(deadline, "monotonic", clock)
    monkeypatch.setattr(Compiler, "conditions", slow)
    assert len((await audit.events(Search(), limit=COUNT)).events) == COUNT > LOOKED_AT
