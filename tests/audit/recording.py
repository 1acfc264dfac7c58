"""Writing events as the register does, and reading the record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from immuproxy.audit import Visitor
from immuproxy.audit.record import keys as record_keys
from immuproxy.audit.search import Search
from immuproxy.ledger import keys
from immuproxy.ledger.model import Event
from immuproxy.store.redis import Store


async def publish(store: Store, *events: Event) -> None:
    """By a script of the register, each with a time of its own."""
    for event in events:
        await store.do(store.client.sadd(keys.REPOSITORIES, event.repository))
        values = event.to_dict()
        text = json.dumps({"time": values.pop("time"), **values}, separators=(",", ":"))
        await store.script("record", [keys.outbox(event.repository)], [text])


async def publish_as_older(store: Store, event: Event, outbox_id: str = "*") -> None:
    """As releases did that gave an outbox no life."""
    await store.do(store.client.sadd(keys.REPOSITORIES, event.repository))
    fields: dict[Any, Any] = {"event": json.dumps(event.to_dict())}
    await store.do(store.client.xadd(keys.outbox(event.repository), fields, id=outbox_id))


async def recorded(store: Store) -> list[Event]:
    """All events of the record, in its order."""
    return [event async for event in Visitor(store, None).export(Search())][::-1]


async def waiting(store: Store, events: Sequence[Event]) -> int:
    """How many entries stand in the outboxes of these events' repositories."""
    return sum([await store.client.xlen(keys.outbox(name)) for name in {event.repository for event in events}])


async def watermark(store: Store, repository: str) -> str:
    """As Redis has it; empty where there is none."""
    found = await store.do(store.client.hget(record_keys.WATERMARK, repository))
    return found.decode() if found else ""
