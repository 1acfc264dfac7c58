"""Random clients, real servers and every fault at once; then the history must be one of write-once tags (I1 to I12).

`make soak` runs the same for an hour, with ``TOPOLOGY=sentinel`` or ``cluster`` behind failovers.  A failure prints its
seed: ``SOAK_SEED=... make test ARGS=tests/invariants``.
"""

from __future__ import annotations

import gc

import pytest

from tests.invariants.workload import check, soak, soak_with_loss


@pytest.mark.blocking_allowed  # servers are started from here
@pytest.mark.timeout(400)
async def test_tags_are_written_once_whatever_happens(seed: int) -> None:
    report = await soak(seed, seconds=22)
    check(report, at_least=100)  # on an idle machine thousands
    assert sum(report.happened.values()) >= 5


# The cluster client of redis-py leaves connections that it gave up on to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.blocking_allowed  # as above
@pytest.mark.timeout(400)
@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
async def test_tags_are_written_once_whoever_takes_over_from_a_master(seed: int, topology: str) -> None:
    report = await soak(seed, seconds=22, topology=topology)
    gc.collect()  # here, and not in the middle of another test
    check(report, at_least=100)
    assert sum(report.happened[what] for what in ("failover asked for", "master killed", "master frozen")) >= 2


@pytest.mark.blocking_allowed  # as above
@pytest.mark.timeout(400)
async def test_tags_keep_what_they_hold_when_the_ledger_is_lost(seed: int) -> None:
    report = await soak_with_loss(seed, seconds=10)
    check(report, at_least=50)
    assert report.happened["ledger emptied"] >= 1
