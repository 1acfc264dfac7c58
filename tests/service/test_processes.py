"""``immuproxy serve`` as its processes: what each of them does, dies of, and is replaced by."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from redis import Redis

from immuproxy.ledger.keys import compared
from immuproxy.service import processes as module
from immuproxy.service.processes import cores
from tests.service.test_config import config_of
from tests.support.conversation import Client, image, sha256
from tests.support.proxies import ProxyServer, make_proxy, running_proxy
from tests.support.servers import RedisServer, RegistryServer, wait_until


@pytest.fixture(scope="module")
def server(shared_registry: RegistryServer, shared_redis: RedisServer) -> Iterator[ProxyServer]:
    with running_proxy(
        shared_registry.url, {"url": shared_redis.url}, more={"edge": {"workers": 2}}, single=False
    ) as started:
        yield started


@pytest.fixture
def proxy(server: ProxyServer) -> Iterator[ProxyServer]:
    """Two edges and an office, all of which stand again at the end."""
    yield server
    wait_until(lambda: len(processes(server)) == 3 and server.is_ready, "all to stand again")


@pytest.fixture
async def client(proxy: ProxyServer) -> AsyncIterator[Client]:
    async with client_of(proxy.url) as client:
        yield client


@contextlib.asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    """Each request has a connection of its own."""
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(auto_decompress=False, connector=connector) as session:
        yield Client(url, session)


def processes(proxy: ProxyServer) -> dict[str, int]:
    """Those of a proxy that run, by their names."""
    children = Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text().split()
    return {name: pid for pid in map(int, children) if (name := _name(pid))}


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def lines(proxy: ProxyServer, event: str) -> list[dict[str, Any]]:
    found = (json.loads(line) for line in proxy.log.splitlines())
    return [line for line in found if line["event"] == event]


def replaced(proxy: ProxyServer, name: str) -> list[dict[str, Any]]:
    """What was said of a process that ended."""
    return [line for line in lines(proxy, "a process ended and is replaced") if line["ended"] == name]


@contextlib.contextmanager
def killed(proxy: ProxyServer, name: str) -> Iterator[None]:
    """The process is gone when the block begins, and it was replaced, and that was said, when it has ended."""
    before, pid = len(replaced(proxy, name)), processes(proxy)[name]
    os.kill(pid, signal.SIGKILL)
    yield
    wait_until(lambda: processes(proxy).get(name, pid) != pid, f"another {name}")
    wait_until(lambda: len(replaced(proxy, name)) == before + 1, "that to be said")
    said = replaced(proxy, name)[-1]
    assert (said["level"], said["pid"], said["how"]) == ("error", pid, "by SIGKILL")


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it to stand still")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def status_of(proxy: ProxyServer) -> dict[str, Any]:
    """What `/readyz` says, whatever its status."""
    try:
        return dict(json.loads(read(f"{proxy.console_url}/readyz")))
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.load(error))


def series(proxy: ProxyServer) -> dict[str, float]:
    lines = [line for line in read(f"{proxy.console_url}/metrics").splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def asked(proxy: ProxyServer) -> float:
    """Requests at the edge, by the metrics."""
    return sum(value for name, value in series(proxy).items() if name.startswith("immuproxy_requests_total"))


def ask(proxy: ProxyServer, path: str = "/v2/") -> int:
    try:
        with urllib.request.urlopen(f"{proxy.url}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@dataclass
class Load:
    """Clients that ask again and again, each time by a new connection, and what went wrong."""

    client: Client
    repository: str
    answered: int = 0
    refused: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    async def read(self) -> None:
        while True:
            try:
                answer = await self.client.pull(self.repository, "1.0")
            except aiohttp.ClientConnectorError as error:
                self.refused.append(str(error))
            except (aiohttp.ClientError, OSError) as error:
                self.broken.append(repr(error))
            else:
                if answer.status != 200:
                    self.broken.append(f"{answer.status} {answer.body!r}")
                self.answered += 1

    async def until(self, done: Callable[[], bool], answers: int) -> None:
        """Until that is so, and so many were answered after it."""
        await asyncio.to_thread(wait_until, done, "it to happen under load", 20)
        until = self.answered + answers
        async with asyncio.timeout(20):
            while self.answered < until:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def load(client: Client, repository: str) -> AsyncIterator[Load]:
    assert (await client.push(repository, "1.0", image(repository))).status == 201
    pushing = Load(client, repository)
    tasks = [asyncio.create_task(pushing.read()) for _ in range(8)]
    try:
        await pushing.until(lambda: True, 20)
        yield pushing
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_all_are_said_to_be_ready_once(proxy: ProxyServer) -> None:
    (ready,) = lines(proxy, "ready")
    assert (ready["edge"], ready["console"]) == (proxy.address, f"127.0.0.1:{proxy.console_port}")
    assert sorted(processes(proxy)) == ["edge-1", "edge-2", "office"]
    assert len(list(Path(f"/proc/{proxy.pid}/task").iterdir())) == 1, "what has threads is not to be forked"
    assert {"name": "edge", "ok": True, "detail": "2 of 2 processes answer", "stops": []} in status_of(proxy)["parts"]


def test_each_edge_serves_and_who_can_takes_what_comes(proxy: ProxyServer) -> None:
    names = processes(proxy)
    for one, other in (("edge-1", "edge-2"), ("edge-2", "edge-1")):
        with standing_still(names[one]):
            before = len(lines(proxy, "request"))
            assert [ask(proxy) for _ in range(5)] == [200] * 5
            assert {line["process"] for line in lines(proxy, "request")[before:]} == {other}


def test_h144_what_all_count_is_added_up_also_when_one_is_gone(proxy: ProxyServer) -> None:
    before, names = asked(proxy), processes(proxy)
    for still in ("edge-1", "edge-2"):
        with standing_still(names[still]):
            for _ in range(3):
                ask(proxy)
    assert asked(proxy) == before + 6
    with standing_still(names["edge-1"]):  # it does not answer
        assert asked(proxy) == before + 6
    with killed(proxy, "edge-1"):
        pass
    with killed(proxy, "office"):
        pass
    wait_until(lambda: proxy.is_ready, "the office to be there again")
    assert asked(proxy) == before + 6
    ask(proxy)
    found = series(proxy)
    assert asked(proxy) == before + 7
    assert found['immuproxy_process_restarts_total{process="edge-1"}'] == len(replaced(proxy, "edge-1"))
    assert found['immuproxy_process_restarts_total{process="office"}'] == len(replaced(proxy, "office"))
    assert found['immuproxy_process_restarts_total{process="edge-2"}'] == len(replaced(proxy, "edge-2"))
    assert found['immuproxy_up{part="redis"}'] == found['immuproxy_up{part="edge"}'] == 1


async def test_h143_an_edge_that_is_killed_under_load_refuses_nobody(
    proxy: ProxyServer, client: Client, unique_name: str
) -> None:
    async with load(client, unique_name) as clients:
        for name in ("edge-1", "edge-2"):
            with killed(proxy, name):
                await clients.until(lambda: True, 20)
        await clients.until(lambda: len(processes(proxy)) == 3, 50)
    assert clients.refused == []
    assert len(clients.broken) <= 2 * 8, clients.broken  # what was under way in the process itself


async def test_h145_without_the_office_pushes_and_pulls_go_on(
    proxy: ProxyServer, client: Client, unique_name: str
) -> None:
    async with load(client, unique_name) as clients:
        with standing_still(processes(proxy)["office"]):
            assert (await client.push(unique_name, "2.0", image("two"))).status == 201
            await clients.until(lambda: True, 50)
        with killed(proxy, "office"):
            assert (await client.push(unique_name, "3.0", image("three"))).status == 201
            assert (await client.push(unique_name, "3.0", image("other"))).status == 409
            await clients.until(lambda: True, 50)
    assert clients.refused == clients.broken == []

    def events() -> list[str]:
        found = json.loads(read(f"{proxy.console_url}/api/v1/events?q=repo:{unique_name}"))["events"]
        return [f"{event['tag']} {event['outcome']}" for event in found]

    await asyncio.to_thread(wait_until, lambda: proxy.is_ready, "the office to be there again")
    await asyncio.to_thread(
        wait_until,
        lambda: events() == ["3.0 refused", "3.0 created", "2.0 created", "1.0 created"],
        "all of it to be told",
    )


async def test_an_event_is_in_the_console_within_a_second(proxy: ProxyServer, client: Client, unique_name: str) -> None:
    """As a rule: the office hears of it from the edge; by itself it would look every 3.5 seconds, or less often."""
    for tag in ("1.0", "2.0", "3.0", "4.0"):
        assert (await client.push(unique_name, tag, image(tag))).status == 201
        where = f"{proxy.console_url}/api/v1/events?q=repo:{unique_name}%20tag:{tag}"
        await asyncio.to_thread(wait_until, partial(_has_events, where), "the event to be shown", 3)


def _has_events(where: str) -> bool:
    return bool(json.loads(read(where))["events"])


async def test_drift_that_a_reader_meets_is_healed_by_the_office(
    proxy: ProxyServer,
    client: Client,
    shared_registry: RegistryServer,
    shared_redis: RedisServer,
    unique_name: str,
) -> None:
    """The sweep has just been there, and would come by in ten minutes."""
    with Redis.from_url(shared_redis.url) as ledger:
        ledger.set(compared(unique_name), 1)
    direct = Client(shared_registry.url, client.session)
    pushed, other = image("pushed"), image("other")
    assert (await client.push(unique_name, "1.0", pushed)).status == 201
    assert (await direct.push(unique_name, "1.0", other)).status == 201
    async with asyncio.timeout(20):
        while (await direct.pull(unique_name, "1.0")).digest != pushed.digest:
            assert (await client.pull(unique_name, "1.0")).digest == pushed.digest
            await asyncio.sleep(0.1)


def test_sighup_reaches_all(proxy: ProxyServer) -> None:
    before, event = proxy.config_path.read_text(), "asked to read all files again; what changed is told"
    names = set(processes(proxy))
    other = change(proxy, before.replace("default: immutable", "default: frozen"))
    try:
        os.kill(proxy.pid, signal.SIGHUP)
        wait_until(lambda: {line["process"] for line in lines(proxy, event)} == names, "all to be told")
        wait_until(lambda: have_read(proxy, other) == names, "all to read it")
        wait_until(lambda: told(proxy, other), "it to be told")
    finally:
        back = change(proxy, before)
        wait_until(lambda: have_read(proxy, back) == names, "the old rules to be in force again")
    assert told(proxy, other) == 1


def change(proxy: ProxyServer, text: str) -> str:
    """Another file; its digest."""
    proxy.config_path.write_text(text)
    return sha256(text.encode())


def have_read(proxy: ProxyServer, digest: str) -> set[str]:
    """The processes that said so."""
    changed = lines(proxy, "configuration loaded with other rules")
    return {line["process"] for line in changed if line["digest"] == digest}


def told(proxy: ProxyServer, digest: str) -> int:
    """How many events tell of that version of the file."""
    events = json.loads(read(f"{proxy.console_url}/api/v1/events?action=rules"))["events"]
    return sum(event["digest"] == digest and event["reason"] == "immuproxy.yml changed" for event in events)


async def test_h142_who_takes_a_place_has_what_is_in_force(
    shared_registry: RegistryServer, redis_server: RedisServer, unique_name: str
) -> None:
    """Of the last good file, and neither of the one at the start nor of the bad one that stands there now; but what
    waits for a restart still does.
    """
    opening = running_proxy(shared_registry.url, {"url": redis_server.url}, single=False)
    with opening as proxy:
        text = proxy.config_path.read_text()
        other = text.replace("default: immutable", "default: frozen").replace(str(proxy.edge_port), "1")
        digest = change(proxy, other)
        await asyncio.to_thread(wait_until, lambda: len(have_read(proxy, digest)) == 2, "both to read it")
        await asyncio.sleep(1.1)  # the parent looks as often
        proxy.config_path.write_text(other.replace("frozen", "forzen"))
        with killed(proxy, "edge-1"), killed(proxy, "office"):
            pass
        await asyncio.to_thread(wait_until, lambda: proxy.is_ready, "all to stand again")
        async with client_of(proxy.url) as client:
            assert (await client.push(unique_name, "1.0", image("one"))).status == 409
        file = json.loads(read(f"{proxy.console_url}/api/v1/rules"))["file"]
        assert file["restart_needed"] == ["edge.listen"]
        assert "forzen" in file["error"]


def upload(proxy: ProxyServer) -> tuple[socket.socket, bytes]:
    """A PATCH of 10 bytes, 5 of which were sent; what came back is yet to be read."""
    begun = urllib.request.Request(f"{proxy.url}/v2/a/b/blobs/uploads/", method="POST")
    with urllib.request.urlopen(begun, timeout=5) as answer:
        path = str(answer.headers["Location"]).removeprefix(proxy.url)
    line = socket.create_connection(("127.0.0.1", proxy.edge_port), timeout=10)
    line.sendall(f"PATCH {path} HTTP/1.1\r\nHost: {proxy.address}\r\nContent-Length: 10\r\n\r\n01234".encode())
    return line, b"56789"


def alive(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}/cwd").exists()]


@pytest.mark.parametrize("to", ["parent", "all", "terminal"])
def test_a_stop_finishes_what_is_under_way(shared_registry: RegistryServer, redis_server: RedisServer, to: str) -> None:
    """By SIGTERM, also where every process gets it as from systemd, and by Ctrl-C, which all of a terminal get."""
    more = {"edge": {"workers": 2}}
    with running_proxy(shared_registry.url, {"url": redis_server.url}, more=more, single=False) as proxy:
        pids, (line, rest) = processes(proxy).values(), upload(proxy)
        with line:
            if to == "terminal":
                os.killpg(proxy.pid, signal.SIGINT)
            for pid in {"parent": [proxy.pid], "all": [proxy.pid, *pids]}.get(to, []):
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda: lines(proxy, "stopping: pushes under way are finished first"), "that to be said")
            wait_until(lambda: not listens(proxy.edge_port), "no more to be taken")
            line.sendall(rest)
            assert line.recv(12) == b"HTTP/1.1 202"
        assert proxy.process is not None
        assert proxy.process.wait(10) == 0
        assert alive(pids) == []
        assert "ended" not in proxy.log


def listens(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


def test_nobody_outlives_a_parent_that_is_killed(shared_registry: RegistryServer, tmp_path: Path) -> None:
    with running_proxy(shared_registry.url, {"embedded": "data"}, tmp_path / "p", single=False) as proxy:
        pids = processes(proxy)
        assert sorted(pids) == ["edge-1", "office", "redis"]
        proxy.kill()
        wait_until(lambda: not alive(pids.values()), "all to end")
        proxy.start()


async def test_an_embedded_redis_outlives_all_others(
    shared_registry: RegistryServer, tmp_path: Path, unique_name: str
) -> None:
    with running_proxy(shared_registry.url, {"embedded": "data"}, tmp_path / "p", single=False) as proxy:
        async with client_of(proxy.url) as client:
            assert (await client.push(unique_name, "1.0", image("one"))).status == 201
            with killed(proxy, "edge-1"), killed(proxy, "office"):
                pass
            assert (await client.push(unique_name, "1.0", image("other"))).status == 409
            with killed(proxy, "redis"):
                pass
            async with asyncio.timeout(20):
                while (answer := await client.push(unique_name, "1.0", image("other"))).status == 503:
                    await asyncio.sleep(0.05)
            assert answer.status == 409


def failed(folder: Path, text: str) -> tuple[int, list[dict[str, Any]]]:
    """The status of a proxy with this file, and what it said."""
    (folder / "immuproxy.yml").write_text(text)
    command = [sys.executable, "-m", "immuproxy", "serve", "--config", str(folder / "immuproxy.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, [json.loads(line) for line in done.stderr.splitlines()]


def test_nonsense_as_a_number_of_workers_is_told_once(tmp_path: Path) -> None:
    text = "upstream: {url: 'http://a'}\nredis: {url: 'redis://b'}\nedge:\n  workers: 0\n"
    status, (said,) = failed(tmp_path, text)
    assert status == 2
    assert (
        ":4:12: workers is a number of processes from 1 to 256, or auto; auto is one for each core" in said["problem"]
    )


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("edge: {workers: 3, tls: {cert: gone, key: gone}}", "edge.tls: cannot read"),
        ("edge: {workers: 3}\nconsole: {auth: {users_file: gone}}", "gone"),
        ("upstream: {url: 'https://a', ca_file: gone}", "upstream.ca_file: cannot use"),
        ("redis: {embedded: immuproxy.yml}", "redis.embedded: "),
    ],
)
def test_what_keeps_it_from_starting_is_told_once(tmp_path: Path, more: str, problem: str) -> None:
    """However many processes meet it."""
    ports = {"edge": {"listen": "127.0.0.1:0"}, "console": {"listen": "127.0.0.1:0"}}
    whole: dict[str, Any] = {"upstream": {"url": "http://127.0.0.1:1"}, "redis": {"url": "redis://127.0.0.1:1"}}
    for name, section in yaml.safe_load(more).items():
        whole[name] = section if name in whole else ports[name] | section
    status, lines = failed(tmp_path, json.dumps(ports | whole))
    (said,) = [line for line in lines if line["level"] == "critical"]
    assert (status, said["event"]) == (1, "cannot start")
    assert problem in said["problem"]
    assert [line for line in lines if line["event"] in {"ready", "a process ended and is replaced"}] == []


def test_h69_a_redis_that_may_forget_is_told_once(
    shared_registry: RegistryServer, start_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    redis = start_redis(more={"maxmemory-policy": "allkeys-lru"})
    text = f"upstream: {{url: '{shared_registry.url}'}}\nredis: {{url: '{redis.url}'}}\n"
    edge = "edge: {listen: '127.0.0.1:0', workers: 3}\nconsole: {listen: '127.0.0.1:0'}\n"
    status, (said,) = failed(tmp_path, text + edge)
    assert (status, said["event"]) == (1, "cannot start")
    assert "noeviction" in said["problem"]


def test_a_process_that_ends_again_and_again_is_replaced_ever_later(
    shared_registry: RegistryServer, redis_server: RedisServer
) -> None:
    with running_proxy(shared_registry.url, {"url": redis_server.url}, single=False) as proxy:
        for _ in range(3):
            with killed(proxy, "edge-1"):
                pass
            wait_until(lambda: ask(proxy) == 200, "it to serve")
        assert [line["after"] for line in replaced(proxy, "edge-1")] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("quota", "most"), [("max 100000", 1000), ("150000 100000", 2), ("5000 100000", 1), ("?", 1000)]
)
def test_auto_is_as_many_as_there_are_cores_to_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, most: int
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    monkeypatch.setattr(module, "_CPU_MAX", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1000)))
    assert cores() == most
    assert config_of("upstream: {url: 'http://a'}\nredis: {url: 'redis://b'}\nedge: {workers: auto}").edge.workers == 0


LAUNCH = """
import os, sys
edge, console, *command = sys.argv[1:]
for number, given in enumerate((edge, console)):
    os.dup2(int(given), 100 + number)
for number in range(2):
    os.dup2(100 + number, 3 + number)
names = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": os.environ["NAMES"]}
os.execvpe(command[0], command, os.environ | names)
"""
"""As systemd starts a service whose sockets it has opened."""


@contextlib.contextmanager
def activated(
    file: Path, sockets: Sequence[socket.socket], names: str = "edge:console"
) -> Iterator[subprocess.Popen[str]]:
    given = [sock.fileno() for sock in sockets]
    command = [sys.executable, "-c", LAUNCH, *map(str, given), sys.executable, "-m", "immuproxy", "serve"]
    with subprocess.Popen(
        [*command, "--config", str(file)],
        pass_fds=given,
        env=os.environ | {"NAMES": names},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def until_said(process: subprocess.Popen[str], event: str) -> None:
    assert process.stderr is not None
    said = iter(process.stderr.readline, "")
    assert any(json.loads(line)["event"] == event for line in said)
    threading.Thread(target=process.stderr.read, daemon=True).start()  # or it would stand still before a full pipe


async def test_h143_a_restart_under_load_refuses_nobody(
    registry: RegistryServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Where the sockets outlive it; who comes meanwhile waits for the next one."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100)) for _ in range(2)]
        file = make_proxy(tmp_path, registry.url, {"url": redis_server.url}).config_path
        url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        with activated(file, sockets) as first:
            await asyncio.to_thread(until_said, first, "ready")
            async with client_of(url) as client, load(client, "team/app") as clients:
                first.terminate()
                await asyncio.to_thread(first.wait, 10)
                with activated(file, sockets) as second:
                    await asyncio.to_thread(until_said, second, "ready")
                    await clients.until(lambda: True, 50)
    assert clients.refused == clients.broken == []


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("edge:web", "FileDescriptorName= is to be edge or console"),
        ("console:edge", "systemd hands over a socket for edge that is no TCP socket"),
    ],
)
def test_a_socket_that_is_none_of_ours_is_told(tmp_path: Path, names: str, problem: str) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))), *socket.socketpair()]
        for sock in sockets[1:]:
            stack.enter_context(sock)
        file = make_proxy(tmp_path, "http://127.0.0.1:1", {"url": "redis://127.0.0.1:1"}).config_path
        process = stack.enter_context(activated(file, sockets[:2], names))
        _, said = process.communicate(timeout=20)
        assert process.returncode == 1
        assert problem in json.loads(said)["problem"]
