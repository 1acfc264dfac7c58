"""May this client push or delete here?  Only the upstream knows, so it is asked before the proxy says anything of its
own (H53-H56).

The questions have no side effect.  A PUT with an empty body: the registry answers 401 or 403 before it looks at the
body, and 400 after it was let in.  It is sent to the digest of the pushed content, never to a tag, so that even a
lenient registry could not tag an empty body; and as an image manifest, because Quay and zot answer 415 to any other
type, Quay before it asks who that is.  A DELETE of something that cannot exist: 404 after it was let in.

A door in front of the registry has answers of its own, nginx a 400 to a long password.  So only what the registry
itself says to who was let in counts as yes; what is neither that nor a refusal is unknown (H83).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass

from cachetools import FIFOCache
from multidict import CIMultiDict

from immuproxy.edge.answers import API_VERSION, Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.upstream import Upstream, UpstreamUnavailableError
from immuproxy.oci.manifests import OCI_MANIFEST
from immuproxy.oci.names import digest_of
from immuproxy.oci.routes import Operation, RouteKind, build_path

REMEMBERED = 10.0
"""Seconds that a permission to push is remembered for one credential and repository."""

ASKED_AGAIN = 60.0
"""Seconds after which it is asked again whether a repository lets in strangers."""

MOST = 10_000
"""Answers of each kind that are remembered; what was learnt first is forgotten first."""

NOT_FOUND = "NOT_FOUND"
"""What Harbor says of a manifest that it does not have, to who was let in; no code of the specification, so it counts
only beside the random digest that was asked for.
"""


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked; only who was let in hears ``status`` with one of ``codes`` of the specification, or with
    `NOT_FOUND` and the digest that was asked for.
    """

    method: str
    kind: RouteKind
    status: int
    codes: frozenset[str]


_PUSH = _Question(
    "PUT",
    RouteKind.MANIFEST,
    400,
    frozenset({"MANIFEST_INVALID", "MANIFEST_UNVERIFIED", "DIGEST_INVALID", "SIZE_INVALID"}),
)
_DELETES = {
    RouteKind.MANIFEST: _Question("DELETE", RouteKind.MANIFEST, 404, frozenset({"MANIFEST_UNKNOWN"})),
    RouteKind.BLOB: _Question("DELETE", RouteKind.BLOB, 404, frozenset({"BLOB_UNKNOWN"})),
}


class Authority:
    """Asks the upstream, and remembers a yes to a push for a moment; a no is never remembered."""

    def __init__(self, upstream: Upstream, *, always: bool) -> None:
        """``always``: ask for each push, even where the upstream seems to ask nobody for credentials."""
        self._upstream = upstream
        self._always = always
        self._open: FIFOCache[tuple[_Question, str], tuple[bool, float]] = FIFOCache(MOST)
        self._allowed: FIFOCache[tuple[bytes, str], float] = FIFOCache(MOST)
        self._tell_version: set[_Question] = set()

    async def refuse_push(self, repository: str, caller: Caller) -> Answer | None:
        """None when the client may push to the repository; else the upstream's own answer, to be relayed as it is.

        Raises `UpstreamUnavailableError` when the upstream does not say.
        """
        now = asyncio.get_running_loop().time()
        if await self._lets_strangers_in(_PUSH, repository, now) and not self._always:
            return None
        key = (hashlib.sha256(caller.authorization.encode("utf-8", "surrogateescape")).digest(), repository)
        if self._allowed.get(key, 0.0) > now:
            return None
        refused = await self._refused(_PUSH, repository, caller, "push")
        if refused is None:
            self._allowed[key] = now + REMEMBERED
        return refused

    async def refuse_delete(self, operation: Operation, caller: Caller) -> Answer | None:
        """As `refuse_push`, for a delete by the route of ``operation``; asked each time."""
        question = _DELETES[operation.kind]
        if caller.actor:  # whose name counts where strangers are turned away
            await self._lets_strangers_in(question, operation.repository, asyncio.get_running_loop().time())
        return await self._refused(question, operation.repository, caller, "delete")

    def confirms(self, repository: str, caller: Caller) -> bool:
        """Whether the push that was just let in proves who the caller is.

        Only where the upstream asks for credentials: where it lets strangers in, anybody may take any name.
        """
        return self._confirms(_PUSH, repository, caller)

    def confirms_delete(self, operation: Operation, caller: Caller) -> bool:
        """As `confirms`, for a delete that was just let in."""
        return self._confirms(_DELETES[operation.kind], operation.repository, caller)

    def _confirms(self, question: _Question, repository: str, caller: Caller) -> bool:
        lets_strangers_in, _ = self._open.get((question, repository), (True, 0.0))
        return bool(caller.actor) and not lets_strangers_in

    async def _refused(self, question: _Question, repository: str, caller: Caller, what: str) -> Answer | None:
        answer, says_yes = await self._ask(question, repository, caller.headers)
        if says_yes:
            return None
        if answer.status in {401, 403, 405, 429} or (answer.status == 404 and answer.codes):
            return answer
        message = f"the upstream answered {answer.status} when asked whether this client may {what}"
        raise UpstreamUnavailableError(message)

    async def _lets_strangers_in(self, question: _Question, repository: str, now: float) -> bool:
        """Whether a request without credentials would be let in, as seen at most a minute ago.

        Each repository by itself: a door in front of the registry may ask for credentials in some of them only.  An
        answer that says nothing about credentials is not remembered.  Raises `UpstreamUnavailableError` where none came
        and nothing was known before: taken for a no, it would make an accepted name one that proves nothing.
        """
        known, until = self._open.get((question, repository), (False, 0.0))
        if until > now:
            return known
        try:
            answer, lets_in = await self._ask(question, repository, CIMultiDict())
        except UpstreamUnavailableError:
            if (question, repository) not in self._open:
                raise
            return False
        if lets_in or answer.status == 401 or (answer.status in {403, 404} and answer.codes):
            self._open[question, repository] = lets_in, now + ASKED_AGAIN
        return lets_in

    def _says_yes(self, question: _Question, asked_for: str, answer: Answer) -> bool:
        """Whether this is the registry's own answer to who was let in: in the form of the specification, and with the
        version of its API where it tells that at all.  Behind Harbor two services answer, each its own questions, and
        only one of them tells it.
        """
        names_it = NOT_FOUND in answer.codes and asked_for.encode() in answer.body
        if answer.status != question.status or not (answer.codes & question.codes or names_it):
            return False
        return self._is_registrys(question, answer)

    def is_registrys(self, operation: Operation, answer: Answer, *, sure: bool) -> bool:
        """Whether the answer to a delete bears the version of the registry's API, or that registry never told any: then
        nothing tells its answers from those of a door, and where one has to be ``sure``, it does not count.
        """
        return self._is_registrys(_DELETES[operation.kind], answer, sure=sure)

    def _is_registrys(self, question: _Question, answer: Answer, *, sure: bool = False) -> bool:
        name, version = API_VERSION
        if name not in answer.headers:
            return not sure and question not in self._tell_version
        self._tell_version.add(question)
        return version in answer.headers[name]

    async def _ask(self, question: _Question, repository: str, sent: CIMultiDict[str]) -> tuple[Answer, bool]:
        """The answer, and whether it says yes."""
        asked = CIMultiDict(
            (name, value) for name, value in sent.items() if name.lower() in {"authorization", "user-agent"}
        )
        reference, body = digest_of(secrets.token_bytes(32)), None
        if question is _PUSH:
            reference, body = digest_of(b""), b""
            asked["Content-Type"] = OCI_MANIFEST
        path = build_path(question.kind, repository, reference)
        answer = await self._upstream.exchange(question.method, path, asked, body)
        return answer, self._says_yes(question, reference, answer)
