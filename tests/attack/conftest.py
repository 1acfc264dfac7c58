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
