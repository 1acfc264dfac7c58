"""Exceptions: temporary, recorded permissions to overwrite one tag, or to delete it.

Every method raises `immuproxy.store.redis.LedgerUnavailableError` when Redis does not answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from immuproxy.ledger import keys
from immuproxy.ledger.attention import Attention, AttentionKind
from immuproxy.ledger.clock import ledger_time
from immuproxy.ledger.model import Event, as_written
from immuproxy.store.redis import Store


class Allows(StrEnum):
    """What an exception lets through; never both."""

    OVERWRITE = "overwrite"
    DELETE = "delete"


TO_DELETE = "may be deleted: "
"""How the reason of a grant begins in the audit where it allows a delete."""


@dataclass(frozen=True, slots=True)
class Exemption:
    """One permission.

    ``granted`` and ``ends`` in ms, and ``over`` when it ends by the ledger's own time (H113); ``digest`` is the
    only one that may be pushed, or that may be deleted, or empty for any; ``event`` is the id of the event that granted
    it.
    """

    repository: str
    tag: str
    granted: int
    ends: int
    digest: str
    event: str
    by: str
    reason: str
    allows: Allows = Allows.OVERWRITE
    over: int = 0

    def to_dict(self) -> dict[str, Any]:
        """What is shown of it, as plain JSON values."""
        values = asdict(self)
        del values["over"]
        return values

    def covers(self, wish: Allows, digest: str, time: int) -> bool:
        """Whether a push of ``digest``, or the delete of a tag that holds it, is permitted at that time of the ledger's
        own (ms).
        """
        return self.allows is wish and time < self.over and self.digest in {"", digest}

    @property
    def words(self) -> str:
        """What the audit says of its use; the event first, as a long reason may be cut."""
        return f"event {self.event}, granted by {self.by or 'an operator'}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ExemptionPage:
    """Permissions that have not been ended; ``next_cursor`` is empty at the end."""

    found: tuple[Exemption, ...]
    next_cursor: str


class Exceptions:
    """The permissions of all repositories."""

    def __init__(self, store: Store, published: Callable[[str], None]) -> None:
        """``published`` is told each repository that has a new event."""
        self._store = store
        self._published = published
        self._attention = Attention(store)

    async def grant(self, event: Event, *, lasts_ms: int, allows: Allows = Allows.OVERWRITE) -> int:
        """Permit what ``event`` (action exception, outcome granted) says, for ``lasts_ms``; returns when it ends (ms).

        Its ``digest`` restricts the permission where it is not empty.  That it ``allows`` a delete is put in front of
        its reason.
        """
        told = replace(event, reason=TO_DELETE + event.reason) if allows is Allows.DELETE else event
        await self._store.do(self._store.client.sadd(keys.REPOSITORIES, event.repository))
        await self._attention.expect(AttentionKind.EXCEPTION, event.repository)
        ends = await self._store.script(
            "exception_grant",
            [keys.exceptions(event.repository), keys.outbox(event.repository)],
            [
                *(event.tag, lasts_ms, event.digest, event.id, as_written(told), event.actor, event.reason, allows),
                await ledger_time(self._store),
            ],
        )
        self._published(event.repository)
        return int(ends)

    async def end(self, exemption: Exemption, event: Event) -> bool:
        """End a permission with ``event`` (outcome ended); false when it had ended already."""
        ended = await self._store.script(
            "exception_end",
            [keys.exceptions(exemption.repository), keys.outbox(exemption.repository)],
            [exemption.tag, exemption.event, as_written(event)],
        )
        self._published(exemption.repository)
        return bool(ended)

    async def of(self, repository: str, tag: str) -> Exemption | None:
        """The permission for a tag, whether or not its time is over."""
        found = await self._store.do(self._store.client.hget(keys.exceptions(repository), tag))
        return _exemption(repository, tag, found) if found else None

    async def all(self, repository: str) -> list[Exemption]:
        """Every permission of a repository that has not been ended, by tag."""
        found = await self._store.do(self._store.client.hgetall(keys.exceptions(repository)))
        return [_exemption(repository, tag.decode(), value) for tag, value in sorted(found.items())]

    async def standing(self, *, limit: int, cursor: str = "") -> ExemptionPage:
        """About ``limit`` permissions of all repositories, from ``cursor`` on, those whose time is over included until
        the sweep ends them; raises `BadCursorError`.
        """
        page = await self._attention.page(AttentionKind.EXCEPTION, limit=limit, cursor=cursor)
        return ExemptionPage(
            tuple(_exemption(each.repository, each.tag, each.value) for each in page.found), page.next_cursor
        )

    async def count(self) -> int:
        """How many permissions stand, those included whose time is over and which the sweep has not ended yet."""
        return sum((await self._attention.counts(AttentionKind.EXCEPTION)).values())


def _exemption(repository: str, tag: str, value: bytes) -> Exemption:
    fields = json.loads(value)
    return Exemption(
        repository,
        tag,
        **({"over": fields["ends"]} | fields | {"allows": Allows(fields.get("allows", Allows.OVERWRITE))}),
    )
