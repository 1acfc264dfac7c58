"""One installation for all attacks of a worker that leave it standing; each file is judged when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.attack.arena import Arena, arena


@pytest.fixture(scope="session")
def installation() -> Iterator[Arena]:
    with arena() as standing:
        asyncio.run(standing.prepare())
        yield standing


@pytest.fixture(scope="module")
def target(installation: Arena) -> Iterator[Arena]:
    """The installation of this worker; a file that has harmed it fails at its end."""
    yield installation
    asyncio.run(installation.aftermath())


@pytest.hookimpl
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """What a failed test has left in the log is its own, not the next one's."""
    if call.when == "call" and call.excinfo is not None:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Arena):
                value.fresh_log()
