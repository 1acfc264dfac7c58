"""The answers that the proxy makes itself, and the one way in which any answer becomes a response."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict

from immuproxy.edge import bodies
from immuproxy.ledger.model import StoredManifest
from immuproxy.oci.errors import OciError
from immuproxy.oci.routes import RouteKind, build_path

CLIENT_GONE = 499
"""What the log says where there was nobody left to answer."""

API_VERSION = ("Docker-Distribution-Api-Version", "registry/2.0")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: status, end-to-end headers, body."""

    status: int
    headers: CIMultiDict[str]
    body: bytes = b""

    @property
    def digest(self) -> str:
        """The digest that the answer states."""
        return self.headers.get("Docker-Content-Digest", "")

    @property
    def codes(self) -> frozenset[str]:
        """The codes of an error in the specification's form; none where something else speaks in words of its own
        (H83).
        """
        try:
            listed = json.loads(self.body)["errors"]
            return frozenset(str(error["code"]) for error in listed)
        except (ValueError, LookupError, TypeError, RecursionError):
            return frozenset()


class _Plain(web.StreamResponse):
    """The headers that it is given and no others of aiohttp's liking (H46).

    ``Date`` is added where it is missing, as RFC 9110 section 6.6.1 wants it.
    """

    async def _prepare_headers(self) -> None:
        named = "Server" in self.headers
        typed = "Content-Type" in self.headers
        await super()._prepare_headers()  # private; pinned by the differential tests
        if not named:
            self.headers.popall("Server", None)
        if not typed:
            self.headers.popall("Content-Type", None)


class Response(_Plain):
    """A response whose body is written piece by piece."""


class _InOnePiece(Response):
    """A response whose head waits for its body, so that both leave together."""

    _send_headers_immediately = False  # private; pinned by a test


class WholeResponse(web.Response, _Plain):
    """A response made at once, for aiohttp to write."""


async def send(request: web.BaseRequest, answer: Answer) -> Response:
    """Write an answer; on HEAD and where the status has none, the body stays away but its length is told."""
    response = _InOnePiece(status=answer.status, headers=answer.headers)
    if answer.body or request.method != "HEAD":
        response.headers["Content-Length"] = str(len(answer.body))
    bodies.settle(request, response)
    await response.prepare(request)
    if answer.body and request.method != "HEAD":
        await response.write(answer.body)
    await response.write_eof()
    return response


def error(problem: OciError) -> Answer:
    """The specification's error answer."""
    headers = CIMultiDict([API_VERSION, ("Content-Type", "application/json; charset=utf-8")])
    headers.extend(problem.headers)
    return Answer(problem.status, headers, problem.body())


def gone() -> Response:
    """For a client that hung up before its answer began; nobody will read it."""
    return Response(status=CLIENT_GONE)


def created(repository: str, digest: str, edge_origin: str, extra: Mapping[str, str] | None = None) -> Answer:
    """201 for a manifest that the upstream holds; containerd compares the digest (H80)."""
    location = edge_origin + build_path(RouteKind.MANIFEST, repository, digest)
    headers = CIMultiDict([("Docker-Content-Digest", digest), API_VERSION, ("Location", location)])
    headers.extend(extra or {})
    return Answer(201, headers)


def manifest(stored: StoredManifest, standing: Mapping[str, str]) -> Answer:
    """200 with a manifest, with the headers of the registry: ``standing`` are those that stand in all its answers."""
    headers = CIMultiDict(
        [
            ("Content-Type", stored.media_type),
            ("Docker-Content-Digest", stored.digest),
            API_VERSION,
            ("Etag", f'"{stored.digest}"'),
        ]
    )
    headers.extend(standing)
    return Answer(200, headers, stored.body)


def conditional(asked: CIMultiDict[str], answer: Answer, digest: str) -> Answer:
    """304 where a request with the headers ``asked`` says that the client has it already; to be decided after the
    content was seen (H24).
    """
    listed = ",".join(asked.getall("If-None-Match", ()))
    wanted = {tag.strip().removeprefix("W/").strip('"') for tag in listed.split(",")}
    return not_modified(digest) if wanted & {digest, answer.digest, "*"} else answer


def not_modified(digest: str) -> Answer:
    """304 for a client that already holds the digest (H24)."""
    return Answer(304, CIMultiDict([API_VERSION, ("Etag", f'"{digest}"')]))
