"""The audit held against what was, while everything breaks: a short form of `make audit-check`."""

from __future__ import annotations

import pytest

from tests.auditor.load import audited


@pytest.mark.blocking_allowed  # servers are started from here
@pytest.mark.timeout(300)
async def test_the_audit_tells_what_was_whatever_happens(seed: int) -> None:
    report = await audited(seed, seconds=12)
    print(report)  # noqa: T201  # shown when the test fails, or with -s
    assert not report.violations, str(report)
    assert report.requests >= 100  # on an idle machine thousands
    assert report.platforms >= 1
    assert sum(report.happened.values()) >= 5
