"""What this process has read in the ledger of protected tags, for the time when Redis is away.

Never asked while the ledger answers.  A plain `dict` and no cache of a library: every read of a tag passes here, the
tag that was read first makes room however often it is read again, and an entry keeps since when it says the same.
"""

from __future__ import annotations

from collections.abc import Callable

from immuproxy.ledger.model import Committed, TagRecord

MOST = 50_000
"""The tag that was read first makes room."""


class Memory:
    """The last known record of each tag."""

    def __init__(self, clock: Callable[[], float], quarantine: float, *, most: int = MOST) -> None:
        """``clock``: seconds, steady; ``quarantine``: how long a write to the upstream may be on its way (H62);
        ``most``: tags.
        """
        self._clock = clock
        self._quarantine = quarantine
        self._most = most
        self._known: dict[tuple[str, str], tuple[Committed, float]] = {}

    def keep(self, record: TagRecord, held: Committed) -> None:
        """Replace what was known of the tag."""
        place = record.repository, record.tag
        before = self._known.get(place)
        if before is None and len(self._known) >= self._most:
            self._known.pop(next(iter(self._known)))
        same = before is not None and before[0].generation == held.generation and before[0].digest == held.digest
        self._known[place] = held, before[1] if before and same else self._clock()

    def forget(self, repository: str, tag: str) -> None:
        """The tag is not there any more."""
        self._known.pop((repository, tag), None)

    def of(self, repository: str, tag: str) -> Committed | None:
        """What the tag held when it was read last."""
        known = self._known.get((repository, tag))
        return known[0] if known else None

    def is_settled(self, repository: str, tag: str) -> bool:
        """Whether the present content is known for longer than a write of it may be on its way (H62).

        Before that, the upstream may show it although another proxy has committed the next: by an older PUT of it that
        the network held up.
        """
        return self._clock() - self._known[repository, tag][1] > self._quarantine
