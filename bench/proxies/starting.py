"""The proxies that stand side by side, each made to front one registry, with its configuration file beside this one."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.proxies import ProxyServer, make_proxy
from tests.support.servers import RedisServer, RegistryServer, Server, free_port, program

DIRECT, NGINX, HAPROXY, IMMUPROXY = "direct", "nginx", "HAProxy", "immuproxy"
PROXIES = (NGINX, HAPROXY, IMMUPROXY)
CONTENDERS = (DIRECT, *PROXIES)
_HERE = Path(__file__).parent


@dataclass
class PlainProxy(Server):
    """A proxy that keeps no ledger; it is ready when the registry answers through it."""

    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_ready(self) -> bool:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            line.request("GET", "/v2/")
            return line.getresponse().status == 200
        except OSError:
            return False
        finally:
            line.close()


Front = PlainProxy | ProxyServer


def make(name: str, directory: Path, registry: RegistryServer, redis: RedisServer) -> Front:
    """The proxy of that name, not yet started; only immuproxy uses ``redis``."""
    if name == NGINX:
        return _plain(name, "nginx.conf", ("-p", str(directory), "-c"), directory, registry)
    if name == HAPROXY:
        return _plain(name, "haproxy.cfg", ("-db", "-f"), directory, registry)
    return make_proxy(directory, registry.url, {"url": redis.url}, single=False)


def _plain(name: str, file: str, options: Sequence[str], directory: Path, registry: RegistryServer) -> PlainProxy:
    port, written = free_port(), directory / file
    text = (_HERE / file).read_text()
    written.write_text(text.replace("@LISTEN@", f"127.0.0.1:{port}").replace("@REGISTRY@", registry.address))
    return PlainProxy(
        name=name,
        command=[program(name.lower()), *options, str(written)],
        log_path=directory / f"{name}.log",
        ready_text="",
        directory=directory,
        port=port,
    )
