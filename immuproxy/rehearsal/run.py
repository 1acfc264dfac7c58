"""The parent of `immuproxy.rehearsal.child`: hands it a file and the past, and passes on what it finds.

All that costs time is elsewhere: the reading of the ledger in small steps, the judging in the other process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from immuproxy.ledger.register import Register
from immuproxy.rehearsal.past import RecordedPast, first_pushes, judged_requests

LONGEST = 120.0
"""Seconds after which a rehearsal is given up."""

_LONGEST_LINE = 1024 * 1024
_TELL_EVERY = 500
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
_FIELDS = (
    "id",
    "action",
    "outcome",
    "time",
    "repository",
    "tag",
    "digest",
    "previous_digest",
    "media_type",
    "rule",
    "rule_line",
    "shadow",
    "reason",
    "actor",
    "actor_confirmed",
    "client_address",
)
"""What verdicts depend on, and what is shown of a request."""


class TooMuchError(Exception):
    """The file, or the past under it, takes more time or memory than a rehearsal gets."""


@dataclass(frozen=True, slots=True)
class Stage:
    """How far it is: ``checking`` the file, ``reading`` the past, ``judging`` it; ``of`` is 0 where nobody knows."""

    name: str
    done: int = 0
    of: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Wrong:
    """The file cannot be used: its problems as `immuproxy.rules.problems.FileProblem.to_dict` gives them, and how many
    more there are.
    """

    problems: tuple[dict[str, Any], ...]
    more: int


@dataclass(frozen=True, slots=True)
class Changed:
    """One verdict that would change, as `immuproxy.rules.simulate.Difference.to_dict` gives it; oldest first."""

    difference: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end: how many requests were judged, and how many verdicts would change."""

    judged: int
    changed: int


Step = Stage | Wrong | Changed | Finished


async def rehearse(
    audit: RecordedPast, register: Register, file: bytes, source: str, *, most: int
) -> AsyncGenerator[Step, None]:
    """Try ``file``, which messages call ``source``, on the newest ``most`` requests; ends with `Wrong` or `Finished`.

    Raises `TooMuchError` and `LedgerUnavailableError`.  Close the generator to give up: the process ends with it.
    """
    async with _child() as child:
        talk = _Talk(child, asyncio.get_running_loop().time() + LONGEST)
        yield Stage("checking")
        await talk.write(_line({"source": source, "bytes": len(file)}) + file)
        answer = await talk.read()
        if "problems" in answer:
            yield Wrong(tuple(answer["problems"]), answer["more"])
            return
        count = 0
        async for count in _told(talk, audit, register, most, first=answer["first"]):
            yield Stage("reading", count, most)
        await talk.end_input()
        async for step in _judged(talk, count):
            yield step


async def _told(talk: _Talk, audit: RecordedPast, register: Register, most: int, *, first: bool) -> AsyncIterator[int]:
    """Tell the process the past; how many requests it knows of, now and then and at the end."""
    tags: set[tuple[str, str]] = set()
    count = 0
    async for event in judged_requests(audit, most=most):
        await talk.write(_line(["event", {name: getattr(event, name) for name in _FIELDS}]))
        count += 1
        if first:
            tags.add((event.repository, event.tag))
        if count % _TELL_EVERY == 0:
            yield count
    async for (repository, tag), at in first_pushes(register, tags):
        await talk.write(_line(["first", repository, tag, at]))
    yield count


async def _judged(talk: _Talk, count: int) -> AsyncIterator[Step]:
    yield Stage("judging", 0, count)
    while True:
        answer = await talk.read()
        if "difference" in answer:
            yield Changed(answer["difference"])
        elif "done" in answer:
            yield Finished(answer["judged"], answer["changed"])
            return
        else:
            yield Stage("judging", answer["judged"], count, answer["changed"])


@asynccontextmanager
async def _child() -> AsyncIterator[Process]:
    """The process, with nothing of the environment that could be a secret; killed at the end, whatever it does."""
    known = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    command = (sys.executable, "-P", "-m", "immuproxy.rehearsal.child")
    child = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=known, limit=_LONGEST_LINE
    )
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        # Its pipes, at once: a loop that ends soon after would find them open.
        child._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  # there is no other way to say so


class _Talk:
    """Lines to the process and back, until a deadline (by the loop's clock)."""

    def __init__(self, child: Process, deadline: float) -> None:
        if child.stdin is None or child.stdout is None:
            raise TooMuchError("its process has no pipes")
        self._in, self._out, self._deadline = child.stdin, child.stdout, deadline

    async def write(self, data: bytes) -> None:
        try:
            self._in.write(data)
            async with self._in_time():
                await self._in.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise TooMuchError("its process ended before it had read everything") from None

    async def end_input(self) -> None:
        self._in.close()
        with suppress(BrokenPipeError, ConnectionResetError):
            async with self._in_time():
                await self._in.wait_closed()

    async def read(self) -> dict[str, Any]:
        async with self._in_time():
            line = await self._out.readline()
        if not line.endswith(b"\n"):
            raise TooMuchError("its process asked for more time or memory than it gets")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(self._deadline):
                yield
        except TimeoutError:
            raise TooMuchError(f"it took longer than {LONGEST:.0f} seconds") from None


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
