"""Bearer tokens for a registry that asks for them, and the server that gives them out."""

from __future__ import annotations

import base64
import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from tests.support.answering import AnsweringServer, Asked, Said, answering

CATALOG = "*"
"""Stands for the list of all repositories where a repository is named."""


class TokenIssuer:
    """Signs bearer tokens that a registry started with `token=issuer` accepts."""

    service = "immuproxy-tests"
    issuer = "immuproxy-tests-issuer"

    def __init__(self, realm: str = "http://127.0.0.1:1/token") -> None:
        """`realm` is where the challenge sends clients; nobody listens on the default."""
        self.realm = realm
        authority = trustme.CA()
        leaf = authority.issue_cert(self.issuer)
        key = load_pem_private_key(leaf.private_key_pem.bytes(), password=None)
        self._key = cast("EllipticCurvePrivateKey", key)
        certificate = load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
        self._chain = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]
        self.root_pem = authority.cert_pem.bytes()

    def issue(self, subject: str, access: Mapping[str, Sequence[str]], seconds: float = 300) -> str:
        """A token of `subject` for `{repository: [actions]}`, valid for `seconds` (negative: already over).

        The actions of `CATALOG` are those on the list of all repositories.
        """
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": subject,
            "aud": self.service,
            "exp": now + int(seconds),
            "nbf": now - 3600,
            "iat": now - 10,
            "jti": uuid.uuid4().hex,
            "access": [_entry(name, actions) for name, actions in access.items()],
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"x5c": self._chain})


def _entry(name: str, actions: Sequence[str]) -> dict[str, str | list[str]]:
    kind, name = ("registry", "catalog") if name == CATALOG else ("repository", name)
    return {"type": kind, "name": name, "actions": list(actions)}


@dataclass
class TokenServer:
    """Gives the account what it asks for, and others nothing; `said` is said instead, `scopes` is what was asked.

    For a scope that is `withheld` it gives a token that is good for nothing.
    """

    server: AnsweringServer
    issuer: TokenIssuer
    basic: str
    seconds: float = 300
    said: list[Said] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)

    def answer(self, asked: Asked) -> Said:
        if self.said:
            return self.said[0]
        if asked.headers.get("Authorization") != self.basic:
            return Said(401)
        scope = parse_qs(urlsplit(asked.target).query).get("scope", [""])[0]
        self.scopes.append(scope)
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        place = {"repository": name, "registry": CATALOG}.get(kind) if scope not in self.withheld else None
        token = self.issuer.issue("immuproxy", {place: actions.split(",")} if place else {}, self.seconds)
        return Said(body=json.dumps({"token": token, "expires_in": int(self.seconds)}).encode())


@contextlib.contextmanager
def running_token_server(username: str, password: str) -> Iterator[TokenServer]:
    made: list[TokenServer] = []
    with answering(lambda asked: made[0].answer(asked)) as server:  # noqa: PLW0108  # made once its port is known
        basic = aiohttp.encode_basic_auth(username, password)
        made.append(TokenServer(server, TokenIssuer(f"{server.url}/token"), basic))
        yield made[0]
