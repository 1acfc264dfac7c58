"""The servers that the other tests lean on do what their names say."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import blockbuster
import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

import immuproxy
from tests.support.servers import (
    DidNotStart,
    MissingProgram,
    RedisServer,
    RegistryServer,
    free_port,
    make_redis,
    program,
    running_redis,
    running_registry,
    wait_until,
)
from tests.support.tokens import TokenIssuer

ROOT = Path(__file__).resolve().parents[2]
MEDIA_TYPE = "application/vnd.oci.image.index.v1+json"
EMPTY_INDEX = json.dumps({"schemaVersion": 2, "mediaType": MEDIA_TYPE, "manifests": []}).encode()


def ask(method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """One request, and what came back: status and body."""
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


def put_index(server: RegistryServer, tag: str = "t/a/manifests/1") -> int:
    headers = {"Content-Type": MEDIA_TYPE}
    return ask("PUT", f"{server.url}/v2/{tag}", EMPTY_INDEX, headers)[0]


def get_index(server: RegistryServer, **headers: str) -> tuple[int, bytes]:
    return ask("GET", f"{server.url}/v2/t/a/manifests/1", headers={"Accept": MEDIA_TYPE, **headers})


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_registry_stores_and_serves_a_manifest(registry: RegistryServer) -> None:
    assert put_index(registry) == 201
    assert get_index(registry) == (200, EMPTY_INDEX)
    assert "PUT /v2/t/a/manifests/1" in registry.log
    assert (registry.storage / "docker/registry/v2/repositories/t/a/_manifests/tags/1/current/link").exists()


def test_a_registry_keeps_its_port_and_data_over_restart_and_kill(registry: RegistryServer) -> None:
    put_index(registry)
    url = registry.url
    registry.restart()
    assert get_index(registry) == (200, EMPTY_INDEX)
    registry.kill()
    assert not registry.is_running
    registry.start()
    assert registry.url == url
    assert get_index(registry) == (200, EMPTY_INDEX)


@pytest.mark.parametrize(("delete", "status"), [(True, 202), (False, 405)])
def test_a_registry_deletes_only_where_told_to(
    start_registry: Callable[..., RegistryServer], delete: bool, status: int
) -> None:
    server = start_registry(delete=delete)
    put_index(server)
    digest = "sha256:" + hashlib.sha256(EMPTY_INDEX).hexdigest()
    assert ask("DELETE", f"{server.url}/v2/t/a/manifests/{digest}")[0] == status


def test_a_registry_with_passwords_asks_for_them(start_registry: Callable[..., RegistryServer]) -> None:
    server = start_registry(htpasswd={"ann": "secret"})
    assert put_index(server) == 401
    assert ask("GET", server.url + "/v2/", headers={"Authorization": "Basic YW5uOnNlY3JldA=="})[0] == 200


def test_a_registry_with_tokens_takes_only_those_of_its_issuer(
    start_registry: Callable[..., RegistryServer],
) -> None:
    issuer = TokenIssuer()
    server = start_registry(token=issuer)
    access = {"t/a": ["pull"]}
    good, late = issuer.issue("ann", access), issuer.issue("ann", access, seconds=-120)
    foreign = TokenIssuer().issue("ann", access)
    answers = [get_index(server, Authorization=f"Bearer {token}")[0] for token in (good, late, foreign)]
    assert answers == [404, 401, 401]


def test_more_settings_reach_the_registry(start_registry: Callable[..., RegistryServer]) -> None:
    server = start_registry(more={"http": {"headers": {"X-Probe": ["yes"]}}})
    with urllib.request.urlopen(server.url + "/v2/", timeout=5) as answer:
        assert answer.headers["X-Probe"] == "yes"


def test_a_paused_server_answers_nothing_until_resumed(registry: RegistryServer) -> None:
    registry.pause()
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(registry.url + "/v2/", timeout=0.2)
    registry.resume()
    assert ask("GET", registry.url + "/v2/")[0] == 200


def test_redis_never_evicts_and_keeps_its_data_over_a_kill(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("k", "v")
        wait_until(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0, "fsync")
    redis_server.kill()
    redis_server.start()
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.get("k") == b"v"


def test_redis_listens_on_a_unix_socket_too(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.unix_url) as client:
        assert client.ping()


def test_redis_with_tls_and_password(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis(tls=True, password="secret")
    trusting = {"ssl_ca_certs": str(server.ca_path)}
    with redis.Redis.from_url(server.url, **trusting) as client:
        assert client.ping()
    wrong_password = server.url.replace("secret", "wrong")
    with redis.Redis.from_url(wrong_password, **trusting) as client, pytest.raises(AuthenticationError):
        client.ping()
    no_retry = Retry(NoBackoff(), 0)
    with redis.Redis.from_url(server.url, retry=no_retry) as stranger, pytest.raises(redis.ConnectionError) as refused:
        stranger.ping()
    assert "certificate verify failed" in str(refused.value)


def test_redis_takes_other_settings(start_redis: Callable[..., RedisServer]) -> None:
    with redis.Redis.from_url(start_redis(more={"maxmemory-policy": "allkeys-lru"}).url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}


def test_what_stops_a_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(DidNotStart, match=r"ended at once(.|\n)*no-such-setting"):
        make_redis(tmp_path, more={"no-such-setting": "1"}).start()


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_a, **_k: None)
    with pytest.raises(MissingProgram, match=r"dockerd is not installed; .*docker\.io"):
        program("dockerd")


def test_servers_end_and_their_data_goes_when_a_test_fails() -> None:
    class Fails(Exception):
        pass

    servers: list[RegistryServer | RedisServer] = []
    with pytest.raises(Fails), running_registry() as registry, running_redis() as redis_server:
        servers += [registry, redis_server]
        pids = [s.pid for s in servers]
        raise Fails
    assert not any(map(is_alive, pids))
    assert not any(s.directory.exists() for s in servers)


def test_servers_do_not_survive_a_killed_parent(tmp_path: Path) -> None:
    script = f"""
import pathlib, time
from tests.support.servers import running_redis, running_registry
where = pathlib.Path({str(tmp_path)!r})
with running_registry(where / "a") as a, running_redis(where / "b") as b:
    print(a.pid, b.pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids)), "the servers to end with their parent", 5)


def test_a_free_port_is_free_and_below_the_outgoing_range() -> None:
    ports = {free_port() for _ in range(50)}
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(ports) > 40
    assert max(ports) < first_outgoing


def _blocks_in_immuproxy() -> None:
    path = Path(immuproxy.__file__).with_name("blocks.py")
    exec(compile("import time\ntime.sleep(0.001)", str(path), "exec"), {})


async def test_a_call_of_immuproxy_that_blocks_the_loop_fails() -> None:
    with pytest.raises(blockbuster.BlockingError):
        _blocks_in_immuproxy()


@pytest.mark.blocking_allowed  # shows that the mark works
async def test_blocking_can_be_allowed_for_one_test() -> None:
    await asyncio.sleep(0)
    _blocks_in_immuproxy()


def test_code_that_is_not_on_the_loop_may_block() -> None:
    _blocks_in_immuproxy()


def test_no_other_run_of_tests_gets_a_port_of_this_one() -> None:
    port = free_port()
    lock = Path(tempfile.gettempdir()) / "immuproxy-test-ports" / str(port - port % 200)
    with lock.open("w") as others, pytest.raises(BlockingIOError):
        fcntl.flock(others, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_port_of_a_server_that_is_down_is_not_given_away_soon() -> None:
    first = free_port()
    assert first not in {free_port() for _ in range(100)}
