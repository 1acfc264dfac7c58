"""What a handler that changes something asks for first: an administrator, and a request that nobody forged."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from immuproxy.console.access import csrf
from immuproxy.console.access.identity import VISIT, Viewer, viewer_of
from immuproxy.console.problems import RequestProblem, bad_parameter
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome

JSON = "application/json"
FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, and the files that came with it."""

    fields: Mapping[str, str]
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def text(self, name: str, longest: int = 300) -> str:
        """A field without the blanks around it, empty where it is missing; raises `RequestProblem` for a longer one."""
        value = self.fields.get(name, "").strip()
        if len(value) > longest:
            raise bad_parameter(name, f"{name} has at most {longest} characters.")
        return value


async def changing(request: web.Request) -> tuple[Viewer, Form]:
    """The administrator who sends a form, and the form.

    Raises `RequestProblem`: 403 for anybody else and for a form that is on no page of this console, 415 for what is no
    form, 400 for one that cannot be read.
    """
    viewer = administrator_of(request)
    csrf.refuse_foreign_form(request, request[VISIT].reached)
    return viewer, await read_form(request)


async def changing_json(request: web.Request) -> tuple[Viewer, dict[str, Any]]:
    """The administrator who sends a JSON object, and the object; raises `RequestProblem` as `changing` does.

    A program says of no site: see `immuproxy.console.access.csrf` for why the content type is enough.
    """
    viewer = administrator_of(request)
    csrf.refuse_foreign(request, request[VISIT].reached)
    if request.content_type != JSON:
        raise _other_type(f"Content-Type must be {JSON}.")
    try:
        value = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise bad_parameter("", "The body is not JSON.") from None
    if not isinstance(value, dict):
        raise bad_parameter("", "The body is a JSON object, and nothing else.")
    return viewer, value


def deleting(request: web.Request) -> Viewer:
    """The administrator who sends a DELETE, which no form can; raises `RequestProblem` (403) for anybody else."""
    viewer = administrator_of(request)
    csrf.refuse_foreign(request, request[VISIT].reached)
    return viewer


async def asking(request: web.Request) -> tuple[Viewer, Form]:
    """Any viewer who sends a form that changes nothing, such as a file to try out; raises `RequestProblem`.

    Programs may, too, so it need not say of which site it is.
    """
    viewer = viewer_of(request)
    csrf.refuse_foreign(request, request[VISIT].reached)
    return viewer, await read_form(request)


def administrator_of(request: web.Request) -> Viewer:
    """Who asks, if they may change something; else raises `RequestProblem` (403)."""
    viewer = viewer_of(request)
    if viewer.is_administrator:
        return viewer
    if not viewer.name:
        message = "This console asks nobody who they are, so nobody may change anything here."
        advice = "Name administrators under console.auth in the configuration, or use the command line."
    else:
        message = f"{viewer.name} may look, but not change anything."
        advice = "Administrators are named under console.auth in the configuration."
    raise RequestProblem(403, "not_an_administrator", "Only administrators may do this", message, advice)


def event_by(request: web.Request, action: Action, outcome: Outcome, **fields: Any) -> Event:
    """An event that the viewer of this request causes; ``fields`` are those of `Event`."""
    visit = request[VISIT]
    known: dict[str, Any] = {
        "id": new_event_id(),
        "time": time.time_ns() // 1_000_000,
        "actor": visit.viewer.name,
        "actor_source": ActorSource.CONSOLE if visit.viewer.name else ActorSource.ANONYMOUS,
        "actor_confirmed": bool(visit.viewer.name),
        "client_address": visit.reached.address,
        "user_agent": visit.reached.user_agent,
        "request_id": secrets.token_hex(8),
    }
    return Event(action=action, outcome=outcome, **(known | fields))


async def read_form(request: web.Request) -> Form:
    """The form of a request, whoever sent it; raises `RequestProblem`."""
    if request.content_type not in FORMS:
        raise _other_type("This takes a form.")
    try:
        posted = await request.post()
    except (ValueError, LookupError, RuntimeError, web.HTTPBadRequest, HttpProcessingError):
        raise bad_parameter("", "The form cannot be read.") from None
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for name, value in posted.items():
        if isinstance(value, str):
            fields[name] = value
        elif isinstance(value, web.FileField):
            files[name] = await asyncio.to_thread(value.file.read)
    return Form(fields, files)


def _other_type(message: str) -> RequestProblem:
    return RequestProblem(415, "unsupported_media_type", "Not in this form", message)
