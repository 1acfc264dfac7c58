"""One line for each request at the edge: who asked from where for what, what they got, and which events tell of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog
from aiohttp import web

from immuproxy.edge.caller import Caller
from immuproxy.ledger.model import Event
from immuproxy.values.networks import plain_address
from immuproxy.values.text import MAX_SHOWN

log = structlog.get_logger("immuproxy.edge")


@dataclass(slots=True)
class _Noted:
    """What a request met on its way."""

    rule: str = ""
    events: list[str] = field(default_factory=list)


class AccessLog:
    """Keeps notes on the requests that are under way."""

    def __init__(self) -> None:
        """Nothing is under way."""
        self._notes: dict[str, _Noted] = {}

    def begin(self, caller: Caller) -> None:
        """A request is under way from now on, until `end`."""
        self._notes[caller.request_id] = _Noted()

    def decided_by(self, caller: Caller, rule: str) -> None:
        """The rule that decides about the request."""
        if caller.request_id in self._notes:
            self._notes[caller.request_id].rule = rule

    def recorded(self, event: Event) -> None:
        """An event was written; what no request under way stands behind is passed over."""
        noted = self._notes.get(event.request_id)
        if noted is not None:
            noted.events.append(event.id)
            noted.rule = event.rule or noted.rule

    def write(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        *,
        kind: str,
        seconds: float,
        caller: Caller | None,
    ) -> None:
        """The line.  ``caller`` is None where nobody could be made out.

        ``client`` is the address behind trusted proxies and ``peer`` the other end of the connection; ``user`` is the
        name that came with the request, ``received_bytes`` are those of its body, ``sent_bytes`` those of the whole
        answer with its head.  The query is left out: it may hold an upload's state.
        """
        noted = self._notes.get(caller.request_id) if caller else None
        peer = plain_address(request.remote or "")
        log.info(
            "request",
            method=request.method,
            target=request.raw_path.partition("?")[0][:MAX_SHOWN],
            kind=kind,
            status=response.status,
            duration_ms=round(seconds * 1000),
            received_bytes=request.content.total_bytes,
            sent_bytes=request.writer.output_size,
            client=caller.address if caller else peer,
            peer=peer,
            user=caller.actor if caller else "",
            request_id=caller.request_id if caller else "",
            rule=noted.rule if noted else "",
            event_id=",".join(noted.events) if noted else "",
        )

    def end(self, caller: Caller | None) -> None:
        """The request has ended, however that was."""
        if caller is not None:
            self._notes.pop(caller.request_id, None)
