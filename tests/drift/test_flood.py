"""A flood of forged notifications, or of deletes of what is not there, is not felt by those who read (H86)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest

from immuproxy.drift.notifications import MAX_EVENTS, PATH
from tests.support.conversation import Client
from tests.support.servers import RedisServer, RegistryServer
from tests.support.side_by_side import LIMIT, REPOSITORY, going_on, slowdown, two_proxies

TAGS = 6000
EVENTS = 4000
"""Of one envelope of 849 kB."""


def deletes(numbers: range) -> bytes:
    """An envelope that tells of deletes of digests that nothing holds."""
    digests = (f"sha256:f{number:063x}" for number in numbers)
    targets = ({"repository": REPOSITORY, "digest": digest, "pad": "x" * 40} for digest in digests)
    return json.dumps({"events": [{"action": "delete", "target": target} for target in targets]}).encode()


@pytest.mark.timeout(180)
async def test_h86_a_flood_of_hints_or_of_idle_deletes_does_not_slow_the_reads_of_others(
    start_registry: Callable[..., RegistryServer], start_redis: Callable[..., RedisServer]
) -> None:
    async with two_proxies(start_registry, start_redis, tags=TAGS) as (attacked, quiet, session):
        url = attacked.console_url + PATH
        large = deletes(range(EVENTS))
        assert len(large) > 600_000
        async with session.post(url, data=large) as answer:
            assert answer.status in {202, 413}
        told, numbers = set(), itertools.count(1)

        async def flood() -> None:
            at = next(numbers) * EVENTS
            async with session.post(url, data=deletes(range(at, at + MAX_EVENTS))) as answer:
                told.add(answer.status)

        async with going_on(flood, every=0.02):
            assert await slowdown(attacked, quiet, session) < LIMIT
        client = Client(attacked.url, session)

        async def delete() -> None:
            digest = f"sha256:e{next(numbers):063x}"
            assert (await client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{digest}")).status == 404

        await delete()
        async with going_on(delete, every=0.02):
            assert await slowdown(attacked, quiet, session) < LIMIT
        assert 202 in told
        assert told <= {202, 429}
