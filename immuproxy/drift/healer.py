"""Healing: where the upstream shows something else than a tag holds, its link is set right from the stored bytes.

Readers are served correctly all the while; healing is for those who ask the upstream itself, and for the day on which
the proxy is taken away.  A finding is told once, when it opens, and once when it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from immuproxy.edge import headers, record
from immuproxy.edge.caller import Caller
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.refusals import first_message
from immuproxy.edge.upstream import DAMAGED, Found, OutcomeUnknownError, Upstream, UpstreamUnavailableError
from immuproxy.ledger.model import Action, Committed, Event, Outcome, State, StoredManifest, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci.names import digest_of
from immuproxy.store.redis import LedgerUnavailableError

log = structlog.get_logger("immuproxy.drift")

MAX_WAITING = 1000
"""Reports that wait for their turn; what does not fit is found again by the next reader or the sweep."""

PAUSE = 0.05


async def _nobody(_repository: str, _tag: str, _digest: str) -> None:
    pass


class Healer:
    """Takes reports of drift, and works them off one after another."""

    def __init__(
        self,
        register: Register,
        upstream: Upstream,
        service: Caller,
        limits: Limits,
        found: Callable[[str, str, str], Awaitable[None]] = _nobody,
    ) -> None:
        """``service``: who the proxy is at the upstream; it must be allowed to push for healing to succeed.  ``found``
        is told the repository, tag and digest of other content that it shows.
        """
        self._found = found
        self._register = register
        self._upstream = upstream
        self._service = service
        self._limits = limits
        self._waiting: asyncio.Queue[tuple[TagRecord, str]] = asyncio.Queue(MAX_WAITING)
        self._reported: set[tuple[str, str]] = set()

    def report(self, found: TagRecord, seen: str) -> None:
        """Say that the upstream shows ``seen`` (empty: nothing) under a committed tag; does not wait."""
        key = (found.repository, found.tag)
        if key in self._reported or self._waiting.full():
            return
        self._reported.add(key)
        self._waiting.put_nowait((found, seen))

    async def run(self) -> None:
        """Work off reports for ever; cancel it to stop."""
        while True:
            found, seen = await self._waiting.get()
            try:
                await self._follow(found, seen)
            except (LedgerUnavailableError, UpstreamUnavailableError) as error:
                log.warning("not healed yet", repository=found.repository, tag=found.tag, reason=str(error))
            except Exception:
                log.exception("not healed", repository=found.repository, tag=found.tag)
            finally:
                self._reported.discard((found.repository, found.tag))
            await asyncio.sleep(PAUSE)

    async def _follow(self, found: TagRecord, seen: str) -> None:
        """What a reader was shown instead is drift; that they were shown nothing may be for want of rights, so look."""
        if seen:
            await self.repair(found, seen)
        else:
            await self.check(found)

    async def check(self, found: TagRecord) -> bool:
        """Compare one tag with the upstream, and heal it where it drifted; true when they agree in the end.

        Raises `UpstreamUnavailableError` when the upstream does not tell, also when it does not let the proxy look.
        """
        held = found.committed
        if held is None or _changes(found):
            return True
        try:
            seen = await self._upstream.probe(found.repository, found.tag, self._service)
        except UpstreamUnavailableError as error:
            # A link that a killed registry left empty, of the tag or of the manifest: one more PUT writes both (H16).
            if error.status != DAMAGED:
                raise
            return await self.repair(found, "")
        if isinstance(seen, Found) and seen.digest == held.digest:
            await self._close(found, held, "the upstream agrees with the ledger again")
            return True
        if not isinstance(seen, Found) and seen.status != 404:
            message = f"it answers {seen.status}: immuproxy needs credentials of its own to compare"
            raise UpstreamUnavailableError(message, seen.status)
        return await self.repair(found, seen.digest if isinstance(seen, Found) else "")

    async def repair(self, found: TagRecord, seen: str) -> bool:
        """Tell of a drift, then set the upstream's tag right; true when that worked."""
        held = found.committed
        if held is None:
            return True
        reason = (
            "the upstream shows other content under this tag" if seen else "the upstream does not give out this tag"
        )
        event = _event(Action.DRIFT, Outcome.FOUND, found, digest=seen, previous_digest=held.digest, reason=reason)
        new = await self._register.open_drift(found.repository, found.tag, seen=seen, held=held.digest, event=event)
        if new and seen:
            await self._found(found.repository, found.tag, seen)
        failure = await self._restore(found, held)
        if failure:
            log.error("drift not healed", repository=found.repository, tag=found.tag, reason=failure)
            if new:
                await self._register.record(
                    _event(
                        Action.REPAIR, Outcome.FAILED, found, digest=held.digest, previous_digest=seen, reason=failure
                    )
                )
            return False
        await self._close(found, held, "the upstream's tag was set right from the stored manifest")
        return True

    async def _restore(self, found: TagRecord, held: Committed) -> str:
        """Put the stored bytes under the tag again; what went wrong, or nothing."""
        until = self._limits.until(asyncio.get_running_loop().time())
        name = record.new_token()
        if not await self._register.begin_heal(found.repository, found.tag, held=held.digest, name=name):
            return ""  # it holds something else by now, or is being deleted: nothing to set right
        async with self._ending(found, name):
            await self._register.confirm()
            stored = await self._register.stored(found.repository, held.digest)
            if stored is None or digest_of(stored.body) != held.digest:
                return "the ledger has no copy of the manifest"
            answer = await self._upstream.put_manifest(
                found.repository, found.tag, stored.body, self._as_pusher(stored), until=until
            )
        if answer.status >= 300:
            return f"the upstream answered {answer.status}: {first_message(answer)}"
        return await self._still_wrong(found, held)

    @asynccontextmanager
    async def _ending(self, found: TagRecord, name: str) -> AsyncIterator[None]:
        """End the heal, but not where what was sent may still land (H121)."""
        try:
            yield
        except (OutcomeUnknownError, asyncio.CancelledError):
            raise
        except BaseException:
            with suppress(LedgerUnavailableError):
                await self._register.end_heal(found.repository, found.tag, name=name)
            raise
        await self._register.end_heal(found.repository, found.tag, name=name)

    async def _still_wrong(self, found: TagRecord, held: Committed) -> str:
        damage = "the upstream took the manifest and still does not give it out, so its storage is damaged"
        try:
            seen = await self._upstream.probe(found.repository, found.tag, self._service)
        except UpstreamUnavailableError as error:
            return f"{damage}: {error}"
        return "" if isinstance(seen, Found) and seen.digest == held.digest else damage

    def _as_pusher(self, stored: StoredManifest) -> Caller:
        sent = headers.without(self._service.headers, ())
        sent["Content-Type"] = stored.media_type
        return self._service.with_headers(sent)

    async def _close(self, found: TagRecord, held: Committed, reason: str) -> None:
        event = _event(Action.REPAIR, Outcome.HEALED, found, digest=held.digest, reason=reason)
        await self._register.close_drift(found.repository, found.tag, event)


def _changes(found: TagRecord) -> bool:
    """Whether the upstream may show the content of an overwrite already.  Of what is only claimed, nothing was sent."""
    return found.claim is not None and found.claim.state is State.ARMED


def _event(action: Action, outcome: Outcome, found: TagRecord, **values: str) -> Event:
    return record.own(action, outcome, found.repository, tag=found.tag, **values)
