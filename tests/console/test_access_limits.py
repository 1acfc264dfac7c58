"""Guessing passwords: slow for who guesses, harmless for whom he guesses at, bounded in what it leaves."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import bcrypt
import pytest

from immuproxy.console.access import log_ins
from immuproxy.console.access.passwords import AT_ONCE, MOST_WAITING, BusyError, Passwords
from immuproxy.console.access.users import Users
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import Outcome
from immuproxy.store import keys
from immuproxy.store.redis import Store
from tests.console.logging_in import ADMINISTRATOR, PASSWORDS, VIEWER, Client, console_for, send_log_in, told, users_in

HOME, ELSEWHERE = "192.0.2.1", "203.0.113.9"
NETWORK, NAME, PLACE = log_ins.NETWORK[0], log_ins.NAME[0], log_ins.PLACE[0]


@pytest.fixture
async def client(sources: Sources, store: Store, tmp_path: Path) -> AsyncIterator[Client]:
    """A console behind a proxy, so that a test may come from anywhere."""
    async with console_for(sources, store, users_in(tmp_path, trusted_proxies=["127.0.0.1"])) as opened:
        yield opened


async def attempt(client: Client, address: str, name: str = ADMINISTRATOR, password: str = "wrong") -> int:
    client.session.cookie_jar.clear()
    response = await send_log_in(client, name, password, headers={"X-Forwarded-For": address})
    return int(response.status)


async def succeed(client: Client, address: str, name: str = ADMINISTRATOR) -> int:
    return await attempt(client, address, name, PASSWORDS[name])


async def test_too_many_wrong_passwords_from_one_address_have_to_wait(client: Client) -> None:
    assert [await attempt(client, ELSEWHERE) for _ in range(NETWORK)] == [401] * NETWORK
    response = await send_log_in(
        client, ADMINISTRATOR, PASSWORDS[ADMINISTRATOR], headers={"X-Forwarded-For": ELSEWHERE}
    )
    assert response.status == 429, "not even the right one is looked at"
    wait = int(response.headers["Retry-After"])
    assert 1 <= wait <= log_ins.NETWORK[1] / 1000
    assert f"Try again in {wait} seconds." in await response.text()
    assert await attempt(client, ELSEWHERE, VIEWER) == 429
    assert await attempt(client, "203.0.113.10") == 401, "another address has its own"


async def test_what_a_client_says_of_its_own_address_buys_nothing(client: Client) -> None:
    for number in range(NETWORK):
        assert await attempt(client, f"198.51.100.{number}, {ELSEWHERE}") == 401
    assert await attempt(client, f"198.51.100.200, {ELSEWHERE}") == 429
    assert await attempt(client, f"{HOME}") == 401


async def test_an_ipv6_network_is_one_client(client: Client) -> None:
    statuses = [await attempt(client, f"2001:db8::{number:x}") for number in range(NETWORK + 1)]
    assert statuses == [401] * NETWORK + [429]
    assert await attempt(client, "2001:db8:0:1::1") == 401


async def test_many_addresses_together_get_no_more_guesses_at_one_name(client: Client) -> None:
    statuses = [await attempt(client, f"203.0.113.{number}") for number in range(NAME + 5)]
    assert statuses == [401] * NAME + [429] * 5
    assert await attempt(client, "203.0.113.99", VIEWER) == 401


async def test_nobody_elsewhere_locks_out_a_user_from_where_he_has_logged_in(client: Client) -> None:
    assert await succeed(client, HOME) == 303
    for number in range(NAME + 5):
        await attempt(client, f"203.0.113.{number}")
    assert await attempt(client, "203.0.113.200") == 429
    assert await succeed(client, HOME) == 303
    assert [await attempt(client, HOME) for _ in range(PLACE)] == [401] * PLACE, "with attempts of his own"
    assert await attempt(client, HOME) == 429


async def test_a_neighbour_does_not_use_up_a_known_users_attempts(client: Client) -> None:
    assert await succeed(client, HOME) == 303
    for _ in range(NETWORK + 1):
        await attempt(client, HOME, "guess")
    assert await attempt(client, HOME, "guess") == 429
    assert await succeed(client, HOME) == 303


async def test_an_account_of_ones_own_does_not_buy_guesses_at_others(client: Client) -> None:
    wrong = [await attempt(client, ELSEWHERE, ADMINISTRATOR) for _ in range(NETWORK // 2)].count(401)
    for _ in range(2 * NETWORK):
        assert await succeed(client, ELSEWHERE, VIEWER) == 303
        wrong += await attempt(client, ELSEWHERE, ADMINISTRATOR) == 401
    assert wrong == NETWORK


async def test_good_passwords_are_never_too_many(client: Client) -> None:
    assert [await succeed(client, HOME) for _ in range(2 * NAME)] == [303] * 2 * NAME


async def test_all_proxies_count_together(client: Client, sources: Sources, store: Store, tmp_path: Path) -> None:
    async with console_for(sources, store, users_in(tmp_path, trusted_proxies=["127.0.0.1"])) as replica:
        for _ in range(NETWORK // 2):
            assert await attempt(client, ELSEWHERE) == await attempt(replica, ELSEWHERE) == 401
        assert await attempt(client, ELSEWHERE) == await attempt(replica, ELSEWHERE) == 429


async def test_attempts_at_the_same_moment_are_counted_before_they_are_checked(client: Client) -> None:
    statuses = await asyncio.gather(*(attempt(client, ELSEWHERE) for _ in range(3 * NETWORK)))
    assert statuses.count(401) == NETWORK


async def test_basic_is_counted_with_the_form(client: Client) -> None:
    headers = {"X-Forwarded-For": ELSEWHERE, "Authorization": "Basic YW5uYTp3cm9uZw=="}
    for _ in range(NETWORK):
        async with client.get("/api/v1/viewer", headers=headers) as response:
            assert response.status == 401
    async with client.get("/api/v1/viewer", headers=headers) as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0
    assert await attempt(client, ELSEWHERE) == 429


async def test_an_attacker_does_not_bury_the_audit_nor_fill_redis(
    client: Client, sources: Sources, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_ins, "TOLD", (5, 3_600_000))
    for number in range(40):
        await attempt(client, f"203.0.113.{number}", f"guess {number}")
    events = await told(sources)
    assert len(events) == 5
    assert {each.outcome for each in events} == {Outcome.REJECTED}
    assert {each.actor for each in events} == {""}
    assert await succeed(client, HOME) == 303
    assert (await told(sources))[-1].outcome is Outcome.GRANTED, "a log-in is always told"
    monkeypatch.setattr(log_ins, "TOLD", (100, 1))
    await store.do(store.client.zrem(keys.BUDGETS, "told"))
    await attempt(client, "203.0.113.250")
    assert (await told(sources))[-1].reason == "wrong password; 35 failed attempts before this one were only counted"
    assert await store.do(store.client.zcard(keys.BUDGETS)) < 100


async def test_those_who_have_to_wait_are_told_once_for_each_network(client: Client, sources: Sources) -> None:
    for _ in range(NETWORK + 10):
        await attempt(client, ELSEWHERE)
    reasons = [each.reason for each in await told(sources)]
    assert reasons == ["wrong password"] * NETWORK + ["too many attempts"]


async def test_an_unknown_name_takes_as_long_as_a_known_one() -> None:
    hashes = {f"user{number}": bcrypt.hashpw(b"x", bcrypt.gensalt(8)) for number in range(3)}
    passwords = Passwords(Path("users"), Users(hashes))

    async def seconds(name: str, password: str) -> float:
        begin = time.process_time()
        assert await passwords.check(name, password) == ""
        return time.process_time() - begin

    cases = [("user1", "wrong"), ("nobody", "wrong"), ("user1", "x" * 100), ("user1", ""), ("user1", "a\0b"), ("", "")]
    taken: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    for _ in range(9):
        for case in cases:
            taken[case].append(await seconds(*case))
    medians = [statistics.median(times) for times in taken.values()]
    assert max(medians) < 2 * min(medians), taken
    begin = time.process_time()
    bcrypt.checkpw(b"x", hashes["user0"])
    assert min(medians) > (time.process_time() - begin) / 3


async def test_only_a_few_passwords_are_checked_at_once_and_the_rest_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running, most = 0, 0

    def slow(_password: bytes, _hash: bytes) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.005)
        running -= 1
        return True

    monkeypatch.setattr(bcrypt, "checkpw", slow)
    passwords = Passwords(Path("users"), Users({"anna": b"hash"}))
    waiting = [passwords.check("anna", "x") for _ in range(MOST_WAITING + 10)]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(each, BusyError) for each in found) == 10
    assert sum(isinstance(each, str) and each != "" for each in found) == MOST_WAITING
    assert most <= AT_ONCE
    assert await passwords.check("anna", "x")


async def test_a_busy_console_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("immuproxy.console.access.passwords.MOST_WAITING", 0)
    response = await send_log_in(client, ADMINISTRATOR, PASSWORDS[ADMINISTRATOR])
    assert (response.status, response.headers["Retry-After"]) == (503, "5")
    assert "Try again in a few seconds." in await response.text()
