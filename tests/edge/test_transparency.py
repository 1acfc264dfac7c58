"""What is not ours passes as if nobody were in between: the same request, direct and through the edge, answered alike.

Status, headers and bytes must be the same but for headers of one connection and `Date` (H46, H49, I11).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import pytest

from immuproxy.edge.handler import ClientAddressing
from immuproxy.oci.manifests import ACCEPT_ALL, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from immuproxy.service.assembly import Choices
from tests.support.conversation import Image, RunningEdge, edge_over, image, index, sha256
from tests.support.servers import RedisServer, RegistryServer
from tests.support.wire import Exchange, Headers, WireAnswer, ask, chunked, request, scripted

UNKNOWN = f"sha256:{'0a' * 32}"
HOST = "edge.example:5000"
ONE_CONNECTION = {"date", "connection", "keep-alive", "transfer-encoding"}
ADDED = {"x-request-id"}
"""What answers to pushes and deletes have besides the registry's own headers."""


def docker(seed: str) -> Image:
    oci = image(seed)
    body = oci.body.replace(OCI_MANIFEST.encode(), DOCKER_MANIFEST.encode())
    body = body.replace(b"application/vnd.oci.image.config.v1+json", b"application/vnd.docker.container.image.v1+json")
    body = body.replace(b"application/octet-stream", b"application/vnd.docker.image.rootfs.diff.tar.gzip")
    return Image(body, DOCKER_MANIFEST, oci.blobs)


def docker_list(child: Image) -> Image:
    oci = index(child)
    body = oci.body.replace(OCI_INDEX.encode(), DOCKER_LIST.encode()).replace(b"arch0", b"amd64")
    return Image(body, DOCKER_LIST, children=(child,))


IMAGES = {"docker": docker("d"), "oci": image("o"), "list": docker_list(docker("child")), "index": index(image("c"))}
ACCEPTS = {
    "none": None,
    "anything": "*/*",
    "json": "application/json",
    "docker": DOCKER_MANIFEST,
    "oci": OCI_MANIFEST,
    "list": DOCKER_LIST,
    "index": OCI_INDEX,
    "all": ACCEPT_ALL,
    "all with weights": ", ".join(f"{one};q=0.5" for one in ACCEPT_ALL.split(", ")),
}


@dataclass
class Both:
    """A registry, and an edge in front of it."""

    edge: RunningEdge
    registry: RegistryServer

    async def ask(self, raw: bytes) -> tuple[WireAnswer, WireAnswer]:
        return await ask(self.registry.port, raw), await ask(self.edge.port, raw)

    async def same(self, raw: bytes) -> WireAnswer:
        """The answer, when it is the same both ways."""
        direct, through = await self.ask(raw)
        assert told(through) == told(direct)
        return through


_STATE = re.compile(r"_state=[^&]*")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def told(answer: WireAnswer, name: str = "") -> tuple[int, str, Headers, bytes]:
    """What an answer says, without what differs by nature: the connection, the time, ids of uploads, `name`."""

    def plain(text: str) -> str:
        text = _UUID.sub("UUID", _STATE.sub("_state=STATE", text))
        return text.replace(name, "NAME") if name else text

    headers = [(key, plain(value)) for key, value in answer.headers if key.lower() not in ONE_CONNECTION | ADDED]
    return answer.status, answer.reason, sorted(headers), plain(answer.body.decode("latin-1")).encode("latin-1")


@pytest.fixture
async def both(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[Both]:
    async with edge_over(registry.url, redis_server.url) as edge:
        for name, pushed in IMAGES.items():
            assert (await edge.client.push("team/app", f"v-{name}", pushed)).status == 201
            assert (await edge.client.push("team/app", f"dev-{name}", pushed)).status == 201
        yield Both(edge, registry)


def get(target: str, *headers: tuple[str, str], method: str = "GET") -> bytes:
    return request(method, target, headers, host=HOST)


BLOB = IMAGES["oci"].blobs[1]
BLOB_TARGET = f"/v2/team/app/blobs/{sha256(BLOB)}"
READS = [
    "/v2/",
    "/v2/_catalog",
    "/v2/_catalog?n=1",
    "/v2/_catalog?n=1&last=a",
    "/v2/_catalog?n=x",
    "/v2/team/app/tags/list",
    "/v2/team/app/tags/list?n=1",
    "/v2/team/app/tags/list?n=2&last=dev-list",
    "/v2/team/none/tags/list",
    "/v2/team/app/manifests/none",
    "/v2/team/app/manifests/dev-none",
    f"/v2/team/app/manifests/{UNKNOWN}",
    f"/v2/team/app/manifests/{IMAGES['oci'].digest}",
    f"/v2/team/app/manifests/{IMAGES['list'].digest}",
    f"/v2/team/none/manifests/{IMAGES['oci'].digest}",
    "/v2/team/none/manifests/v1",
    BLOB_TARGET,
    f"/v2/team/app/blobs/{UNKNOWN}",
    f"/v2/team/none/blobs/{sha256(BLOB)}",
    f"/v2/team/app/blobs/sha512:{hashlib.sha512(b'').hexdigest()}",
    "/v2/team/app/blobs/uploads/0f0f0f0f-0000-0000-0000-000000000000",
    "/v2/team/app/blobs/uploads/nothing?_state=x",
    f"/v2/team/app/referrers/{IMAGES['oci'].digest}",
    f"/v2/team/app/referrers/{IMAGES['oci'].digest}?artifactType=x",
]


async def test_reads_are_the_same(both: Both) -> None:
    for target in READS:
        for method in ("GET", "HEAD"):
            await both.same(get(target, ("Accept", ACCEPT_ALL), method=method))


async def test_h22_that_there_are_no_referrers_is_told_as_the_registry_tells_it(both: Both) -> None:
    answer = await both.same(get(f"/v2/team/app/referrers/{IMAGES['oci'].digest}"))
    assert (answer.status, answer.header("Content-Type")) == (404, "text/plain; charset=utf-8")


@pytest.mark.parametrize("kind", ["v", "dev"])
async def test_h23_what_a_client_accepts_decides_what_it_sees(kind: str, both: Both) -> None:
    statuses = set()
    for name in IMAGES:
        for accept in ACCEPTS.values():
            headers = [("Accept", accept)] if accept is not None else []
            for method in ("GET", "HEAD"):
                answer = await both.same(get(f"/v2/team/app/manifests/{kind}-{name}", *headers, method=method))
                statuses.add(answer.status)
    assert statuses == {200, 400, 404}


@pytest.mark.parametrize("reference", ["v-oci", "dev-oci", IMAGES["oci"].digest])
async def test_conditions_are_answered_alike(reference: str, both: Both) -> None:
    digest = IMAGES["oci"].digest
    for condition in (f'"{digest}"', digest, f'"{UNKNOWN}"', f'"{UNKNOWN}", "{digest}"', f'W/"{digest}"', "*", ""):
        for method in ("GET", "HEAD"):
            headers = [("Accept", ACCEPT_ALL), ("If-None-Match", condition)]
            direct, through = await both.ask(get(f"/v2/team/app/manifests/{reference}", *headers, method=method))
            if through.status == 304 and reference != "dev-oci":
                # Of a protected tag and what it needs the proxy says it itself, once the content was seen (H24), with
                # the Etag that the registry leaves out against RFC 9110 section 15.4.5.
                assert through.header("Etag") == f'"{digest}"'
                through.headers.remove(("Etag", f'"{digest}"'))
            if direct.status == 304 or through.status != 304:
                assert told(through) == told(direct)
            else:
                assert reference != "dev-oci"
                assert digest in condition or condition == "*"


@pytest.mark.parametrize("value", ["bytes=0-3", "bytes=2-", "bytes=-3", "bytes=0-0", "bytes=999-", "x"])
async def test_ranges_of_blobs_are_the_same(value: str, both: Both) -> None:
    for method in ("GET", "HEAD"):
        answer = await both.same(get(BLOB_TARGET, ("Range", value), method=method))
        assert answer.status in {200, 206, 416}


async def test_compression_is_between_client_and_registry(both: Both) -> None:
    for coding in ("gzip", "identity", "*"):
        await both.same(get("/v2/team/app/tags/list", ("Accept-Encoding", coding)))


# --- writes: the same conversation in two repositories

Told = tuple[int, str, Headers, bytes]


class Conversation:
    """Says the same to the registry and to the edge, each with a repository of its own."""

    def __init__(self, both: Both) -> None:
        self._ways = ((both.registry.port, "here/one"), (both.edge.port, "here/two"))
        self._location = ["", ""]

    async def say(
        self, method: str, target: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None
    ) -> WireAnswer:
        """`{name}` in the target is the repository; `{location}` where the last answer said that things are."""
        answers = []
        for number, (port, name) in enumerate(self._ways):
            made = target.format(name=name, location=self._location[number])
            answer = await ask(port, request(method, made, headers, body, host=HOST))
            location = answer.header("Location")
            if location:
                assert location.startswith((f"http://{HOST}/", "/"))
                self._location[number] = location.removeprefix(f"http://{HOST}")
            answers.append((answer, told(answer, name)))
        assert answers[1][1] == answers[0][1]
        return answers[1][0]


BYTES = ("Content-Type", "application/octet-stream")


async def _upload(talk: Conversation, blob: bytes) -> None:
    assert (await talk.say("POST", "/v2/{name}/blobs/uploads/", body=b"")).status == 202
    assert (await talk.say("PUT", "{location}&digest=" + sha256(blob), [BYTES], blob)).status == 201


async def test_an_upload_in_pieces_is_the_same(both: Both) -> None:
    talk, blob = Conversation(both), b"first" + b"second"
    start = await talk.say("POST", "/v2/{name}/blobs/uploads/")
    assert start.header("Range") == "0-0"
    patched = await talk.say("PATCH", "{location}", [BYTES, ("Content-Range", "0-4")], b"first")
    assert (patched.status, patched.header("Range")) == (202, "0-4")
    status = await talk.say("GET", "{location}")
    assert (status.status, status.header("Range")) == (204, "0-4")
    assert (
        await talk.say("PATCH", "{location}", [("Transfer-Encoding", "chunked"), BYTES], chunked(b"second"))
    ).status == 202
    done = await talk.say("PUT", "{location}&digest=" + sha256(blob), [("Content-Length", "0")])
    assert (done.status, done.header("Docker-Content-Digest")) == (201, sha256(blob))
    assert (await talk.say("HEAD", "/v2/{name}/blobs/" + sha256(blob))).header("Content-Length") == "11"


async def test_uploads_that_fail_fail_alike(both: Both) -> None:
    talk = Conversation(both)
    await talk.say("POST", "/v2/{name}/blobs/uploads/")
    assert (await talk.say("PUT", "{location}&digest=" + UNKNOWN, [BYTES], b"other")).status == 400
    await talk.say("POST", "/v2/{name}/blobs/uploads/")
    assert (await talk.say("PUT", "{location}&digest=sha256:x", [BYTES], b"other")).status == 400
    assert (await talk.say("PUT", "{location}", [BYTES], b"other")).status == 400
    assert (await talk.say("PATCH", "/v2/{name}/blobs/uploads/none?_state=x", [BYTES], b"other")).status in {400, 404}
    await talk.say("POST", "/v2/{name}/blobs/uploads/")
    assert (await talk.say("PATCH", "{location}", [BYTES, ("Content-Range", "7-9")], b"abc")).status in {202, 416}
    await talk.say("POST", "/v2/{name}/blobs/uploads/")
    assert (await talk.say("DELETE", "{location}")).status == 204
    assert (await talk.say("DELETE", "{location}")).status == 404


async def test_h12_a_mount_is_the_same(both: Both) -> None:
    talk = Conversation(both)
    mounted = await talk.say("POST", f"/v2/{{name}}/blobs/uploads/?mount={sha256(BLOB)}&from=team/app", body=b"")
    assert mounted.status == 201
    for query in (f"mount={UNKNOWN}&from=team/app", f"mount={sha256(BLOB)}&from=NO", f"mount={sha256(BLOB)}"):
        assert (await talk.say("POST", f"/v2/{{name}}/blobs/uploads/?{query}", body=b"")).status == 202


async def test_a_push_of_a_mutable_tag_is_the_same(both: Both) -> None:
    talk, pushed = Conversation(both), image("talk")
    for blob in pushed.blobs:
        await _upload(talk, blob)
    typed = [("Content-Type", pushed.media_type)]
    for reference in ("latest", pushed.digest, "latest"):
        answer = await talk.say("PUT", f"/v2/{{name}}/manifests/{reference}", typed, pushed.body)
        assert (answer.status, answer.header("Docker-Content-Digest")) == (201, pushed.digest)
    assert (await talk.say("PUT", "/v2/{name}/manifests/latest", typed, image("without blobs").body)).status == 400
    assert (await talk.say("PUT", "/v2/{name}/manifests/latest", [("Content-Type", "text/plain")], b"x")).status == 400


async def test_the_first_push_of_a_protected_tag_is_answered_as_the_registry_answers(both: Both) -> None:
    talk, pushed = Conversation(both), image("protected")
    for blob in pushed.blobs:
        await _upload(talk, blob)
    answer = await talk.say("PUT", "/v2/{name}/manifests/1.0", [("Content-Type", pushed.media_type)], pushed.body)
    assert answer.status == 201
    again = await talk.say("PUT", "/v2/{name}/manifests/1.0", [("Content-Type", pushed.media_type)], pushed.body)
    assert again.status == 201


async def test_deletes_that_are_allowed_are_the_same(both: Both) -> None:
    talk, pushed = Conversation(both), image("deleted")
    for blob in pushed.blobs:
        await _upload(talk, blob)
    await talk.say("PUT", "/v2/{name}/manifests/latest", [("Content-Type", pushed.media_type)], pushed.body)
    assert (await talk.say("DELETE", "/v2/{name}/manifests/latest")).status in {202, 400}
    for target in (f"manifests/{pushed.digest}", f"blobs/{sha256(pushed.blobs[0])}"):
        assert (await talk.say("DELETE", f"/v2/{{name}}/{target}")).status == 202
    assert (await talk.say("DELETE", f"/v2/{{name}}/blobs/{sha256(pushed.blobs[0])}")).status == 404


# --- H49: names


SPOOFED = [
    ("Forwarded", "host=evil.example;proto=https"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Forwarded-Port", "666"),
    ("X-Forwarded-Prefix", "/evil"),
]


async def _locations(edge: RunningEdge, headers: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Every Location of a small push, from the raw answers."""
    pushed, found = image("located"), []
    for blob in pushed.blobs:
        start = await ask(edge.port, request("POST", "/v2/a/blobs/uploads/", headers, b"", host=HOST))
        found.append(start.header("Location") or "")
        path = found[-1].partition("/v2/")[2]
        raw = request("PUT", f"/v2/{path}&digest={sha256(blob)}", [BYTES, *headers], blob, host=HOST)
        found.append((await ask(edge.port, raw)).header("Location") or "")
    for tag in ("latest", "1.0", "1.0"):
        typed = ("Content-Type", pushed.media_type)
        answer = await ask(
            edge.port, request("PUT", f"/v2/a/manifests/{tag}", [typed, *headers], pushed.body, host=HOST)
        )
        assert answer.status == 201
        found.append(answer.header("Location") or "")
    return found


@pytest.mark.parametrize(
    ("http", "origin"),
    [
        ({}, f"http://{HOST}"),
        ({"host": f"https://{HOST}"}, f"http://{HOST}"),
        ({"host": "http://registry.internal:5001"}, f"http://{HOST}"),
    ],
)
@pytest.mark.parametrize("spoofed", [False, True])
async def test_h49_every_location_is_at_the_edge(
    http: dict[str, str],
    origin: str,
    spoofed: bool,
    start_registry: Callable[..., RegistryServer],
    redis_server: RedisServer,
) -> None:
    registry = start_registry(more={"http": http})
    async with edge_over(registry.url, redis_server.url) as edge:
        for location in await _locations(edge, SPOOFED if spoofed else ()):
            assert location.startswith(f"{origin}/v2/a/")


@pytest.mark.parametrize("spoofed", [False, True])
async def test_h49_relative_locations_stay_relative(
    spoofed: bool, start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    registry = start_registry(more={"http": {"relativeurls": True}})
    async with edge_over(registry.url, redis_server.url) as edge:
        locations = await _locations(edge, SPOOFED if spoofed else ())
        assert all(location.startswith("/v2/a/") for location in locations[:-2])
        assert all("/v2/a/manifests/sha256:" in location for location in locations[-2:])


async def test_h49_the_external_url_is_the_edges_name(
    start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    choices = Choices(door=lambda: ClientAddressing(external_url="https://registry.example"))
    async with edge_over(start_registry().url, redis_server.url, choices=choices) as edge:
        for location in await _locations(edge, SPOOFED):
            assert location.startswith("https://registry.example/v2/a/")


# --- what a real registry does not say, but another might


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, b"", [("Docker-Content-Digest", UNKNOWN)]),
        (200, b"x", [("Server", "nginx"), ("Warning", '299 - "old"'), ("OCI-Subject", UNKNOWN), ("OCI-Tag", "v1")]),
        (
            200,
            b"x",
            [("Link", '</v2/_catalog?n=1>; rel="next"'), ("Link", "</b>"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b")],
        ),
        (200, b"x", [("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("X-Empty", "")]),
        (204, None, [("Range", "0-0"), ("Docker-Upload-Uuid", "x")]),
        (304, None, [("Etag", '"x"')]),
        (307, b"moved", [("Location", "https://s3.example/bucket/v2/x?X-Amz-Signature=a%2Bb%3D%3D")]),
        (
            401,
            b"{}",
            [("Www-Authenticate", 'Bearer realm="https://auth/t",service="s"'), ("Www-Authenticate", "Basic")],
        ),
        (418, b"teapot", []),
        (429, b"{}", [("Retry-After", "7")]),
        (500, b"oops", [("Content-Type", "text/html")]),
        (503, b"", []),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_h46_any_answer_passes_as_it_is(
    method: str, status: int, body: bytes | None, headers: Headers, shared_redis: RedisServer
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body, headers)

    async with scripted(script) as upstream, edge_over(upstream.url, shared_redis.url) as edge:
        raw = get(BLOB_TARGET, method=method)
        direct, through = await ask(upstream.port, raw), await ask(edge.port, raw)
        assert told(through) == told(direct)
        ours = [pair for pair in through.headers if pair[0] != "Connection"]
        assert ours[: len(headers)] == headers  # in order, duplicates and all
        if "Date" in dict(headers):
            assert through.all("Date") == direct.all("Date")


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [("User-Agent", "docker/20.10"), ("Accept", "*/*"), ("Accept-Encoding", "gzip")],
        [("Accept", "a"), ("Accept", "b"), ("X-Custom", "1"), ("X-Custom", "2"), ("Cookie", "a=b")],
        [("Authorization", "Bearer x"), ("If-None-Match", '"x"'), ("Range", "bytes=0-1"), ("Content-Type", "x/y")],
    ],
)
async def test_h46_a_request_arrives_as_it_was_sent(sent: Headers, shared_redis: RedisServer) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200)

    async with scripted(script) as upstream, edge_over(upstream.url, shared_redis.url) as edge:
        await ask(edge.port, get(f"{BLOB_TARGET}?a=%2f&b", *sent))
        (seen,) = upstream.requests
        ours = [("X-Forwarded-Proto", "http"), ("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Host", HOST)]
        assert seen.headers[1:] == [*sent, *ours]
        assert (seen.headers[0], seen.target) == (("Host", f"127.0.0.1:{upstream.port}"), f"{BLOB_TARGET}?a=%2f&b")


async def test_an_error_of_the_proxy_is_json_that_says_so(both: Both) -> None:
    answer = await ask(both.edge.port, get("/v2/team/app/manifests/.bad"))
    assert json.loads(answer.body)["errors"][0]["code"] == "UNSUPPORTED"
