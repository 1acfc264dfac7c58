"""A restart of everything in the middle of pushes: no answered push is lost, and each is in the audit once."""

from __future__ import annotations

import pytest

from tests.invariants.workload import check, restarts

EVERYTHING = ("kill_proxy", "stop_proxy", "kill_registry", "kill_redis", "kill_everything")


@pytest.mark.blocking_allowed  # as above
@pytest.mark.timeout(400)
async def test_after_a_restart_of_everything_nothing_is_lost(seed: int) -> None:
    """Every push is in the audit once, every tag resolves, with a Redis that syncs its file every second."""
    report = await restarts(seed, EVERYTHING)
    check(report, at_least=50)
    assert report.happened["everything killed"] == 1
