from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.console.manifests.document import MOST_PAIRS, MOST_PARTS, Document, read_document, whole_size
from immuproxy.oci import manifests
from tests.console.events import digest

INDEX = manifests.OCI_INDEX
IMAGE = manifests.OCI_MANIFEST


def read(document: Any, media_type: str = IMAGE) -> Document:
    found = read_document(json.dumps(document).encode(), media_type)
    assert found is not None
    return found


def part(name: str, size: int, **more: Any) -> dict[str, Any]:
    return {"digest": digest(name), "mediaType": "application/x", "size": size, **more}


def image(*layers: dict[str, Any], config: int = 10) -> dict[str, Any]:
    described = part("c", config) | {"mediaType": "application/vnd.oci.image.config.v1+json"}
    return {"schemaVersion": 2, "config": described, "layers": list(layers)}


def test_an_image_is_read() -> None:
    found = read(image(part("a", 100), part("b", 200)))
    assert [layer.size for layer in found.layers] == [100, 200]
    assert found.is_image
    assert not found.is_index


def test_an_artifact_is_no_image() -> None:
    found = read({"config": part("c", 2), "layers": [], "artifactType": "application/vnd.example"})
    assert not found.is_image
    assert found.artifact_type == "application/vnd.example"


def test_an_index_shows_its_platforms_and_what_attests_them() -> None:
    platform = {"os": "linux", "architecture": "arm", "variant": "v7"}
    attested = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest("a")}
    unknown = {"os": "unknown", "architecture": "unknown"}
    found = read(
        {"manifests": [part("a", 1, platform=platform), part("b", 1, platform=unknown, annotations=attested)]}, INDEX
    )
    assert [child.platform for child in found.images] == ["linux/arm/v7"]
    assert found.children[1].attests == digest("a")


def test_fields_of_unexpected_types_are_left_out() -> None:
    odd = {"config": [], "layers": [1, {"size": "many", "digest": 5, "platform": []}], "annotations": 3, "subject": "x"}
    found = read(odd)
    assert (found.config, found.subject, found.annotations) == (None, "", {})
    assert [(layer.digest, layer.size, layer.platform) for layer in found.layers] == [("", None, "")]


@pytest.mark.parametrize("size", [-1, True, 1.5, "7", 10**400, None])
def test_a_size_that_is_none_is_not_known(size: Any) -> None:
    assert read({"layers": [{"size": size}]}).layers[0].size is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"1", b"\xff", b'{"a":', b"[" * 100_000, b'{"a":' * 90_000, b"{" * 200_001, b"9" * 5000]
)
def test_bytes_that_are_no_manifest_are_none(body: bytes) -> None:
    assert read_document(body, IMAGE) is None


def test_half_of_a_pair_of_surrogates_can_be_shown() -> None:
    found = read_document(b'{"annotations": {"a\\ud800": "b\\udfff"}}', IMAGE)
    assert found is not None
    assert found.annotations == {"a?": "b?"}


def test_of_very_many_the_beginning_is_kept() -> None:
    found = read({"layers": [part(str(number), 1) for number in range(MOST_PARTS + 5)]})
    assert (len(found.layers), found.layers_total) == (MOST_PARTS, MOST_PARTS + 5)
    found = read({"annotations": {str(number): "x" for number in range(MOST_PAIRS + 5)}})
    assert len(found.annotations) == MOST_PAIRS


def test_the_size_of_an_image_counts_each_blob_once() -> None:
    found = read(image(part("a", 100), part("a", 100), part("b", 1)))
    assert whole_size(found, {}) == found.length + 10 + 100 + 1


def test_the_size_of_an_index_is_that_of_what_its_children_describe() -> None:
    one, two = read(image(part("a", 100), part("b", 1))), read(image(part("a", 100), part("c2", 7)))
    index = read({"manifests": [part("one", one.length), part("two", two.length)]}, INDEX)
    known = {digest("one"): one, digest("two"): two}
    assert whole_size(index, known) == index.length + one.length + two.length + 10 + 100 + 1 + 7
    del known[digest("two")]
    assert whole_size(index, known) is None


def test_without_all_sizes_there_is_no_sum() -> None:
    assert whole_size(read({"layers": [part("a", 1), {"digest": digest("b")}]}), {}) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
KEYS = ("config", "layers", "manifests", "annotations", "subject", "artifactType", "digest", "size", "platform", "os")


@given(st.dictionaries(st.sampled_from(KEYS), json_values), st.sampled_from([IMAGE, INDEX]))
def test_any_object_can_be_shown(document: dict[str, Any], media_type: str) -> None:
    found = read(document, media_type)
    json.dumps([child.to_dict() for child in (*found.children, *found.layers)], ensure_ascii=False).encode()
    whole_size(found, {})
