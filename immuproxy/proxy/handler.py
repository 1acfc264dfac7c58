"""The journey of a request; the file to read first.

Parse once, see who asks, then one of five ways: guarded or recorded push, read by the ledger, delete, or straight
through.  Every error becomes an answer here and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from aiohttp import web

from immuproxy.ledger.redis import LedgerUnavailableError
from immuproxy.oci import errors, routes
from immuproxy.oci.errors import OciError
from immuproxy.oci.routes import Kind, Operation
from immuproxy.proxy import answers, bodies, caller, headers, stream
from immuproxy.proxy.answers import Answer
from immuproxy.proxy.caller import Caller
from immuproxy.proxy.deletes import Deletes
from immuproxy.proxy.pushes import Pushes
from immuproxy.proxy.reads import Reads
from immuproxy.proxy.upstream import Upstream, UpstreamUnavailableError
from immuproxy.rules.model import RuleSet
from immuproxy.telemetry.metrics import Metrics
from immuproxy.values import MAX_SHOWN, Network

log = structlog.get_logger("immuproxy.edge")

LEDGER_DOWN = "the ledger (Redis) does not answer, so nothing can be written now; reads go on"


@dataclass(frozen=True, slots=True)
class Door:
    """How clients reach the edge: proxies whose word on addresses counts, and a fixed external URL."""

    trusted: Sequence[Network] = ()
    external_url: str | None = None


class Edge:
    """The handler of the edge's listener."""

    def __init__(
        self,
        *,
        rules: Callable[[], RuleSet],
        upstream: Upstream,
        pushes: Pushes,
        reads: Reads,
        deletes: Deletes,
        metrics: Metrics,
        door: Door,
    ) -> None:
        """The ways are made by the composition root."""
        self._rules = rules
        self._upstream = upstream
        self._pushes = pushes
        self._reads = reads
        self._deletes = deletes
        self._metrics = metrics
        self._door = door

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever happens."""
        started = asyncio.get_running_loop().time()
        kind = "none"
        try:
            try:
                operation = routes.parse(request.method, request.raw_path)
                kind = operation.kind.value
                response = await self._travel(request, operation, self._identify(request, started))
            except OciError as problem:
                response = await answers.send(request, answers.error(problem))
        except ConnectionError:
            response = answers.gone()
        self._account(request, kind, response, started)
        await bodies.finish(request, response)
        return response

    def _identify(self, request: web.BaseRequest, started: float) -> Caller:
        bodies.check_expectation(request)
        return caller.identify(request, trusted=self._door.trusted, external_url=self._door.external_url, now=started)

    async def _travel(self, request: web.BaseRequest, operation: Operation, who: Caller) -> web.StreamResponse:
        try:
            answer = await self._own_answer(request, operation, who)
            if answer is None:
                return await stream.relay(request, operation, who, self._upstream)
            return await answers.send(request, self._located(answer, who))
        except LedgerUnavailableError as error:
            log.warning("ledger unavailable", reason=str(error), request_id=who.request_id)
            raise errors.unavailable(LEDGER_DOWN) from error
        except UpstreamUnavailableError as error:
            log.warning("upstream unavailable", reason=str(error), request_id=who.request_id)
            raise errors.unavailable(f"the upstream registry does not answer as it should: {error}") from error

    async def _own_answer(self, request: web.BaseRequest, operation: Operation, who: Caller) -> Answer | None:
        """The answer where the request is ours to decide; None where it goes straight through."""
        match operation.kind, operation.method:
            case Kind.MANIFEST, "PUT":
                return await self._pushes.push(request, operation, who)
            case ((Kind.MANIFEST | Kind.BLOB), "DELETE"):
                return await self._deletes.delete(operation, who)
            case Kind.MANIFEST, _ if not operation.is_tag:
                return await self._reads.read_digest(operation, who)
            case Kind.MANIFEST, _:
                rules = self._rules()
                if not rules.protects(operation.repository, operation.reference):
                    return None
                return await self._reads.read(operation, who, rules.match(operation.repository, operation.reference))
            case _:
                return None

    def _located(self, answer: Answer, who: Caller) -> Answer:
        relocated = headers.to_client(
            answer.headers.items(),
            status=answer.status,
            upstream_origin=self._upstream.origin,
            edge_origin=who.edge_origin,
        )
        return Answer(answer.status, relocated, answer.body)

    def _account(self, request: web.BaseRequest, kind: str, response: web.StreamResponse, started: float) -> None:
        seconds = asyncio.get_running_loop().time() - started
        self._metrics.request(kind, request.method, response.status, seconds)
        log.info(
            "request",
            method=request.method,
            target=request.raw_path.partition("?")[0][:MAX_SHOWN],
            kind=kind,
            status=response.status,
            duration_ms=round(seconds * 1000),
            peer=request.remote,
        )
