"""From a push to its event.  Pure but for the clock and the random part of an id.

A push has one event with one id.  Before the upstream can see the push, the event's draft is kept as an intent; the
outcome completes it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace
from typing import Any

from immuproxy.edge.caller import Caller
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from immuproxy.oci.manifests import Manifest

UNKNOWN = "the proxy stopped before it knew the outcome"


def new_token() -> str:
    """The owner's secret of one claim."""
    return secrets.token_hex(12)


def draft(
    action: Action,
    caller: Caller,
    repository: str,
    *,
    tag: str = "",
    digest: str = "",
    manifest: Manifest | None = None,
) -> Event:
    """The event of something whose outcome is not known yet."""
    event = Event(
        id=new_event_id(),
        action=action,
        outcome=Outcome.FAILED,
        repository=repository,
        tag=tag,
        digest=manifest.digest if manifest else digest,
        reason=UNKNOWN,
        actor=caller.actor,
        actor_source=caller.actor_source,
        client_address=caller.address,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )
    return replace(event, **_described(manifest)) if manifest else event


def _described(manifest: Manifest) -> dict[str, Any]:
    return {"media_type": manifest.media_type, "size": manifest.size, "platforms": manifest.platforms}


def timed(event: Event, caller: Caller) -> Event:
    """The event with the time that its request has taken until now."""
    elapsed = asyncio.get_running_loop().time() - caller.started
    return replace(event, duration_ms=round(elapsed * 1000))


def own(action: Action, outcome: Outcome, repository: str, **values: Any) -> Event:
    """An event that no request of a client stands behind: adoption, drift, repair."""
    event = Event(
        id=new_event_id(), action=action, outcome=outcome, repository=repository, actor_source=ActorSource.PROXY
    )
    return replace(event, **values)


def now_ms() -> int:
    """Milliseconds since 1970 by the proxy's own clock; only for what no other proxy will compare."""
    return time.time_ns() // 1_000_000
