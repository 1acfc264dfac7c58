"""What is needed, reckoned anew from who needs it: a model that the pins of the ledger are compared with (H81, H91)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

Needs = frozenset[str]


@dataclass
class Pins:
    """``direct`` is what each tag and each claim needs; ``attached`` what came late, by the digest that it came to."""

    direct: dict[tuple[str, str], Needs] = field(default_factory=dict)
    attached: dict[str, Needs] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How often each digest is needed."""
        found: Counter[str] = Counter()
        for needs in (*self.direct.values(), *self.attached.values()):
            found.update(needs)
        return dict(found)

    def attach(self, digest: str, needs: Needs) -> None:
        if digest in self.counts():
            self.attached[digest] = self.attached.get(digest, frozenset()) | needs - {digest}

    def see(self, tag: str, part: str, needs: Iterable[str]) -> None:
        """``part`` of a tag, what it holds or its claim, needs these now."""
        self.direct[tag, part] = frozenset(needs)
        if not self.direct[tag, part]:
            del self.direct[tag, part]

    def hold(self, tag: str, digest: str, needs: Needs) -> None:
        """The tag comes to hold a digest: what others need by it is needed for as long as they need it."""
        self.see(tag, "holds", needs)
        self.forget()
        own = sum(digest in self.direct.get((tag, part), ()) for part in ("holds", "claims"))
        if self.counts()[digest] > own:
            self.attach(digest, needs)

    def forget(self) -> None:
        """What nobody needs any more needs nothing itself."""
        while gone := self.attached.keys() - self.counts().keys():
            for digest in gone:
                del self.attached[digest]
