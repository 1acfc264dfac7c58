"""``/healthz``, ``/readyz`` and ``/metrics``: for machines that watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from immuproxy.console.access.guard import is_closed
from immuproxy.console.answers import SOURCES, as_json
from immuproxy.console.sources import status_dict


async def healthz(_request: web.Request) -> web.Response:
    """The process runs and its loop turns."""
    return as_json({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """200 when pulls can be served, else 503; with ``writes`` (and not ``writes=0``), when pushes can be, too.

    The body says what is wrong.  Redis away is no reason for a balancer to give up on a proxy that still serves pulls.
    """
    status = status_dict(await request.app[SOURCES].probe())
    wanted = "ready" if request.query.get("writes", "0") == "0" else "writes"
    if is_closed(request.app):  # versions, addresses and what is wrong with them are not for strangers
        status["parts"] = [part | {"detail": ""} for part in status["parts"]]
    return as_json(status, 200 if status[wanted] else 503)


async def metrics(request: web.Request) -> web.Response:
    """The registry in the form that the scraper asks for; it reads files of the process, so not on the loop."""
    encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
    sources = request.app[SOURCES]

    async def write() -> bytes:
        return await asyncio.to_thread(encoder, await sources.metrics())

    body = await request.app[_EXPOSITION].written(content_type, write)
    return web.Response(body=body, headers={"Content-Type": content_type})


class _Exposition:
    """Writes the metrics once for all who ask meanwhile: threads are few, and others need them, too."""

    def __init__(self) -> None:
        self._writing: dict[str, asyncio.Task[bytes]] = {}

    async def written(self, form: str, write: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        if form not in self._writing:
            task = asyncio.create_task(write())
            task.add_done_callback(lambda _: self._writing.pop(form))
            self._writing[form] = task
        return await asyncio.shield(self._writing[form])


_EXPOSITION: web.AppKey[_Exposition] = web.AppKey("exposition", _Exposition)


def add_routes(app: web.Application) -> None:
    """Put them into the console."""
    app[_EXPOSITION] = _Exposition()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
