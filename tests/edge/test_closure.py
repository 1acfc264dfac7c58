"""What an index reaches has limits, costs little memory, and never keeps Redis for long (H31, H85, H94)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict

from immuproxy.edge import record
from immuproxy.edge.closure import (
    LOOKED_AT_ONCE,
    MAX_BYTES,
    MAX_CLOSURE,
    MAX_DEPTH,
    MAX_NEEDS,
    MAX_TOGETHER,
    Eyes,
    freely,
    walk,
)
from immuproxy.ledger import keys
from immuproxy.ledger.content import Content
from immuproxy.ledger.going import GoneTag
from immuproxy.ledger.model import Action, Outcome, Reply, Step, StoredManifest
from immuproxy.ledger.packing import packed
from immuproxy.oci.errors import OciError
from immuproxy.oci.manifests import MAX_MANIFEST_BYTES, OCI_INDEX, OCI_MANIFEST, Manifest, read
from immuproxy.store.redis import connect
from tests.support.between import Request, between
from tests.support.conversation import Answer, Client, Image, RunningEdge, edge_over, image, index, sha256
from tests.support.proxies import ProxyServer, running_proxy
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
MIB = 1024 * 1024

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body")


def large(seed: str, size: int) -> Image:
    """An image whose manifest has about ``size`` bytes."""
    made = image(seed)
    document = json.loads(made.body) | {"annotations": {"filler": ""}}
    filler = "x" * (size - len(json.dumps(document)))
    return Image(json.dumps(document | {"annotations": {"filler": filler}}).encode(), made.media_type, made.blobs)


def needing(seed: str, digests: int, size: int = 0) -> Image:
    """An image that names so many digests that no registry asks for."""
    notes = {f"{number}": sha256(f"{seed} {number}".encode()) for number in range(digests)}
    made = image(seed)
    document = json.loads(made.body) | {"annotations": notes}
    notes["filler"] = "x" * max(0, size - len(json.dumps(document)) - 20)
    return Image(json.dumps(document).encode(), made.media_type, made.blobs)


def chain(length: int, innermost: Image) -> list[Image]:
    """Indexes one in another, the innermost first."""
    made = [index(innermost)]
    while len(made) < length:
        made.append(index(made[-1]))
    return made


def parsed(pushed: Image) -> Manifest:
    return read(pushed.body, pushed.media_type)


async def walked(top: Image, known: Mapping[str, Image]) -> Content:
    async def look(digest: str) -> Manifest | None:
        return parsed(known[digest]) if digest in known else None

    return await walk(parsed(top), Eyes(look, nobody, asyncio.Semaphore(2)), freely)


async def nobody(_digest: str) -> bool:
    return False


def by_digest(*images: Image) -> dict[str, Image]:
    return {each.digest: each for each in images}


# --- limits


@pytest.mark.parametrize("length", [MAX_DEPTH, MAX_DEPTH + 1, 985])
async def test_h94_indexes_are_nested_only_as_deep_as_anybody_would(length: int) -> None:
    made = chain(length, image("one"))
    known = by_digest(*made, image("one"))
    if length <= MAX_DEPTH:
        assert set(known) <= (await walked(made[-1], known)).needs
        return
    with pytest.raises(OciError, match="nested") as refused:
        await walked(made[-1], known)
    assert refused.value.status == 400


async def test_h85_a_closure_is_bounded_in_manifests_bytes_and_digests() -> None:
    def listing(count: int) -> Image:
        entries = [{"digest": f"sha256:{number:064x}"} for number in range(count)]
        return Image(json.dumps({"schemaVersion": 2, "manifests": entries}).encode(), OCI_INDEX)

    big = [large(f"{number}", MAX_MANIFEST_BYTES) for number in range(MAX_BYTES // MAX_MANIFEST_BYTES)]
    many = [needing(f"{number}", MAX_NEEDS // 2) for number in range(2)]
    for fitting, over in (
        (listing(MAX_CLOSURE - 1), listing(MAX_CLOSURE)),
        (index(*big[1:]), index(*big)),
        (index(many[0]), index(*many)),
    ):
        known = by_digest(*big, *many)
        assert (await walked(fitting, known)).digest == fitting.digest
        with pytest.raises(OciError, match="more than one tag may need") as refused:
            await walked(over, known)
        assert refused.value.status == 400


async def test_h85_only_small_children_are_kept_and_room_is_taken_for_them() -> None:
    small, big = [image(f"{number}") for number in range(3)], [large(f"{number}", MAX_TOGETHER) for number in range(2)]
    known, taken = by_digest(*small, *big), list[int]()

    async def look(digest: str) -> Manifest | None:
        return parsed(known[digest])

    top = parsed(index(*small, *big))
    content = await walk(top, Eyes(look, nobody, asyncio.Semaphore(2)), taken.append)
    assert {kept.digest for kept in content.stored} == {top.digest, *by_digest(*small)}
    assert set(content.apart) == set(by_digest(*big))
    assert sum(taken) == sum(len(each.body) for each in small)
    assert set(content.blobs) == {sha256(blob) for each in (*small, *big) for blob in each.blobs}


def missing(number: int) -> Image:
    """An index of children that nobody has."""
    listed = [{"mediaType": OCI_MANIFEST, "digest": sha256(b"%d" % each), "size": 1} for each in range(number)]
    return Image(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode(), OCI_INDEX)


async def test_h85_what_is_listed_counts_before_it_is_looked_at_and_a_few_are_looked_at_together() -> None:
    looking = list[int]()
    now = 0

    async def look(_digest: str) -> Manifest | None:
        nonlocal now
        now += 1
        looking.append(now)
        await asyncio.sleep(0)
        now -= 1
        return None

    eyes = Eyes(look, nobody, asyncio.Semaphore(LOOKED_AT_ONCE))
    with pytest.raises(OciError, match="more than one tag may need"):
        await walk(parsed(missing(MAX_CLOSURE)), eyes, freely)
    assert not looking
    assert len((await walk(parsed(missing(50)), eyes, freely)).missing) == 50
    assert (len(looking), max(looking)) == (50, LOOKED_AT_ONCE)


async def test_h85_what_the_record_refuses_is_refused_before_anything_is_looked_at(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with between(registry.url) as front, edge_over(front.url, redis_server.url) as edge:
        await edge.client.push(REPOSITORY, "1.0", image("one"))
        pushed, before = missing(900), len(front.asked)
        answer = await edge.client.put(REPOSITORY, "1.0", pushed)
        assert (answer.status, answer.error["detail"]["pushed_digest"]) == (409, pushed.digest)
        target = f"/v2/{REPOSITORY}/manifests/{pushed.digest}?tag=1.0&tag=2.0"
        assert (await edge.client.ask("PUT", target, pushed.body, Content_Type=pushed.media_type)).status == 409
        assert len(front.asked) - before < 10
        assert [event.outcome for event in await edge.events(REPOSITORY)][1:] == [Outcome.REFUSED] * 2


# --- what is listed and is no manifest


def cache_of(made: Image, types: Sequence[str]) -> Image:
    """An index as BuildKit keeps its cache: it lists blobs."""
    blobs = zip(made.blobs, types, strict=True)
    listed = [{"mediaType": kind, "digest": sha256(blob), "size": len(blob)} for blob, kind in blobs]
    return Image(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode(), OCI_INDEX)


@pytest.mark.parametrize(
    ("types", "asked"),
    [
        (["application/vnd.buildkit.cacheconfig.v0", "application/vnd.oci.image.layer.v1.tar+gzip"], False),
        ([OCI_MANIFEST, OCI_MANIFEST], True),
    ],
)
async def test_h31_an_index_of_blobs_is_taken_and_its_blobs_stay(
    registry: RegistryServer, redis_server: RedisServer, types: list[str], asked: bool
) -> None:
    """2.8 reads the whole of a blob into its memory that it is asked for as a manifest, and answers 500."""
    made = image("cached")
    pushed = cache_of(made, types)
    async with between(registry.url) as front, edge_over(front.url, redis_server.url) as edge:
        await edge.client.blobs(REPOSITORY, made)
        assert (await edge.client.put(REPOSITORY, "1.0", pushed)).status == 201
        for blob in made.blobs:
            assert (("GET", f"/v2/{REPOSITORY}/manifests/{sha256(blob)}") in front.asked) is asked
            assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/blobs/{sha256(blob)}")).status == 405


async def test_h31_a_manifest_that_the_upstream_cannot_give_is_no_blob(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    """Some registries give out manifests as blobs, too; what a child needs is not left out because of a 500."""
    child = image("child")

    async def act(request: Request) -> Answer | None:
        away = request.method == "GET" and request.target.endswith(f"/manifests/{child.digest}")
        return Answer(500, CIMultiDict(), b"") if away else await request.forward()

    async with between(registry.url, act) as front, edge_over(front.url, redis_server.url) as edge:
        await Client(registry.url, edge.client.session).push(REPOSITORY, "child", child)
        await edge.direct.upload(REPOSITORY, child.body)
        answer = await edge.client.put(REPOSITORY, "1.0", index(child))
        assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")


async def test_h31_what_is_listed_both_as_a_blob_and_as_a_manifest_is_read_as_one() -> None:
    """Whoever follows the inner index needs what the child needs."""
    child = image("both")
    inner = index(child)
    as_blob = json.loads(index(child, inner).body)
    as_blob["manifests"][0]["mediaType"] = "application/octet-stream"
    top = Image(json.dumps(as_blob).encode(), OCI_INDEX)
    known = by_digest(child, inner)

    async def look(digest: str) -> Manifest | None:
        return parsed(known[digest])

    async def everything(_digest: str) -> bool:
        return True

    content = await walk(parsed(top), Eyes(look, everything, asyncio.Semaphore(2)), freely)
    assert set(map(sha256, child.blobs)) <= content.needs


# --- what is written in pieces


BIG = [large("amd", MAX_TOGETHER), large("arm", MAX_TOGETHER)]


async def kept(edge: RunningEdge) -> set[str]:
    found: Any = await edge.store.client.hkeys(keys.manifests(REPOSITORY))
    return {name.decode() for name in found if not name.startswith(b"needs ")}


async def test_h85_large_children_are_kept_as_small_ones_are(edge: RunningEdge, registry: RegistryServer) -> None:
    pushed = index(*BIG)
    assert (await edge.client.push(REPOSITORY, "1.0", pushed)).status == 201
    await edge.direct.push(REPOSITORY, "adopted", pushed)
    assert (await edge.client.pull(REPOSITORY, "adopted")).status == 200
    assert await kept(edge) == {pushed.digest, *by_digest(*BIG)}
    await edge.direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{BIG[0].digest}")
    assert (await edge.client.pull(REPOSITORY, BIG[0].digest)).body == BIG[0].body


async def test_h85_an_adopted_index_keeps_its_large_children(edge: RunningEdge) -> None:
    pushed = index(*BIG)
    await edge.direct.push(REPOSITORY, "1.0", pushed)
    assert (await edge.client.pull(REPOSITORY, "1.0")).status == 200
    assert await kept(edge) == {pushed.digest, *by_digest(*BIG)}


async def test_h85_a_push_that_fails_leaves_no_piece_behind(edge: RunningEdge) -> None:
    pushed = index(*BIG)
    refused = Image(json.dumps(json.loads(pushed.body) | {"mediaType": "x/y"}).encode(), OCI_INDEX, children=tuple(BIG))
    assert (await edge.client.push(REPOSITORY, "1.0", refused)).status == 400
    assert await edge.store.client.exists(keys.manifests(REPOSITORY), keys.pins(REPOSITORY)) == 0


async def test_h85_a_piece_stays_with_whoever_needs_it(edge: RunningEdge) -> None:
    """Another tag lets go of it between the piece and the commit; nobody needs it; it comes twice."""
    register, child = edge.parts.register, parsed(BIG[0])
    piece = StoredManifest(child.digest, child.media_type, child.body)
    assert not await register.keep(REPOSITORY, piece)
    assert await kept(edge) == set()
    contents = {tag: Content(digest=parsed(image(tag)).digest, needs=frozenset({child.digest})) for tag in ("a", "b")}
    drafts = {tag: record.own(Action.PUSH, Outcome.CREATED, REPOSITORY, tag=tag) for tag in contents}
    for tag, content in contents.items():
        assert (await register.claim(REPOSITORY, tag, content, token=tag, lease_ms=60_000)).step is Step.CLAIMED
    for _ in range(2):
        assert await register.keep(REPOSITORY, piece)
    for tag, content in contents.items():
        await register.arm(REPOSITORY, tag, content, token=tag, lease_ms=60_000, draft=drafts[tag], closing=None)
    await register.commit(REPOSITORY, "a", contents["a"], token="a", event=drafts["a"], first=True)
    gone = record.own(Action.DELETE_TAG, Outcome.DELETED, REPOSITORY, tag="a")
    await register.begin_delete(REPOSITORY, "tag:a", holders=(), deadline_ms=1000, draft=gone)
    await register.end_delete(REPOSITORY, "tag:a", gone, [GoneTag("a", contents["a"].digest, False)])
    assert await kept(edge) == {child.digest}
    await register.commit(REPOSITORY, "b", contents["b"], token="b", event=drafts["b"], first=True)
    assert await kept(edge) == {child.digest}
    assert await register.pin_count(REPOSITORY, child.digest) == 1


# --- figures


async def test_h85_no_step_keeps_redis_for_long(edge: RunningEdge) -> None:
    """The dearest there are, in seconds of Redis's one thread: a tag that needs as much as it may is set, set again to
    something else that does, and given up.
    """
    made = [parsed(needing(f"{number}", MAX_NEEDS - 10, MAX_MANIFEST_BYTES)) for number in range(3)]
    spent = [await busy(edge, f"t{number}", made) for number in range(3)]
    assert max(map(min, zip(*spent, strict=True))) < 0.05, spent


async def busy(edge: RunningEdge, tag: str, made: Sequence[Manifest]) -> list[float]:
    """How long Redis works for each step of three pushes, of which the last is given back."""
    register, spent = edge.parts.register, list[float]()
    draft = record.own(Action.PUSH, Outcome.CREATED, REPOSITORY, tag=tag)

    async def step(work: Awaitable[Reply], wanted: Step) -> None:
        before = await used(edge)
        assert (await work).step is wanted
        spent.append(await used(edge) - before)

    for over, manifest in enumerate(made):
        stored = StoredManifest(manifest.digest, manifest.media_type, manifest.body)
        content, token = Content(digest=manifest.digest, needs=manifest.needs, stored=(stored,)), f"{tag} {over}"
        held: dict[str, Any] = {"over_generation": over, "over_digest": made[over - 1].digest if over else ""}
        claim = register.claim(REPOSITORY, tag, content, token=token, lease_ms=60_000, **held)
        arm = register.arm(REPOSITORY, tag, content, token=token, lease_ms=60_000, draft=draft, closing=None)
        commit = register.commit(REPOSITORY, tag, content, token=token, event=draft, first=not over)
        release = register.release(REPOSITORY, tag, token=token, event=None)
        await step(claim, Step.CLAIMED)
        await step(arm, Step.ARMED)
        await (step(release, Step.RELEASED) if over == 2 else step(commit, Step.COMMITTED))
        (commit if over == 2 else release).close()
    return spent


async def used(edge: RunningEdge) -> float:
    found = await edge.store.client.info("cpu")
    return float(found["used_cpu_user_main_thread"]) + float(found["used_cpu_sys_main_thread"])


@pytest.fixture
def proxy(registry: RegistryServer, redis_server: RedisServer, tmp_path: Path) -> Iterator[ProxyServer]:
    with running_proxy(registry.url, {"url": redis_server.url}, tmp_path) as running:
        yield running


def memory(process: int, what: str) -> int:
    found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


@pytest.mark.timeout(120)
async def test_h85_eight_clients_take_little_memory_whatever_they_push(
    proxy: ProxyServer, registry: RegistryServer, redis_server: RedisServer
) -> None:
    """All of it together: large children, more of them than a tag may need, and images of the largest size, new and
    refused.  Most children come from the ledger, as if another tag had needed them, because the registry is slow.
    """
    children = [large(f"{number}", MAX_MANIFEST_BYTES) for number in range(8)]
    fits, over, body = index(*children[:2]), index(*children), large("body", MAX_MANIFEST_BYTES)
    async with aiohttp.ClientSession() as session, connect(redis_server.url, timeout=20) as store:
        direct, client = Client(registry.url, session), Client(proxy.url, session)
        for pushed in (*children[:2], body):
            await direct.push(REPOSITORY, pushed.digest, pushed)
        for child in children[1:]:
            kept = packed(StoredManifest(child.digest, child.media_type, child.body))
            await store.do(store.client.hset(keys.manifests(REPOSITORY), child.digest, kept))
        assert (await client.push(REPOSITORY, "held", image("held"))).status == 201
        idle = memory(proxy.pid, "VmRSS")

        async def push(number: int) -> list[int]:
            pushes = [("held", body), (f"over-{number}", over), (f"body-{number}", body), (f"fits-{number}", fits)]
            return [(await client.put(REPOSITORY, tag, pushed)).status for tag, pushed in pushes]

        answers = await asyncio.gather(*(push(number) for number in range(8)))
    for number, wanted in enumerate((409, 400, 201, 201)):
        assert {each[number] for each in answers} <= {wanted, 503}  # on a busy machine Redis may be late
    assert memory(proxy.pid, "VmHWM") - idle < 128 * MIB
