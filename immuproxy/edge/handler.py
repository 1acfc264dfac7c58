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
from multidict import CIMultiDict

from immuproxy.edge import answers, bodies, caller, headers, relay
from immuproxy.edge.access_log import AccessLog
from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.deletes import Deletes
from immuproxy.edge.push.blob_check import BlobChecks
from immuproxy.edge.push.put_manifest import ManifestPuts
from immuproxy.edge.reads import Reads
from immuproxy.edge.upstream import Upstream, UpstreamUnavailableError
from immuproxy.oci import errors, names, routes
from immuproxy.oci.errors import OciError
from immuproxy.oci.routes import Operation, RouteKind
from immuproxy.rules.model import RuleSet
from immuproxy.store.redis import LedgerRefusedError, LedgerUnavailableError, ProxyOverloadedError
from immuproxy.telemetry.metrics import Metrics
from immuproxy.values.networks import Network

log = structlog.get_logger("immuproxy.edge")

MAX_KNOWN = 10_000
"""Repositories of which is remembered whether they may hold protected tags."""

LEDGER_DOWN = "the ledger (Redis) does not answer, so nothing can be written now; reads go on"

LEDGER_REFUSES = "the ledger (Redis) may not be written now; reads go on"

OVERLOADED = "the proxy has more to do than it can just now, and could not ask the ledger (Redis); try again"

_READS = frozenset({"GET", "HEAD"})
"""Their answers pass as the registry's own; log and audit tell more only of what changes something, and of errors."""

_BLOB_IS_THERE = frozenset(
    {(RouteKind.BLOB, "HEAD", 200), (RouteKind.UPLOADS, "POST", 201), (RouteKind.UPLOAD, "PUT", 201)}
)


@dataclass(frozen=True, slots=True)
class ClientAddressing:
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
        blob_checks: BlobChecks,
        manifest_puts: ManifestPuts,
        reads: Reads,
        deletes: Deletes,
        metrics: Metrics,
        door: Callable[[], ClientAddressing],
        access_log: AccessLog,
    ) -> None:
        """The ways are made by the composition root."""
        self._rules = rules
        self._upstream = upstream
        self._blob_checks = blob_checks
        self._manifest_puts = manifest_puts
        self._reads = reads
        self._deletes = deletes
        self._metrics = metrics
        self._door = door
        self._access_log = access_log
        self._known_by: RuleSet | None = None
        self._known: dict[str, bool] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever happens."""
        with self._metrics.in_flight.track_inprogress():
            return await self._answered(request)

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        started = asyncio.get_running_loop().time()
        kind, who = "none", None
        try:
            try:
                operation = routes.parse(request.method, request.raw_path)
                kind = operation.kind.value
                who = self._identify(request, started)
                response = await self._travel(request, operation, who)
            except OciError as problem:
                response = await _refuse(request, problem, who)
            except ConnectionError:
                response = answers.gone()
            self._account(request, response, kind, who, started)
        finally:
            self._access_log.end(who)
        await bodies.finish(request, response)
        return response

    def _account(
        self, request: web.BaseRequest, response: web.StreamResponse, kind: str, who: Caller | None, started: float
    ) -> None:
        seconds = asyncio.get_running_loop().time() - started
        self._metrics.request(kind, request.method, response.status, seconds)
        self._access_log.write(request, response, kind=kind, seconds=seconds, caller=who)

    def _identify(self, request: web.BaseRequest, started: float) -> Caller:
        bodies.check_expectation(request)
        door = self._door()
        who = caller.identify(request, trusted=door.trusted, external_url=door.external_url, now=started)
        self._access_log.begin(who)
        return who

    async def _travel(self, request: web.BaseRequest, operation: Operation, who: Caller) -> web.StreamResponse:
        try:
            answer = await self._own_answer(request, operation, who)
            if answer is None:
                response = await relay.relay(request, operation, who, self._upstream)
                self._look_ahead(operation, who, response)
                return response
            located = self._located(answer, who)
            return await answers.send(request, located if operation.method in _READS else _numbered(located, who))
        except LedgerUnavailableError as error:
            log.warning("ledger unavailable", reason=str(error), request_id=who.request_id)
            raise errors.unavailable(_reason(error)) from error
        except UpstreamUnavailableError as error:
            log.warning("upstream unavailable", reason=str(error), request_id=who.request_id)
            raise errors.unavailable(f"the upstream registry does not answer as it should: {error}") from error

    async def _own_answer(self, request: web.BaseRequest, operation: Operation, who: Caller) -> Answer | None:
        """The answer where the request is ours to decide; None where it goes straight through."""
        match operation.kind, operation.method:
            case RouteKind.MANIFEST, "PUT":
                return await self._manifest_puts.push(request, operation, who)
            case ((RouteKind.MANIFEST | RouteKind.BLOB), "DELETE"):
                return await self._deletes.delete(operation, who)
            case RouteKind.MANIFEST, _ if not operation.is_tag:
                return await self._reads.read_digest(operation, who)
            case RouteKind.MANIFEST, _:
                rule = self._rules().match(operation.repository, operation.reference)
                self._access_log.decided_by(who, rule.name)
                return await self._reads.read(operation, who, rule) if rule.protects else None
            case _:
                return None

    def _look_ahead(self, operation: Operation, who: Caller, response: web.StreamResponse) -> None:
        """A client has just brought a blob, or heard that it is there: it will push what needs it (H25)."""
        if (operation.kind, operation.method, response.status) not in _BLOB_IS_THERE:
            return
        digest = response.headers.get("Docker-Content-Digest", operation.reference)
        if names.ANY_DIGEST.fullmatch(digest) and self._may_protect(operation.repository):
            self._blob_checks.ahead(operation.repository, digest, who)

    def _may_protect(self, repository: str) -> bool:
        """As the rules say; remembered for as long as they are in force."""
        rules = self._rules()
        if rules is not self._known_by or len(self._known) >= MAX_KNOWN:
            self._known_by, self._known = rules, {}
        if repository not in self._known:
            self._known[repository] = rules.may_protect(repository)
        return self._known[repository]

    def _located(self, answer: Answer, who: Caller) -> Answer:
        if not headers.is_rewritten(answer.headers):
            return answer
        relocated = headers.to_client(
            answer.headers.items(),
            status=answer.status,
            upstream_origin=self._upstream.origin,
            edge_origin=who.edge_origin,
        )
        return Answer(answer.status, relocated, answer.body)


def _reason(error: LedgerUnavailableError) -> str:
    match error:
        case ProxyOverloadedError():
            return OVERLOADED
        case LedgerRefusedError():
            return f"{LEDGER_REFUSES}: {error}"
        case _:
            return LEDGER_DOWN


def _numbered(answer: Answer, who: Caller) -> Answer:
    """With the id by which log and audit know the request."""
    named = CIMultiDict(answer.headers)
    named["X-Request-Id"] = who.request_id
    return Answer(answer.status, named, answer.body)


async def _refuse(request: web.BaseRequest, problem: OciError, who: Caller | None) -> web.StreamResponse:
    answer = answers.error(problem)
    try:
        return await answers.send(request, _numbered(answer, who) if who else answer)
    except ConnectionError:
        return answers.gone()
