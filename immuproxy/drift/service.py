"""The caller that the proxy is itself, where no client stands behind a request (H54)."""

from __future__ import annotations

import base64
import secrets

from multidict import CIMultiDict

from immuproxy import __version__
from immuproxy.edge.caller import Caller
from immuproxy.ledger.model import ActorSource


def service_caller(username: str | None, password: str | None) -> Caller:
    """With the service credentials of ``upstream``, or without any."""
    headers = CIMultiDict([("User-Agent", f"immuproxy/{__version__}")])
    if username is not None:
        credential = base64.b64encode(f"{username}:{password or ''}".encode()).decode()
        headers["Authorization"] = f"Basic {credential}"
    return Caller(
        headers=headers,
        actor="",
        actor_source=ActorSource.PROXY,
        address="",
        user_agent=headers["User-Agent"],
        request_id=secrets.token_hex(8),
        edge_origin="",
        started=0.0,
    )


def anonymous_service() -> Caller:
    """The proxy itself, at an upstream that asks nobody for credentials."""
    return service_caller(None, None)
