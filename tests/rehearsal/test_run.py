from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from immuproxy.audit import Visitor
from immuproxy.audit.record import Record
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import Action, Outcome
from immuproxy.ledger.register import Register
from immuproxy.rehearsal import run
from immuproxy.rehearsal.run import Changed, Finished, Stage, Step, TooMuchError, Wrong, rehearse
from immuproxy.rules.decide import BY_EXCEPTION
from immuproxy.store.redis import LedgerUnavailableError, Store, connect
from tests.rehearsal.test_child import IMMUTABLE, MOVED, MUTABLE, B, event
from tests.support.servers import RedisServer


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=2.0) as opened:
        yield opened


async def steps(store: Store, file: bytes, most: int = 1000) -> list[Step]:
    register = Register(store, Epoch(store, quarantine=0.0))
    async with aclosing(rehearse(Visitor(store, None), register, file, "new.yml", most=most)) as found:
        return [step async for step in found]


async def test_the_past_is_judged_anew(store: Store) -> None:
    for each in MOVED:
        await Record(store).append(each)
    found = await steps(store, IMMUTABLE)
    assert [type(step) for step in found] == [Stage, Stage, Stage, Changed, Finished]
    assert [step.name for step in found if isinstance(step, Stage)] == ["checking", "reading", "judging"]
    changed = next(step for step in found if isinstance(step, Changed))
    assert (changed.difference["event"], changed.difference["now"]["outcome"]) == ("e2", "refuse")
    assert found[-1] == Finished(2, 1)


async def test_only_the_newest_and_only_what_was_judged(store: Store) -> None:
    for each in (
        *MOVED,
        event(3, Outcome.FAILED, B),
        replace(event(4, Outcome.FOUND, B), action=Action.DRIFT),
        event(5, Outcome.CREATED, B, tag=""),
    ):
        await Record(store).append(each)
    assert (await steps(store, MUTABLE))[-1] == Finished(2, 0)
    assert (await steps(store, MUTABLE, most=1))[-1] == Finished(1, 0)


async def test_what_an_exception_allowed_it_allows_again(store: Store) -> None:
    await Record(store).append(MOVED[0])
    await Record(store).append(replace(MOVED[1], reason=f"{BY_EXCEPTION}event e0, granted by mira: leaked key"))
    assert (await steps(store, IMMUTABLE))[-1] == Finished(2, 0)


async def test_a_wrong_file_ends_it_before_the_past_is_read(store: Store) -> None:
    checking, wrong = await steps(store, b"default: imutable\n")
    assert checking == Stage("checking")
    assert isinstance(wrong, Wrong)
    assert wrong.problems[0]["suggestion"] == 'did you mean "immutable"?'


async def test_the_process_ends_with_whoever_asked(store: Store) -> None:
    for number in range(200):
        await Record(store).append(event(number, Outcome.CREATED, B, tag=f"t{number}"))
    register = Register(store, Epoch(store, quarantine=0.0))
    async with aclosing(rehearse(Visitor(store, None), register, MUTABLE, "new.yml", most=1000)) as found:
        await anext(found)
        (process,) = children()
    assert process not in children()


def children() -> list[int]:
    """The processes that this one has started and that still live."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = status.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(rest.split()[1]) == os.getpid() and b"rehearsal" in (status.parent / "cmdline").read_bytes():
            found.append(int(status.parent.name))
    return found


async def test_it_is_given_up_when_it_takes_too_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LONGEST", 0.01)
    with pytest.raises(TooMuchError, match="longer than"):
        await steps(store, MUTABLE)
    assert children() == []


async def test_a_process_that_dies_is_told(store: Store) -> None:
    register = Register(store, Epoch(store, quarantine=0.0))
    with pytest.raises(TooMuchError):
        async with aclosing(rehearse(Visitor(store, None), register, MUTABLE, "new.yml", most=1000)) as found:
            async for _ in found:
                for process in children():
                    os.kill(process, 9)


async def test_the_process_has_no_secret_of_ours(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_PASSWORD", "hunter2")
    register = Register(store, Epoch(store, quarantine=0.0))
    async with aclosing(rehearse(Visitor(store, None), register, MUTABLE, "new.yml", most=1)) as found:
        await anext(found)
        (process,) = children()
        environment = await asyncio.to_thread(Path(f"/proc/{process}/environ").read_bytes)
    assert b"hunter2" not in environment
    assert b"PATH=" in environment


async def test_its_process_is_bounded(store: Store) -> None:
    register = Register(store, Epoch(store, quarantine=0.0))
    async with aclosing(rehearse(Visitor(store, None), register, MUTABLE, "new.yml", most=1)) as found:
        stage = await anext(found)
        while stage != Stage("reading", 0, 1):
            stage = await anext(found)
        (process,) = children()
        limits = await asyncio.to_thread(Path(f"/proc/{process}/limits").read_text)
    told = {line[:25].strip(): line[25:].split()[0] for line in limits.splitlines()[1:]}
    assert (told["Max cpu time"], told["Max address space"], told["Max core file size"]) == ("60", "1073741824", "0")


async def test_a_redis_that_is_away_is_told(store: Store, redis_server: RedisServer) -> None:
    redis_server.kill()
    with pytest.raises(LedgerUnavailableError):
        await steps(store, MUTABLE)
    assert children() == []
