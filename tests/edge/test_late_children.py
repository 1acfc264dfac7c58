"""A child of a sparse index that comes late brings in what it needs, whichever way it comes (H91).

docker/distribution 3.1 takes an index without its children where it is told to (`platforms: none`); here something in
front of 2.8 makes it do so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from immuproxy.ledger import keys
from tests.edge.test_spellings import renamed, sha512, upload
from tests.support.between import Between, Request, between
from tests.support.conversation import Answer, Image, RunningEdge, edge_over, image, index, sha256
from tests.support.servers import RedisServer, RegistryServer

REPOSITORY = "team/app"
RULES = """
default: immutable
rules:
  - {name: moving, tags: [latest], policy: mutable}
  - {name: passing, tags: ["old-*"], policy: immutable, delete: allow, reuse: allow}
"""
CHILD = image("child")
INDEX = index(CHILD, image("other"))


@dataclass
class Sparse:
    """A registry that takes an index whose children are not there.  `before` is done once, before it answers."""

    registry: RunningEdge | None = None
    before: dict[tuple[str, str], Callable[[], Awaitable[object]]] = field(default_factory=dict)

    async def act(self, request: Request) -> Answer | None:
        reference = request.target.rpartition("/")[2]
        await self.before.pop((request.method, reference), _nothing)()
        if request.is_manifest_put and request.body == INDEX.body:
            return await self.take(request)
        return await request.forward()

    async def take(self, request: Request) -> Answer:
        """2.8 takes the index while the child is there."""
        assert self.registry is not None
        direct = self.registry.direct
        there = (await direct.pull(REPOSITORY, CHILD.digest)).status == 200
        await direct.push(REPOSITORY, CHILD.digest, CHILD)
        answer = await request.forward()
        if not there:
            await direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{CHILD.digest}")
        return answer


async def _nothing() -> None:
    pass


@dataclass
class Scene:
    edge: RunningEdge
    sparse: Sparse
    middle: Between

    async def push_index(self, tag: str = "1.0") -> None:
        """The child's blobs and the other child are there, the child is not."""
        for blob in CHILD.blobs:
            await self.edge.direct.upload(REPOSITORY, blob)
        await self.edge.client.push(REPOSITORY, INDEX.children[1].digest, INDEX.children[1])
        assert (await self.edge.client.put(REPOSITORY, tag, INDEX)).status == 201
        assert (await self.edge.direct.pull(REPOSITORY, CHILD.digest)).status == 404

    async def bring(self, way: str) -> None:
        client = self.edge.client
        if way == "with ?tag=":
            target = f"/v2/{REPOSITORY}/manifests/{CHILD.digest}?tag=latest"
            answer = await client.ask("PUT", target, CHILD.body, Content_Type=CHILD.media_type)
        elif way == "by digest, when it is there already":
            await self.edge.direct.put(REPOSITORY, CHILD.digest, CHILD)
            answer = await client.put(REPOSITORY, CHILD.digest, CHILD)
        else:
            answer = await client.put(REPOSITORY, WAYS[way], CHILD)
        assert answer.status == 201, answer.body
        if way == "under a tag that goes":
            await self.forget_tag(WAYS[way])

    def bring_after_a_look(self) -> None:
        """The first look for the child finds nothing, and right after it the child comes."""
        looks: list[str] = []

        async def act(request: Request) -> Answer | None:
            answer = await self.sparse.act(request)
            if request.method == "GET" and request.target.endswith(CHILD.digest) and not looks:
                assert answer is not None
                assert answer.status == 404
                looks.append(request.target)
                await self.bring("under a tag that moves")
            return answer

        self.middle.act = act

    async def forget_tag(self, tag: str) -> None:
        """The tag is deleted; 2.8 deletes none by name, so it is the record that goes, as the sweep would have it."""
        found = await self.edge.parts.register.read(REPOSITORY, tag)
        assert found.committed is not None
        self.edge.use_rules(RULES.replace("old-*", "nothing").replace("latest", "latest, old-*"))
        assert (await self.edge.client.put(REPOSITORY, tag, INDEX.children[1])).status == 201

    async def statuses_of_deletes(self, child: Image = CHILD) -> set[int]:
        """What a delete of the child, and of each thing that it needs, is answered."""
        paths = [f"manifests/{child.digest}", *(f"blobs/{sha256(blob)}" for blob in child.blobs)]
        return {(await self.edge.client.ask("DELETE", f"/v2/{REPOSITORY}/{path}")).status for path in paths}


WAYS = {
    "by digest": CHILD.digest,
    "by digest, when it is there already": "",
    "under a tag that moves": "latest",
    "with ?tag=": "",
    "under a tag that goes": "old-1",
}


@pytest.fixture
async def middle(registry: RegistryServer) -> AsyncIterator[Between]:
    async with between(registry.url) as standing:
        yield standing


@pytest.fixture
async def scene(registry: RegistryServer, redis_server: RedisServer, middle: Between) -> AsyncIterator[Scene]:
    async with edge_over(middle.url, redis_server.url, rules=RULES) as edge:
        edge.direct.url = registry.url
        sparse = Sparse(edge)
        middle.act = sparse.act
        yield Scene(edge, sparse, middle)


@pytest.mark.parametrize("way", WAYS)
async def test_h91_whoever_brings_a_missing_child_pins_what_it_needs(scene: Scene, way: str) -> None:
    await scene.push_index()
    await scene.bring(way)
    assert await scene.statuses_of_deletes() == {405}


@pytest.mark.parametrize("way", ["by digest", "under a tag that goes"])
async def test_h91_the_same_for_an_index_that_predates_the_proxy(scene: Scene, way: str) -> None:
    await scene.edge.direct.push(REPOSITORY, "1.0", INDEX)
    await scene.edge.direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{CHILD.digest}")
    assert (await scene.edge.client.pull(REPOSITORY, "1.0")).digest == INDEX.digest
    await scene.bring(way)
    assert await scene.statuses_of_deletes() == {405}


async def test_h91_what_a_child_brought_in_is_needed_no_longer_than_the_child(scene: Scene) -> None:
    await scene.push_index("old-1")
    await scene.bring("under a tag that moves")
    await scene.edge.client.put(REPOSITORY, "latest", INDEX.children[1])
    assert await scene.statuses_of_deletes() == {405}
    await scene.forget_tag("old-1")
    assert not await scene.edge.store.client.exists(keys.pins(REPOSITORY), keys.manifests(REPOSITORY))
    assert await scene.statuses_of_deletes() == {202}


async def test_h91_a_child_that_comes_between_the_look_and_the_claim_of_its_index(scene: Scene) -> None:
    for blob in CHILD.blobs:
        await scene.edge.direct.upload(REPOSITORY, blob)
    await scene.edge.client.push(REPOSITORY, INDEX.children[1].digest, INDEX.children[1])
    scene.bring_after_a_look()
    assert (await scene.edge.client.put(REPOSITORY, "1.0", INDEX)).status == 201
    assert await scene.statuses_of_deletes() == {405}


async def test_h91_a_child_that_comes_between_the_look_and_the_late_arrival_of_its_own_index(scene: Scene) -> None:
    outer, direct = index(INDEX), scene.edge.direct
    await direct.push(REPOSITORY, "1.0", outer)
    for digest in (INDEX.digest, CHILD.digest):
        await direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{digest}")
    assert (await scene.edge.client.pull(REPOSITORY, "1.0")).digest == outer.digest
    scene.bring_after_a_look()
    assert (await scene.edge.client.put(REPOSITORY, INDEX.digest, INDEX)).status == 201
    assert await scene.statuses_of_deletes() == {405}


@pytest.mark.parametrize("way", ["by digest", "under a tag that moves", "under a tag that goes"])
async def test_h91_an_index_that_comes_while_its_child_is_on_its_way(scene: Scene, way: str) -> None:
    """The child was not needed by anybody when its push began."""
    scene.sparse.before["PUT", WAYS[way]] = scene.push_index
    for blob in CHILD.blobs:
        await scene.edge.direct.upload(REPOSITORY, blob)
    await scene.bring(way)
    assert await scene.statuses_of_deletes() == {405}


@pytest.mark.parametrize("reference", ["latest", CHILD.digest])
async def test_h91_no_delete_slips_in_while_a_child_is_on_its_way(scene: Scene, reference: str) -> None:
    statuses: set[int] = set()

    async def delete() -> None:
        statuses.update(await scene.statuses_of_deletes())

    await scene.push_index()
    scene.sparse.before["PUT", reference] = delete
    assert (await scene.edge.client.put(REPOSITORY, reference, CHILD)).status == 201
    assert statuses == {405}


async def test_h91_a_child_is_not_sent_while_what_it_needs_is_being_deleted(scene: Scene) -> None:
    await scene.push_index()
    gone = sha256(CHILD.blobs[1])
    push: asyncio.Task[Answer] | None = None

    async def begin() -> None:
        nonlocal push
        push = asyncio.create_task(scene.edge.client.put(REPOSITORY, "latest", CHILD))
        await asyncio.sleep(0.2)  # nothing tells that it goes on waiting
        assert not push.done()

    scene.sparse.before["DELETE", gone] = begin
    assert (await scene.edge.client.ask("DELETE", f"/v2/{REPOSITORY}/blobs/{gone}")).status == 202
    assert push is not None
    assert (await push).status == 400
    assert (await scene.edge.direct.pull(REPOSITORY, CHILD.digest)).status == 404


async def test_h91_a_child_that_came_before_one_of_its_layers_needs_it_by_all_its_digests(scene: Scene) -> None:
    """The first push of the child is refused by the registry, and by then what it needs is attached (H81)."""
    child = renamed(CHILD)
    outer = index(child)
    await scene.edge.direct.push(REPOSITORY, CHILD.digest, CHILD)
    for blob in child.blobs:
        await upload(scene.edge.direct, blob, "sha512")
    await scene.edge.direct.put(REPOSITORY, child.digest, child)
    await scene.edge.direct.put(REPOSITORY, "1.0", outer)
    gone = [*(f"blobs/{sha512(blob)}" for blob in child.blobs), f"manifests/{child.digest}"]
    for path in gone:
        assert (await scene.edge.direct.ask("DELETE", f"/v2/{REPOSITORY}/{path}")).status == 202
    assert (await scene.edge.client.pull(REPOSITORY, "1.0")).digest == outer.digest
    assert (await scene.edge.client.put(REPOSITORY, "latest", child)).status == 400
    for blob in child.blobs:
        await upload(scene.edge.client, blob, "sha512")
    assert (await scene.edge.client.put(REPOSITORY, "latest", child)).status == 201
    assert await scene.statuses_of_deletes(child) == {405}
