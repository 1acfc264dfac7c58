"""Events, records and rules for the tests of the console."""

from __future__ import annotations

import hashlib
import itertools
import time
from typing import Any

from immuproxy.console.sources import RulesInForce
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from immuproxy.rules.document import load_rules

NOW = 1_795_460_000_000
"""A fixed moment for pure tests: 2026-11-23."""

RULES = """\
default: immutable
rules:
  - name: moving
    tags: [latest, "dev-*"]
    policy: mutable
  - name: releases
    repositories: ["team/**"]
    policy: immutable
    overwrite:
      - {users: [release-bot], within: 15m}
"""

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
_numbers = itertools.count(1)


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def in_force(text: str = RULES, error: str = "") -> RulesInForce:
    return RulesInForce(load_rules(text, "immuproxy.yml"), text, NOW - 3_600_000, error)


def now() -> int:
    return time.time_ns() // 1_000_000


def push(outcome: Outcome = Outcome.CREATED, **fields: Any) -> Event:
    """A push of team/app:1.0 by ci, unless said otherwise."""
    usual: dict[str, Any] = {
        "id": f"e{next(_numbers):07d}",
        "action": Action.PUSH,
        "time": now(),
        "repository": "team/app",
        "tag": "1.0",
        "digest": digest("one"),
        "media_type": "application/vnd.oci.image.manifest.v1+json",
        "rule": "releases",
        "actor": "ci",
        "actor_source": ActorSource.BASIC,
        "actor_confirmed": True,
        "client_address": "10.1.2.3",
        "user_agent": "docker/27.3",
        "size": 1234,
        "duration_ms": 12,
    }
    return Event(**(usual | {"outcome": outcome} | fields))
