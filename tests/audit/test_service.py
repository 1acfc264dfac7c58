"""The index of a real proxy: where it is kept, and that nothing waits for it."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path

from tests.support.proxies import ProxyServer, running_proxy
from tests.support.servers import RedisServer, RegistryServer, wait_until


def _events(file: Path) -> int:
    """How many events a finished or running index holds."""
    if not file.exists():
        return 0
    with (
        closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection,
        suppress(sqlite3.OperationalError),  # its tables are not made yet
    ):
        return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])
    return 0


def test_a_proxy_keeps_its_index_beside_its_redis(shared_registry: RegistryServer, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running_proxy(shared_registry.url, {"embedded": str(state)}) as proxy:
        proxy.config_path.write_text(proxy.config_path.read_text().replace("immutable", "mutable"))
        wait_until(lambda: _events(state / "audit" / "audit.sqlite3"), "the changed rules to be in the index")
        assert _places(proxy) == [f"in {state / 'audit'}"]
        assert _modes(state / "audit") == {0o700, 0o600}


def test_a_folder_that_is_there_is_used_as_it_is(shared_registry: RegistryServer, tmp_path: Path) -> None:
    """Its mode is its owner's to choose; the files in it, which hold the audit in clear, are never anybody else's."""
    folder = tmp_path / "state" / "audit"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    with running_proxy(shared_registry.url, {"embedded": str(tmp_path / "state")}):
        wait_until((folder / "audit.sqlite3-wal").exists, "the index to be begun")
        assert _modes(folder) == {0o755, 0o600}


def test_a_folder_that_cannot_be_used_stops_nothing(shared_registry: RegistryServer, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "audit").write_text("no folder")
    with running_proxy(shared_registry.url, {"embedded": str(state)}) as proxy:
        wait_until(lambda: _places(proxy), "the log to say where the index is")
        (place,) = _places(proxy)
        assert place.startswith("in memory, at most 256 MiB: the newest events only, read anew at each start (")
        assert "File exists" in place


def test_without_a_folder_it_is_said_what_that_means(
    shared_registry: RegistryServer, redis_server: RedisServer
) -> None:
    with running_proxy(shared_registry.url, {"url": redis_server.url}) as proxy:
        wait_until(lambda: _places(proxy), "the log to say where the index is")
        (place,) = _places(proxy)
        assert "in memory" in place
        assert "audit.index names no folder" in place


def _places(proxy: ProxyServer) -> list[str]:
    """What the log says of where the index is kept; a line may be half written."""
    lines = [line for line in proxy.log_path.read_text().split("\n")[:-1] if "audit_index" in line]
    said = [str(json.loads(line)["said"]) for line in lines]
    return [text.removeprefix("the audit's index is kept ") for text in said if "is kept" in text]


def _modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
