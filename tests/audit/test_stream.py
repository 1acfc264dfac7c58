"""What is asked of the stream where Redis is not asked at all."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from immuproxy.audit import stream
from immuproxy.store.redis import ProxyOverloadedError, connect
from immuproxy.store.turns import Turns
from tests.support.servers import RedisServer


async def test_a_wait_whose_turn_never_comes_leaves_nothing_behind(redis_server: RedisServer) -> None:
    async with connect(redis_server.url, timeout=2, turns=Turns(1, longest=0.01)) as store:
        other = asyncio.create_task(stream.wait_for_news(store, 0))
        await asyncio.sleep(0)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with pytest.raises(ProxyOverloadedError):
                await stream.wait_for_news(store, 0)
            gc.collect()
        assert not [each for each in said if "never awaited" in str(each.message)]  # other tests leave connections
        assert not await other
