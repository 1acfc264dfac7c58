"""The grammar against the real registry: what the proxy reads in a target is what the registry reads in it.

The registry logs, for each request, the name and the reference that its own router took from the path.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from random import Random

import pytest

from immuproxy.oci import routes
from immuproxy.oci.errors import OciError
from immuproxy.oci.routes import METHODS, Operation, RouteKind
from tests.support.conversation import RunningEdge, edge_over, image
from tests.support.servers import RedisServer, RegistryServer
from tests.support.wire import ask, request, wire

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

CANONICAL = [
    "/v2/",
    "/v2/_catalog",
    "/v2/team/app/tags/list",
    "/v2/team/app/manifests/v1",
    f"/v2/team/app/manifests/{DIGEST}",
    f"/v2/team/app/blobs/{DIGEST}",
    "/v2/team/app/blobs/uploads/",
    "/v2/team/app/blobs/uploads/3f-4._=",
    f"/v2/team/app/referrers/{DIGEST}",
    "/v2/prod/manifests/manifests/v1",
    "/v2/a/blobs/uploads/manifests/v1",
    "/v2/a/tags/list/manifests/v1",
    "/v2/a/manifests/tags/list",
    "/v2/a/manifests/blobs/uploads/x",
    f"/v2/a/blobs/uploads/blobs/{DIGEST}",
    "/v2/manifests/manifests/v1",
]
_PIECES = """
    / // /./ /../ %2f %2F %2e%2e/ %2e . .. %25 %00 %0a %20 + ;x ? ?x=y &tag=v2 ?tag=v1 %3f %23 : %3a @ A %41 _ - ~ %7f
    %c3%a9 manifests /manifests/ blobs /blobs/ uploads /uploads/ tags /list v2 /v2 v1 %zz % sha256:
"""
PIECES = [*_PIECES.split(), DIGEST, HEX, "a" * 130]


def mutated(random: Random, target: str) -> str:
    """A target near `target`: bytes escaped, pieces put in, segments taken out or exchanged."""
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(target) + 1)
        match random.randrange(5):
            case 0:
                target = target[:at] + "".join(f"%{ord(char):02X}" for char in target[at : at + 1]) + target[at + 1 :]
            case 1:
                target = target[:at] + random.choice(PIECES) + target[at:]
            case 2:
                target = target[:at] + target[at + random.randint(1, 3) :]
            case 3:
                segments = target.split("/")
                random.shuffle(segments)
                target = "/" + "/".join(segments)
            case _:
                target = target.replace(
                    random.choice(["manifests", "blobs", "tags", "team", "v1", "list"]), random.choice(PIECES), 1
                )
    return target or "/"


def seen_by_proxy(target: str) -> Operation | None:
    for methods in (("GET",), ("POST",)):
        try:
            return routes.parse(methods[0], target)
        except OciError:
            continue
    return None


def variables(operation: Operation) -> dict[str, str]:
    """What the registry's router would call the parts."""
    named = {RouteKind.MANIFEST: "reference", RouteKind.BLOB: "digest", RouteKind.UPLOAD: "uuid"}
    if operation.kind is RouteKind.REFERRERS or not operation.repository:
        return {}
    found = {"name": operation.repository}
    if operation.kind in named:
        found[named[operation.kind]] = operation.reference
    return found


_FIELD = re.compile(r'([a-z.]+)=("(?:[^"\\]|\\.)*"|\S*)')


def seen_by_registry(registry: RegistryServer) -> dict[str, dict[str, str]]:
    """The router's variables of each request, by the request's User-Agent."""
    found: dict[str, dict[str, str]] = {}
    for line in registry.log.splitlines():
        fields = {key: value.strip('"') for key, value in _FIELD.findall(line)}
        if "response completed" in line and "http.request.useragent" in fields:
            found[fields["http.request.useragent"]] = {
                key.removeprefix("vars."): value for key, value in fields.items() if key.startswith("vars.")
            }
    return found


async def send_all(port: int, requests: Iterable[bytes]) -> None:
    """One after the other, on a connection for as long as the server keeps it."""
    left = list(requests)
    while left:
        async with wire(port) as line:
            try:
                while left:
                    await line.send(left[0])
                    answer = await line.answer(left.pop(0).split(b" ", 1)[0].decode())
                    if answer.header("Connection") == "close":
                        break
            except (asyncio.IncompleteReadError, ConnectionError):
                continue


async def test_what_is_accepted_means_the_same_to_the_registry(registry: RegistryServer, random_seed: int) -> None:
    random = Random(random_seed)
    targets = [*CANONICAL, *(mutated(random, random.choice(CANONICAL)) for _ in range(600))]
    accepted = [(target, found) for target in targets if (found := seen_by_proxy(target))]
    assert len(accepted) > 50
    raw = [request("GET", target, [("User-Agent", f"raw-{n}")]) for n, (target, _) in enumerate(accepted)]
    rebuilt = [request("GET", found.target, [("User-Agent", f"new-{n}")]) for n, (_, found) in enumerate(accepted)]
    await send_all(registry.port, raw)
    await send_all(registry.port, rebuilt)
    named = {f"{sent}-{n}" for n, (_, found) in enumerate(accepted) if variables(found) for sent in ("raw", "new")}
    async with asyncio.timeout(10):  # the registry writes its log after its answers
        while not (seen := seen_by_registry(registry)).keys() >= named:
            await asyncio.sleep(0.1)
    for number, (target, operation) in enumerate(accepted):
        assert seen.get(f"new-{number}", {}) == variables(operation), (target, operation)
        if operation.kind is not RouteKind.BASE:  # of /v2 without its slash the registry says where it is
            assert seen.get(f"raw-{number}", {}) == variables(operation), (target, operation)


@pytest.fixture
def random_seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("randomly_seed", 0) or 0)


# --- a protected tag, and every spelling of it

BYPASSES = [
    "/v2/team/app/manifests/%76%31",
    "/v2/team/app/manifests/v%31",
    "/v2/team/app/%6danifests/v1",
    "/%76%32/team/app/manifests/v1",
    "/v2%2fteam%2fapp%2fmanifests%2Fv1",
    "/v2/team%2fapp/manifests/v1",
    "/v2/team/app/manifests/v1?x=y",
    "/v2/team/app/manifests/v1?tag=v1",
    "http://evil/v2/team/app/manifests/v1",
    "https://evil/v2/team/app/manifests/v1",
    "//v2/team/app/manifests/v1",
    "/v2/team//app/manifests/v1",
    "/v2/team/app//manifests/v1",
    "/v2/team/app/manifests//v1",
    "/v2/x/../team/app/manifests/v1",
    "/v2/x/%2e%2e/team/app/manifests/v1",
    "/v2/team/app/manifests/x/../v1",
    "/v2/team/app/manifests/x/%2e%2e/v1",
    "/./v2/team/app/manifests/v1",
    "/v2/team/app/manifests/v1/",
    "/v2/team/app/manifests/v1%2f",
    "/v2/team/app/manifests/v1%3fx",
    "/v2/team/app/manifests/v1#f",
    "/v2/team/app/manifests/v1%23f",
    "/v2/team/app/manifests/v1;x",
    "/v2/team/app/manifests/v1%00",
    "/v2/team/app/manifests/v1%0a",
    "/v2/team/app/manifests/%2576%2531",
    "/v2/team/app/manifests/v1+",
    "/V2/team/app/manifests/v1",
    "/v2/team/app/manifests\\v1",
    "/v2/team/app/manifests/v%EF%BC%91",
    "/v2/team/app/manifests/%c0%af",
    "/foo/v2/team/app/manifests/v1",
    "/v2/team/app/manifests/%zz",
    "v2/team/app/manifests/v1",
    "/v2/Team/app/manifests/v1",
    "/v2/team/app/manifests/V1",
    "/v2/127.0.0.1:5000/team/app/manifests/v1",
]


@pytest.fixture
async def edge(registry: RegistryServer, redis_server: RedisServer) -> AsyncIterator[RunningEdge]:
    async with edge_over(registry.url, redis_server.url, rules="default: immutable\nrules: []\n") as running:
        yield running


OLD, NEW = image("old"), image("new")
TYPED = ("Content-Type", OLD.media_type)


@pytest.fixture
async def guarded(edge: RunningEdge) -> RunningEdge:
    """`team/app:v1` is OLD; the blobs of NEW are there, so that nothing but the proxy is in its way."""
    await edge.direct.blobs("team/app", NEW)
    assert (await edge.client.push("team/app", "v1", OLD)).status == 201
    return edge


async def held(edge: RunningEdge) -> str:
    return (await edge.direct.pull("team/app", "v1")).digest


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
async def test_h1_to_h5_no_spelling_reaches_a_protected_tag(method: str, guarded: RunningEdge) -> None:
    for target in BYPASSES:
        body = NEW.body if method != "DELETE" else None
        answer = await ask(guarded.port, request(method, target, [TYPED], body))
        other_tag = method == "PUT" and target.endswith("/V1")
        assert answer.status == 201 if other_tag else 400 <= answer.status < 500, target
        assert other_tag or answer.error["code"], target
        assert await held(guarded) == OLD.digest, target


async def test_h1_to_h5_the_other_way_round_the_spellings_do_reach_it_without_the_proxy(
    guarded: RunningEdge, registry: RegistryServer
) -> None:
    """That the list above is worth something: several of its forms move the tag when sent to the registry itself."""
    moved = 0
    for number, target in enumerate(BYPASSES):
        pushed = NEW if number % 2 else OLD
        before = await held(guarded)
        answer = await ask(registry.port, request("PUT", target, [TYPED], pushed.body))
        moved += answer.status == 201 and await held(guarded) == pushed.digest != before
    assert moved >= 4


async def test_h1_h2_mutated_targets_never_write_a_protected_tag(
    guarded: RunningEdge, registry: RegistryServer, random_seed: int
) -> None:
    random = Random(random_seed)
    near = ["/v2/team/app/manifests/v1", f"/v2/team/app/manifests/{NEW.digest}?tag=v1"]
    targets = {mutated(random, random.choice(near)) for _ in range(250)}
    methods = ("PUT", "PUT", "PUT", "DELETE", "PATCH", "POST")
    before = len(registry.log)
    raws = []
    for target in sorted(targets):
        method = random.choice(methods)
        raws.append(request(method, target, [TYPED], NEW.body if method != "DELETE" else None))
    await send_all(guarded.port, raws)
    assert await held(guarded) == OLD.digest
    written = [
        line
        for line in registry.log[before:].splitlines()
        if re.search(r"http.request.method=(PUT|DELETE|PATCH|POST)", line)
        and "vars.name=team/app " in f"{line} "
        and "vars.reference=v1 " in f"{line} "
    ]
    assert written == []


@pytest.mark.parametrize(
    "name", ["prod/manifests", "a/blobs/uploads", "a/tags/list", "manifests", "a/referrers", "blobs/uploads", "v2"]
)
async def test_h6_a_repository_named_like_an_endpoint_is_protected(name: str, edge: RunningEdge) -> None:
    assert (await edge.client.push(name, "v1", OLD)).status == 201
    await edge.client.blobs(name, NEW)
    assert (await edge.client.put(name, "v1", NEW)).status == 409
    assert (await edge.direct.pull(name, "v1")).digest == OLD.digest


@pytest.mark.parametrize("name", ["Example.COM/e1/r", "localhost:5000/r", "[::1]/r", "a" * 256, "a..b", "_a"])
async def test_h7_no_repository_is_made_outside_the_specification(
    name: str, edge: RunningEdge, registry: RegistryServer
) -> None:
    answer = await ask(edge.port, request("PUT", f"/v2/{name}/manifests/v1", [TYPED], OLD.body))
    assert (answer.status, answer.error["code"]) == (400, "NAME_INVALID")
    answer = await ask(edge.port, request("POST", f"/v2/{name}/blobs/uploads/", body=b""))
    assert (answer.status, answer.error["code"]) == (400, "NAME_INVALID")
    assert "response completed" not in registry.log
    assert await edge.store.client.dbsize() == 0


@pytest.mark.parametrize(
    "reference", [f"sha256:{HEX.upper()}", f"md5:{HEX[:32]}", f"sha256:{HEX[:63]}", "x:1111", f"sha512:{HEX}"]
)
async def test_h8_what_only_looks_like_a_digest_is_never_pushed(
    reference: str, edge: RunningEdge, registry: RegistryServer
) -> None:
    answer = await ask(edge.port, request("PUT", f"/v2/team/app/manifests/{reference}", [TYPED], OLD.body))
    assert (answer.status, answer.error["code"]) == (400, "DIGEST_INVALID")
    assert "response completed" not in registry.log
    assert await edge.store.client.dbsize() == 0


async def test_h10_an_endpoint_has_only_its_methods(edge: RunningEdge, registry: RegistryServer) -> None:
    targets = dict(zip(RouteKind, ("/v2/", "/v2/_catalog", *CANONICAL[2:]), strict=False)) | {
        RouteKind.MANIFEST: CANONICAL[3],
        RouteKind.BLOB: CANONICAL[5],
        RouteKind.UPLOADS: CANONICAL[6],
        RouteKind.UPLOAD: CANONICAL[7],
        RouteKind.REFERRERS: CANONICAL[8],
    }
    for kind, target in targets.items():
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "MKCOL"):
            if method in METHODS[kind]:
                continue
            override = [
                ("X-HTTP-Method-Override", "PUT"),
                ("X-Original-URL", CANONICAL[3]),
                ("X-Rewrite-URL", CANONICAL[3]),
            ]
            answer = await ask(edge.port, request(method, target, [*override, ("Content-Length", "0")]))
            assert answer.status == 405, (method, target)
            assert answer.header("Allow") == ", ".join(METHODS[kind])
    assert "response completed" not in registry.log
    assert await edge.store.client.dbsize() == 0


async def test_h11_tags_in_the_query_are_guarded_like_any(guarded: RunningEdge) -> None:
    for query in ("tag=v1", "%74ag=v%31", "tag=v2&tag=v1", "tag=v1&tag=v1"):
        target = f"/v2/team/app/manifests/{NEW.digest}?{query}"
        answer = await ask(guarded.port, request("PUT", target, [TYPED], NEW.body))
        assert (answer.status, answer.error["code"]) == (409, "DENIED")
        assert await held(guarded) == OLD.digest
    assert (await guarded.direct.pull("team/app", "v2")).status == 404
