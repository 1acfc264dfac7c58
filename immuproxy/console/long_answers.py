"""An answer that is sent as it is made, to somebody who takes it slowly, or not at all.

What has not been taken is held back at its source: little of it waits here, and nobody waits for long.  Making it takes
a share of the loop, for all such answers together, so that pulls and pushes do not feel it (H88).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from aiohttp import web

_T = TypeVar("_T")

UNSENT = 128 * 1024
"""Bytes that the kernel keeps for a connection; by itself it would take four megabytes from who is never read."""

STALLED = 30.0
"""Seconds for which a piece of an answer waits until it is taken; then the connection is cut."""

RESTS = 2.0
"""How much longer than a piece of work the pause behind it is."""


class Share:
    """One piece of work at a time, in the order in which they are asked for, and a third of the time at most."""

    def __init__(self) -> None:
        """Nothing waits."""
        self._turn = asyncio.Lock()

    async def make(self, piece: Callable[[], _T]) -> _T:
        """Do a piece of work, of a millisecond or so."""
        async with self._turn:
            began = monotonic()
            made = piece()
            await asyncio.sleep(RESTS * (monotonic() - began))
            return made


SHARE: web.AppKey[Share] = web.AppKey("share", Share)


def hold_back(request: web.Request) -> None:
    """Let little be on its way to this client."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT // 2)  # Linux doubles it


async def give(request: web.Request, response: web.StreamResponse, piece: bytes) -> None:
    """Send a piece; raises `ConnectionResetError` where nobody is there any more, or nobody takes it."""
    try:
        async with asyncio.timeout(STALLED):
            await response.write(piece)
    except TimeoutError:
        cut(request)
        raise ConnectionResetError("nobody takes the answer") from None


def cut(request: web.Request) -> None:
    """End the connection, so that nobody takes a part for the whole."""
    if request.transport:
        request.transport.abort()


def set_up(app: web.Application) -> None:
    """Put the share of all long answers into the console."""
    app[SHARE] = Share()
