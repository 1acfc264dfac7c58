"""The only file that speaks HTTP to the upstream registry.

Two pools: ``data`` for streams of any length, ``control`` for manifests, so that slow uploads never starve the protocol
(H45); a third, ``elsewhere``, for what is not the registry itself: token servers, and storage that it redirects to.  No
redirects are followed (H2, H44), nothing is decompressed (H38), no cookie is kept (H52), and the client library's
silent second try of PUT and DELETE is switched off (H43).
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
from aiohttp import ClientTimeout, Payload
from multidict import CIMultiDict
from yarl import URL

from immuproxy.edge import headers
from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.faults import reason
from immuproxy.edge.push.payload import DeadlinePayload
from immuproxy.edge.settings import Timeouts
from immuproxy.oci import manifests
from immuproxy.oci.names import ANY_DIGEST, digest_of, is_digest_of
from immuproxy.oci.routes import RouteKind, build_path

MAX_LINE = 64 * 1024
"""Bytes of a request line or header field, on both sides (H42)."""

READ_BUFFER = 256 * 1024
"""Bytes read ahead on a stream; the reader pauses the socket beyond twice this."""

TRIES = 4
DAMAGED = 500
"""What the upstream answers about a link that a crash left empty (H16)."""

THROUGH_SOCKET = "http://localhost"
"""What the upstream is called behind a Unix socket, in ``Host``; clients hear the edge's name all the same."""

PAUSE = 0.04
"""How often a manifest is asked for while the upstream answers 5xx, and the seconds in between."""

_NEVER_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_BUFFERED_LIMIT = manifests.MAX_MANIFEST_BYTES + 64 * 1024
_VERIFICATION = "MANIFEST_BLOB_UNKNOWN"
"""Stands in a 500 of distribution to a manifest that does not pass its checks, such as one with ``urls`` that its
configuration does not allow, after an error that has no name: nothing has been written then (registry/handlers).
"""

_FAILED = 500
_KEEPALIVE = 15.0

NOT_EXECUTED = frozenset(range(400, 500)) - {408, 499}
"""Refusals of a request; the two others are given up by somebody in between, after it was sent."""


Tls = ssl.SSLContext | bool
"""A context, or True for the system's authorities."""

Answered = Callable[[str, float], None]


class UpstreamUnavailableError(Exception):
    """The upstream did not answer, or not in a way that tells what is true; ``status`` is that of its answer, or 0."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class OutcomeUnknownError(UpstreamUnavailableError):
    """A request that changes something was sent, and it is unknown whether it took effect (H63)."""


class CutShortError(UpstreamUnavailableError):
    """The upstream announced a body and sent less of it, as a registry does whose descriptor cache outlived a blob
    (H25).
    """


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest as the upstream holds it, its bytes checked against its digest."""

    digest: str
    media_type: str
    body: bytes


@dataclass(slots=True)
class Pools:
    """The pools of one upstream, and the limits now, for all who ask over them.

    ``url``: scheme, host, port, or ``unix:///path``.
    """

    url: str
    timeouts: Timeouts
    data: aiohttp.ClientSession
    control: aiohttp.ClientSession
    elsewhere: aiohttp.ClientSession

    @classmethod
    def to(cls, url: str, timeouts: Timeouts, tls: Tls, answered: Answered | None) -> Pools:
        """Pools for an upstream; needs a running loop.  ``answered`` as of `opened`."""
        url = url.rstrip("/")
        path = url.removeprefix("unix://") if url.startswith("unix:") else ""
        return cls(
            url,
            timeouts,
            data=_session(0, tls, _timing("data", answered), path),
            control=_session(64, tls, _timing("control", answered), path),
            elsewhere=_session(64, tls, _timing("control", answered)),
        )

    async def close(self) -> None:
        """Close all pools."""
        await asyncio.gather(self.data.close(), self.control.close(), self.elsewhere.close())


class Upstream:
    """The registry behind the proxy."""

    def __init__(self, connections: Pools) -> None:
        """Asks over ``connections``, which somebody else closes.  Use `opened`."""
        self.connections = connections
        self.url = connections.url
        self.takes_pushes = True
        self._base = THROUGH_SOCKET if self.url.startswith("unix:") else self.url
        self.origin = headers.origin(self._base)
        self.standing: CIMultiDict[str] = CIMultiDict()
        """The headers that it has in all its answers, as it last gave some content out."""

    def use(self, timeouts: Timeouts) -> None:
        """Other limits from the next request on; but ``manifest``, from which leases were made, stays as it was."""
        kept = {"manifest": self.connections.timeouts.manifest}
        self.connections.timeouts = timeouts.model_copy(update=kept)

    @property
    def stream_limits(self) -> ClientTimeout:
        """For a stream."""
        now = self.connections.timeouts
        return ClientTimeout(total=None, sock_connect=now.connect, sock_read=now.idle)

    @property
    def whole_limits(self) -> ClientTimeout:
        """For a request whose answer is read whole."""
        now = self.connections.timeouts
        return ClientTimeout(total=now.manifest, sock_connect=now.connect)

    def locate(self, target: str) -> URL:
        """The URL of a canonical target, sent exactly so (H3)."""
        return URL(self._base + target, encoded=True)

    def notice(self, status: int) -> None:
        """What it answered to the start of an upload or to a manifest: 405 says that it takes none (H26).

        Only clients ask: no request tells a pull-through cache from a registry without leaving a trace in the latter.
        """
        if status == 405:
            self.takes_pushes = False
        elif 200 <= status < 300:
            self.takes_pushes = True

    async def stream(
        self, method: str, target: str, sent: CIMultiDict[str], body: Payload | None
    ) -> aiohttp.ClientResponse:
        """One request of any length, and its answer once the headers are here; the caller closes it.

        Raises what the client library raises: whose fault it was depends on the body.
        """
        return await self.connections.data.request(
            method,
            self.locate(target),
            headers=sent,
            data=body,
            allow_redirects=False,
            skip_auto_headers=_NEVER_ADDED,
            timeout=self.stream_limits,
        )

    async def exchange(
        self, method: str, target: str, sent: CIMultiDict[str], body: bytes | DeadlinePayload | None = None
    ) -> Answer:
        """One buffered request and its answer, whatever the status; raises `UpstreamUnavailableError`.

        ``body`` None sends no body; the answer's body is bounded like a manifest's.
        """
        try:
            async with self.connections.control.request(
                method,
                self.locate(target),
                headers=sent,
                data=body,
                allow_redirects=False,
                skip_auto_headers=_NEVER_ADDED,
                timeout=self.whole_limits,
            ) as response:
                received = await _bounded(response) if method != "HEAD" else b""
                answer = Answer(response.status, headers.end_to_end(told_by(response)), received)
                if answer.status == 200 and answer.digest:
                    self.standing = headers.standing(answer.headers)
                return answer
        except aiohttp.ClientPayloadError as error:
            raise CutShortError(reason(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UpstreamUnavailableError(reason(error)) from error

    async def status(self) -> int:
        """What it answers to ``GET /v2/``; raises `UpstreamUnavailableError`.

        Waits for nobody: whether it answers is not to be judged by how many manifests are asked for (H82).
        """
        try:
            async with self.connections.data.get(
                self.locate("/v2/"), allow_redirects=False, skip_auto_headers=_NEVER_ADDED
            ) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UpstreamUnavailableError(reason(error)) from error

    async def probe(self, repository: str, reference: str, caller: Caller) -> Found | Answer:
        """What the upstream holds under a tag or digest, asked for with all four manifest types (H23).

        `Found` with verified bytes; or the upstream's own answer when it is 401, 403, or 404 in the registry's form: a
        door's page does not tell that there is nothing (H83).  Anything else tells nothing: raises
        `UpstreamUnavailableError`.  A 5xx is asked again a few times: on many registries, links are half-written for
        moments (H14, H15).
        """
        sent = headers.without(caller.headers, headers.CONDITIONAL | {"accept", "content-length", "content-type"})
        sent["Accept"] = manifests.ACCEPT_ALL
        target = build_path(RouteKind.MANIFEST, repository, reference)
        answer = await self.exchange("GET", target, sent)
        for _ in range(TRIES - 1):
            if answer.status < 500:
                break
            await asyncio.sleep(PAUSE)
            answer = await self.exchange("GET", target, sent)
        if answer.status == 200:
            return _verified(answer)
        if answer.status in {401, 403} or (answer.status == 404 and answer.codes):
            return answer
        raise UpstreamUnavailableError(
            f"the upstream answered {answer.status} when asked for {repository} {reference}", answer.status
        )

    async def manifest(self, repository: str, digest: str, caller: Caller) -> Found | None:
        """The manifest of a digest; None where there is none that this client may see.

        Asked for a blob as a manifest, distribution 2.8 answers 500; what could be a manifest is not taken for a blob
        by that.  Raises as `probe`.
        """
        try:
            found = await self.probe(repository, digest, caller)
        except UpstreamUnavailableError:
            if await self._is_mere_blob(repository, digest, caller):
                return None
            raise
        return found if isinstance(found, Found) else None

    async def _is_mere_blob(self, repository: str, digest: str, caller: Caller) -> bool:
        if not await self.has_blob(repository, digest, caller):
            return False
        content = await self.small_blob(repository, digest, caller)
        return content is None or not manifests.could_be(content)

    async def put_manifest(
        self, repository: str, reference: str, body: bytes, caller: Caller, *, until: float = math.inf
    ) -> Answer:
        """Exactly one PUT of a manifest, of which nothing is sent after ``until`` by the loop's clock (H62).

        Returns the upstream's answer when it is a success or a refusal; raises `OutcomeUnknownError` for whatever else.
        """
        sent = headers.without(caller.headers, {"content-length"})
        try:
            target = build_path(RouteKind.MANIFEST, repository, reference)
            answer = await self.exchange("PUT", target, sent, DeadlinePayload(body, until))
        except UpstreamUnavailableError as error:
            raise OutcomeUnknownError(str(error)) from error
        self.notice(answer.status)
        if 200 <= answer.status < 300 or _not_executed(answer):
            return answer
        message = f"the upstream answered {answer.status} to the push"
        raise OutcomeUnknownError(message)

    async def small_blob(self, repository: str, digest: str, caller: Caller) -> bytes | None:
        """A blob of at most a manifest's size (an image's config); None when it is missing or not what its digest
        says.
        """
        sent = headers.without(caller.headers, headers.CONDITIONAL | {"accept", "content-length", "content-type"})
        answer = await self.exchange("GET", build_path(RouteKind.BLOB, repository, digest), sent)
        if answer.status in {301, 302, 303, 307, 308}:
            answer = await self._redirected(answer.headers.get("Location", ""))
        return answer.body if answer.status == 200 and is_digest_of(digest, answer.body) else None

    async def blob_digest(self, repository: str, digest: str, caller: Caller) -> str | None:
        """By which digest the upstream keeps a blob, whatever it is asked by (H81): what ``Docker-Content-Digest``
        says, empty where it says nothing, as where it redirects to storage; None where it has no such blob.
        """
        sent = headers.without(caller.headers, headers.CONDITIONAL | {"accept", "content-length", "content-type"})
        answer = await self.exchange("HEAD", build_path(RouteKind.BLOB, repository, digest), sent)
        if answer.status == 404:  # which has no body that would tell whose word it is
            return "" if await self.has_blob(repository, digest, caller) else None
        if answer.status >= 400:
            raise _untold(answer, digest)
        return answer.digest if answer.status == 200 and ANY_DIGEST.fullmatch(answer.digest) else ""

    async def has_blob(self, repository: str, digest: str, caller: Caller) -> bool:
        """Whether the blob can be read: at least its first byte (H25).

        Only the registry's own 404 says that it is missing (H83); raises `UpstreamUnavailableError`.
        """
        sent = headers.without(caller.headers, headers.CONDITIONAL | {"accept", "content-length", "content-type"})
        sent["Range"] = "bytes=0-0"
        target = build_path(RouteKind.BLOB, repository, digest)
        try:
            answer = await self.exchange("GET", target, sent)
        except CutShortError:  # perhaps its connection broke; twice is no chance
            try:
                answer = await self.exchange("GET", target, sent)
            except CutShortError:
                return False
        if answer.status == 404 and answer.codes:
            return False
        if answer.status >= 400 and answer.status != 416:
            raise _untold(answer, digest)
        return answer.status >= 300 or bool(answer.body)

    async def _redirected(self, location: str) -> Answer:
        """Follow a redirect to a storage service, without the client's credentials (H44)."""
        if not location.startswith(("http://", "https://")):
            return Answer(404, CIMultiDict())
        return await self.elsewhere(URL(location, encoded=True))

    async def elsewhere(self, url: URL, given: Mapping[str, str] | None = None) -> Answer:
        """GET from what is not the registry itself, with no headers but those ``given``, and none in the answer.

        Raises `UpstreamUnavailableError`.
        """
        try:
            async with self.connections.elsewhere.get(
                url, headers=given, allow_redirects=False, timeout=self.whole_limits
            ) as response:
                return Answer(response.status, CIMultiDict(), await _bounded(response))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UpstreamUnavailableError(reason(error)) from error


def told_by(response: aiohttp.ClientResponse) -> list[tuple[str, str]]:
    """The headers of an answer; raises `UpstreamUnavailableError` where they are none."""
    try:
        return headers.received(response.raw_headers)
    except ValueError:
        raise UpstreamUnavailableError("its answer is no valid HTTP") from None


def _untold(answer: Answer, digest: str) -> UpstreamUnavailableError:
    return UpstreamUnavailableError(f"the upstream answered {answer.status} when asked for {digest}", answer.status)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The answer's body, cut off beyond `_BUFFERED_LIMIT`: no digest that was asked for is that of such a piece."""
    received = bytearray()
    while len(received) < _BUFFERED_LIMIT and not response.content.at_eof():
        received += await response.content.read(_BUFFERED_LIMIT - len(received))
    return bytes(received)


def _not_executed(answer: Answer) -> bool:
    return answer.status in NOT_EXECUTED or (answer.status == _FAILED and _VERIFICATION in answer.codes)


def _verified(answer: Answer) -> Found:
    """The digest is taken from the bytes; a header that says otherwise, or bytes cut short, tell nothing (H25)."""
    media_type = manifests.media_type_of(answer.headers.get("Content-Type", ""))
    if media_type not in manifests.MEDIA_TYPES:
        # Schema 1: its digest is that of a canonical form that only the registry can make (H17).
        if answer.digest:
            return Found(answer.digest, media_type, answer.body)
        message = f"the upstream answered with {media_type}"
        raise UpstreamUnavailableError(message, answer.status)
    digest = digest_of(answer.body)
    if answer.digest and not is_digest_of(answer.digest, answer.body):
        message = f"the upstream says {answer.digest} and sends the bytes of {digest}"
        raise UpstreamUnavailableError(message, answer.status)
    return Found(digest, media_type, answer.body)


def _timing(pool: str, answered: Answered | None) -> list[aiohttp.TraceConfig]:
    if answered is None:
        return []
    clock = asyncio.get_running_loop().time
    trace = aiohttp.TraceConfig()

    async def begun(_session: aiohttp.ClientSession, context: SimpleNamespace, _told: object) -> None:
        context.began = clock()

    async def ended(_session: aiohttp.ClientSession, context: SimpleNamespace, _told: object) -> None:
        answered(pool, clock() - context.began)

    trace.on_request_start.append(begun)
    trace.on_request_end.append(ended)
    return [trace]


def _session(limit: int, tls: Tls, traces: list[aiohttp.TraceConfig], path: str = "") -> aiohttp.ClientSession:
    """A pool of connections over TCP, or to the socket at ``path``."""
    session = aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(path, limit=limit, keepalive_timeout=_KEEPALIVE)
        if path
        else aiohttp.TCPConnector(limit=limit, keepalive_timeout=_KEEPALIVE, ssl=tls),
        trace_configs=traces,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=READ_BUFFER,
        max_line_size=MAX_LINE,
        max_field_size=MAX_LINE,
    )
    # Private, and the only switch there is: pinned by a test that counts what reaches the upstream (H43).
    session._retry_connection = False  # noqa: SLF001
    return session


@asynccontextmanager
async def opened(
    url: str, *, timeouts: Timeouts, ca_file: str | None = None, answered: Answered | None = None
) -> AsyncIterator[Upstream]:
    """The upstream, for as long as the context lasts.

    ``answered(pool, seconds)`` is told how long the head of each answer took, from the wait for a connection on.
    """
    tls = ssl.create_default_context(cafile=ca_file) if ca_file else True
    connections = Pools.to(url, timeouts, tls, answered)
    try:
        yield Upstream(connections)
    finally:
        await connections.close()
