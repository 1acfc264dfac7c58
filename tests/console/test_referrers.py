from __future__ import annotations

from immuproxy.console.manifests.document import Descriptor, Document
from immuproxy.console.manifests.referrers import About, about_dict, about_of, kind_of, tags_about
from immuproxy.ledger.model import TagRecord
from immuproxy.oci import manifests
from tests.console.events import digest

HEX = "a" * 64


def test_the_tags_about_a_manifest_are_those_that_clients_write() -> None:
    assert tags_about(f"sha256:{HEX}") == tuple(f"sha256-{HEX}{suffix}" for suffix in ("", ".sig", ".att", ".sbom"))


def test_such_a_tag_says_what_it_is_about() -> None:
    said = [about_of(tag) for tag in tags_about(f"sha256:{HEX}")]
    assert [each["kind"] for each in said if each] == ["referrers", "signatures", "attestations", "SBOMs"]
    assert {each["digest"] for each in said if each} == {f"sha256:{HEX}"}
    for tag in ("latest", "sha256-abc", f"sha256-{HEX}.exe", f"sha256-{HEX}\n", f"sha256-{'A' * 64}"):
        assert about_of(tag) is None


def test_signatures_are_layers_of_a_tag() -> None:
    layer = Descriptor(digest("l"), "application/vnd.dev.cosign.simplesigning.v1+json", 200)
    document = Document(manifests.OCI_MANIFEST, 5, layers=(layer, layer), layers_total=2)
    told = about_dict(About(TagRecord("team/app", f"sha256-{HEX}.sig"), digest("s"), document))
    assert (told["kind"], told["count"], told["by_digest"]) == ("signatures", 2, False)
    assert told["entries"][0]["kind"] == "cosign signature"


def test_referrers_are_children_of_an_index_and_say_what_they_attest() -> None:
    child = Descriptor(
        digest("r"), manifests.OCI_MANIFEST, 300, "", "application/vnd.in-toto+json",
        {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"},
    )  # fmt: skip
    document = Document(manifests.OCI_INDEX, 5, children=(child,), children_total=1)
    told = about_dict(About(TagRecord("team/app", f"sha256-{HEX}"), digest("i"), document))
    assert (told["kind"], told["by_digest"]) == ("referrers", True)
    assert (told["entries"][0]["kind"], told["entries"][0]["predicate"]) == (
        "attestation",
        "https://slsa.dev/provenance/v1",
    )


def test_what_could_not_be_opened_is_a_tag_all_the_same() -> None:
    told = about_dict(About(TagRecord("team/app", f"sha256-{HEX}.att"), digest("i"), None))
    assert (told["count"], told["entries"]) == (None, [])


def test_an_unknown_kind_is_its_own_name() -> None:
    assert kind_of(Descriptor(digest("x"), "application/vnd.example.thing")) == "application/vnd.example.thing"
