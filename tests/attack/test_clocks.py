"""Clocks: that of Redis or of the proxy jumps ahead or back while people push and pull (H73)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.attack.arena import RULES, SHORT, Arena, prepared
from tests.attack.broken import Clock, bundled_server, clock, needs_faketime, under
from tests.support.conversation import image
from tests.support.proxies import make_proxy
from tests.support.servers import RedisServer, make_redis, make_registry, running

_numbers = count(1)


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Arena, dict[str, Clock]]]:
    needs_faketime()
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("clocks")
        watches = {who: stack.enter_context(clock(folder / who)) for who in ("redis", "proxy")}
        upstream = stack.enter_context(running(make_registry, None))

        def make_ledger(where: Path) -> RedisServer:
            # Debian's redis-server has an allocator that asks for the time before libfaketime can tell it.
            return under(make_redis(where, binary=bundled_server()), watches["redis"])

        ledger = stack.enter_context(running(make_ledger, None))
        rules = RULES + "  - {name: late, tags: ['late-*'], policy: immutable, overwrite: [{within: 1h}]}\n"

        def make(where: Path) -> Any:
            proxy = make_proxy(where, upstream.url, {"url": ledger.url}, rules=rules, more=SHORT)
            return under(proxy, watches["proxy"])

        proxy = stack.enter_context(running(make, None))
        yield stack.enter_context(prepared(Arena(upstream, ledger, proxy))), watches


JUMPS = [
    "+3650d",
    "-61",
    *(pytest.param(jump, marks=pytest.mark.attack_long) for jump in ("+1d", "-1d", "-3650d", "+61")),
]


@pytest.mark.parametrize("who", ["redis", "proxy"])
@pytest.mark.parametrize("jump", JUMPS)
async def test_a_clock_that_jumps_changes_no_tag(clocks: tuple[Arena, dict[str, Clock]], who: str, jump: str) -> None:
    standing, watches = clocks
    first, second = image(f"before {who} {jump}"), image(f"after {who} {jump}")
    repository = f"clocks/{who}"
    tag = f"t{jump}".replace("+", "plus")
    async with standing.client() as client:
        assert (await client.push(repository, tag, first)).status == 201
        watches[who].jump(jump)
        try:
            assert (await client.push(repository, tag, second)).status == 409
            assert (await client.push(repository, tag, first)).status == 201
            assert (await client.push(repository, f"{tag}-new", second)).status == 201
            assert (await client.push(repository, f"{tag}-new", first)).status == 409
            assert (await client.pull(repository, tag)).digest == first.digest
            assert (await client.ask("DELETE", f"/v2/{repository}/manifests/{first.digest}")).status == 405
            await standing.unharmed()
        finally:
            watches[who].jump("+0")
        assert (await client.pull(repository, tag)).digest == first.digest
        assert (await client.push(repository, f"{tag}-new", first)).status == 409
        assert (await client.push(repository, f"{tag}-back", second)).status == 201
    told = (await standing.api(f"events?repository={repository}&tag={tag}"))["events"]
    assert [event["outcome"] for event in told] == ["unchanged", "refused", "created"]
    await standing.unharmed()


@pytest.mark.parametrize("jump", ["+61m", "+1d", "+3650d"])
async def test_a_time_limit_has_passed_when_the_ledgers_clock_says_so(
    clocks: tuple[Arena, dict[str, Clock]], jump: str
) -> None:
    standing, watches = clocks
    first, second = image(f"late {jump}"), image(f"later {jump}")
    tag = f"late-{next(_numbers)}"
    async with standing.client() as client:
        assert (await client.push("clocks/within", tag, first)).status == 201
        for watch in watches.values():
            watch.jump(jump)
        try:
            assert (await client.push("clocks/within", tag, second)).status == 409
        finally:
            for watch in watches.values():
                watch.jump("+0")
        assert (await client.pull("clocks/within", tag)).digest == first.digest
        assert (await client.push("clocks/within", tag, second)).status == 409, "it has passed once and for all (H113)"
    await standing.unharmed()


async def test_a_clock_that_was_ahead_lets_nobody_overwrite_for_longer(clocks: tuple[Arena, dict[str, Clock]]) -> None:
    """Pushed while the clock was a day ahead, and the clock set right: the hour of grace is an hour."""
    standing, watches = clocks
    tag = f"late-{next(_numbers)}"
    async with standing.client() as client:
        for watch in watches.values():
            watch.jump("+1d")
        try:
            assert (await client.push("clocks/ahead", tag, image("pushed tomorrow"))).status == 201
        finally:
            for watch in watches.values():
                watch.jump("+0")
        assert (await client.push("clocks/ahead", tag, image("pushed today"))).status == 201
        for watch in watches.values():
            watch.jump("+61m")
        try:
            assert (await client.push("clocks/ahead", tag, image("pushed an hour later"))).status == 409
        finally:
            for watch in watches.values():
                watch.jump("+0")
