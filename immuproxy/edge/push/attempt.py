"""What one push of a protected tag carries from step to step, and the times that bound it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from immuproxy.edge.push.model import Push
from immuproxy.ledger.content import Content
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Claim, Event, TagRecord
from immuproxy.oci import errors
from immuproxy.rules.model import Verdict

FIRST_WAIT = 0.02
LONGEST_WAIT = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds.

    ``put``: one manifest request; ``lease``: how long a claim stands for its owner, with room for two PUTs and a check
    after each; ``quarantine``: how long after arming a PUT of a lost owner might still land (H62).
    """

    put: float
    lease: float
    quarantine: float

    @classmethod
    def of(cls, put: float) -> Limits:
        """The limits that follow from the time a manifest request may take."""
        return cls(put=put, lease=4 * put + 1, quarantine=10 * put)

    @property
    def lease_ms(self) -> int:
        """As the ledger wants it."""
        return round(self.lease * 1000)

    @property
    def quarantine_ms(self) -> int:
        """As the ledger wants it."""
        return round(self.quarantine * 1000)

    def until(self, began: float) -> float:
        """Until when a PUT may be sent that is to arrive within a lease that began then (the loop's time; H62)."""
        return began + self.lease - self.put

    def may_still_land(self, age_ms: int) -> bool:
        """Whether the upstream could yet do what a lost proxy has sent so long ago (H62, H77, H112)."""
        return age_ms < self.quarantine_ms


class Retry(Exception):  # not an error: the claim was lost, and the push starts again
    """Somebody else moved the record; look again."""


@dataclass(slots=True)
class Attempt:
    """What one push carries from step to step.

    ``armed_at``: the loop's time before the claim was armed.  ``over_generation`` and ``over_digest``: what a verdict
    allows it to overwrite.  ``resolved``: somebody's stale claim that was seen not to have arrived, and ``closing`` the
    event that ends it.  ``resumed``: the record with an armed claim of the same digest that this push took over.
    ``sent``: a PUT may have reached the upstream.
    """

    push: Push
    content: Content
    token: str
    over_generation: int = 0
    over_digest: str = ""
    verdict: Verdict | None = None
    resolved: Claim | None = None
    closing: Event | None = None
    resumed: TagRecord | None = None
    armed_at: float = 0.0
    sent: bool = False

    def forget_verdict(self) -> None:
        """What was judged before a wait is judged again after it (H103)."""
        self.verdict, self.over_generation, self.over_digest = None, 0, ""


class ClaimWait:
    """For somebody else's claim: looks again soon, then less often, and gives up after ``longest`` seconds (H74)."""

    def __init__(self, longest: float) -> None:
        self._ends = asyncio.get_running_loop().time() + longest
        self._pause = FIRST_WAIT

    @property
    def is_long(self) -> bool:
        """Whether this lasts longer than a push does whose proxy is alive and not slow."""
        return self._pause == LONGEST_WAIT

    async def once(self, push: Push) -> None:
        if asyncio.get_running_loop().time() > self._ends:
            name = f"{push.repository}:{push.tag}"
            raise errors.unavailable(f"another push or repair of {name} has not ended yet; try again")
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_WAIT)


def renewed(push: Push) -> Push:
    """The push as it starts again: whoever took its claim may have written its event, and no event is written twice."""
    return replace(push, draft=replace(push.draft, id=new_event_id()))
