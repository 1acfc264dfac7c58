"""``immuproxy serve --single``: how it starts, what it says when it cannot, and how it follows its file."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.support.conversation import image
from tests.support.servers import RedisServer, RegistryServer, free_port, wait_until


class Served:
    """One process, with the ports that its file names."""

    def __init__(self, directory: Path, text: str) -> None:
        self.edge, self.console = free_port(), free_port()
        self.file = directory / "immuproxy.yml"
        self.write(text)
        self.log = directory / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "immuproxy", "serve", "--single", "--config", str(self.file)],
                stdout=log,
                stderr=log,
            )

    def write(self, text: str) -> None:
        self.file.write_text(
            f"{text}\nedge: {{listen: '127.0.0.1:{self.edge}'}}\nconsole: {{listen: '127.0.0.1:{self.console}'}}\n"
        )

    def get(self, path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.console}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, None

    def until_ready(self, status: int = 200) -> None:
        """Until the strict form answers so."""
        self.until("/readyz?writes=1", status)

    def until(self, path: str, status: int) -> None:
        wait_until(lambda: self.process.poll() is not None or self.get(path)[0] == status, "immuproxy to answer")
        assert self.process.poll() is None, self.log.read_text()

    def put(self, tag: str, body: bytes, media_type: str) -> int:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.edge}/v2/team/app/manifests/{tag}",
            data=body,
            method="PUT",
            headers={"Content-Type": media_type},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def metric(self, name: str) -> float | None:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.console}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), None)

    def events(self, action: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/api/v1/events?action={action}")[1]["events"]
        return found


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], Served]]:
    started: list[Served] = []

    def start(text: str) -> Served:
        started.append(Served(tmp_path, text))
        return started[-1]

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.kill()
        served.process.wait()


def file_for(registry: RegistryServer, redis: RedisServer, rest: str = "") -> str:
    return f"upstream: {{url: '{registry.url}'}}\nredis: {{url: '{redis.url}'}}\n{rest}"


def test_a_wrong_file_is_told_whole_and_ends_with_status_2(serve: Callable[[str], Served]) -> None:
    served = serve("upstraem: {url: http://a}\nredis: {url: ftp://x}\ndefault: imutable\n")
    assert served.process.wait(10) == 2
    said = served.log.read_text()
    for expected in ("upstream", "immutable", "redis", ":1:", ":2:", ":3:"):
        assert expected in said


def test_h69_a_redis_that_may_forget_is_refused(
    serve: Callable[[str], Served], registry: RegistryServer, start_redis: Callable[..., RedisServer]
) -> None:
    redis = start_redis(more={"maxmemory-policy": "allkeys-lru", "appendonly": "no"})
    served = serve(file_for(registry, redis))
    assert served.process.wait(10) == 1
    said = served.log.read_text()
    assert "noeviction" in said
    assert "appendonly yes" in said


def test_h69_a_redis_that_comes_up_unsafe_or_becomes_so_gets_no_writes(
    serve: Callable[[str], Served], registry: RegistryServer, redis_server: RedisServer
) -> None:
    """At the start it was not there to be asked."""
    redis_server.stop()
    served = serve(file_for(registry, redis_server))
    served.until_ready(503)
    redis_server.command = [*redis_server.command, "--maxmemory-policy", "allkeys-lru"]
    redis_server.start()
    wait_until(lambda: "noeviction" in str(served.get("/readyz")[1]), "the danger to be seen")
    assert served.put("1.0", image("one").body, image("one").media_type) == 503
    with Redis(port=redis_server.port) as client:
        assert not client.keys("*:tag:*")
        client.config_set("maxmemory-policy", "noeviction")
        served.until_ready()
        assert served.put("1.0", image("one").body, image("one").media_type) != 503
        client.config_set("maxmemory-policy", "volatile-lru")
        wait_until(lambda: "noeviction" in str(served.get("/readyz")[1]), "the danger to be seen")
        assert served.put("2.0", image("one").body, image("one").media_type) == 503


def test_an_account_that_the_upstream_refuses_is_said_once(
    serve: Callable[[str], Served], start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    closed = start_registry(htpasswd={"immuproxy": "right"})
    file = "upstream: {{url: '{}', username: immuproxy, password: {}}}\nredis: {{url: '{}'}}\n"
    served = serve(file.format(closed.url, "wrong", redis_server.url))
    served.until_ready()
    wait_until(lambda: "refuses the proxy's own account" in served.log.read_text(), "the refusal to be said")
    assert served.log.read_text().count("set upstream.username and its password right") == 1
    assert served.metric('immuproxy_up{part="account"}') == 0
    served.process.kill()
    served.process.wait()
    accepted = serve(file.format(closed.url, "right", redis_server.url))
    accepted.until_ready()
    wait_until(lambda: accepted.metric('immuproxy_up{part="account"}') == 1, "the account to be looked at")
    assert "own account" not in accepted.log.read_text()


def test_ctrl_c_while_it_starts_is_quiet(tmp_path: Path) -> None:
    """Its file is a pipe that nobody writes to, so it stands in the middle of its start."""
    file = tmp_path / "immuproxy.yml"
    os.mkfifo(file)
    command = [sys.executable, "-m", "immuproxy", "serve", "--config", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        pipe = os.open(file, os.O_WRONLY)  # returns when the file is being read
        try:
            time.sleep(0.2)  # nothing tells that it stands in the read by now
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=10)[0] == ""
        finally:
            os.close(pipe)
    assert process.returncode == 130


def test_a_taken_port_is_said_plainly(
    serve: Callable[[str], Served], registry: RegistryServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    first = serve(file_for(registry, redis_server))
    first.until_ready()
    second = Served.__new__(Served)
    second.edge, second.console, second.file = first.edge, first.console, tmp_path / "second.yml"
    second.write(file_for(registry, redis_server))
    done = subprocess.run(
        [sys.executable, "-m", "immuproxy", "serve", "--config", str(second.file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 1
    assert f"edge.listen: cannot listen on 127.0.0.1:{first.edge}" in done.stderr


def test_it_comes_up_when_redis_and_the_upstream_do(
    serve: Callable[[str], Served], registry: RegistryServer, redis_server: RedisServer
) -> None:
    redis_server.stop()
    registry.stop()
    served = serve(file_for(registry, redis_server, "log: {format: console}"))
    served.until_ready(503)
    assert {part["name"]: part["ok"] for part in served.get("/readyz")[1]["parts"]} == {
        "redis": False,
        "upstream": False,
    }
    assert "redis does not answer" in served.log.read_text()
    assert served.put("1.0", image("one").body, image("one").media_type) == 503
    registry.start()
    served.until("/readyz", 200)  # pulls can be served
    assert served.get("/readyz")[1]["status"] == "degraded"
    assert served.get("/readyz?writes=1")[0] == 503
    redis_server.start()
    served.until_ready()
    registry.stop()
    served.until("/readyz", 503)  # nothing can
    assert served.get("/readyz")[1]["status"] == "unavailable"


def test_a_changed_file_takes_effect_and_a_bad_one_does_not(
    serve: Callable[[str], Served], registry: RegistryServer, redis_server: RedisServer
) -> None:
    served = serve(file_for(registry, redis_server, "default: immutable"))
    served.until_ready()
    served.write(file_for(registry, redis_server, "default: frozen"))
    wait_until(lambda: len(served.events("rules")) == 2, "the new rules to be recorded")
    assert served.put("1.0", image("one").body, image("one").media_type) == 409
    served.write(file_for(registry, redis_server, "default: forzen"))
    wait_until(lambda: len(served.events("rules")) == 3, "the bad file to be recorded")
    latest = served.events("rules")[0]
    assert latest["outcome"] == "rejected"
    assert "frozen" in latest["reason"]
    assert served.put("1.0", image("one").body, image("one").media_type) == 409


def test_warnings_at_the_start_are_lines_of_the_log(
    serve: Callable[[str], Served], registry: RegistryServer, redis_server: RedisServer
) -> None:
    served = serve(file_for(registry, redis_server, "rules: [{name: trial, policy: immutable, mode: shadow}]"))
    served.until_ready()
    lines = [json.loads(line) for line in served.log.read_text().splitlines()]
    (told,) = [line for line in lines if "shadow mode" in line["event"]]
    assert (told["level"], told["file"], told["line"]) == ("warning", str(served.file), 3)


def test_it_is_ready_within_a_second_and_stops_at_once(
    serve: Callable[[str], Served], registry: RegistryServer, redis_server: RedisServer
) -> None:
    """Seconds of the processor: those of the wall are others' on a shared machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    served = serve(file_for(registry, redis_server))
    served.until_ready()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(10) == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert took < 3, took  # 0.8 on an idle machine; a busy one has cold caches
