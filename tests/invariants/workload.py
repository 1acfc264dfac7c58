"""Random clients, real servers and every fault; then everything that must be true is checked.

    report = await soak(seed=1, seconds=30)
    assert not report.violations, report

The same seed gives the same requests and faults in the same order of choice; how they meet depends on the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import aiohttp

from tests.invariants.aftermath import check_all
from tests.invariants.clients import CLIENTS, REPOSITORIES, Load, Report, uploaded
from tests.invariants.world import FAULTS, FAULTS_WITH_LOSS, World, running_world

LEAST = 5
"""Answers of each important kind without which a soak says nothing."""

PATIENCE = 60.0
"""Seconds by which a soak may be longer on a machine that is too busy for that."""


Happened = Callable[[Counter[str]], bool]
"""Whether the faults that a soak is for have come, by how often each of them has."""


def _anything(_: Counter[str]) -> bool:
    return True


def check(report: Report, *, at_least: int) -> None:
    """No violation, and that it was not for want of trying."""
    print(report)  # noqa: T201  # shown when the test fails, or with -s
    assert not report.violations, str(report)
    assert sum(report.operations.values()) >= at_least
    assert _is_enough(report)


def _is_enough(report: Report) -> bool:
    return all(report.operations[answer] >= LEAST for answer in ("push 201", "push 409", "read 200"))


async def soak(
    seed: int, seconds: float, *, topology: str = "single", proxies: int = 2, has_happened: Happened = _anything
) -> Report:
    """All faults but a lost ledger, for a while and until `has_happened`; then rest, then every check."""
    async with _loaded(seed, topology=topology, proxies=proxies, exclusive=_is_exclusive(seed)) as load:
        load.world.unruly = True
        await _under(load, seconds, _misbehave(load.world), has_happened)
        await check_all(load)
    return load.report


async def soak_with_loss(seed: int, seconds: float) -> Report:
    """The ledger is emptied again and again: tags keep what they hold, though the audit of before is gone.

    Nothing goes round the proxies here, and no request is delayed: with the ledger, what was known about those is lost.
    """
    async with _loaded(seed, exclusive=_is_exclusive(seed)) as load:
        load.faithful = True

        async def lose() -> None:
            await asyncio.sleep(seconds / 4)
            await load.world.lose_ledger()
            await load.world.misbehave(FAULTS_WITH_LOSS)

        await _under(load, seconds, lose())
        await check_all(load, audit=False)
    return load.report


async def restarts(seed: int, faults: Sequence[str]) -> Report:
    """The faults one after another under load, on a Redis that syncs its file every second."""
    async with _loaded(seed, appendfsync="everysec") as load:

        async def in_order() -> None:
            for fault in faults:
                await asyncio.sleep(1.0)
                await load.world.suffer(fault)
            await _until(lambda: _is_enough(load.report))

        working = asyncio.create_task(in_order())
        await asyncio.gather(working, *(load.work_until(working.done) for _ in range(CLIENTS)))
        await check_all(load)
    return load.report


async def _misbehave(world: World) -> None:
    """A failover takes seconds, and meanwhile other things happen."""
    if world.ledger.wait:
        await asyncio.gather(world.misbehave(FAULTS), world.misbehave(world.ledger.faults))
    else:
        await world.misbehave((*FAULTS, *world.ledger.faults))


def _is_exclusive(seed: int) -> bool:
    """In every other four rounds nobody goes round the proxies, and they are told so (H138)."""
    return seed // 4 % 2 == 1


@contextlib.asynccontextmanager
async def _loaded(seed: int, *, exclusive: bool = False, **options: Any) -> AsyncIterator[Load]:
    """Options as of `running_world`."""
    began = time.monotonic()
    async with running_world(seed, exclusive=exclusive, **options) as world, _session() as session:
        load = Load(world, session, random.Random(seed + 1), report=Report(seed), exclusive=exclusive)
        load.report.happened = world.happened
        await _upload(load)
        yield load
        load.report.seconds = time.monotonic() - began


async def _under(
    load: Load, seconds: float, faults: Coroutine[Any, Any, None], has_happened: Happened = _anything
) -> None:
    """All clients at work for so long, and faults meanwhile."""
    until = time.monotonic() + seconds
    misbehaving = asyncio.create_task(faults)

    def is_over() -> bool:
        late = time.monotonic() - until
        is_done = _is_enough(load.report) and has_happened(load.report.happened)
        return late > 0 and (is_done or late > PATIENCE)

    await asyncio.gather(*(load.work_until(is_over) for _ in range(CLIENTS)))
    misbehaving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await misbehaving
    await load.world.calm()


async def _until(condition: Callable[[], bool]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        # A request whose connection breaks is not sent again by itself: it would be two pushes under one name (H43).
        session._retry_connection = False
        yield session


async def _upload(load: Load) -> None:
    """Of which any tag may come to hold any."""
    for repository in REPOSITORIES:
        load.images[repository] = await uploaded(load.direct, repository)
        for pushed in load.images[repository]:
            load.known |= {known.digest: known for known in (pushed, *pushed.children)}
