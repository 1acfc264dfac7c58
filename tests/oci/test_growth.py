"""What an append-only tag must keep of a manifest."""

from __future__ import annotations

import json
from typing import Any

from immuproxy.oci import growth, manifests
from immuproxy.oci.manifests import OCI_INDEX, OCI_MANIFEST

AMD = {"os": "linux", "architecture": "amd64"}
ARM = {"os": "linux", "architecture": "arm64"}


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def entry(number: int, **more: Any) -> dict[str, Any]:
    return {"mediaType": OCI_MANIFEST, "digest": digest(number), "size": 7, **more}


def read(document: dict[str, Any], media_type: str = OCI_INDEX) -> growth.Substance:
    return growth.substance(manifests.describe(json.dumps(document).encode(), media_type))


def test_an_entry_is_its_whole_descriptor() -> None:
    before = read({"manifests": [entry(1), entry(2, platform=AMD)]})
    for changed in (entry(2), entry(2, platform=ARM), entry(2, platform=AMD, size=8), entry(2, platform=AMD, urls=[])):
        after = read({"manifests": [entry(1), changed]})
        assert after.digests == before.digests
        assert not before.descriptors <= after.descriptors
    assert {line.partition(" ")[0] for line in before.descriptors} == {digest(1), digest(2)}


def test_the_order_of_keys_does_not_count() -> None:
    before = read({"manifests": [entry(1, artifactType="a", annotations={"b": "c", "d": "e"})]})
    after = read({"manifests": [dict(reversed(entry(1, annotations={"d": "e", "b": "c"}, artifactType="a").items()))]})
    assert before.descriptors == after.descriptors


def test_h95_what_stands_beside_an_entry_may_come_later_and_then_stays() -> None:
    bare = read({"manifests": [entry(1)]})
    noted = read({"manifests": [entry(1, artifactType="a", annotations={"b": "c"})]})
    assert bare.descriptors < noted.descriptors
    for changed in (
        entry(1, artifactType="x", annotations={"b": "c"}),
        entry(1, annotations={"b": "c"}),
        entry(1, artifactType="a", annotations={"b": "x"}),
        entry(1, artifactType="a", annotations={}),
    ):
        assert not noted.descriptors <= read({"manifests": [changed]}).descriptors
    more = entry(1, artifactType="a", annotations={"b": "c", "d": "e"})
    assert noted.descriptors < read({"manifests": [more, entry(2)]}).descriptors


def test_h21_a_layer_is_what_its_annotations_say() -> None:
    def signed(*signatures: str) -> growth.Substance:
        layers = [entry(1, annotations={"signature": signature}) for signature in signatures]
        return read({"layers": layers}, OCI_MANIFEST)

    assert signed("a").digests == signed("b").digests == {digest(1)}
    assert not signed("a").descriptors <= signed("b").descriptors
    assert signed("a").descriptors <= signed("b", "a").descriptors


def test_the_first_entry_of_a_platform_is_the_one_that_it_gets() -> None:
    found = read({"manifests": [entry(1), entry(2, platform=AMD), entry(3, platform=ARM), entry(4, platform=AMD)]})
    assert sorted(found.platforms.values()) == [digest(2), digest(3)]
    again = read({"manifests": [entry(3, platform=ARM), entry(2, platform=dict(reversed(AMD.items())))]})
    assert again.platforms == found.platforms
    assert read({"layers": [entry(1, platform=AMD)]}, OCI_MANIFEST).platforms == {}


def test_of_what_cannot_be_read_with_certainty_every_digest_counts() -> None:
    for document in ({"Manifests": [entry(1)]}, {"manifests": [entry(1)], "x": {"Digest": digest(2)}}):
        found = read(document)
        assert digest(1) in found.digests
        assert found.digests == manifests.describe(json.dumps(document).encode(), OCI_INDEX).needs
    assert growth.substance(manifests.describe(b"\xff" + digest(3).encode(), OCI_MANIFEST)).digests == {digest(3)}
