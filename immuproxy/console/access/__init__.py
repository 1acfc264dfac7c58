"""Who may look at the console and who may change something.

Everything passes `guard.admit`, which finds out who asks (`doors`) before any handler runs.  Without ``console.auth``
everybody who reaches the console is a nameless viewer, and nobody is an administrator.

**A handler that changes something** begins so::

    async def grant(request: web.Request) -> web.StreamResponse:
        viewer, form = await changing(request)       # an administrator, from our own page, with its token; else Problem
        tag = form.text("tag")
        event = event_by(request, Action.EXCEPTION, Outcome.GRANTED, repository=..., tag=tag, reason=...)
        await exceptions.grant(event, lasts_ms=...)  # the event carries actor, address, user agent and ids
        raise web.HTTPSeeOther("/exceptions")

The same for JSON: ``viewer, values = await changing_json(request)``.  A POST that changes nothing, such as trying out a
rules file: ``viewer, form = await asking(request)``; an uploaded file is ``form.files["file"]``, bytes.

**A template** has ``viewer`` on every page that `as_page` makes: ``viewer.is_administrator``, ``viewer.name`` (empty
where nobody is asked), and None on the few pages that strangers see.  Each form that changes something has a token::

    {% if viewer.is_administrator %}
    <form method="post" action="/exceptions">{{ forgery_field() }} ... </form>
    {% endif %}

with ``{% from "account.html" import forgery_field with context %}``.

**A test** asks for ``closed_console`` (tests/console/conftest.py: users anna, an administrator, and vera, a viewer) and
``await log_in(closed_console, "anna")`` (tests/console/logging_in.py), which returns the token for its forms::

    token = await log_in(closed_console, "anna")
    await closed_console.post("/exceptions", data={"token": token, "tag": ...})
"""

from __future__ import annotations

from immuproxy.console.access.changes import Form, administrator_of, asking, changing, changing_json, event_by
from immuproxy.console.access.csrf import token_of
from immuproxy.console.access.identity import Role, Viewer, viewer_of, visit_of

__all__ = [
    "Form",
    "Role",
    "Viewer",
    "administrator_of",
    "asking",
    "changing",
    "changing_json",
    "event_by",
    "token_of",
    "viewer_of",
    "visit_of",
]
