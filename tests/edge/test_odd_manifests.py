"""What no registry takes is refused before its tag is claimed, and nothing else is (H93).

The real registry is asked the same: whatever it takes passes, and nothing is left behind where it does not.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from immuproxy.ledger import keys
from immuproxy.oci.manifests import DOCKER_LIST, DOCKER_MANIFEST, MEDIA_TYPES, OCI_INDEX, OCI_MANIFEST
from tests.support.conversation import Image, RunningEdge, image, index

REPOSITORY = "team/app"
CHILD = image("child")
GOOD: dict[str, Any] = json.loads(CHILD.body)
INDEX: dict[str, Any] = json.loads(index(CHILD).body)
CONFIG, LAYER, ENTRY = GOOD["config"], GOOD["layers"][0], INDEX["manifests"][0]
SCHEMA_1 = {
    "schemaVersion": 1,
    "name": "team/app",
    "tag": "t",
    "architecture": "amd64",
    "fsLayers": [{"blobSum": LAYER["digest"]}],
    "history": [{"v1Compatibility": "{}"}],
    "signatures": [],
}


def without(document: dict[str, Any], *dropped: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in dropped}


def with_digest(named: Any) -> dict[str, dict[str, Any]]:
    """The digest of a config, a layer and a child is ``named``."""
    return {
        f"config {named}": GOOD | {"config": CONFIG | {"digest": named}},
        f"layer {named}": GOOD | {"layers": [LAYER | {"digest": named}]},
        f"child {named}": INDEX | {"manifests": [ENTRY | {"digest": named}]},
    }


NO_CONFIGS: tuple[Any, ...] = (None, {}, "x", [])
NO_LISTS: tuple[Any, ...] = (None, [], {}, [{}], [None], "x")

ODD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a version alone": {"schemaVersion": 2},
    **{f"version {version!r}": GOOD | {"schemaVersion": version} for version in (1, 3, 0, None, "2", 2.0, True)},
    "image without version": without(GOOD, "schemaVersion"),
    "index without version": without(INDEX, "schemaVersion"),
    "index of version 1": INDEX | {"schemaVersion": 1},
    "image": GOOD,
    "index": INDEX,
    **{f"config {value!r}": GOOD | {"config": value} for value in NO_CONFIGS},
    "no config": without(GOOD, "config"),
    "config of an unknown type": GOOD | {"config": CONFIG | {"mediaType": "x/y"}},
    "config without a size": GOOD | {"config": without(CONFIG, "size")},
    "config without a digest": GOOD | {"config": without(CONFIG, "digest")},
    **{f"layers {value!r}": GOOD | {"layers": value} for value in NO_LISTS},
    "no layers": without(GOOD, "layers"),
    **{f"manifests {value!r}": INDEX | {"manifests": value} for value in NO_LISTS},
    "no manifests": without(INDEX, "manifests"),
    **with_digest("sha256:12"),
    **with_digest("sha256:" + "A" * 64),
    **with_digest("sha256:" + "a" * 64),
    **with_digest("foo"),
    **with_digest(""),
    **with_digest("sha512:" + "a" * 128),
    **with_digest("md5:" + "a" * 32),
    "index with a config": INDEX | {"config": CONFIG},
    "image with manifests": GOOD | {"manifests": [ENTRY]},
    "image with a subject": GOOD | {"subject": ENTRY, "artifactType": "x/y"},
    "schema 1": SCHEMA_1,
}


def made(document: dict[str, Any], media_type: str) -> Image:
    return Image(json.dumps(document | {"mediaType": media_type}).encode(), media_type)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
async def test_h93_what_the_registry_takes_passes_and_what_it_does_not_leaves_the_tag_free(
    edge: RunningEdge, media_type: str
) -> None:
    for repository in (REPOSITORY, "other/app"):
        await edge.direct.push(repository, CHILD.digest, CHILD)
    for number, (name, document) in enumerate(ODD.items()):
        odd, tag = made(document, media_type), f"t{number}"
        wanted = (await edge.direct.put("other/app", tag, odd)).status
        answer = await edge.client.put(REPOSITORY, tag, odd)
        assert (answer.status == 201) == (wanted == 201), (name, wanted, answer.status, answer.body)
        assert answer.status == 201 or 400 <= answer.status < 500, (name, wanted, answer.status, answer.body)
        assert answer.status == 201 or not await edge.store.client.exists(keys.tag(REPOSITORY, tag)), name


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
async def test_h93_the_tag_is_free_for_the_next_push(edge: RunningEdge, media_type: str) -> None:
    answer = await edge.client.put(REPOSITORY, "1.0", Image(b"{}", media_type))
    assert (answer.status, answer.error["code"]) == (400, "UNSUPPORTED")
    assert "schemaVersion" in answer.error["message"]
    assert (await edge.client.push(REPOSITORY, "1.0", CHILD)).status == 201


async def test_h93_schema_1_and_other_types_are_refused_as_such(edge: RunningEdge) -> None:
    for media_type in ("application/vnd.docker.distribution.manifest.v1+prettyjws", "application/json", "x/y"):
        answer = await edge.client.put(REPOSITORY, "1.0", Image(json.dumps(SCHEMA_1).encode(), media_type))
        assert answer.status == 415
        assert not await edge.store.client.exists(keys.tag(REPOSITORY, "1.0"))


async def test_h93_a_mutable_tag_is_the_registrys_to_judge(edge: RunningEdge) -> None:
    for media_type in (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST):
        odd = made({}, media_type)
        assert (await edge.direct.put("other/app", "latest", odd)).status == 500
        assert (await edge.client.put(REPOSITORY, "latest", odd)).status == 503
