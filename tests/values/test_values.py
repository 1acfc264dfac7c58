from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.values.durations import LONGEST_MS, format_duration, parse_duration, roughly
from immuproxy.values.listen import Listen, parse_listen
from immuproxy.values.networks import client_address, is_trusted, parse_address, parse_network


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


def test_a_duration_is_told_in_days_as_people_count_them() -> None:
    assert format_duration(parse_duration("30d")) == "30d"
    assert format_duration(parse_duration("2w")) == "14d"


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0s"),
        (725_250, "12m5s"),
        (90_061_000, "1d1h"),
        (2_592_061_000, "30d"),
        (5_400_000, "1h30m"),
        (59_999, "59s"),
    ],
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


TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),  # not trusted: its word counts nothing
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),  # the first hop is what the client claims
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", ["unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["", " , "], "10.0.0.1"),
        ("fd00::1", ["2001:DB8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("", ["1.1.1.1"], ""),
    ],
)
def test_the_address_is_the_last_hop_that_nobody_trusted_vouches_for(
    peer: str, forwarded: list[str], expected: str
) -> None:
    assert client_address(peer, forwarded, TRUSTED) == expected


@pytest.mark.parametrize(
    ("hop", "expected"),
    [
        ("203.0.113.7:51234", "203.0.113.7"),
        ("[2001:db8::7]:51234", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[::ffff:203.0.113.7]:1", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("203.0.113.7:", "10.0.0.1"),
        ("203.0.113.7:x", "10.0.0.1"),
        ("203.0.113.7:123456", "10.0.0.1"),
        ("[203.0.113.7]:1", "10.0.0.1"),
        ("2001:db8::7]:1", "10.0.0.1"),
        ("unknown", "10.0.0.1"),
    ],
)
def test_a_hop_may_have_a_port(hop: str, expected: str) -> None:
    """As some load balancers write it (RFC 7239 section 6, in the older header)."""
    assert client_address("10.0.0.1", [hop], TRUSTED) == expected


@given(st.text(max_size=20))
def test_any_text_can_be_asked_for_an_address(text: str) -> None:
    assert isinstance(is_trusted(text, TRUSTED), bool)
    client_address("10.0.0.1", [text], TRUSTED)


def test_the_scope_of_a_forwarded_address_is_left_out() -> None:
    """It may be any text of any length, and would stand in logs and events."""
    trusted = [parse_network("127.0.0.0/8")]
    assert client_address("127.0.0.1", ["fe80::1%evil level=error " + "x" * 9000], trusted) == "fe80::1"
