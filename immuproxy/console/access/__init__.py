"""Who may look at the console and who may change something.

Everything passes `guard.admit`, which finds out who asks (`authenticators`) before any handler runs.  Without
``console.auth`` everybody who reaches the console is a nameless viewer, and nobody is an administrator.

**A handler that changes something** begins so::

    async def grant(request: web.Request) -> web.StreamResponse:
        viewer, form = await changing(request)       # an administrator, from our own page; else RequestProblem
        tag = form.text("tag")
        event = event_by(request, Action.EXCEPTION, Outcome.GRANTED, repository=..., tag=tag, reason=...)
        await exceptions.grant(event, lasts_ms=...)  # the event carries actor, address, user agent and ids
        raise web.HTTPSeeOther("/exceptions")

The same for JSON: ``viewer, values = await changing_json(request)``, and for a DELETE: ``viewer = deleting(request)``.
A POST that changes nothing, such as trying out a rules file: ``viewer, form = await asking(request)``; an uploaded file
is ``form.files["file"]``, bytes.

**A template** has ``viewer`` on every page that `as_page` makes: ``viewer.is_administrator``, ``viewer.name`` (empty
where nobody is asked), and None on the few pages that strangers see.  Forms need no token: see `csrf`.

**A test** asks for ``closed_console`` (tests/console/conftest.py: users anna, an administrator, and vera, a viewer) and
``await log_in(closed_console, "anna")``; a form is sent as a browser sends it (tests/console/logging_in.py)::

    await log_in(closed_console, "anna")
    await send_form(closed_console, "/exceptions", {"tag": ...})
"""

from __future__ import annotations

from immuproxy.console.access.changes import Form, asking, changing, changing_json, deleting, event_by
from immuproxy.console.access.identity import Role, Viewer, viewer_of, visit_of

__all__ = [
    "Form",
    "Role",
    "Viewer",
    "asking",
    "changing",
    "changing_json",
    "deleting",
    "event_by",
    "viewer_of",
    "visit_of",
]
