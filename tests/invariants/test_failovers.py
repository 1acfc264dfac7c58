"""The soak of `test_soak.py` behind a master that others take over from; `make soak` does it with ``TOPOLOGY=``."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from tests.invariants.workload import check, soak


def two_failovers(happened: Counter[str]) -> bool:
    return sum(happened[what] for what in ("failover asked for", "master killed", "master frozen")) >= 2


# The cluster client of redis-py leaves connections that it gave up on to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.blocking_allowed  # servers are started from here
@pytest.mark.timeout(400)
@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
async def test_tags_are_written_once_whoever_takes_over_from_a_master(seed: int, topology: str) -> None:
    report = await soak(seed, seconds=12, topology=topology, has_happened=two_failovers)
    gc.collect()  # here, and not in the middle of another test
    check(report, at_least=100)
    assert two_failovers(report.happened)
