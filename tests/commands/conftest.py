"""The whole command line over a real registry and Redis, in a folder of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog
from click.testing import CliRunner, Result

from immuproxy.audit import Visitor
from immuproxy.audit.record import Record
from immuproxy.audit.search import parse
from immuproxy.cli import main
from immuproxy.ledger.model import Event
from immuproxy.store.redis import connect
from tests.support.conversation import RunningEdge, edge_over
from tests.support.servers import RedisServer, RegistryServer

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")

RULES = """
default: immutable
rules:
  - {name: moving, tags: [latest], policy: mutable}
"""

HOSTILE = "\x1b]0;owned\x07\x1b[2Jred\x9b31m\u202egnp\r\x00"
"""Sets a title, clears the screen, colours by a C1 code, turns the writing round, goes back to the line's start."""


def is_harmless(shown: str) -> bool:
    """Whether nothing but line ends and what can be printed is left."""
    return all(character.isprintable() or character == "\n" for character in shown)


@dataclass
class Site:
    """A folder with an `immuproxy.yml`, and what it names."""

    folder: Path
    upstream_url: str
    redis: RedisServer

    def write(self, *, upstream: str = "", redis: str = "", rules: str = RULES, name: str = "immuproxy.yml") -> None:
        upstream = upstream or f"{{url: {self.upstream_url}}}"
        redis = redis or f"{{url: {self.redis.url}, timeout: 10s}}"
        (self.folder / name).write_text(f"upstream: {upstream}\nredis: {redis}\n{rules}")

    def run(self, *arguments: str) -> Result:
        """One command in this process.  A failure that is not put into words fails the test."""
        result = CliRunner().invoke(main, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def lines(self, *arguments: str, status: int = 0) -> list[dict[str, Any]]:
        """The JSON Lines that a command prints."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == status, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """One command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "immuproxy", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def talk(self, conversation: Callable[[RunningEdge], Awaitable[T]]) -> T:
        """Let clients speak to an edge over the same registry and Redis."""

        async def go() -> T:
            async with edge_over(self.upstream_url, self.redis.url, rules=RULES) as edge:
                return await conversation(edge)

        return asyncio.run(go())

    def append(self, *events: Event) -> None:
        """Put events into the audit as they are."""

        async def go() -> None:
            async with connect(self.redis.url, timeout=5.0) as store:
                for event in events:
                    await Record(store).append(event)

        asyncio.run(go())

    def audit(self, search: str) -> list[Event]:
        """What a search of the audit finds, newest first."""

        async def go() -> list[Event]:
            async with connect(self.redis.url, timeout=5.0) as store:
                return [event async for event in Visitor(store, None).export(parse(search, 0))]

        return asyncio.run(go())


@pytest.fixture
def site(
    tmp_path: Path, registry: RegistryServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    for name in ("IMMUPROXY_CONFIG", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    made = Site(tmp_path, registry.url, redis_server)
    made.write()
    yield made
    structlog.reset_defaults()
