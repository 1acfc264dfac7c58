from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.console.compare.comparison import Side, changes, comparison_context, layer_rows, layer_sums
from immuproxy.console.manifests.document import Descriptor, Document
from immuproxy.console.manifests.image import ImageConfig
from immuproxy.console.manifests.manifest import ImageDetails, Opened
from immuproxy.oci import manifests
from tests.console.events import digest


def layers(names: str) -> tuple[Descriptor, ...]:
    return tuple(Descriptor(digest(name), "application/x", 10 * (ord(name) - 96)) for name in names)


def document(names: str, config: str = "c", **fields: Any) -> Document:
    described = Descriptor(digest(config), "application/vnd.oci.image.config.v1+json", 5)
    return Document(manifests.OCI_MANIFEST, 50, layers=layers(names), config=described, **fields)


def side(name: str, found: Document | None, image: ImageDetails | None = None, why_not: str = "", **more: Any) -> Side:
    return Side(name, Opened("team/app", digest(name), found, why_not=why_not), image or ImageDetails(), **more)


def index(**images: str) -> Document:
    children = tuple(
        Descriptor(digest(name), manifests.OCI_MANIFEST, 5, f"linux/{arch}") for arch, name in images.items()
    )
    return Document(manifests.OCI_INDEX, 30, children=children, children_total=len(children))


def test_layers_are_shared_added_or_removed() -> None:
    rows = layer_rows(layers("abc"), layers("abde"))
    assert [(row["status"], row["digest"]) for row in rows] == [
        ("shared", digest("a")), ("shared", digest("b")), ("removed", digest("c")),
        ("added", digest("d")), ("added", digest("e")),
    ]  # fmt: skip
    assert layer_sums(rows) == {
        "shared": {"count": 2, "size": 30},
        "added": {"count": 2, "size": 90},
        "removed": {"count": 1, "size": 30},
    }


@given(st.text("abcdef", max_size=12), st.text("abcdef", max_size=12))
def test_every_layer_of_both_is_in_the_rows(before: str, after: str) -> None:
    rows = layer_rows(layers(before), layers(after))
    old = Counter(row["digest"] for row in rows if row["status"] != "added")
    new = [row["digest"] for row in rows if row["status"] != "removed"]
    assert old == Counter(digest(name) for name in before)
    assert new == [digest(name) for name in after]


def test_changes_are_named_and_what_is_the_same_is_left_out() -> None:
    assert changes({"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4", "d": ""}) == [
        {"name": "a", "status": "removed", "before": "1", "after": None},
        {"name": "c", "status": "changed", "before": "3", "after": "4"},
        {"name": "d", "status": "added", "before": None, "after": ""},
    ]


def test_two_images_are_compared_with_labels_and_settings() -> None:
    old = ImageConfig(labels={"v": "1"}, fields={"user": "root"}, environment={"A": "secret", "B": "1"})
    new = ImageConfig(labels={"v": "2"}, fields={"user": "app"}, environment={"A": "hidden", "B": "1"}, created="now")
    context = comparison_context(
        side("one", document("ab"), ImageDetails(old)), side("two", document("ac", "d"), ImageDetails(new))
    )
    image = context["image"]
    assert context["sentence"] == "1 layer added, 1 removed, 1 shared."
    assert [row["name"] for row in image["fields"]] == ["created", "user"]
    assert image["environment"] == [{"name": "A", "status": "changed"}]
    assert image["labels"][0]["after"] == "2"
    assert not image["config_same"]
    assert "secret" not in json.dumps(context)
    assert "hidden" not in json.dumps(context)


def test_a_config_that_is_not_known_is_not_taken_for_an_empty_one() -> None:
    known = ImageDetails(ImageConfig(labels={"v": "1"}))
    context = comparison_context(
        side("one", document("a"), known), side("two", document("a"), ImageDetails(None, "Gone."))
    )
    assert (context["image"]["labels"], context["image"]["why_not"]) == ([], "Gone.")


def test_the_same_manifest_has_no_changes() -> None:
    context = comparison_context(side("one", document("a")), side("one", document("a")))
    assert context["same"]
    assert context["sentence"] == "Both are the same manifest."


def test_indexes_are_compared_by_platform() -> None:
    opened = {name: Opened("team/app", digest(name), document(name)) for name in ("x", "y")}
    before = side("one", index(amd64="x", arm64="s", s390x="gone"), children={digest("x"): opened["x"]})
    after = side("two", index(amd64="y", arm64="s", riscv64="new"), children={digest("y"): opened["y"]})
    context = comparison_context(before, after)
    rows = {row["platform"]: row for row in context["platforms"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "linux/amd64": "changed", "linux/arm64": "shared", "linux/riscv64": "added", "linux/s390x": "removed",
    }  # fmt: skip
    assert context["sentence"] == "1 platform changed, 1 added, 1 removed, 1 shared."
    sums = rows["linux/amd64"]["changes"]["sums"]
    assert (sums["added"]["count"], sums["removed"]["count"]) == (1, 1)
    assert rows["linux/arm64"]["changes"] is None


def test_a_child_that_was_not_opened_says_so() -> None:
    context = comparison_context(side("one", index(amd64="x")), side("two", index(amd64="y")))
    assert "Only the first platforms" in context["platforms"][0]["why_not"]


def test_two_images_of_one_platform_are_told_apart() -> None:
    children = tuple(Descriptor(digest(name), manifests.OCI_MANIFEST, 5, "windows/amd64") for name in ("a", "b"))
    assert list(side("one", Document(manifests.OCI_INDEX, 3, children=children)).images) == [
        "windows/amd64", "windows/amd64 (2)",
    ]  # fmt: skip


def test_an_index_and_an_image_are_not_compared() -> None:
    context = comparison_context(side("one", index(amd64="x")), side("two", document("a")))
    assert (context["comparable"], context["image"], context["platforms"]) == (False, None, [])
    assert "choose a platform" in context["sentence"]


@pytest.mark.parametrize("known", [None, document("a")])
def test_what_is_not_known_is_said(known: Document | None) -> None:
    context = comparison_context(side("one", known), side("two", None, why_not="The registry does not have it."))
    assert not context["known"]
    assert "is not known" in context["sentence"]
    assert context["after"]["why_not"] == "The registry does not have it."
