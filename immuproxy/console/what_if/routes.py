"""What another rules file would have said to the past: a page of its own, and for its script the same in pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp_jinja2
from aiohttp import web

from immuproxy.console.answers import API, SOURCES, as_json, as_page, dumps, problem_of
from immuproxy.console.parameters import choice_of, refuse_unknown
from immuproxy.console.problems import RequestProblem
from immuproxy.console.rules.table import shown_lines
from immuproxy.console.sources import RulesInForce
from immuproxy.console.what_if.outcome import SHOWN, WhatIfResult, in_words, problems_context
from immuproxy.console.what_if.trials import USUAL, Submission, submitted, trial
from immuproxy.rehearsal.run import Changed, Finished, Stage, Step, Wrong
from immuproxy.store.redis import LedgerUnavailableError

LONGEST_SHOWN = 128 * 1024
"""Characters of a file that stand in the form; a larger one must be chosen anew."""


_SAID = {
    "checking": "Reading the file",
    "reading": "Collecting recorded pushes",
    "judging": "Judging them by the new rules",
}


def form_of(text: str, last: int = USUAL) -> dict[str, Any]:
    """What stands in the form."""
    return {"tried_text": text if len(text) <= LONGEST_SHOWN else "", "tried_last": last, "shown_most": SHOWN}


def as_proposed(in_force: RulesInForce) -> dict[str, Any]:
    """The form with the file in force, without its passwords, to be edited."""
    return form_of("\n".join(shown_lines(in_force.text)))


async def what_if(request: web.Request) -> web.Response:
    """The form alone."""
    form = as_proposed(request.app[SOURCES].rules())
    return await as_page(request, "what_if/what_if.html", form | {"result": None, "wrong": None}, place="rules")


async def tried(request: web.Request) -> web.StreamResponse:
    """The form with the result below it; ``as=pieces`` gives JSON Lines with pieces of that page as they are ready."""
    in_pieces = choice_of(request.query, "as", ("page", "pieces"), "page") == "pieces"
    sent = await submitted(request)
    return await (_pieces(request, sent) if in_pieces else _page(request, sent))


async def _page(request: web.Request, sent: Submission) -> web.Response:
    result, wrong = WhatIfResult(sent.last), None
    async with trial(request, sent.file, sent.last) as steps:
        async for step in steps:
            match step:
                case Changed():
                    result.add(in_words(step.difference))
                case Wrong():
                    wrong = problems_context(step.problems, step.more, sent.text)
                case Finished():
                    result.judged = step.judged
    found = {"result": None if wrong else result.to_dict(), "wrong": wrong}
    status = web.HTTPUnprocessableEntity.status_code if wrong else web.HTTPOk.status_code
    return await as_page(
        request, "what_if/what_if.html", form_of(sent.text, sent.last) | found, place="rules", status=status
    )


async def _pieces(request: web.Request, sent: Submission) -> web.StreamResponse:
    """``stage`` and ``row`` lines, and one of ``result``, ``wrong`` or ``failed`` at the end."""
    result, response = WhatIfResult(sent.last), None
    try:
        async with trial(request, sent.file, sent.last) as steps:
            async for step in steps:
                response = response or await _begun(request)
                for piece in _pieces_of(request, step, result, sent):
                    await response.write(f"{dumps(piece)}\n".encode())
    except (RequestProblem, LedgerUnavailableError) as error:
        if response is None:
            raise
        problem = problem_of(error)
        await response.write(f"{dumps({'failed': f'{problem.message} {problem.advice}'})}\n".encode())
    except ConnectionResetError:
        return response or web.Response()  # nobody is there to be told
    if response is None:
        raise RuntimeError("a trial has steps")
    await response.write_eof()
    return response


async def _begun(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "application/jsonl; charset=utf-8", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    return response


def _pieces_of(request: web.Request, step: Step, result: WhatIfResult, sent: Submission) -> list[dict[str, Any]]:
    match step:
        case Stage():
            told = {"stage": _SAID[step.name], "done": step.done, "of": step.of, "changed": result.changed}
            begins = step.name == "judging" and not step.done
            return [told, {"table": _drawn(request, "table", {})}] if begins else [told]
        case Changed():
            difference = in_words(step.difference)
            return [{"row": _drawn(request, "row", {"difference": difference})}] if result.add(difference) else []
        case Wrong():
            found = problems_context(step.problems, step.more, sent.text)
            return [{"wrong": _drawn(request, "wrong", {"wrong": found})}]
        case Finished():
            result.judged = step.judged
            return [{"result": _drawn(request, "summary", {"result": result.to_dict()})}]


def _drawn(request: web.Request, part: str, context: Mapping[str, Any]) -> str:
    """A piece of the page, by the same macros as the whole."""
    shown = {"part": part, "now": request.app[SOURCES].clock(), "difference": None, "wrong": None, "result": None}
    return aiohttp_jinja2.render_string("what_if/piece.html", request, shown | dict(context))


# --- the same as JSON


async def simulate(request: web.Request) -> web.StreamResponse:
    """In one piece, or (``as=lines``) each difference as it is found, all of them."""
    refuse_unknown(request.query, ("last", "as"))
    lines = choice_of(request.query, "as", ("json", "lines"), "json") == "lines"
    sent = await submitted(request)
    return await (_lines(request, sent) if lines else _whole(request, sent))


async def _whole(request: web.Request, sent: Submission) -> web.Response:
    result = WhatIfResult(sent.last)
    async with trial(request, sent.file, sent.last) as steps:
        async for step in steps:
            match step:
                case Changed():
                    result.add(in_words(step.difference))
                case Wrong():
                    return wrong_file(step, sent)
                case Finished():
                    result.judged = step.judged
    return as_json(result.to_dict())


def wrong_file(wrong: Wrong, sent: Submission) -> web.Response:
    """422 with what is wrong with the file."""
    first = wrong.problems[0]["message"] if wrong.problems else "it cannot be read"
    error = {"code": "wrong_file", "message": f"The file is wrong: {first}.", "parameter": "rules"}
    found = problems_context(wrong.problems, wrong.more, sent.text)
    return as_json({"error": error, **found}, web.HTTPUnprocessableEntity.status_code)


async def _lines(request: web.Request, sent: Submission) -> web.StreamResponse:
    """``difference`` lines, and at the end one with the ``result``; where that is missing, it broke off."""
    result, response = WhatIfResult(sent.last), None
    async with trial(request, sent.file, sent.last) as steps:
        async for step in steps:
            match step:
                case Wrong():
                    return wrong_file(step, sent)
                case Stage() if response is None and step.name == "judging":
                    response = await _begun_json(request)
                case Changed() if response is not None:
                    difference = in_words(step.difference)
                    result.add(difference)
                    await response.write(_line({"difference": difference}))
                case Finished() if response is not None:
                    result.judged = step.judged
                    told = {key: value for key, value in result.to_dict().items() if key != "differences"}
                    await response.write(_line({"result": told | {"complete": True}}))
    if response is None:
        raise RuntimeError("a trial ends with problems, or it judges")
    await response.write_eof()
    return response


async def _begun_json(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/jsonl; charset=utf-8",
            "Content-Disposition": 'attachment; filename="immuproxy-what-if.jsonl"',
        }
    )
    await response.prepare(request)
    return response


def _line(value: dict[str, Any]) -> bytes:
    return f"{dumps(value)}\n".encode()


def add_routes(app: web.Application) -> None:
    """Put this view into the console, as pages and as JSON."""
    app.router.add_get("/rules/what-if", what_if)
    app.router.add_post("/rules/what-if", tried)
    app.router.add_post(f"{API}/rules/simulate", simulate)
