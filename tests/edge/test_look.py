"""Looks that are shared: each began after whoever gets its answer had asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from immuproxy.edge import look
from immuproxy.edge.look import Looks
from immuproxy.ledger.reader import Place


def place(tag: str) -> Place:
    return ("team/app", tag)


class Ledger:
    """Answers a look when it is let, with the number of the look, or with an error."""

    def __init__(self) -> None:
        self.looks: list[list[str]] = []
        self.open: list[asyncio.Future[None]] = []

    async def __call__(self, places: Sequence[Place]) -> list[int]:
        number = len(self.looks)
        self.looks.append([tag for _, tag in places])
        self.open.append(asyncio.get_running_loop().create_future())
        await self.open[number]
        return [number] * len(places)

    async def begun(self, number: int) -> None:
        async with asyncio.timeout(5):
            while len(self.looks) <= number:
                await asyncio.sleep(0.001)

    def answer(self, number: int) -> None:
        self.open[number].set_result(None)

    def fail(self, number: int) -> None:
        self.open[number].set_exception(ConnectionError("away"))


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "PATIENCE", 30.0)


async def test_all_who_ask_at_once_share_one_look_and_each_place_is_asked_for_once() -> None:
    ledger = Ledger()
    looks = Looks(ledger)
    reads = [asyncio.create_task(looks.at(place(tag))) for tag in ("1.0", "2.0") * 500]
    await ledger.begun(0)
    ledger.answer(0)
    assert set(await asyncio.gather(*reads)) == {0}
    assert ledger.looks == [["1.0", "2.0"]]


async def test_h134_whoever_comes_while_a_look_is_under_way_waits_for_the_next() -> None:
    ledger = Ledger()
    looks = Looks(ledger)
    first = asyncio.create_task(looks.at(place("1.0")))
    await ledger.begun(0)
    later = [asyncio.create_task(looks.at(place("1.0"))) for _ in range(3)]
    await asyncio.sleep(0.01)
    ledger.answer(0)
    assert await first == 0
    await ledger.begun(1)
    assert not any(read.done() for read in later)
    ledger.answer(1)
    assert await asyncio.gather(*later) == [1, 1, 1]


async def test_a_look_that_fails_fails_those_who_waited_for_it_and_no_others() -> None:
    ledger = Ledger()
    looks = Looks(ledger)
    first = [asyncio.create_task(looks.at(place("1.0"))) for _ in range(3)]
    await ledger.begun(0)
    later = asyncio.create_task(looks.at(place("1.0")))
    await asyncio.sleep(0.01)
    ledger.fail(0)
    for read in first:
        with pytest.raises(ConnectionError):
            await read
    await ledger.begun(1)
    ledger.answer(1)
    assert await later == 1


async def test_who_leaves_takes_the_look_from_nobody() -> None:
    ledger = Ledger()
    looks = Looks(ledger)
    reads = [asyncio.create_task(looks.at(place("1.0"))) for _ in range(4)]
    await ledger.begun(0)
    gathered = [asyncio.create_task(looks.at(place("1.0"))) for _ in range(4)]
    await asyncio.sleep(0.01)
    for read in (reads[0], gathered[0]):
        read.cancel()
    ledger.answer(0)
    assert await asyncio.gather(*reads[1:]) == [0, 0, 0]
    await ledger.begun(1)
    ledger.answer(1)
    assert await asyncio.gather(*gathered[1:]) == [1, 1, 1]


async def test_a_look_asks_for_so_many_places_at_most() -> None:
    ledger = Ledger()
    looks = Looks(ledger, most=2)
    reads = [asyncio.create_task(looks.at(place(str(number)))) for number in range(5)]
    for number in range(3):
        await ledger.begun(number)
        ledger.answer(number)
    assert await asyncio.gather(*reads) == [0, 0, 1, 1, 2]
    assert ledger.looks == [["0", "1"], ["2", "3"], ["4"]]


async def test_a_look_that_hangs_holds_up_those_who_wait_for_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "PATIENCE", 0.01)
    ledger = Ledger()
    looks = Looks(ledger)
    hanging = asyncio.create_task(looks.at(place("1.0")))
    await ledger.begun(0)
    later = asyncio.create_task(looks.at(place("1.0")))
    await ledger.begun(1)
    ledger.answer(1)
    assert await later == 1
    assert not hanging.done()
    ledger.answer(0)
    assert await hanging == 0


async def test_nobody_waits_for_a_look_at_another_node() -> None:
    ledger = Ledger()
    looks = Looks(ledger, shard=lambda where: where[1])
    hanging = asyncio.create_task(looks.at(place("1.0")))
    await ledger.begun(0)
    other = asyncio.create_task(looks.at(place("2.0")))
    await ledger.begun(1)
    ledger.answer(1)
    assert await other == 1
    ledger.answer(0)
    assert await hanging == 0


async def test_looks_go_on_after_an_idle_time() -> None:
    ledger = Ledger()
    looks = Looks(ledger)
    for number in range(3):
        read = asyncio.create_task(looks.at(place("1.0")))
        await ledger.begun(number)
        ledger.answer(number)
        assert await read == number
        await asyncio.sleep(0.002)
