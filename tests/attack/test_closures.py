"""Closures: whatever a protected manifest needs, however it says so, stays in the registry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from immuproxy.edge.closure import MAX_DEPTH
from immuproxy.oci.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.attack.arena import Arena
from tests.support.conversation import Client, Image, image, index, sha256
from tests.support.wire import request

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True)
class Shape:
    """What is pushed to a protected tag, and every digest of it that must stay."""

    pushed: Image
    needs: tuple[str, ...]


def described(blob: bytes, media_type: str = "application/octet-stream") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(blob), "size": len(blob)}


def listed(child: Image, **more: Any) -> dict[str, Any]:
    return {"mediaType": child.media_type, "digest": child.digest, "size": len(child.body), **more}


def manifest(config: bytes, *layers: bytes, **more: Any) -> Image:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(config, CONFIG_TYPE),
        "layers": [described(layer) for layer in layers],
        **more,
    }
    return Image(json.dumps(document).encode(), OCI_MANIFEST, (config, *layers))


def listing(*children: Image, media_type: str = OCI_INDEX, **more: Any) -> Image:
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": [listed(child) for child in children], **more}
    return Image(json.dumps(document).encode(), media_type, children=children)


def parts(of: Image) -> tuple[str, ...]:
    inner = (digest for child in of.children for digest in parts(child))
    return tuple(dict.fromkeys((of.digest, *(sha256(blob) for blob in of.blobs), *inner)))


def whole(pushed: Image) -> Shape:
    return Shape(pushed, parts(pushed))


def escaped(name: str) -> Shape:
    """Digests that only show when JSON's escapes are undone."""
    pushed = manifest(f"config {name}".encode(), f"layer {name}".encode())
    body = pushed.body.replace(b"sha256:", b"\\u0073\\u0068a256\\u003a")
    return whole(replace(pushed, body=body))


def docker(name: str) -> Shape:
    pushed = manifest(f"config {name}".encode(), f"layer {name}".encode())
    document = json.loads(pushed.body) | {"mediaType": DOCKER_MANIFEST}
    document["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    document["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    return whole(Image(json.dumps(document).encode(), DOCKER_MANIFEST, pushed.blobs))


def docker_list(name: str) -> Shape:
    return whole(listing(docker(f"{name} a").pushed, docker(f"{name} b").pushed, media_type=DOCKER_LIST))


def attested(name: str) -> Shape:
    one = image(name)
    attestation = manifest(b"{}" + name.encode(), b"in-toto " + name.encode(), subject=listed(one))
    return whole(listing(one, attestation))


def nested(name: str, depth: int) -> Shape:
    inner = index(image(name))
    for _ in range(depth):
        inner = listing(inner)
    return whole(inner)


def shared(name: str) -> Shape:
    """Two children with one layer, and one that is listed twice."""
    layer = f"common to {name}".encode()
    one, two = manifest(f"a {name}".encode(), layer), manifest(f"b {name}".encode(), layer)
    return whole(listing(one, two, one))


SHAPES: dict[str, Callable[[str], Shape]] = {
    "image": lambda name: whole(image(name)),
    "many-layers": lambda name: whole(manifest(name.encode(), *(f"{n} of {name}".encode() for n in range(12)))),
    "same-blob-as-config-and-layer": lambda name: whole(manifest(name.encode(), name.encode())),
    "escaped": escaped,
    "docker": docker,
    "docker-list": docker_list,
    "index": lambda name: whole(index(image(f"{name} a"), image(f"{name} b"))),
    "attested": attested,
    "nested": lambda name: nested(name, 1),
    "nested-deep": lambda name: nested(name, MAX_DEPTH - 1),
    "shared": shared,
    "with-annotations": lambda name: whole(manifest(name.encode(), b"x" + name.encode(), annotations={"a": name})),
    "helm-chart": lambda name: whole(manifest(name.encode(), b"y" + name.encode(), artifactType="application/helm")),
}


async def _remove(arena: Arena, repository: str, digest: str) -> list[int]:
    """Try to delete a digest by both routes, plainly and escaped."""
    targets = [
        f"/v2/{repository}/{route}/{spelt}"
        for route in ("manifests", "blobs")
        for spelt in (digest, digest.replace(":", "%3A"))
    ]
    return [(await arena.edge(request("DELETE", target))).status for target in targets]


QUICK = {"image", "index"}
"""Shapes that `make test` tries under a tag that may be deleted, too."""


@pytest.mark.parametrize(
    ("tag", "shape"),
    [
        pytest.param(tag, shape, marks=[pytest.mark.attack_long] if tag == "gone-1" and shape not in QUICK else [])
        for tag in ("v1", "gone-1")
        for shape in SHAPES
    ],
)
async def test_nothing_that_a_tag_needs_can_be_deleted(target: Arena, shape: str, tag: str) -> None:
    """``gone-*`` may be deleted by its rule: its manifest goes with it, but no part of it before."""
    repository = f"closures/{shape}/{tag}"
    found = SHAPES[shape](f"{shape} {tag}")
    async with target.client() as client:
        assert (await client.push(repository, tag, found.pushed)).status == 201
    for digest in found.needs:
        if tag == "gone-1" and digest == found.pushed.digest:
            continue
        assert set(await _remove(target, repository, digest)) == {405}, digest
    assert target.storage.holds(repository, found.pushed)
    await target.unharmed()


async def test_a_layer_of_two_tags_stays_when_one_of_them_is_deleted(target: Arena) -> None:
    layer = b"a layer that two tags need"
    one, two = manifest(b"config one", layer), manifest(b"config two", layer)
    async with target.client() as client:
        assert (await client.push("closures/two", "gone-1", one)).status == 201
        assert (await client.push("closures/two", "v1", two)).status == 201
        assert (await client.ask("DELETE", f"/v2/closures/two/manifests/{one.digest}")).status == 202
        assert (await client.ask("DELETE", f"/v2/closures/two/blobs/{sha256(b'config one')}")).status == 202
    assert set(await _remove(target, "closures/two", sha256(layer))) == {405}
    assert target.storage.holds("closures/two", two)
    await target.unharmed()


async def test_a_deleted_tag_does_not_free_the_name_for_other_content(target: Arena) -> None:
    one, two = image("deleted once"), image("pushed after")
    async with target.client() as client:
        assert (await client.push("closures/tomb", "gone-1", one)).status == 201
        assert (await client.ask("DELETE", f"/v2/closures/tomb/manifests/{one.digest}")).status == 202
        assert (await client.push("closures/tomb", "gone-1", two)).status == 409
        assert (await client.pull("closures/tomb", "gone-1")).status == 404
    assert target.storage.tag("closures/tomb", "gone-1") in {"", one.digest}
    await target.unharmed()


async def _push_mutable(client: Client, repository: str, pushed: Image, way: str) -> None:
    if way == "by-digest":
        assert (await client.push(repository, pushed.digest, pushed)).status == 201
    elif way == "by-tag-parameter":
        await client.blobs(repository, pushed)
        path = f"/v2/{repository}/manifests/{pushed.digest}?tag=dev-1"
        assert (await client.ask("PUT", path, pushed.body, Content_Type=pushed.media_type)).status == 201
    else:
        assert (await client.push(repository, "dev-1", pushed)).status == 201


@pytest.mark.parametrize("way", ["by-digest", "by-tag-parameter", "by-moving-tag"])
async def test_a_child_that_was_there_before_its_index_keeps_its_parts(target: Arena, way: str) -> None:
    repository, child = f"closures/before/{way}", image(f"child {way}")
    parent = listing(child)
    async with target.client() as client:
        await _push_mutable(client, repository, child, way)
        assert (await client.put(repository, "v1", parent)).status == 201
    for digest in parts(parent):
        assert set(await _remove(target, repository, digest)) == {405}
    assert target.storage.holds(repository, parent)
    await target.unharmed()


@pytest.mark.parametrize("algorithm", ["sha512", "sha384"])
@pytest.mark.parametrize("spelt", ["as-pushed", "as-stored"])
async def test_a_layer_named_by_another_algorithm_stays(target: Arena, algorithm: str, spelt: str) -> None:
    repository = f"closures/{algorithm}/{spelt}"
    layer = f"layer of {algorithm} {spelt}".encode()
    named = f"{algorithm}:{hashlib.new(algorithm, layer).hexdigest()}"
    config = b"config of " + layer
    document = json.loads(manifest(config).body)
    document["layers"] = [described(layer) | {"digest": named}]
    pushed = Image(json.dumps(document).encode(), OCI_MANIFEST)
    async with target.client() as client:
        await client.upload(repository, config)
        start = await client.ask("POST", f"/v2/{repository}/blobs/uploads/")
        location = start.headers["Location"].removeprefix(target.proxy.url)
        done = await client.ask("PUT", f"{location}&digest={named}", layer, Content_Type="application/octet-stream")
        assert done.status == 201
        assert (await client.put(repository, "v1", pushed)).status == 201
    await _remove(target, repository, named if spelt == "as-pushed" else sha256(layer))
    async with target.client() as client:
        assert (await client.ask("GET", f"/v2/{repository}/blobs/{named}")).body == layer
