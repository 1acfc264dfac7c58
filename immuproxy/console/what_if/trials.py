"""Trying another rules file on the past: what was sent, and the few trials that may run at once.

It changes nothing, so any viewer may; but it costs work, so no other site may make a browser ask for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from aiohttp import web

from immuproxy.console.access import asking
from immuproxy.console.access.changes import FORMS
from immuproxy.console.access.csrf import refuse_foreign
from immuproxy.console.access.identity import VISIT
from immuproxy.console.answers import SOURCES
from immuproxy.console.gate import Gate
from immuproxy.console.problems import RequestProblem, bad_parameter
from immuproxy.rehearsal.run import Step, TooMuchError, rehearse

USUAL = 10_000
"""Pushes and deletes that are replayed where nobody says how many."""

MOST = 100_000

MOST_AT_ONCE = 2
"""Rehearsals of all visitors; one of each."""

LOOKED_EVERY = 0.5
"""Seconds between two looks whether the visitor is still there."""


YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain"})

_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Submission:
    """A file to try, and on how many of the newest requests."""

    file: bytes
    last: int

    @property
    def text(self) -> str:
        """The file as it may be shown to who sent it."""
        return self.file.decode(errors="replace")


async def submitted(request: web.Request) -> Submission:
    """What a form (``file``, or else ``rules``; ``last``) or a body of YAML (``last`` in the query) asks for.

    Raises `RequestProblem`.
    """
    if request.content_type in FORMS:
        _, form = await asking(request)
        uploaded = form.files.get("file", b"")
        return _submission(uploaded or form.fields.get("rules", "").encode(), form.fields.get("last", ""))
    if request.content_type not in YAML_TYPES:
        wanted = "Send the file as application/yaml, or as a form with the field rules or file."
        raise RequestProblem(415, "unsupported_media_type", "Not in this form", wanted)
    refuse_foreign(request, request[VISIT].reached)
    return _submission(await request.read(), request.query.get("last", ""))


def _submission(file: bytes, last: str) -> Submission:
    last = last.strip().replace(",", "") or str(USUAL)
    if not (_NUMBER.fullmatch(last) and 1 <= int(last) <= MOST):
        raise bad_parameter("last", f"last is a whole number from 1 to {MOST:,}, not {last[:40]!r}.")
    if not file.strip():
        raise bad_parameter("rules", "There is nothing to try.", "Paste the rules, or choose a file.")
    return Submission(file, int(last))


GATE: web.AppKey[Gate] = web.AppKey("gate", Gate)


@contextlib.asynccontextmanager
async def trial(request: web.Request, file: bytes, last: int) -> AsyncIterator[AsyncGenerator[Step, None]]:
    """The steps of a rehearsal of ``file`` on the newest ``last`` requests; it ends when the visitor goes away.

    Raises `RequestProblem` where there are too many, or the file asks for too much.
    """
    sources = request.app[SOURCES]
    with request.app[GATE].passing(request):
        steps = rehearse(sources.audit, sources.register, file, "the file", most=last)
        async with _while_there(request), aclosing(steps):
            try:
                yield steps
            except TooMuchError as error:
                raise RequestProblem(
                    413, "too_much", "This file asks for too much", f"The trial was given up: {error}.",
                    "Try it on fewer pushes, or with immuproxy simulate.",
                ) from None  # fmt: skip


@contextlib.asynccontextmanager
async def _while_there(request: web.Request) -> AsyncIterator[None]:
    """Cancel what runs inside when the visitor closes the connection."""
    task = asyncio.current_task()

    async def watch() -> None:
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(LOOKED_EVERY)
        if task is not None:
            task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


def set_up(app: web.Application) -> None:
    """Put the gate into the console."""
    app[GATE] = Gate("trials of rules", most=MOST_AT_ONCE, each=1)
