"""A request body that leaves in time or not at all (H62)."""

from __future__ import annotations

import asyncio

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload


class TooLateError(Exception):
    """The process stood still between the decision to send and the first byte."""


class DeadlinePayload(BytesPayload):
    """Bytes that are not written after a deadline.

    Between the look at a lease and the first byte on the wire, a process can be stopped, or wait for a connection.  The
    HTTP client holds the head of a request back until it has the first piece of its body, so that this is the last
    moment: a request which is too late leaves nothing, or a head without its body, which no registry acts on.
    """

    def __init__(self, body: bytes, until: float) -> None:
        """``until``: by the clock of the running loop."""
        super().__init__(body)
        self._until = until

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write it whole; raises `TooLateError`."""
        if asyncio.get_running_loop().time() > self._until:
            message = "the proxy stood still for too long before it sent this"
            raise TooLateError(message)
        await super().write_with_length(writer, content_length)
