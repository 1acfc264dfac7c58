"""Rules and users that were replaced by what is no plain file: told once, and nothing waits for it."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from immuproxy.console.access.passwords import Passwords
from immuproxy.service.config import parse_config
from immuproxy.service.live_rules import LiveRules
from immuproxy.telemetry.metrics import Metrics
from tests.support.odd_files import release, replace

CONFIG = b"upstream: {url: http://localhost:1}\nredis: {url: redis://localhost:1}\ndefault: immutable\n"
MOST_MEMORY = 16 * 1024 * 1024


@pytest.mark.parametrize("kind", ["fifo", "directory", "huge"])
async def test_rules_that_are_no_plain_file_are_rejected_and_stop_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "immuproxy.yml"
    path.write_bytes(CONFIG)
    rules = LiveRules(path, parse_config(CONFIG, str(path)), Metrics(), lambda _: ())
    replace(path, kind)
    tracemalloc.start()
    try:
        with capture_logs() as logs:
            async with asyncio.timeout(3):
                await rules.look()
                await rules.look()
        assert [entry["event"] for entry in logs] == ["new rules rejected; the old ones stay in force"]
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
        release(path)


@pytest.mark.parametrize("kind", ["fifo", "directory", "huge"])
async def test_users_that_are_no_plain_file_are_told_and_stop_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"")
    passwords = await Passwords.read(path)
    replace(path, kind)
    try:
        with capture_logs() as logs:
            async with asyncio.timeout(3):
                await passwords.look()
                await passwords.look()
        assert [entry["event"] for entry in logs] == ["the users file is not in force"]
    finally:
        release(path)
