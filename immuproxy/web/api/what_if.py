"""What another rules file would have said to the past."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from immuproxy.rehearsal.run import Changed, Finished, Stage, Wrong
from immuproxy.web.answers import API, as_json, dumps
from immuproxy.web.contexts.what_if import Result, in_words, problems_context
from immuproxy.web.parameters import choice_of, refuse_unknown
from immuproxy.web.trials import Submission, submitted, trial


async def simulate(request: web.Request) -> web.StreamResponse:
    """In one piece, or (``as=lines``) each difference as it is found, all of them."""
    refuse_unknown(request.query, ("last", "as"))
    lines = choice_of(request.query, "as", ("json", "lines"), "json") == "lines"
    sent = await submitted(request)
    return await (_lines(request, sent) if lines else _whole(request, sent))


async def _whole(request: web.Request, sent: Submission) -> web.Response:
    result = Result(sent.last)
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
    result, response = Result(sent.last), None
    async with trial(request, sent.file, sent.last) as steps:
        async for step in steps:
            match step:
                case Wrong():
                    return wrong_file(step, sent)
                case Stage() if response is None and step.name == "judging":
                    response = await _begun(request)
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


async def _begun(request: web.Request) -> web.StreamResponse:
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
    """Put this answer into the API."""
    app.router.add_post(f"{API}/rules/simulate", simulate)
