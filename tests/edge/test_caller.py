"""Who asks."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

import jwt
import pytest
from aiohttp import HttpVersion10, web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from immuproxy.edge import caller
from immuproxy.edge.caller import Caller, actor_of
from immuproxy.ledger.model import ActorSource
from immuproxy.oci.errors import OciError
from immuproxy.values.text import MAX_SHOWN

PEER = "192.0.2.7"


class _Transport:
    def __init__(self, peer: str, *, tls: bool) -> None:
        self._told: dict[str, Any] = {"peername": (peer, 4711), "sslcontext": object() if tls else None}

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._told.get(name, default)

    def is_closing(self) -> bool:
        return False


def asked(
    pairs: Sequence[tuple[str, str]], *, peer: str = PEER, tls: bool = False, version: Any = None
) -> web.BaseRequest:
    more: dict[str, Any] = {"version": version} if version else {}
    transport = _Transport(peer, tls=tls)
    context = transport.get_extra_info("sslcontext")
    return make_mocked_request("GET", "/v2/", CIMultiDict(pairs), transport=transport, sslcontext=context, **more)


def identify(
    *pairs: tuple[str, str], trusted: Sequence[str] = (), external_url: str | None = None, **more: Any
) -> Caller:
    networks = tuple(map(ip_network, trusted))
    return caller.identify(asked(pairs, **more), trusted=networks, external_url=external_url, now=1.5)


def basic(text: bytes) -> str:
    return f"Basic {base64.b64encode(text).decode()}"


def test_a_caller_is_read_once() -> None:
    found = identify(("Host", "edge:5000"), ("User-Agent", "docker/20"), ("Authorization", basic(b"ann:secret")))
    assert found.actor == "ann"
    assert found.actor_source is ActorSource.BASIC
    assert found.address == PEER
    assert found.user_agent == "docker/20"
    assert found.edge_origin == "http://edge:5000"
    assert found.started == 1.5
    assert found.authorization == basic(b"ann:secret")
    assert found.headers["X-Forwarded-For"] == PEER
    assert found.request_id != identify(("Host", "x")).request_id


def test_h49_the_edges_name_is_the_host_that_the_client_used() -> None:
    assert identify(("Host", "edge"), tls=True).edge_origin == "https://edge"
    spoofed = identify(("Host", "edge"), ("X-Forwarded-Host", "evil"), ("X-Forwarded-Proto", "https"))
    assert spoofed.edge_origin == "http://edge"
    assert spoofed.headers["X-Forwarded-Host"] == "edge"


def test_h49_a_trusted_proxy_tells_the_name_and_the_client() -> None:
    told = [
        ("Host", "inner"),
        ("X-Forwarded-Host", "edge"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-For", "1.2.3.4"),
    ]
    found = identify(*told, trusted=["192.0.2.0/24"])
    assert found.edge_origin == "https://edge"
    assert found.address == "1.2.3.4"
    assert identify(*told, trusted=["10.0.0.0/8"]).edge_origin == "http://inner"


def test_h49_a_scheme_that_is_none_is_not_believed() -> None:
    told = [("Host", "edge"), ("X-Forwarded-Proto", "javascript")]
    assert identify(*told, trusted=["192.0.2.0/24"]).edge_origin == "http://edge"


def test_h49_a_fixed_name_beats_all_others() -> None:
    found = identify(("Host", "other"), external_url="https://edge.example/", tls=False)
    assert found.edge_origin == "https://edge.example"
    assert found.headers["X-Forwarded-Proto"] == "https"


@pytest.mark.parametrize("host", ["a b", "a/b", "evil@edge", "[", "a,b"])
def test_h49_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(OciError) as caught:
        identify(("Host", host))
    assert caught.value.status == 400
    with pytest.raises(OciError):
        identify(("Host", "edge"), ("X-Forwarded-Host", host), trusted=["192.0.2.0/24"])


def test_a_host_must_be_there_but_for_http_1_0() -> None:
    for pairs in ([], [("Host", "")]):
        with pytest.raises(OciError) as caught:
            identify(*pairs)
        assert caught.value.status == 400
    old = identify(version=HttpVersion10)
    assert old.edge_origin == ""
    assert "X-Forwarded-Host" not in old.headers


def test_two_credentials_are_refused() -> None:
    for second in ("Authorization", "authorization"):
        with pytest.raises(OciError) as caught:
            identify(("Host", "edge"), ("Authorization", basic(b"ann:x")), (second, basic(b"bob:x")))
        assert caught.value.status == 400


# --- actors


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("", ("", ActorSource.ANONYMOUS)),
        ("Digest x", ("", ActorSource.ANONYMOUS)),
        (basic(b"ann:secret"), ("ann", ActorSource.BASIC)),
        (basic(b"ann").replace("Basic", "bAsIc"), ("ann", ActorSource.BASIC)),
        (basic("jos\u00e9:x:y".encode()), ("jos\u00e9", ActorSource.BASIC)),
        (basic(b":x"), ("", ActorSource.BASIC)),
        ("Basic !!!", ("", ActorSource.BASIC)),
        ("Basic", ("", ActorSource.BASIC)),
        ("Basic \udcff", ("", ActorSource.BASIC)),
        (basic(b"a\x00\x1b[31m\xff:x"), ("a\ufffd\ufffd[31m\ufffd", ActorSource.BASIC)),
        ("Bearer opaque", ("", ActorSource.TOKEN)),
        ("Bearer a.b.c", ("", ActorSource.TOKEN)),
        ("Bearer \udcff", ("", ActorSource.TOKEN)),
    ],
)
def test_the_actor_is_whom_the_credential_names(authorization: str, expected: tuple[str, ActorSource]) -> None:
    assert actor_of(authorization) == expected


def token(claims: Any) -> str:
    return jwt.encode(claims, "k" * 32)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"sub": "ann"}, "ann"),
        ({"sub": "ann", "exp": 1, "aud": "x", "iss": "y", "nbf": 2**40}, "ann"),
        ({"sub": 7}, ""),
        ({"sub": None}, ""),
        ({}, ""),
        ({"sub": "a\nb"}, "a\ufffdb"),
    ],
)
def test_a_tokens_subject_is_read_and_not_judged(claims: dict[str, Any], expected: str) -> None:
    assert actor_of(f"Bearer {token(claims)}") == (expected, ActorSource.TOKEN)


def test_what_is_shown_of_an_actor_is_bounded() -> None:
    assert len(actor_of(basic(b"a" * 5000))[0]) == MAX_SHOWN
    assert len(identify(("Host", "x"), ("User-Agent", "u" * 5000)).user_agent) == MAX_SHOWN


_part = st.binary(max_size=30).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="))
_json_part = st.dictionaries(
    st.sampled_from(["alg", "sub", "b64", "crit", "typ"]), st.none() | st.booleans() | st.text() | st.lists(st.text())
)
_encoded = _json_part.map(lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("="))


@given(st.lists(_part | _encoded, min_size=1, max_size=5).map(".".join) | st.text(max_size=30), st.booleans())
def test_any_credential_can_be_sent(credential: str, bearer: bool) -> None:
    actor, _ = actor_of(f"{'Bearer' if bearer else 'Basic'} {credential}")
    assert actor.encode().decode() == actor
    assert all(char.isprintable() or char == "\ufffd" for char in actor)
