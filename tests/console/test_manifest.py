from __future__ import annotations

from immuproxy.console.manifests.document import Descriptor, Document
from immuproxy.console.manifests.image import ImageConfig
from immuproxy.console.manifests.manifest import Around, ImageDetails, Opened, manifest_context
from immuproxy.ledger.model import Committed, TagRecord
from immuproxy.oci import manifests
from tests.console.events import NOW, digest, push

CONFIG = Descriptor(digest("c"), "application/vnd.oci.image.config.v1+json", 10)
IMAGE = Document(manifests.OCI_MANIFEST, 50, layers=(Descriptor(digest("a"), "x", 100),), layers_total=1, config=CONFIG)


def opened(document: Document | None = None, why_not: str = "") -> Opened:
    return Opened("team/app", digest("m"), document, stored=document is not None, why_not=why_not)


def test_an_image_shows_what_is_in_it() -> None:
    config = ImageConfig(platform="linux/arm64", labels={"a": "b"})
    context = manifest_context(opened(IMAGE), ImageDetails(config), Around())
    assert (context["kind"], context["size"], context["platforms"]) == ("image", 160, ["linux/arm64"])
    assert context["image"]["labels"] == {"a": "b"}
    assert context["config"]["digest"] == digest("c")


def test_a_config_that_is_not_known_says_why() -> None:
    context = manifest_context(opened(IMAGE), ImageDetails(None, "The registry does not have it."), Around())
    assert context["image"]["why_not"] == "The registry does not have it."
    assert context["image"]["labels"] == {}


def test_without_its_bytes_the_events_say_what_they_know() -> None:
    event = push(digest=digest("m"), size=77, platforms=("linux/amd64",))
    context = manifest_context(opened(why_not="No."), ImageDetails(), Around(events=[event]))
    assert (context["stored"], context["size"], context["platforms"]) == (False, 77, ["linux/amd64"])
    assert (context["layers"], context["image"], context["why_not"]) == ([], None, "No.")


def test_an_index_shows_its_platforms_and_the_sizes_of_known_children() -> None:
    attested = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest("one")}
    children = (
        Descriptor(digest("one"), manifests.OCI_MANIFEST, 50, "linux/amd64"),
        Descriptor(digest("two"), manifests.OCI_MANIFEST, 50, "unknown/unknown", annotations=attested),
    )
    index = Document(manifests.OCI_INDEX, 30, children=children, children_total=2)
    context = manifest_context(opened(index), ImageDetails(of="linux/amd64"), Around(children={digest("one"): IMAGE}))
    one, two = context["children"]
    assert (one["whole_size"], two["whole_size"]) == (160, None)
    assert two["attests"] == "linux/amd64"
    assert context["platforms"] == ["linux/amd64"]


def test_an_artifact_is_not_called_an_image() -> None:
    document = Document(
        manifests.OCI_MANIFEST, 5, config=Descriptor(digest("e"), "application/vnd.oci.empty.v1+json", 2)
    )
    assert manifest_context(opened(document), ImageDetails(), Around())["kind"] == "artifact"


def test_tags_that_hold_it_now_come_first() -> None:
    held = Committed(digest("m"), 1, since=NOW, first=NOW)
    moved = Committed(digest("other"), 2, since=NOW, first=NOW)
    records = [
        TagRecord("team/app", "a", committed=moved),
        TagRecord("team/app", "b", committed=held),
        TagRecord("team/app", "gone"),
    ]
    context = manifest_context(opened(), ImageDetails(), Around(records=records, holding=["a", "c"]))
    assert [(row["tag"], row["now"]) for row in context["tags"]] == [
        ("b", True), ("c", True), ("a", False), ("gone", False),
    ]  # fmt: skip
