"""What the ledger keeps for the console's log-in: sessions, budgets of attempts, and known places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from immuproxy.store import keys, rate_limits
from immuproxy.store.rate_limits import PLACES, REMEMBERED_MS, Budget, Budgets, Places, Untold
from immuproxy.store.redis import LedgerUnavailableError, Store, connect
from immuproxy.store.sessions import SLACK_MS, Session, Sessions
from tests.support.servers import RedisServer

NOW = 1_795_460_000_000
HOUR = 3_600_000
ANNA = Session("anna", "line", NOW)


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    async with connect(redis_server.url, timeout=2.0) as opened:
        yield opened


@pytest.fixture
def sessions(store: Store) -> Sessions:
    return Sessions(store, idle_ms=HOUR, longest_ms=5 * HOUR)


async def _only_session(store: Store) -> tuple[bytes, int]:
    (key,) = await store.do(store.client.keys(keys.session("*")))
    return key, int(await store.do(store.client.pttl(key)))


async def test_a_session_is_found_by_its_secret_only(sessions: Sessions, store: Store) -> None:
    secret, other = await sessions.begin(ANNA), await sessions.begin(ANNA)
    assert secret != other
    assert await sessions.find(secret, NOW) == ANNA
    assert await sessions.end(other)
    assert await sessions.find(other, NOW) is None
    key, _ = await _only_session(store)
    assert secret.encode() not in key
    assert await sessions.find(key.decode().rpartition(":")[2][:43], NOW) is None


async def test_what_is_no_secret_is_not_even_looked_up(sessions: Sessions, redis_server: RedisServer) -> None:
    secret = await sessions.begin(ANNA)
    redis_server.kill()
    for wrong in ("", "x", secret[:-1], secret + "A", secret[:-1] + "*", "é" * 43, "*" * 43, "A" * 100_000, "\0" * 43):
        assert await sessions.find(wrong, NOW) is None
        assert not await sessions.end(wrong)
    with pytest.raises(LedgerUnavailableError):
        await sessions.find(secret, NOW)


async def test_use_moves_the_end_of_a_session_and_looking_does_not(sessions: Sessions, store: Store) -> None:
    secret = await sessions.begin(ANNA)
    key, left = await _only_session(store)
    assert HOUR - 5_000 < left <= HOUR
    await store.do(store.client.pexpire(key, SLACK_MS))
    assert await sessions.find(secret, NOW, used=False)
    assert (await _only_session(store))[1] <= SLACK_MS
    assert await sessions.find(secret, NOW)
    assert (await _only_session(store))[1] > HOUR - 5_000


async def test_no_use_moves_the_end_beyond_the_longest_time(sessions: Sessions, store: Store) -> None:
    secret = await sessions.begin(ANNA)
    key, _ = await _only_session(store)
    await store.do(store.client.pexpire(key, SLACK_MS))
    assert await sessions.find(secret, NOW + 5 * HOUR - 2 * SLACK_MS - 1)
    assert (await _only_session(store))[1] <= 2 * SLACK_MS + 1
    assert await sessions.find(secret, NOW + 5 * HOUR) is None
    assert not await store.do(store.client.exists(key))


async def test_an_unused_session_ends(store: Store) -> None:
    sessions = Sessions(store, idle_ms=20, longest_ms=HOUR)
    secret = await sessions.begin(ANNA)
    await asyncio.sleep(0.05)
    assert await sessions.find(secret, NOW) is None


async def test_a_budget_gives_its_size_at_once_and_then_says_how_long_to_wait(store: Store) -> None:
    taking = Budgets(store)
    budget = Budget("a", 3, 60_000)
    assert [await taking.take([budget]) for _ in range(3)] == [0, 0, 0]
    assert 59_000 < await taking.take([budget]) <= 60_000
    assert 59_000 < await taking.take([budget]) <= 60_000, "asking in vain costs nothing"
    assert await taking.take([Budget("b", 3, 60_000)]) == 0
    await taking.give_back([budget])
    assert await taking.take([budget]) == 0
    assert await taking.take([budget]) > 0


async def test_a_budget_fills_up_by_itself_and_a_full_one_is_not_kept(store: Store) -> None:
    taking = Budgets(store)
    assert await taking.take([Budget("quick", 1, 30)]) == 0
    assert await taking.take([Budget("quick", 1, 30)]) > 0
    await asyncio.sleep(0.04)
    assert await taking.take([Budget("quick", 1, 30)]) == 0
    await asyncio.sleep(0.04)
    await taking.take([Budget("other", 1, 60_000)])
    assert await store.do(store.client.zrange(keys.BUDGETS, 0, -1)) == [b"other"]


async def test_many_who_take_at_the_same_time_get_no_more(store: Store) -> None:
    taking = Budgets(store)
    waits = await asyncio.gather(*(taking.take([Budget("a", 5, 60_000)]) for _ in range(40)))
    assert waits.count(0) == 5


async def test_from_several_budgets_all_give_or_none(store: Store) -> None:
    taking = Budgets(store)
    empty, full = Budget("empty", 1, 60_000), Budget("full", 2, 60_000)
    await taking.take([empty])
    assert await taking.take([full, empty]) > 0
    assert [await taking.take([full]) for _ in range(2)] == [0, 0]


async def test_beyond_the_limit_budgets_share_their_stand_in(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MOST", 2)
    taking = Budgets(store)
    for name in ("one", "two"):
        assert await taking.take([Budget(name, 1, 60_000, "others")]) == 0
    waits = [await taking.take([Budget(f"more {number}", 1, 60_000, "others")]) for number in range(20)]
    assert waits.count(0) == 1
    assert await taking.take([Budget("a name", 1, 60_000)]) == 0, "what has no stand-in has room"
    assert await store.do(store.client.zcard(keys.BUDGETS)) == 4


async def test_places_are_remembered_for_each_user(store: Store) -> None:
    places = Places(store)
    await places.remember("anna", "192.0.2.1", NOW)
    assert await places.knows("anna", "192.0.2.1", NOW + HOUR)
    assert not await places.knows("anna", "192.0.2.2", NOW)
    assert not await places.knows("vera", "192.0.2.1", NOW)
    assert not await places.knows("anna", "192.0.2.1", NOW + REMEMBERED_MS)


async def test_only_the_newest_places_are_remembered(store: Store) -> None:
    places = Places(store)
    for number in range(PLACES + 5):
        await places.remember("anna", f"192.0.2.{number}", NOW + number)
    assert not await places.knows("anna", "192.0.2.4", NOW)
    assert await places.knows("anna", "192.0.2.5", NOW)
    (key,) = await store.do(store.client.keys(keys.places("*")))
    assert b"anna" not in key
    assert 0 < await store.do(store.client.pttl(key)) <= REMEMBERED_MS


async def test_what_was_left_out_is_counted_until_it_is_told(store: Store) -> None:
    untold = Untold(store)
    assert await untold.collect() == 0
    await untold.add()
    await untold.add()
    assert await untold.collect() == 2
    assert await untold.collect() == 0
