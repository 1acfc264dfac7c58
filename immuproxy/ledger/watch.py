"""Whether the clock of a Redis goes as this process' own does, and how long ago something was by both of them (H112).

Pure.  ``TIME`` may be set back, or leap ahead: a machine slept, or was set right.  So what belongs to others is taken
away only after a time that this process has seen pass itself.  Its own clock only grows, and nobody else's counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from immuproxy.ledger.model import Claim
from immuproxy.store.steady import Sample

TOLERANCE = 1.0
"""Seconds by which two clocks may differ more than before without that being a jump."""

DRIFT = 0.001
"""How much faster or slower than another a clock may go: twice what NTP slews by."""

BLURRED = 1.0
"""Seconds on the way after which a reply tells too little of when it was true."""

_JITTER_MS = round(TOLERANCE * 1000)


@dataclass(frozen=True, slots=True)
class Ages:
    """How long ago something was, at least; in milliseconds.

    ``now``: what Redis said.  ``at``: what it should have said, by this process' own clock, a little less.
    ``watched``: for how long this process has seen it go evenly.  ``passed`` in ``scripts/_common.lua`` is the same.
    """

    now: int
    at: int
    watched: int

    def of(self, since: int) -> int:
        """The age of what is dated ``since`` by the clock of Redis."""
        if since > self.now + _JITTER_MS:  # from before time went back: it is there at least since then
            return 0 if self.at > self.now + _JITTER_MS else self.watched
        return max(0, min(min(self.now, self.at) - since, self.watched))

    def is_over(self, claim: Claim) -> bool:
        """Whether the claim's owner has had all of its time."""
        if claim.term is None:
            return claim.lease <= self.now
        return self.of(claim.lease - claim.term) >= claim.term


class Watch:
    """Over one Redis."""

    def __init__(self) -> None:
        """Until the first sample nothing has passed."""
        self._last: Sample | None = None
        self._since = 0.0

    def saw(self, sample: Sample) -> float:
        """By how many seconds its clock has jumped since the last sample; 0 where it has not, or nobody can tell."""
        last = self._last
        if sample.answered - sample.asked > BLURRED:
            return 0.0
        self._last = sample
        if last is None:
            self._since = sample.answered
            return 0.0
        jump = _jump(last, sample)
        if jump:
            self._since = sample.answered
        return jump

    def is_expected(self, sample: Sample) -> bool:
        """Whether a reply fits to what was seen."""
        return self._last is not None and not _jump(self._last, sample)

    def ages(self, clock: float, now: int | None = None) -> Ages:
        """By what was seen until ``clock`` of the own clock; ``now`` where Redis has just said it, else it is to say it
        itself.
        """
        if self._last is None:
            return Ages(now or 0, 0, 0)
        at = self._last.now + int((clock - self._last.answered) * 1000)
        return Ages(at if now is None else now, at, int((clock - self._since) * 1000))


def _jump(last: Sample, sample: Sample) -> float:
    told = (sample.now - last.now) / 1000
    least, most = sample.asked - last.answered, sample.answered - last.asked
    slack = TOLERANCE + DRIFT * abs(most)
    return 0.0 if least - slack <= told <= most + slack else told - (least + most) / 2
