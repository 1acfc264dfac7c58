"""How long ago something was, by a clock that jumps and one that does not (H112)."""

from __future__ import annotations

from importlib.resources import files

import pytest
from redis.asyncio import Redis

from immuproxy.ledger.watch import BLURRED, Ages, Watch
from immuproxy.store.steady import Sample
from tests.support.servers import RedisServer

HOUR = 3_600_000
START = 1_800_000_000_000


class Clocks:
    """Both of them; `jump` moves that of Redis alone."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.own, self.ahead = 100.0, 0
        self.look()

    @property
    def redis(self) -> int:
        return START + int(self.own * 1000) + self.ahead

    def look(self, took: float = 0.001) -> float:
        asked = self.own
        self.own += took
        return self.watch.saw(Sample(self.redis, asked, self.own))

    def wait(self, seconds: float) -> None:
        self.own += seconds

    def age(self, since: int) -> float:
        return self.watch.ages(self.own, self.redis).of(since) / 1000


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_before_the_first_sample_nothing_has_passed() -> None:
    assert Watch().ages(100.0, START).of(START - HOUR) == 0
    assert Watch().ages(100.0, START).of(START + HOUR) == 0


def test_where_clocks_agree_an_age_is_what_it_is_but_counts_from_the_start(clocks: Clocks) -> None:
    before = clocks.redis - HOUR
    clocks.wait(2)
    now = clocks.redis
    clocks.wait(10)
    assert clocks.look() == 0.0
    assert clocks.age(now) == pytest.approx(10, abs=0.01)
    assert clocks.age(before) == pytest.approx(12, abs=0.01)


@pytest.mark.parametrize("seen", [True, False])
def test_a_leap_ahead_makes_nothing_older(clocks: Clocks, seen: bool) -> None:
    clocks.wait(5)
    now = clocks.redis
    clocks.ahead += HOUR
    clocks.wait(3)
    if seen:
        assert clocks.look() == pytest.approx(3600, abs=0.1)
    assert clocks.age(now) <= 3.01
    clocks.wait(60)
    assert clocks.age(now) == pytest.approx(60 if seen else 63, abs=0.1)


def test_what_is_dated_from_now_is_there_at_least_since_time_went_back(clocks: Clocks) -> None:
    clocks.wait(5)
    now = clocks.redis
    clocks.ahead -= HOUR
    clocks.wait(1)
    assert clocks.age(now) == 0, "nobody has looked: it may be of this moment"
    assert clocks.look() == pytest.approx(-3600, abs=0.1)
    clocks.wait(20)
    assert clocks.age(now) == pytest.approx(20, abs=0.01)
    assert clocks.age(clocks.redis) == 0


@pytest.mark.parametrize("step", [-900, 900])
def test_a_small_step_makes_nobody_old(clocks: Clocks, step: int) -> None:
    clocks.wait(500)
    now = clocks.redis
    clocks.ahead += step
    clocks.wait(0.2)
    assert clocks.look() == 0.0
    assert clocks.age(now) <= 0.2 + 1.0


def test_a_clock_that_is_slewed_does_not_jump(clocks: Clocks) -> None:
    for _ in range(100):
        clocks.wait(60)
        clocks.ahead += 30  # 500 in a million
        assert clocks.look() == 0.0


def test_a_slow_reply_tells_nothing_and_hides_nothing(clocks: Clocks) -> None:
    clocks.wait(1)
    clocks.ahead += HOUR
    assert clocks.look(took=BLURRED + 1) == 0.0
    assert clocks.look() == pytest.approx(3600, abs=0.1)


def test_replies_that_overtake_each_other_are_no_jump() -> None:
    watch = Watch()
    watch.saw(Sample(START + 500, 100.4, 100.6))
    assert watch.saw(Sample(START, 99.9, 100.7)) == 0.0


async def test_h112_the_scripts_count_as_the_proxy_does(redis_server: RedisServer) -> None:
    parts = (files("immuproxy").joinpath(room, "scripts", "_common.lua") for room in ("store", "ledger"))
    common = "".join(part.read_text() for part in parts)
    script = common + "return passed(tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))"
    offsets = (-HOUR, -2000, -999, 0, 999, 1001, HOUR)
    cases = [
        (START + one, START + other, watched) for one in offsets for other in offsets for watched in (0, 1500, HOUR)
    ]
    async with Redis.from_url(redis_server.url) as client:
        for since, at, watched in cases:
            said = await client.eval(script, 0, since, START, at, watched)
            assert said == Ages(START, at, watched).of(since), (since - START, at - START, watched)
