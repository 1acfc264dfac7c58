from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.values import (
    LONGEST_MS,
    Listen,
    format_duration,
    parse_address,
    parse_duration,
    parse_listen,
    parse_network,
    roughly,
)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("15m", 900_000),
        ("30s", 30_000),
        ("7d", 604_800_000),
        ("1h30m", 5_400_000),
        ("500ms", 500),
        ("2w", 1_209_600_000),
        ("0s", 0),
    ],
)
def test_durations_are_read(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("15", "add a unit, as in 15s or 15m"),
        ("15 min", "did you mean 15m?"),
        ("15minutes", "did you mean 15m?"),
        ("15M", "did you mean 15m?"),
        ("30m1h", "write it as"),
        ("1m1m", "write it as"),
        ("-5m", "write it as"),
        ("", "write it as"),
        ("1.5h", "write it as"),
        ("9999999d", "ten years"),
        ("٣m", "write it as"),
    ],
)
def test_a_wrong_duration_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"duration|longer") as raised:
        parse_duration(text)
    assert hint in str(raised.value)


@given(st.integers(0, LONGEST_MS))
def test_a_formatted_duration_reads_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0s"), (725_250, "12m5s"), (90_061_000, "1d1h"), (5_400_000, "1h30m"), (59_999, "59s")],
)
def test_rough_durations_keep_two_units(milliseconds: int, text: str) -> None:
    assert roughly(milliseconds) == text


@pytest.mark.parametrize("text", ["10.1.0.0/16", "2001:db8::/32", "10.1.2.3"])
def test_networks_are_read(text: str) -> None:
    assert str(parse_network(text)).startswith(text.split("/", maxsplit=1)[0])


def test_a_network_with_host_bits_is_corrected_in_the_message() -> None:
    with pytest.raises(ValueError, match=r"did you mean 10\.1\.0\.0/16\?"):
        parse_network("10.1.2.3/16")
    with pytest.raises(ValueError, match="is no network"):
        parse_network("office")


def test_ipv4_inside_ipv6_counts_as_ipv4() -> None:
    assert parse_address("::ffff:10.1.2.3") == parse_address("10.1.2.3")
    assert parse_address("fe80::1%eth0") == parse_address("fe80::1")
    assert parse_address("localhost") is None


@pytest.mark.parametrize(
    ("text", "listen", "loopback"),
    [
        ("127.0.0.1:5000", Listen("127.0.0.1", 5000), True),
        ("[::1]:8080", Listen("::1", 8080), True),
        ("[::]:0", Listen("::", 0), False),
        ("localhost:80", Listen("localhost", 80), True),
        ("0.0.0.0:5000", Listen("0.0.0.0", 5000), False),
    ],
)
def test_listen_addresses_are_read_and_written_alike(text: str, listen: Listen, loopback: bool) -> None:
    assert parse_listen(text) == listen
    assert str(listen) == text
    assert listen.is_loopback is loopback


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("5000", "127.0.0.1:5000"),
        (":5000", "0.0.0.0:5000"),
        ("::1:5000", "[::1]:5000"),
        ("http://127.0.0.1:5000/", "did you mean 127.0.0.1:5000?"),
        ("localhost", "HOST:PORT"),
        ("localhost:70000", "at most 65535"),
        ("[1.2.3]:80", "no IPv6 address"),
    ],
)
def test_a_wrong_listen_address_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r".+") as raised:
        parse_listen(text)
    assert hint in str(raised.value)
