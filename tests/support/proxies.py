"""A real `immuproxy serve` on free ports, as a child process that can be killed, frozen and started again."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.servers import Server, free_port, running

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class ProxyServer(Server):
    """One `immuproxy serve`.  `config_path` is watched: write to it to change the rules."""

    edge_port: int = 0
    console_port: int = 0
    config_path: Path = Path()

    @property
    def url(self) -> str:
        """The edge: where clients push to."""
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        """`host:port` of the edge, as image names begin with."""
        return f"127.0.0.1:{self.edge_port}"

    @property
    def console_url(self) -> str:
        return f"http://127.0.0.1:{self.console_port}"

    @property
    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.console_url + self.ready_text, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def make_proxy(
    directory: Path,
    upstream_url: str,
    redis: Mapping[str, Any],
    *,
    rules: str = "default: immutable",
    more: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
    ready_path: str = "/readyz?writes=1",
    single: bool = True,
) -> ProxyServer:
    """A proxy in front of `upstream_url`, not yet started.

    `redis` is that part of the configuration (`{"url": ...}` or `{"embedded": ...}`), `rules` the YAML text of
    `default` and `rules`, `more` further keys of a part (`{"edge": {"trusted_proxies": [...]}}`).  It counts as
    started when `ready_path` of the console answers 200: `/healthz` for a proxy whose Redis or upstream is down.
    `single`: all of it is one process, which starts sooner.
    """
    edge, console = free_port(), free_port()
    parts: dict[str, dict[str, Any]] = {
        "upstream": {"url": upstream_url},
        "edge": {"listen": f"127.0.0.1:{edge}"},
        "console": {"listen": f"127.0.0.1:{console}"},
        "redis": dict(redis),
    }
    for part, settings in (more or {}).items():
        parts.setdefault(part, {}).update(settings)
    config = directory / "immuproxy.yml"
    lines = [f"{part}: {json.dumps(settings)}" for part, settings in parts.items()]  # JSON is YAML
    config.write_text("\n".join([*lines, rules.strip(), ""]))
    alone = ["--single"] if single else []
    return ProxyServer(
        has_children=True,
        name="immuproxy",
        command=[sys.executable, "-m", "immuproxy", "serve", "--config", str(config), *alone],
        log_path=directory / "immuproxy.log",
        ready_text=ready_path,
        directory=directory,
        environment={"PYTHONPATH": str(ROOT), **(environment or {})},
        edge_port=edge,
        console_port=console,
        config_path=config,
    )


def running_proxy(
    upstream_url: str, redis: Mapping[str, Any], directory: Path | None = None, **options: Any
) -> AbstractContextManager[ProxyServer]:
    """A started proxy; options as of `make_proxy`."""
    return running(lambda where: make_proxy(where, upstream_url, redis, **options), directory)
