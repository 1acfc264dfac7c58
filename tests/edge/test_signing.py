"""What signing and attesting tools ask, under the default rules: their tags may grow, not shrink (H21, H22).

cosign keeps signatures as layers of one image under `sha256-<hex>.sig`, attestations under `.att`: it reads what is
there, adds a layer and writes all of it back.  Tools that attach referrers keep an index under `sha256-<hex>` in the
same way where the registry has no referrers API.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from immuproxy.ledger.model import Outcome
from immuproxy.oci.manifests import OCI_INDEX, OCI_MANIFEST
from tests.support.conversation import Answer, Image, RunningEdge, image, sha256

REPOSITORY = "team/app"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
SIGNATURE_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
ATTESTATION_TYPE = "application/vnd.dsse.envelope.v1+json"


@pytest.fixture
async def signed(edge: RunningEdge) -> Image:
    """A released image."""
    released = image("released")
    assert (await edge.client.push(REPOSITORY, "1.0", released)).status == 201
    return released


def beside(released: Image, ending: str = "") -> str:
    """The tag that belongs to a digest."""
    return released.digest.replace(":", "-") + ending


def payload_of(layer: dict[str, Any], signature: str) -> dict[str, Any]:
    """The same payload, signed by somebody else."""
    return layer | {"annotations": {"dev.cosignproject.cosign/signature": signature}}


@dataclass
class Cosign:
    """`cosign sign` and `cosign attest`: GET, add a layer, upload blobs, PUT."""

    edge: RunningEdge
    tag: str
    layer_type: str
    pushed: list[Image] = field(default_factory=list)

    async def add(self, payload: bytes) -> Answer:
        """One more signature or attestation."""
        client = self.edge.client
        before = await client.pull(REPOSITORY, self.tag)
        assert before.status == (200 if self.pushed else 404)
        layers = before.json["layers"] if self.pushed else []
        head = await client.ask("HEAD", f"/v2/{REPOSITORY}/blobs/{sha256(payload)}")
        assert head.status == 404
        assert (await client.upload(REPOSITORY, payload)).status == 201
        return await self.write([*layers, self.describe(payload)])

    def describe(self, payload: bytes) -> dict[str, Any]:
        return {
            "mediaType": self.layer_type,
            "size": len(payload),
            "digest": sha256(payload),
            "annotations": {"dev.cosignproject.cosign/signature": f"of {len(payload)} bytes"},
        }

    async def write(self, layers: list[dict[str, Any]]) -> Answer:
        """The config names every layer, so it is another blob each time."""
        names = [layer["digest"] for layer in layers]
        config = json.dumps({"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": names}}).encode()
        assert (await self.edge.client.upload(REPOSITORY, config)).status == 201
        described = {"mediaType": CONFIG_TYPE, "size": len(config), "digest": sha256(config)}
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": layers}
        made = Image(json.dumps(document).encode(), OCI_MANIFEST)
        self.pushed.append(made)
        return await self.edge.client.put(REPOSITORY, self.tag, made)


@pytest.mark.parametrize(
    ("ending", "layer_type"), [(".sig", SIGNATURE_TYPE), (".att", ATTESTATION_TYPE), (".sbom", "text/spdx+json")]
)
async def test_h21_signatures_are_added_and_none_is_taken_away(
    edge: RunningEdge, signed: Image, ending: str, layer_type: str
) -> None:
    cosign = Cosign(edge, beside(signed, ending), layer_type)
    for number in range(3):
        answer = await cosign.add(f"payload {number}".encode())
        assert answer.status == 201, answer.body
        read = await edge.client.pull(REPOSITORY, cosign.tag)
        assert read.body == cosign.pushed[-1].body
        assert len(read.json["layers"]) == number + 1
    assert (await edge.client.pull(REPOSITORY, "1.0")).body == signed.body
    layers = json.loads(cosign.pushed[-1].body)["layers"]
    fewer: list[dict[str, Any]]
    for fewer in (layers[:2], layers[1:], []):
        answer = await cosign.write(fewer)
        assert (answer.status, answer.error["code"]) == (409, "DENIED")
        assert "append-only" in answer.error["message"]
    assert len((await edge.client.pull(REPOSITORY, cosign.tag)).json["layers"]) == 3
    told = [event.outcome for event in await edge.events(REPOSITORY) if event.tag == cosign.tag]
    assert told == [Outcome.CREATED, *[Outcome.OVERWRITTEN] * 2, *[Outcome.REFUSED] * 3]


async def test_h21_two_signers_of_one_payload_share_a_layer_and_neither_loses_its_signature(
    edge: RunningEdge, signed: Image
) -> None:
    """What cosign signs names the image and nothing of the signer, so the layers differ in their annotations alone."""
    cosign = Cosign(edge, beside(signed, ".sig"), SIGNATURE_TYPE)
    await cosign.add(b"the payload")
    (first,) = json.loads(cosign.pushed[0].body)["layers"]
    second = payload_of(first, "of the second signer")
    assert (await cosign.write([first, second])).status == 201
    for fewer in ([first], [second], [first, payload_of(first, "nonsense")], [first, second | {"size": 1}]):
        answer = await cosign.write(fewer)
        assert (answer.status, answer.error["code"]) == (409, "DENIED")
        assert "changes 1 of the 1 entries" in answer.error["message"]
    assert (await edge.client.pull(REPOSITORY, cosign.tag)).json["layers"] == [first, second]


async def test_h21_the_same_signatures_again_are_no_change(edge: RunningEdge, signed: Image) -> None:
    cosign = Cosign(edge, beside(signed, ".sig"), SIGNATURE_TYPE)
    await cosign.add(b"only")
    assert (await edge.client.put(REPOSITORY, cosign.tag, cosign.pushed[0])).status == 201
    assert (await edge.events(REPOSITORY))[-1].outcome is Outcome.UNCHANGED


async def test_h21_of_two_signers_at_once_the_later_is_told_and_succeeds_when_it_reads_again(
    edge: RunningEdge, signed: Image
) -> None:
    """Both read the same list; the second would drop what the first has added, which a registry lets happen."""
    cosign = Cosign(edge, beside(signed, ".sig"), SIGNATURE_TYPE)
    await cosign.add(b"base")
    base = json.loads(cosign.pushed[0].body)["layers"]
    for payload in (b"first", b"second"):
        await edge.client.upload(REPOSITORY, payload)
    assert (await cosign.write([*base, cosign.describe(b"first")])).status == 201
    assert (await cosign.write([*base, cosign.describe(b"second")])).status == 409
    now = (await edge.client.pull(REPOSITORY, cosign.tag)).json["layers"]
    assert (await cosign.write([*now, cosign.describe(b"second")])).status == 201


def referrer(of: Image, kind: str) -> Image:
    """An artifact with a `subject`."""
    empty, content = b"{}", f"{kind} of {of.digest}".encode()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(empty), "size": len(empty)},
        "layers": [{"mediaType": kind, "digest": sha256(content), "size": len(content)}],
        "subject": {"mediaType": of.media_type, "digest": of.digest, "size": len(of.body)},
    }
    return Image(json.dumps(document).encode(), OCI_MANIFEST, (empty, content))


def listing(*referrers: Image) -> Image:
    """The index under the referrers tag (specification, "Referrers Tag Schema")."""
    entries = [
        {
            "mediaType": made.media_type,
            "digest": made.digest,
            "size": len(made.body),
            "artifactType": json.loads(made.body)["artifactType"],
        }
        for made in referrers
    ]
    return Image(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode(), OCI_INDEX)


async def attach(edge: RunningEdge, made: Image, known: list[Image]) -> Answer:
    """`oras attach` on a registry without the referrers API."""
    subject = json.loads(made.body)["subject"]["digest"]
    answer = await edge.client.push(REPOSITORY, made.digest, made)
    assert answer.status == 201, answer.body
    assert "OCI-Subject" not in answer.headers
    asked = await edge.client.ask("GET", f"/v2/{REPOSITORY}/referrers/{subject}", Accept=OCI_INDEX)
    assert asked.status == 404
    tag = subject.replace(":", "-")
    before = await edge.client.pull(REPOSITORY, tag)
    assert before.status == (200 if known else 404)
    return await edge.client.put(REPOSITORY, tag, listing(*known, made))


async def test_h22_referrers_are_attached_by_their_tag_and_none_is_taken_away(edge: RunningEdge, signed: Image) -> None:
    sbom, scan = referrer(signed, "application/spdx+json"), referrer(signed, "application/sarif+json")
    assert (await attach(edge, sbom, [])).status == 201
    assert (await attach(edge, scan, [sbom])).status == 201
    tag = beside(signed)
    assert (await edge.client.pull(REPOSITORY, tag)).body == listing(sbom, scan).body
    for fewer in (listing(sbom), listing(scan), listing()):
        answer = await edge.client.put(REPOSITORY, tag, fewer)
        assert (answer.status, answer.error["code"]) == (409, "DENIED")
    for made in (sbom, scan):
        assert (await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{made.digest}")).status == 405


async def test_h22_the_registrys_word_on_referrers_passes_unchanged(edge: RunningEdge, signed: Image) -> None:
    path = f"/v2/{REPOSITORY}/referrers/{signed.digest}"
    direct, ours = await edge.direct.ask("GET", path), await edge.client.ask("GET", path)
    assert (ours.status, ours.body) == (direct.status, direct.body) == (404, b"404 page not found\n")
    assert ours.headers["Content-Type"] == direct.headers["Content-Type"]


async def test_h22_an_answer_of_the_proxys_own_promises_no_referrers_api(edge: RunningEdge, signed: Image) -> None:
    """`OCI-Subject` would keep a client from writing the referrers tag; only the registry may say it."""
    made = referrer(signed, "application/spdx+json")
    for _ in range(2):  # the second is answered without the registry
        answer = await edge.client.push(REPOSITORY, "sbom-1", made)
        assert (answer.status, answer.digest) == (201, made.digest)
        assert "OCI-Subject" not in answer.headers
