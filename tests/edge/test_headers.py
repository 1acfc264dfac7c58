"""Which headers travel on, and how they are rewritten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from immuproxy.edge import headers

Pairs = list[tuple[str, str]]


def up(*pairs: tuple[str, str], host: str = "edge", address: str = "10.0.0.9") -> CIMultiDict[str]:
    return headers.to_upstream(pairs, scheme="https", host=host, address=address)


def down(location: str, status: int = 202, edge: str = "https://edge") -> str:
    found = headers.to_client(
        [("Location", location)], status=status, upstream_origin="http://registry:5000", edge_origin=edge
    )
    return found["Location"]


# --- H39: hop by hop


def test_h39_what_concerns_one_connection_is_dropped() -> None:
    pairs = [(name.title(), "x") for name in headers.HOP_BY_HOP - {"connection"}]
    assert list(headers.end_to_end([*pairs, ("Connection", "close"), ("Kept", "1")]).items()) == [("Kept", "1")]


def test_h39_what_connection_lists_is_dropped_too() -> None:
    pairs = [("X-A", "1"), ("connection", "close, X-a"), ("CONNECTION", " x-B ,,"), ("x-b", "2"), ("X-C", "3")]
    assert list(headers.end_to_end(pairs).items()) == [("X-C", "3")]


def test_h39_a_client_cannot_take_away_what_the_proxy_adds() -> None:
    listed = "X-Forwarded-Proto, X-Forwarded-Host, X-Forwarded-For, Authorization"
    sent = up(("Connection", listed), ("Authorization", "Basic x"))
    assert dict(sent) == {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "edge",
        "X-Forwarded-For": "10.0.0.9",
    }


@given(
    st.lists(st.tuples(st.sampled_from(["A", "B", "Accept", "a", "Link"]), st.text("xy,; ", max_size=5)), max_size=8)
)
def test_h46_order_and_duplicates_stay(pairs: Pairs) -> None:
    assert list(headers.end_to_end(pairs).items()) == pairs


def test_names_in_two_spellings_come_to_one() -> None:
    sent = up(("Authorization", "a"), ("authorization", "b"), ("X-A", "1"), ("x-a", "2"))
    assert list(sent.items())[:4] == [("Authorization", "a"), ("Authorization", "b"), ("X-A", "1"), ("X-A", "2")]


# --- H10, H40, H41, H49: what a client could steer the upstream with


@pytest.mark.parametrize(
    "name",
    [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "x-forwarded-prefix",
        "X-Forwarded-Anything",
        "X-Real-IP",
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Expect",
        "HTTP2-Settings",
        "Upgrade",
        "Host",
    ],
)
def test_h10_h40_h41_h49_what_steers_the_upstream_is_dropped(name: str) -> None:
    assert "evil" not in up((name, "evil"), ("Accept", "x")).values()


def test_h49_the_upstream_hears_the_edges_own_name() -> None:
    assert dict(up(("Accept", "x"))) == {
        "Accept": "x",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "edge",
        "X-Forwarded-For": "10.0.0.9",
    }
    assert dict(up(host="", address="")) == {"X-Forwarded-Proto": "https"}


def test_h57_no_other_way_to_the_upstream_is_told() -> None:
    found = headers.to_client(
        [("Alt-Svc", 'h2="registry:5000"'), ("Etag", "x")], status=200, upstream_origin="", edge_origin=""
    )
    assert dict(found) == {"Etag": "x"}


def test_without_drops_by_lower_case_names_and_copies() -> None:
    given = CIMultiDict([("Range", "x"), ("Accept", "a"), ("accept", "b")])
    assert list(headers.without(given, {"range"}).items()) == [("Accept", "a"), ("accept", "b")]
    assert "Range" in given


# --- H49: Location


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (
            "http://registry:5000/v2/a/blobs/uploads/x?_state=a%2Fb%3D%3D",
            "https://edge/v2/a/blobs/uploads/x?_state=a%2Fb%3D%3D",
        ),
        ("HTTP://Registry:5000/v2/x", "https://edge/v2/x"),
        ("http://user@registry:5000/v2/x", "https://edge/v2/x"),
        ("http://registry:5000", "https://edge"),
        ("/v2/a/blobs/uploads/x", "/v2/a/blobs/uploads/x"),
        ("", ""),
        ("http://another-name-of-it/v2/a/blobs/uploads/x", "https://edge/v2/a/blobs/uploads/x"),
        ("https://[::1]:5000/v2/x", "https://edge/v2/x"),
        ("http://registry:99999/v2/x", "https://edge/v2/x"),
        ("http://[bad/v2/x", "https://edge/v2/x"),
        ("https://storage/bucket?x=http://registry:5000/v2/", "https://storage/bucket?x=http://registry:5000/v2/"),
    ],
)
def test_h49_where_an_upload_is_is_told_by_the_edges_name(location: str, expected: str) -> None:
    assert down(location) == expected


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://storage/v2/blob?sig=a%2Fb", "https://storage/v2/blob?sig=a%2Fb"),
        ("http://registry:5000/v2/x", "https://edge/v2/x"),
        ("http://registry:5000/other?x", "https://edge/other?x"),
        ("http://registry/v2/x", "http://registry/v2/x"),
        ("http://registry:99999/v2/x", "http://registry:99999/v2/x"),
        ("http://[bad/v2/x", "http://[bad/v2/x"),
    ],
)
def test_h44_a_redirect_elsewhere_is_left_alone(location: str, expected: str) -> None:
    for status in (301, 307, 308):
        assert down(location, status) == expected


def test_h49_a_client_that_told_no_host_gets_a_path() -> None:
    assert down("http://registry:5000/v2/x?a", edge="") == "/v2/x?a"


def test_h49_other_headers_keep_their_place() -> None:
    pairs = [("A", "1"), ("Location", "http://registry:5000/v2/"), ("B", "http://registry:5000/v2/")]
    found = headers.to_client(pairs, status=201, upstream_origin="http://registry:5000", edge_origin="http://e")
    assert list(found.items()) == [("A", "1"), ("Location", "http://e/v2/"), ("B", "http://registry:5000/v2/")]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://Registry/x", "http://registry"),
        ("http://registry:80", "http://registry"),
        ("https://registry:443/", "https://registry"),
        ("https://registry:80", "https://registry:80"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("http://registry:x", ""),
        ("http://[x", ""),
    ],
)
def test_an_origin_has_one_spelling(url: str, expected: str) -> None:
    assert headers.origin(url) == expected


# --- hosts and addresses


@pytest.mark.parametrize("host", ["a", "A.b-c_d:5000", "127.0.0.1:1", "[::1]", "[fe80::1]:5000"])
def test_a_host_may_stand_in_a_url(host: str) -> None:
    assert headers.is_host(host)


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "a@b", "a:b", "a:123456", "::1", "[x]", "a,b", "é", "a\n", "a?b", "a#b", "a:", "x" * 300]
)
def test_h49_what_is_no_host_may_not(host: str) -> None:
    assert not headers.is_host(host)


@given(st.text(max_size=20))
def test_any_text_can_be_asked_for_its_origin(text: str) -> None:
    headers.origin(text)
    down(text)


@pytest.mark.parametrize("changed", [("Location", "http://registry:5000/v2/"), ("alt-svc", 'h3=":443"')])
def test_h57_an_answer_stays_as_it_is_only_where_nothing_in_it_is_rewritten(changed: tuple[str, str]) -> None:
    kept = CIMultiDict([("Etag", '"x"'), ("Docker-Content-Digest", "sha256:x")])
    rewritten = CIMultiDict([*kept.items(), changed])
    for original, expected in ((kept, False), (rewritten, True)):
        sent = headers.to_client(
            original.items(), status=200, upstream_origin="http://registry:5000", edge_origin="http://edge"
        )
        assert headers.is_rewritten(original) is expected is (sent != original)
