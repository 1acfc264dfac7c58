"""Bearer tokens for a registry that asks for them."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import cast

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate


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
        """A token of `subject` for `{repository: [actions]}`, valid for `seconds` (negative: already over)."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": subject,
            "aud": self.service,
            "exp": now + int(seconds),
            "nbf": now - 3600,
            "iat": now - 10,
            "jti": uuid.uuid4().hex,
            "access": [{"type": "repository", "name": name, "actions": list(a)} for name, a in access.items()],
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"x5c": self._chain})
