from __future__ import annotations

import pytest

from immuproxy.drift.compare import ContentKind, Discrepancy, Fault, Seen, blob_fault, manifest_fault, tag_fault
from immuproxy.ledger.model import Claim, Committed, State, TagRecord

HELD, OTHER, THIRD = (f"sha256:{digit * 64}" for digit in "abc")


def tag(*, claimed: str = "") -> TagRecord:
    claim = Claim(State.ARMED, claimed, "token", 0) if claimed else None
    return TagRecord("team/app", "1.0", committed=Committed(HELD, 1, 0, 0), claim=claim)


class TestTag:
    def test_the_digest_held(self) -> None:
        assert tag_fault(tag(), Seen(HELD)) is None

    def test_another_digest(self) -> None:
        assert tag_fault(tag(), Seen(OTHER)) == Fault(
            Discrepancy.MOVED, ContentKind.TAG, HELD, f"the upstream shows {OTHER}"
        )

    def test_during_an_overwrite_the_new_digest_may_show_and_no_third(self) -> None:
        assert tag_fault(tag(claimed=OTHER), Seen(OTHER)) is None
        assert tag_fault(tag(claimed=OTHER), Seen(HELD)) is None
        fault = tag_fault(tag(claimed=OTHER), Seen(THIRD))
        assert fault is not None
        assert fault.problem is Discrepancy.MOVED

    def test_nothing(self) -> None:
        fault = tag_fault(tag(), Seen(status=404))
        assert fault is not None
        assert (fault.problem, fault.part, fault.digest) == (Discrepancy.MISSING, ContentKind.TAG, HELD)

    @pytest.mark.parametrize("seen", [Seen(status=401), Seen(status=403), Seen(status=0, failure="it broke off")])
    def test_h54_what_may_not_be_seen_is_not_taken_for_missing(self, seen: Seen) -> None:
        fault = tag_fault(tag(), seen)
        assert fault is not None
        assert fault.problem is Discrepancy.UNREADABLE

    def test_a_tag_that_holds_nothing(self) -> None:
        assert tag_fault(TagRecord("team/app", "1.0"), Seen(OTHER)) is None


class TestContent:
    def test_a_manifest(self) -> None:
        assert manifest_fault(HELD, Seen(HELD)) is None
        missing, wrong = manifest_fault(HELD, Seen(status=404)), manifest_fault(HELD, Seen(OTHER))
        assert missing is not None
        assert missing.problem is Discrepancy.MISSING
        assert wrong is not None
        assert wrong.problem is Discrepancy.UNREADABLE
        assert OTHER in wrong.reason

    def test_a_blob(self) -> None:
        assert blob_fault(HELD, Seen(status=200)) is None
        missing, silent = blob_fault(HELD, Seen(status=404)), blob_fault(HELD, Seen(status=0, failure="500"))
        assert missing is not None
        assert missing.to_dict() == {
            "problem": "missing",
            "part": "blob",
            "digest": HELD,
            "reason": "the upstream does not give out this blob",
        }
        assert silent is not None
        assert silent.problem is Discrepancy.UNREADABLE
