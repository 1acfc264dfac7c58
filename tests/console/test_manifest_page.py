"""The page of a manifest over a real registry: what was pushed through an edge is shown, what cannot be had is said."""

from __future__ import annotations

import json
from html import unescape
from typing import Any

import pytest

from immuproxy.audit.record import Projector
from immuproxy.console.manifests import opening
from immuproxy.oci.manifests import OCI_INDEX, OCI_MANIFEST
from tests.console.conftest import Console
from tests.console.events import HOSTILE
from tests.support.conversation import Client, Image, RunningEdge, image, index, sha256
from tests.support.servers import RegistryServer

REPOSITORY = "team/app"
LABELS = {
    "org.opencontainers.image.source": "https://git.example/team/app",
    "org.opencontainers.image.revision": "4be1c0d",
    "hostile": HOSTILE,
}


async def push(edge: RunningEdge, tag: str, pushed: Image, repository: str = REPOSITORY) -> None:
    answer = await edge.client.push(repository, tag, pushed)
    assert answer.status == 201, answer.body
    await Projector(edge.store).sweep()


async def said(console: Console, digest: str, repository: str = REPOSITORY, status: int = 200) -> dict[str, Any]:
    """What the API says, after the page has been shown to say it as well."""
    async with console.get(f"/repositories/{repository}/manifests/{digest}") as response:
        text = await response.text()
        assert response.status == status, text
        assert "<script>" not in text
        assert "<img" not in text
    async with console.get(f"/api/v1/repositories/{repository}/manifests/{digest}") as response:
        answer: dict[str, Any] = await response.json()
        return answer | {"html": unescape(text)}


async def test_an_image_says_where_it_comes_from(edge: RunningEdge, reading: Console) -> None:
    pushed = image("one", labels=LABELS)
    await push(edge, "1.0", pushed)
    found = await said(reading, pushed.digest)
    assert found["stored"]
    assert found["image"]["origin"]["revision"] == "4be1c0d"
    assert found["image"]["labels"]["hostile"] == HOSTILE
    assert found["tags"] == [{"tag": "1.0", "now": True}]
    assert 'href="https://git.example/team/app" rel="noopener noreferrer nofollow external"' in found["html"]
    assert HOSTILE in found["html"]
    assert found["size"] == len(pushed.body) + sum(map(len, pushed.blobs))


async def test_an_address_that_is_none_of_the_web_is_only_text(edge: RunningEdge, reading: Console) -> None:
    pushed = image("one", labels={"org.opencontainers.image.source": "javascript:alert(1)"})
    await push(edge, "1.0", pushed)
    text = (await said(reading, pushed.digest))["html"]
    assert "javascript:alert(1)" in text
    assert 'href="javascript' not in text


async def test_a_moving_tag_is_read_from_the_registry(edge: RunningEdge, reading: Console, console: Console) -> None:
    pushed = image("one", labels=LABELS)
    await push(edge, "latest", pushed)
    found = await said(reading, pushed.digest)
    assert not found["stored"]
    assert [layer["digest"] for layer in found["layers"]] == [sha256(pushed.blobs[1])]
    assert found["image"]["labels"]["org.opencontainers.image.revision"] == "4be1c0d"
    assert found["tags"] == [{"tag": "latest", "now": True}]
    unread = await said(console, pushed.digest)
    assert unread["why_not"] == "This console reads nothing from the registry."
    assert (unread["layers"], unread["image"]) == ([], None)


async def test_without_the_registry_the_ledger_still_says_what_it_keeps(
    edge: RunningEdge, reading: Console, registry: RegistryServer
) -> None:
    pushed = image("one", labels=LABELS)
    await push(edge, "1.0", pushed)
    registry.stop()
    found = await said(reading, pushed.digest)
    assert len(found["layers"]) == 1
    assert "could not be asked" in found["image"]["why_not"]
    assert "could not be asked" in found["html"]


async def test_what_never_passed_the_proxy_is_not_read(edge: RunningEdge, reading: Console) -> None:
    await push(edge, "1.0", image("one"))
    secret = image("secret")
    direct: Client = edge.direct
    assert (await direct.push(REPOSITORY, "hidden", secret)).status == 201
    assert (await said(reading, secret.digest, status=404))["error"]["code"] == "not_found"
    assert (await said(reading, secret.digest, "other/app", status=404))["error"]["code"] == "not_found"


async def test_an_index_tells_its_children_and_what_its_first_image_says(edge: RunningEdge, reading: Console) -> None:
    children = image("one", labels=LABELS), image("two", layers=(b"shared", b"more"))
    whole = index(*children, annotations={"org.opencontainers.image.version": "1.0"})
    await push(edge, "1.0", whole)
    found = await said(reading, whole.digest)
    assert [child["platform"] for child in found["children"]] == ["linux/arch0", "linux/arch1"]
    blobs = [blob for child in children for blob in child.blobs]
    assert found["size"] == sum(map(len, [*blobs, whole.body, *(child.body for child in children)]))
    assert (found["image"]["of"], found["image"]["origin"]["version"]) == ("linux/arch0", "1.0")
    assert found["image"]["origin"]["revision"] == "4be1c0d"
    child = await said(reading, children[0].digest)
    assert (child["tags"], child["needed"]) == ([], 1)
    assert "what 1 held tag needs" in child["html"]


async def test_signatures_and_referrers_are_found(edge: RunningEdge, reading: Console) -> None:
    pushed = image("one")
    await push(edge, "1.0", pushed)
    assert (await said(reading, pushed.digest))["about"] == []
    name = pushed.digest.replace(":", "-")
    await push(edge, f"{name}.sig", image("signature"))
    referrer = _referrer(pushed)
    await edge.client.blobs(REPOSITORY, referrer)
    assert (await edge.client.put(REPOSITORY, referrer.digest, referrer)).status == 201
    await push(edge, name, _referrers(referrer))
    found = await said(reading, pushed.digest)
    kinds = {about["kind"]: about for about in found["about"]}
    assert set(kinds) == {"signatures", "referrers"}
    assert kinds["referrers"]["entries"][0]["digest"] == referrer.digest
    assert kinds["referrers"]["entries"][0]["kind"] == "SPDX SBOM"
    assert f"/repositories/{REPOSITORY}/manifests/{referrer.digest}" in found["html"]
    back = await said(reading, referrer.digest)
    assert back["subject"] == pushed.digest
    assert back["kind"] == "artifact (application/spdx+json)"


def _referrer(subject: Image) -> Image:
    empty = b"{}"
    described = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(empty), "size": 2}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/spdx+json",
        "config": described,
        "layers": [described],
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject.digest, "size": len(subject.body)},
    }
    return Image(json.dumps(document).encode(), OCI_MANIFEST, (empty,))


def _referrers(*listed: Image) -> Image:
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": each.digest,
            "size": len(each.body),
            "artifactType": "application/spdx+json",
        }
        for each in listed
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Image(json.dumps(document).encode(), OCI_INDEX)


async def test_a_config_of_unreasonable_size_is_not_read(
    edge: RunningEdge, reading: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MOST_CONFIG", 2048)
    pushed = image("one", labels={"long": "x" * 3000})
    await push(edge, "1.0", pushed)
    found = await said(reading, pushed.digest)
    assert found["image"]["why_not"] == "Its config is larger than 2 KiB."
