"""Passing through what is not ours: both directions streamed, bounded memory, backpressure from either side (H51).

Before the first byte of the response an error is an OCI error; after it the connection is cut, so that nobody takes half
an answer for a whole one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from immuproxy.oci import errors
from immuproxy.oci.routes import Operation
from immuproxy.proxy import headers
from immuproxy.proxy.answers import Response
from immuproxy.proxy.caller import Caller
from immuproxy.proxy.upstream import Upstream

_NEVER_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


async def relay(request: web.BaseRequest, operation: Operation, caller: Caller, upstream: Upstream) -> Response:
    """Forward ``operation`` with the request's body, and the upstream's answer back."""
    try:
        upstream_response = await upstream.data.request(
            operation.method,
            upstream.locate(operation.target),
            headers=caller.headers,
            data=_body(request),
            allow_redirects=False,
            skip_auto_headers=_NEVER_ADDED,
        )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise errors.unavailable(f"the upstream registry does not answer: {reason(error)}") from error
    async with upstream_response:
        return await _respond(request, upstream_response, caller, upstream)


def reason(error: BaseException) -> str:
    """An error of the way to the upstream, without the address of anything inside."""
    return (
        type(error).__name__ if isinstance(error, aiohttp.ClientConnectorError) else str(error) or type(error).__name__
    )


def _body(request: web.BaseRequest) -> AsyncIterator[bytes] | None:
    """The request's body as it comes in.

    A generator is used up by the first send, so that the library cannot send it a second time (H43).
    """
    if not request.can_read_body and request.headers.get("Content-Length") in {None, "0"}:
        return None
    return _chunks(request)


async def _chunks(request: web.BaseRequest) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_any():
        yield chunk


async def _respond(
    request: web.BaseRequest, upstream_response: aiohttp.ClientResponse, caller: Caller, upstream: Upstream
) -> Response:
    pairs = (
        (name.decode("ascii"), value.decode("utf-8", "surrogateescape"))
        for name, value in upstream_response.raw_headers
    )
    response = Response(
        status=upstream_response.status,
        reason=upstream_response.reason,
        headers=headers.to_client(pairs, upstream_origin=upstream.origin, edge_origin=caller.edge_origin),
    )
    await response.prepare(request)
    try:
        async for chunk in upstream_response.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (aiohttp.ClientError, TimeoutError, OSError):
        if request.transport:
            request.transport.abort()
    return response
