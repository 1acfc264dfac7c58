"""The index of a real proxy: where it is kept, and that nothing waits for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.proxies import running_proxy
from tests.servers import RegistryServer, wait_until


def _events(file: Path) -> int:
    """How many events a finished or running index holds."""
    if not file.exists():
        return 0
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])


def test_a_proxy_keeps_its_index_beside_its_redis(shared_registry: RegistryServer, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running_proxy(shared_registry.url, {"embedded": str(state)}) as proxy:
        proxy.config_path.write_text(proxy.config_path.read_text().replace("immutable", "mutable"))
        wait_until(lambda: _events(state / "audit" / "audit-1.sqlite3"), "the changed rules to be in the index")


def test_a_folder_that_cannot_be_used_stops_nothing(shared_registry: RegistryServer, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "audit").write_text("no folder")
    with running_proxy(shared_registry.url, {"embedded": str(state)}) as proxy:
        wait_until(lambda: "kept in memory" in proxy.log_path.read_text(), "the log to say where the index is")
