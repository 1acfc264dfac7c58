"""Resources: what one client can make the proxy spend, and what others notice of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from immuproxy.console.audit.live import MOST_OF_ONE
from immuproxy.oci.manifests import MAX_PARTS, OCI_INDEX, OCI_MANIFEST
from tests.attack.arena import EVIL, REPOSITORY, Arena, arena, held
from tests.support.conversation import Image, image, sha256
from tests.support.wire import Wire, request, wire

V1 = held()["v1"]
TAG = f"/v2/{REPOSITORY}/manifests/v1"
READ = request("GET", TAG, [("Accept", OCI_MANIFEST)])
SLOW = 10.0
"""Seconds that others may wait at most, on a machine that has other work too; what stands still takes longer."""

MOST_MEMORY = 128 * 1024 * 1024

_numbers = count(1)


@pytest.fixture(scope="module")
def own() -> Iterator[Arena]:
    """An installation of this file's own: what it is made to keep is not other tests'."""
    with arena() as standing:
        asyncio.run(standing.prepare())
        yield standing
        asyncio.run(standing.aftermath())


def memory(standing: Arena) -> int:
    """Bytes that the proxy has in memory."""
    text = Path(f"/proc/{standing.proxy.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) * 1024


def files(standing: Arena) -> int:
    return sum(1 for _ in Path(f"/proc/{standing.proxy.pid}/fd").iterdir())


@contextlib.asynccontextmanager
async def held_open(port: int, first: bytes, number: int) -> AsyncIterator[list[Wire]]:
    """That many connections, each of which has sent ``first`` and then nothing."""
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(wire(port)) for _ in range(number)]
        for line in lines:
            await line.send(first)
        yield lines


async def others_are_served(standing: Arena) -> None:
    """Reads and pushes of somebody else, and the console's health, while the attack goes on."""
    began = time.perf_counter()
    assert (await standing.edge(READ, seconds=SLOW)).body == V1.body
    assert (await standing.console(request("GET", "/healthz"), seconds=SLOW)).status == 200
    body = EVIL.body + b" " * next(_numbers)
    pushed = request("PUT", f"/v2/{REPOSITORY}/manifests/dev-others", [("Content-Type", OCI_MANIFEST)], body)
    assert (await standing.edge(pushed, seconds=SLOW)).status == 201
    assert time.perf_counter() - began < SLOW


PUT_HEAD = f"PUT /v2/{REPOSITORY}/manifests/dev-slow HTTP/1.1\r\nHost: x\r\nContent-Type: {OCI_MANIFEST}\r\n"
UPLOAD_HEAD = f"POST /v2/{REPOSITORY}/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n"

SILENCES: dict[str, bytes] = {
    "nothing": b"",
    "half-a-method": b"GE",
    "half-a-target": b"GET /v2/prod",
    "half-a-head": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ",
    "head-without-end": b"GET /v2/ HTTP/1.1\r\nHost: x\r\n",
    "body-announced": f"{PUT_HEAD}Content-Length: 4000000\r\n\r\n".encode(),
    "body-begun": f"{PUT_HEAD}Content-Length: 4000000\r\n\r\n{{".encode(),
    "body-chunked": f"{PUT_HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\n{{".encode(),
    "body-expected": f"{PUT_HEAD}Content-Length: 4000000\r\nExpect: 100-continue\r\n\r\n".encode(),
    "upload-begun": f"{UPLOAD_HEAD}Content-Length: 4000000\r\n\r\nx".encode(),
    "answer-not-read": READ * 10,
    "idle-after-a-request": request("GET", "/v2/"),
}


@pytest.mark.parametrize("name", SILENCES)
@pytest.mark.parametrize("listener", ["edge", "console"])
async def test_silent_connections_stop_nobody(own: Arena, name: str, listener: str) -> None:
    port = own.proxy.edge_port if listener == "edge" else own.proxy.console_port
    async with held_open(port, SILENCES[name], 50):
        await others_are_served(own)
    own.storage_is_whole()
    own.log_is_clean()


@pytest.mark.parametrize("name", SILENCES)
async def test_connections_that_hang_up_leave_no_file_open(own: Arena, name: str) -> None:
    # Connections to the registry and Redis are kept, so what counts is whether the rounds go on needing more.
    for _ in range(8):
        before = files(own)
        async with held_open(own.proxy.edge_port, SILENCES[name], 60):
            await asyncio.sleep(0.05)
        if await settles(own, before + 12):
            break
    else:
        pytest.fail("each round leaves files open")
    own.log_is_clean()


async def settles(own: Arena, most: int) -> bool:
    """Whether no more than so many files are open, soon."""
    ends = time.monotonic() + 5
    while files(own) > most:
        if time.monotonic() > ends:
            return False
        await asyncio.sleep(0.05)
    return True


def _digests(number: int) -> list[str]:
    return [sha256(str(n).encode()) for n in range(number)]


def _children(number: int) -> bytes:
    listed = [{"mediaType": OCI_MANIFEST, "digest": digest, "size": 1} for digest in _digests(number)]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()


def _layers(number: int) -> bytes:
    made = json.loads(EVIL.body)
    made["layers"] = [{"mediaType": "x", "digest": digest, "size": 1} for digest in _digests(number)]
    return json.dumps(made).encode()


COSTLY: dict[str, tuple[str, bytes]] = {
    "many-brackets": (OCI_MANIFEST, b'{"schemaVersion":2,"x":[' + b"[]," * (MAX_PARTS - 10) + b"[]]}"),
    "many-objects": (OCI_MANIFEST, b'{"schemaVersion":2,"x":[' + b"{}," * (MAX_PARTS - 10) + b"{}]}"),
    "many-numbers": (OCI_MANIFEST, b'{"schemaVersion":2,"x":[' + b"1," * 1_900_000 + b"1]}"),
    "many-texts": (OCI_MANIFEST, b'{"schemaVersion":2,"x":[' + b'"",' * 1_300_000 + b'""]}'),
    "many-keys": (OCI_MANIFEST, json.dumps({"schemaVersion": 2, "x": {str(n): n for n in range(200_000)}}).encode()),
    "many-escapes": (OCI_MANIFEST, b'{"schemaVersion":2,"x":"' + b"\\u0041" * 690_000 + b'"}'),
    "many-surrogates": (OCI_MANIFEST, b'{"schemaVersion":2,"x":"' + b"\\ud83e\\udde8" * 340_000 + b'"}'),
    "many-digits": (OCI_MANIFEST, b'{"schemaVersion":2,"x":' + b"9" * 4_000_000 + b"}"),
    "many-digits-in-pieces": (OCI_MANIFEST, b'{"x":[' + b",".join([b"9" * 4000] * 1000) + b"]}"),
    "many-decimals": (OCI_MANIFEST, b'{"schemaVersion":2,"x":0.' + b"9" * 4_000_000 + b"}"),
    "many-layers": (OCI_MANIFEST, _layers(20_000)),
    "long-annotations": (
        OCI_MANIFEST,
        json.dumps(json.loads(EVIL.body) | {"annotations": {"a": "b" * 4_000_000}}).encode(),
    ),
    "blanks": (OCI_MANIFEST, EVIL.body + b" " * 4_000_000),
    "quotes-without-end": (OCI_MANIFEST, b'{"' + b"\\" * 4_000_001),
    "colons": (OCI_MANIFEST, b'{"a"' + b":" * 4_000_000),
    "digests-in-one-text": (OCI_MANIFEST, json.dumps({"schemaVersion": 2, "x": " ".join(_digests(55_000))}).encode()),
}


QUICK = {"many-brackets", "many-digits", "many-layers", "colons", "digests-in-one-text"}
"""Costly manifests that `make test` tries, too."""


@pytest.mark.parametrize("tag", ["v1", pytest.param("dev-costly", marks=pytest.mark.attack_long)])
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.attack_long) for name in COSTLY]
)
async def test_a_costly_manifest_costs_its_sender_only(own: Arena, name: str, tag: str) -> None:
    """The loop turns on: the health of the process is told within a moment, however long the push takes."""
    media_type, body = COSTLY[name]
    assert len(body) <= 4 * 1024 * 1024 + 100, len(body)
    raw = request("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", [("Content-Type", media_type)], body)
    sent = asyncio.create_task(own.edge(raw, seconds=60))
    slowest = 0.0
    while not sent.done():
        began = time.perf_counter()
        assert (await own.console(request("GET", "/healthz"), seconds=20)).status == 200
        slowest = max(slowest, time.perf_counter() - began)
    answer = await sent
    assert answer.status in {201, 400, 409, 413, 500, 503}, answer
    assert slowest < SLOW, f"the loop stood still for {slowest:.2f} s"
    own.storage_is_whole()
    own.log_is_clean()


def asked(standing: Arena) -> int:
    """Requests that have reached the registry."""
    return standing.registry.log.count("http.request.method=GET")


@pytest.mark.attack_long
@pytest.mark.parametrize("tag", ["v1", "v-free"])
async def test_an_index_of_more_children_than_anybody_has_is_refused_at_once(own: Arena, tag: str) -> None:
    before = asked(own)
    raw = request("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", [("Content-Type", OCI_INDEX)], _children(1200))
    answer = await own.edge(raw, seconds=50)
    assert answer.status == 400
    own.storage_is_whole()
    assert asked(own) - before < 20


QUERIES = {
    "tags-of-nonsense": f"/v2/{REPOSITORY}/tags/list?n={'9' * 1000}",
    "tags-last": f"/v2/{REPOSITORY}/tags/list?last={'z' * 8000}",
    "catalogue-many": "/v2/_catalog?n=999999999999",
    "referrers": f"/v2/{REPOSITORY}/referrers/{V1.digest}?artifactType={'x' * 8000}",
    "blob-of-nobody": f"/v2/{REPOSITORY}/blobs/{sha256(b'nobody')}",
    "blob-by-ranges": f"/v2/{REPOSITORY}/blobs/{sha256(V1.blobs[1])}",
    "manifest-of-nobody": f"/v2/{REPOSITORY}/manifests/{sha256(b'nobody')}",
    "tag-of-nobody": f"/v2/{REPOSITORY}/manifests/nobody",
    "repository-of-nobody": "/v2/nobody/knows/manifests/v1",
}


@pytest.mark.parametrize("name", QUERIES)
async def test_reads_of_nothing_leave_nothing(own: Arena, name: str) -> None:
    before = own.keys()
    for _ in range(20):
        answer = await own.edge(request("GET", QUERIES[name], [("Range", "bytes=0-0,1-1,2-2")]))
        assert answer.status < 500, answer
    assert own.keys() == before
    own.log_is_clean()


async def test_pushes_that_never_succeed_leave_no_key(own: Arena) -> None:
    """But in the audit, as they were refused for a reason."""
    before = own.keys()
    body = _layers(1)
    for number in range(10):
        raw = request("PUT", f"/v2/never/n{number}/manifests/v1", [("Content-Type", OCI_MANIFEST)], body)
        assert (await own.edge(raw)).status >= 400
    left = {key for key in own.keys() - before if "never/" in key}
    assert not left


@pytest.mark.attack_long
async def test_many_reads_at_one_moment_are_all_right(own: Arena) -> None:
    answers = await asyncio.gather(*(own.edge(READ, seconds=60) for _ in range(800)))
    assert {answer.status for answer in answers} == {200}
    assert {answer.body for answer in answers} == {V1.body}
    await own.unharmed()


@pytest.mark.attack_long
async def test_many_pushes_at_one_moment_are_all_decided(own: Arena) -> None:
    raw = request("PUT", TAG, [("Content-Type", OCI_MANIFEST)], EVIL.body)
    answers = await asyncio.gather(*(own.edge(raw, seconds=60) for _ in range(600)))
    assert {answer.status for answer in answers} == {409}
    await own.unharmed()


@pytest.mark.attack_long
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore:Sending a large body")
async def test_large_children_do_not_fill_the_memory(own: Arena) -> None:
    before = memory(own)
    children = []
    async with own.client() as client:
        for number in range(24):
            made = json.loads(image("large").body) | {"annotations": {"n": str(number), "x": "y" * 4_000_000}}
            child = Image(json.dumps(made).encode(), OCI_MANIFEST, image("large").blobs if number == 0 else ())
            assert (await client.push("large/app", child.digest, child)).status == 201
            children.append(child)
        listed = [{"mediaType": OCI_MANIFEST, "digest": child.digest, "size": len(child.body)} for child in children]
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()
        pushes = [client.put("large/app", f"v{number}", Image(index, OCI_INDEX)) for number in range(8)]
        sent = asyncio.gather(*pushes)
        most = 0
        while not sent.done():
            most = max(most, memory(own))
            await asyncio.sleep(0.02)
        await sent
    assert most - before < MOST_MEMORY, f"{(most - before) / 2**20:.0f} MiB"
    await own.unharmed()


@pytest.mark.attack_long
@pytest.mark.parametrize("form", ["csv", "jsonl"])
async def test_exports_that_nobody_reads_slow_no_reads(own: Arena, form: str) -> None:
    for _ in range(300):
        await own.edge(request("PUT", TAG, [("Content-Type", OCI_MANIFEST)], EVIL.body))
    quiet = await _median(own)
    async with held_open(own.proxy.console_port, request("GET", f"/api/v1/events.{form}"), 40):
        assert await _median(own) < 1.5 * quiet + 0.01
    own.log_is_clean()


async def _median(standing: Arena) -> float:
    took = []
    for _ in range(41):
        began = time.perf_counter()
        await standing.edge(READ)
        took.append(time.perf_counter() - began)
    return sorted(took)[20]


@contextlib.contextmanager
def few_files(standing: Arena, more: int) -> Iterator[None]:
    """The proxy may open only that many files more than it has open."""
    before = resource.prlimit(standing.proxy.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(standing.proxy.pid, resource.RLIMIT_NOFILE, (files(standing) + more, before[1]))
    try:
        yield
    finally:
        resource.prlimit(standing.proxy.pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.attack_long
@pytest.mark.parametrize("name", ["nothing", "half-a-head"])
async def test_more_silent_connections_than_files_fill_no_log_and_kill_nothing(own: Arena, name: str) -> None:
    own.fresh_log()
    with few_files(own, 60):
        async with held_open(own.proxy.edge_port, SILENCES[name], 100):
            await asyncio.sleep(3)
    told = own.fresh_log()
    await others_are_served(own)
    assert len(told) < 100_000, f"{len(told):,} bytes of log in 3 s"
    own.storage_is_whole()


@pytest.mark.attack_long
async def test_live_tails_of_one_viewer_leave_room_for_others(own: Arena) -> None:
    async with held_open(own.proxy.console_port, request("GET", "/api/v1/live"), 40) as tails:
        heads = [await tail.reader.readuntil(b"\r\n\r\n") for tail in tails]
        assert [head.split()[1] for head in heads].count(b"200") == MOST_OF_ONE
        await others_are_served(own)
    own.log_is_clean()
