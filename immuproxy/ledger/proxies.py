"""Which proxies work on this ledger, and with which rules (H57): one entry for each, renewed while it lives."""

from __future__ import annotations

import json
import secrets

from immuproxy.ledger import keys
from immuproxy.store.redis import Store

FORGOTTEN = 60.0
"""Seconds after which a proxy that no longer renews its entry does not count."""


class Proxies:
    """The entry of this process, and what the others say."""

    def __init__(self, store: Store) -> None:
        """Each process has an id of its own."""
        self._store = store
        self._id = secrets.token_hex(8)

    async def announce(self, rules: str) -> frozenset[str]:
        """Renew the entry; the fingerprints of the rules that all living proxies have, this one's included."""
        now, _ = await self._store.do(self._store.client.time())  # the proxies' own clocks may differ (H73)
        mine = json.dumps({"rules": rules, "seen": now})
        await self._store.do(self._store.client.hset(keys.REPLICAS, self._id, mine))
        found = await self._store.do(self._store.client.hgetall(keys.REPLICAS))
        entries = {name: json.loads(value) for name, value in found.items()}
        # What is dated from now is from before time went back; who lives says so again (H112).
        gone = [name for name, entry in entries.items() if abs(now - entry["seen"]) > FORGOTTEN]
        if gone:
            await self._store.do(self._store.client.hdel(keys.REPLICAS, *gone))
        return frozenset(entry["rules"] for name, entry in entries.items() if name not in gone)

    async def leave(self) -> None:
        """Take the entry away at the end of the process."""
        await self._store.do(self._store.client.hdel(keys.REPLICAS, self._id))
