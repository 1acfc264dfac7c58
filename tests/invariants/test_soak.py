"""Random clients, real servers and every fault at once; then the history must be one of write-once tags (I1 to I12).

`make soak` runs the same for an hour; behind failovers it is `test_failovers.py`.  Each lasts until what it is for has
happened, but so many seconds at least.  A failure prints its seed: ``SOAK_SEED=... make test ARGS=tests/invariants``.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.invariants.workload import check, soak, soak_with_loss


def five_faults(happened: Counter[str]) -> bool:
    return sum(happened.values()) >= 5


@pytest.mark.blocking_allowed  # servers are started from here
@pytest.mark.timeout(400)
async def test_tags_are_written_once_whatever_happens(seed: int) -> None:
    report = await soak(seed, seconds=12, has_happened=five_faults)
    check(report, at_least=100)  # on an idle machine thousands
    assert five_faults(report.happened)


@pytest.mark.blocking_allowed  # as above
@pytest.mark.timeout(400)
async def test_tags_keep_what_they_hold_when_the_ledger_is_lost(seed: int) -> None:
    report = await soak_with_loss(seed, seconds=8)
    check(report, at_least=50)
    assert report.happened["ledger emptied"] >= 1
