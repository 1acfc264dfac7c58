"""Findings about tags that hold nothing any more, because they were deleted or may move now: there is nothing left to
compare, so they end.
"""

from __future__ import annotations

from immuproxy.edge import record
from immuproxy.ledger.model import Action, Outcome
from immuproxy.ledger.register import Register

_CHUNK = 100


async def close_moot(register: Register, repository: str) -> None:
    """End such findings of a repository; raises `LedgerUnavailableError`."""
    names = [finding.tag for finding in await register.drifts(repository)]
    for at in range(0, len(names), _CHUNK):
        for found in await register.records(repository, names[at : at + _CHUNK]):
            if found.committed is None:
                reason = "the tag holds nothing any more, so nothing can differ from it"
                event = record.own(Action.REPAIR, Outcome.ENDED, repository, tag=found.tag, reason=reason)
                await register.close_drift(repository, found.tag, event)
