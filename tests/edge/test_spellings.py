"""One content has a digest by each algorithm, and none of them is a way round another (H81)."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest
from yarl import URL

from immuproxy.drift.service import anonymous_service
from immuproxy.edge import record, spellings
from immuproxy.ledger import keys
from immuproxy.ledger.model import Action, Outcome, Step
from immuproxy.oci import manifests
from immuproxy.oci.manifests import OCI_INDEX, OCI_MANIFEST
from tests.drift.test_sweep import AT_ONCE, sweep_of
from tests.support.between import Act, Request, between
from tests.support.conversation import Answer, Client, Image, RunningEdge, edge_over, image, sha256
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
BLOBS, MANIFESTS = f"/v2/{REPOSITORY}/blobs", f"/v2/{REPOSITORY}/manifests"
LATER = 600_000


def named(algorithm: str, content: bytes) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def sha512(content: bytes) -> str:
    return named("sha512", content)


async def upload(client: Client, blob: bytes, algorithm: str) -> None:
    start = await client.ask("POST", f"{BLOBS}/uploads/")
    location = URL(start.headers["Location"], encoded=True)
    mark = "&" if location.query else "?"
    target = f"{location.relative() if location.is_absolute() else location}{mark}digest={named(algorithm, blob)}"
    answer = await client.ask("PUT", target, blob, Content_Type="application/octet-stream")
    assert answer.status == 201, answer.body


def renamed(made: Image, algorithm: str = "sha512") -> Image:
    """The image with config and layers named by another algorithm."""
    body = made.body.decode()
    for blob in made.blobs:
        body = body.replace(sha256(blob), named(algorithm, blob))
    return Image(body.encode(), OCI_MANIFEST, made.blobs)


async def uploaded(client: Client, seed: str, algorithm: str = "sha512") -> Image:
    """Such an image, whose blobs the registry has by that name."""
    made = renamed(image(seed), algorithm)
    for blob in made.blobs:
        await upload(client, blob, algorithm)
    return made


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
@pytest.mark.parametrize("adopted", [False, True])
async def test_h81_no_digest_of_what_a_protected_tag_needs_is_a_way_to_delete_it(
    edge: RunningEdge, algorithm: str, adopted: bool
) -> None:
    pushed = await uploaded(edge.client, "one", algorithm)
    assert (await (edge.direct if adopted else edge.client).put(REPOSITORY, "1.0", pushed)).status == 201
    for blob in pushed.blobs:
        for spelling in ("sha256", algorithm):
            for path in (BLOBS, MANIFESTS):
                answer = await edge.client.ask("DELETE", f"{path}/{named(spelling, blob)}")
                assert answer.status == (405 if path == BLOBS or spelling == "sha256" else 404), (path, spelling)
        assert (await edge.direct.ask("GET", f"{BLOBS}/{named(algorithm, blob)}")).body == blob


async def test_h81_a_layer_that_was_gone_when_its_tag_was_adopted_is_kept_once_its_image_is_pushed_again(
    edge: RunningEdge,
) -> None:
    pushed = await uploaded(edge.client, "one")
    await edge.direct.put(REPOSITORY, "1.0", pushed)
    await edge.direct.ask("DELETE", f"{BLOBS}/{sha512(pushed.blobs[1])}")
    assert (await edge.client.pull(REPOSITORY, "1.0")).body == pushed.body
    await upload(edge.client, pushed.blobs[1], "sha512")
    assert (await edge.client.put(REPOSITORY, "1.0", pushed)).status == 201
    assert (await edge.client.ask("DELETE", f"{BLOBS}/{sha256(pushed.blobs[1])}")).status == 405


async def test_h81_what_an_older_manifest_names_counts_where_it_cannot_be_read_surely(
    edge: RunningEdge,
) -> None:
    pushed = await uploaded(edge.client, "one")
    odd = Image(pushed.body.replace(b'{"schemaVersion"', b'{"Annotations": {}, "schemaVersion"'), OCI_MANIFEST)
    assert (await edge.direct.put(REPOSITORY, "1.0", odd)).status == 201
    answer = await edge.client.ask("DELETE", f"{BLOBS}/{sha256(pushed.blobs[1])}")
    assert answer.status == 405


async def test_h81_another_name_of_a_needed_layer_is_refused_although_the_manifest_does_not_use_it(
    edge: RunningEdge,
) -> None:
    pushed = image("one")
    await edge.client.push(REPOSITORY, "1.0", pushed)
    await upload(edge.client, pushed.blobs[1], "sha512")
    answer = await edge.client.ask("DELETE", f"{BLOBS}/{sha512(pushed.blobs[1])}")
    assert (answer.status, answer.error["code"]) == (405, "UNSUPPORTED")
    event = (await edge.events(REPOSITORY))[-1]
    assert (event.outcome, event.digest) == (Outcome.REFUSED, sha512(pushed.blobs[1]))
    assert event.previous_digest == sha256(pushed.blobs[1])


async def test_h81_what_nothing_needs_may_go_by_any_of_its_digests(edge: RunningEdge) -> None:
    blob = b"loose"
    await upload(edge.client, blob, "sha512")
    assert (await edge.client.ask("DELETE", f"{BLOBS}/{sha512(b'nothing')}")).status == 404
    assert (await edge.client.ask("DELETE", f"{BLOBS}/{sha512(blob)}")).status == 202
    event = (await edge.events(REPOSITORY))[-1]
    assert (event.action, event.outcome) == (Action.DELETE_BLOB, Outcome.DELETED)
    assert (event.digest, event.previous_digest) == (sha512(blob), sha256(blob))
    assert not await edge.store.client.exists(keys.marks(REPOSITORY))
    assert (await edge.client.ask("DELETE", f"{BLOBS}/{sha256(blob)}")).status == 202


@pytest.mark.parametrize("deleted", ["sha256", "sha512"])
@pytest.mark.parametrize("needed", ["sha256", "sha512"])
async def test_h81_a_push_waits_for_a_delete_by_another_digest(edge: RunningEdge, deleted: str, needed: str) -> None:
    pushed = await uploaded(edge.client, "one") if needed == "sha512" else image("one")
    await edge.client.blobs(REPOSITORY, pushed)
    blob = pushed.blobs[1]
    draft = record.own(Action.DELETE_BLOB, Outcome.FAILED, REPOSITORY, digest=named(deleted, blob))
    mark = sha256(blob) if deleted == "sha256" else f"{sha512(blob)} {sha256(blob)}"
    register = edge.parts.register
    begun = await register.begin_delete(REPOSITORY, mark, holders=[], deadline_ms=LATER, draft=draft)
    assert begun is Step.GRANTED
    again = await register.begin_delete(REPOSITORY, sha256(blob), holders=[], deadline_ms=LATER, draft=draft)
    assert again is Step.BUSY
    push = asyncio.create_task(edge.client.put(REPOSITORY, "1.0", pushed))
    await asyncio.sleep(0.2)  # nothing tells that it goes on waiting
    assert not push.done()
    await register.end_delete(REPOSITORY, mark, draft)
    assert (await push).status == 201


async def test_h81_the_sweep_takes_away_every_mark_of_an_interrupted_delete(edge: RunningEdge) -> None:
    blob = b"loose"
    await upload(edge.client, blob, "sha512")
    both = {"digest": sha512(blob), "previous_digest": sha256(blob)}
    draft = record.own(Action.DELETE_BLOB, Outcome.FAILED, REPOSITORY, **both)
    register = edge.parts.register
    await register.begin_delete(REPOSITORY, " ".join(both.values()), holders=[], deadline_ms=LATER, draft=draft)
    assert await edge.store.client.zcard(keys.marks(REPOSITORY)) == 2
    await sweep_of(edge, lease=AT_ONCE).once()
    assert not await edge.store.client.exists(keys.marks(REPOSITORY))


async def untold(request: Request) -> Answer | None:
    """As where the registry redirects to its storage: nothing says by which digest it keeps a blob."""
    answer = await request.forward()
    if request.method == "HEAD" and "/blobs/" in request.target:
        answer.headers.popall("Docker-Content-Digest", None)
    return answer


async def test_h81_what_could_be_deleted_by_a_name_that_nobody_tells_is_not_protected_in_vain(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with between(registry.url, untold) as middle, edge_over(middle.url, redis_server.url) as edge:
        pushed = await uploaded(edge.client, "one")
        answer = await edge.client.put(REPOSITORY, "1.0", pushed)
        assert (answer.status, answer.error["code"]) == (400, "UNSUPPORTED")
        assert "sha256" in answer.error["message"]
        assert (await edge.events(REPOSITORY))[-1].outcome is Outcome.FAILED
        found = await edge.parts.register.read(REPOSITORY, "1.0")
        assert (found.committed, found.claim) == (None, None)
        assert (await edge.client.ask("DELETE", f"{BLOBS}/{sha512(pushed.blobs[1])}")).status == 405
        assert (await edge.client.put(REPOSITORY, "latest", pushed)).status == 201


async def test_h81_the_registry_is_not_asked_for_any_number_of_names(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spellings, "MOST", 1)
    pushed = await uploaded(edge.client, "one")
    answer = await edge.client.put(REPOSITORY, "1.0", pushed)
    assert (answer.status, answer.error["detail"]["digest"]) == (400, sha512(pushed.blobs[1]))


async def test_h81_labels_stand_in_a_config_whatever_it_is_named_by(edge: RunningEdge) -> None:
    edge.use_rules("rules: [{name: same, policy: immutable, overwrite: [{same: revision}]}]")
    for seed, status in (("one", 201), ("two", 201), ("three", 409)):
        made = renamed(image(seed, labels={"revision": "a" if seed != "three" else "b"}))
        for blob in made.blobs:
            await upload(edge.client, blob, "sha512")
        assert (await edge.client.put(REPOSITORY, "1.0", made)).status == status


# --- manifests


async def test_h81_a_manifest_by_its_sha512_digest_is_the_registrys_to_take_or_not(edge: RunningEdge) -> None:
    """docker/distribution 2.8 takes none."""
    pushed = image("one")
    await edge.client.blobs(REPOSITORY, pushed)
    answer = await edge.client.put(REPOSITORY, sha512(pushed.body), pushed)
    direct = await edge.direct.put(REPOSITORY, sha512(pushed.body), pushed)
    assert (answer.status, answer.body) == (direct.status, direct.body)
    assert answer.error["message"] == "provided digest did not match uploaded content"
    (event,) = await edge.events(REPOSITORY)
    assert (event.action, event.outcome, event.digest) == (Action.PUSH, Outcome.FAILED, pushed.digest)
    assert (await edge.client.pull(REPOSITORY, sha512(pushed.body))).status == 404
    wrong = await edge.client.put(REPOSITORY, sha512(b"other"), pushed)
    assert (wrong.status, wrong.error["code"]) == (400, "DIGEST_INVALID")
    assert [event.outcome for event in await edge.events(REPOSITORY)] == [Outcome.FAILED] * 2


def keeping(known: dict[str, str]) -> Act:
    """A registry that takes manifests by sha512 and keeps them by sha256; ``known`` says which."""

    async def act(request: Request) -> Answer | None:
        path, _, digest = request.target.rpartition("/")
        if not digest.startswith("sha512:") or not path.endswith("/manifests"):
            return await request.forward()
        if request.method == "PUT":
            known[digest] = sha256(request.body)
        target = f"{path}/{known.get(digest, digest)}"
        answer = await request.forward(target)
        if answer.status in {200, 201}:
            answer.headers["Docker-Content-Digest"] = digest
        return answer

    return act


async def test_h81_a_protected_tags_manifest_is_not_deleted_by_its_sha512_digest(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    pushed, loose = image("one"), image("loose")
    async with between(registry.url, keeping({})) as middle, edge_over(middle.url, redis_server.url) as edge:
        await edge.client.push(REPOSITORY, "1.0", pushed)
        for made in (pushed, loose):
            await edge.client.blobs(REPOSITORY, made)
            answer = await edge.client.put(REPOSITORY, sha512(made.body), made)
            assert (answer.status, answer.digest) == (201, sha512(made.body))
            assert (await edge.client.pull(REPOSITORY, sha512(made.body))).body == made.body
        told = [(event.outcome, event.digest) for event in await edge.events(REPOSITORY)]
        assert told == [(Outcome.CREATED, made.digest) for made in (pushed, pushed, loose)]
        answer = await edge.client.ask("DELETE", f"{MANIFESTS}/{sha512(pushed.body)}")
        assert (answer.status, answer.error["code"]) == (405, "UNSUPPORTED")
        assert (await edge.direct.pull(REPOSITORY, "1.0")).body == pushed.body
        assert (await edge.client.ask("DELETE", f"{MANIFESTS}/{sha512(loose.body)}")).status == 202
        again = await edge.client.put(REPOSITORY, sha512(pushed.body), pushed)
        assert (again.status, again.digest) == (201, sha512(pushed.body))
        assert (await edge.events(REPOSITORY))[-1].outcome is Outcome.UNCHANGED


async def test_h81_a_child_that_an_index_names_by_sha512_is_needed_by_both_digests(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    child = image("child")
    listed = [{"mediaType": OCI_MANIFEST, "digest": sha512(child.body), "size": len(child.body)}]
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()
    names = {sha512(child.body): child.digest}
    async with between(registry.url, keeping(names)) as middle, edge_over(middle.url, redis_server.url) as edge:
        await edge.direct.push(REPOSITORY, child.digest, child)
        manifest_store, index = edge.parts.recovery._manifest_store, manifests.read(body, OCI_INDEX)
        content = await manifest_store.content(REPOSITORY, index, anonymous_service())
        assert content.needs == {index.digest, sha512(child.body), child.digest, *map(sha256, child.blobs)}
        assert content.missing == frozenset()
