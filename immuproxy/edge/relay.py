"""Passing through what is not ours: both directions streamed, bounded memory, backpressure from either side (H51).

Before the first byte of the response an error is an OCI error; after it the connection is cut, so that nobody takes
half an answer for a whole one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import structlog
from aiohttp import web

from immuproxy.edge import bodies, headers, splice
from immuproxy.edge.answers import Response
from immuproxy.edge.caller import Caller
from immuproxy.edge.faults import detail, reason
from immuproxy.edge.server import ending_with_client
from immuproxy.edge.upstream import Upstream, told_by
from immuproxy.oci import errors
from immuproxy.oci.errors import OciError
from immuproxy.oci.routes import Operation, RouteKind

log = structlog.get_logger("immuproxy.edge")

STALLED = 300.0
"""Seconds after which an upstream that takes no more of a body is given up."""

_BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
_FIRST_FINAL_STATUS = 200


async def relay(request: web.BaseRequest, operation: Operation, caller: Caller, upstream: Upstream) -> Response:
    """Forward ``operation`` with the request's body, and the upstream's answer back.

    Raises `OciError`, `UpstreamUnavailableError`, and `ConnectionResetError` when the client goes away.
    """
    with ending_with_client(request):
        try:
            upstream_response = await _sent(request, operation, caller, upstream)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _problem(error, caller) from error
        async with upstream_response:
            if operation.kind is RouteKind.UPLOADS:
                upstream.notice(upstream_response.status)
            if upstream_response.status < _FIRST_FINAL_STATUS:
                raise errors.unavailable("the upstream registry wants to speak another protocol")  # H40
            return await _respond(request, upstream_response, caller, upstream)


async def _sent(
    request: web.BaseRequest, operation: Operation, caller: Caller, upstream: Upstream
) -> aiohttp.ClientResponse:
    """The upstream's answer, once its headers are here.

    A read goes out a second time when the first met a connection that the upstream had closed meanwhile; a write never
    does (H43).
    """

    async def send() -> aiohttp.ClientResponse:
        async with asyncio.timeout(None) as limit:
            body = splice.Body(request, _moving(request, limit), STALLED) if bodies.is_expected(request) else None
            return await upstream.stream(operation.method, operation.target, caller.headers, body)

    if operation.is_write or bodies.is_expected(request):
        return await send()
    try:
        return await send()
    except aiohttp.ClientConnectorError:
        raise
    except _BROKEN:
        return await send()


async def _moving(request: web.BaseRequest, limit: asyncio.Timeout) -> AsyncIterator[bytes]:
    """The request's body; ``limit`` runs while the upstream takes a piece of it, and `STALLED` is the longest it may.

    While one side waits for the other, the client's socket is not read, so nobody would notice that the client is gone.
    """
    loop = asyncio.get_running_loop()
    async for chunk in bodies.chunks(request):
        limit.reschedule(loop.time() + STALLED)
        yield chunk
        limit.reschedule(None)


def _problem(error: BaseException, caller: Caller) -> OciError:
    """The client's own fault where its body broke, else the upstream's."""
    cause = error.__cause__
    if isinstance(cause, OciError):
        return cause
    log.warning("upstream unavailable", reason=detail(error), request_id=caller.request_id)
    return errors.unavailable(f"the upstream registry does not answer: {reason(error)}")


async def _respond(
    request: web.BaseRequest, upstream_response: aiohttp.ClientResponse, caller: Caller, upstream: Upstream
) -> Response:
    response = Response(
        status=upstream_response.status,
        reason=upstream_response.reason,
        headers=headers.to_client(
            told_by(upstream_response),
            status=upstream_response.status,
            upstream_origin=upstream.origin,
            edge_origin=caller.edge_origin,
        ),
    )
    bodies.settle(request, response)
    bodies.moved(request)
    await response.prepare(request)
    try:
        await splice.answer(request, upstream_response)
        async for chunk in upstream_response.content.iter_any():
            bodies.moved(request)
            await response.write(chunk)
        await response.write_eof()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        _cut(request, error, caller)
    except asyncio.CancelledError as error:
        _cut(request, error, caller)
        raise
    return response


def _cut(request: web.BaseRequest, error: BaseException, caller: Caller) -> None:
    """Reset the client's connection: half an answer must not look like a whole one."""
    if request.transport and not request.transport.is_closing():
        log.warning("answer cut short", reason=detail(error), request_id=caller.request_id)
        request.transport.abort()
