from __future__ import annotations

import json
from typing import Any

from immuproxy.ledger.model import Committed, StoredManifest, TagRecord
from immuproxy.oci import manifests
from immuproxy.web.contexts.manifest import manifest_context
from tests.web.events import NOW, digest, push


def stored(document: dict[str, Any], media_type: str = manifests.OCI_MANIFEST) -> StoredManifest:
    return StoredManifest(digest("m"), media_type, json.dumps({"schemaVersion": 2, **document}).encode())


def part(name: str, size: int, **more: Any) -> dict[str, Any]:
    return {"digest": digest(name), "mediaType": "application/x", "size": size, **more}


def test_an_image_shows_its_layers_and_its_whole_size() -> None:
    found = stored({"config": part("c", 10), "layers": [part("a", 100), part("b", 200)]})
    context = manifest_context("team/app", digest("m"), found, [], [])
    assert [layer["size"] for layer in context["layers"]] == [100, 200]
    assert context["size"] == 310 + len(found.body)
    assert context["kind"] == "image"


def test_an_index_shows_its_platforms() -> None:
    platform = {"os": "linux", "architecture": "arm", "variant": "v7"}
    found = stored({"manifests": [part("a", 1, platform=platform)]}, manifests.OCI_INDEX)
    context = manifest_context("team/app", digest("m"), found, [], [])
    assert context["children"][0]["platform"] == "linux/arm/v7"
    assert context["platforms"] == ["linux/arm/v7"]


def test_without_stored_bytes_the_events_say_what_they_know() -> None:
    event = push(digest=digest("m"), size=77, platforms=("linux/amd64",))
    context = manifest_context("team/app", digest("m"), None, [event], [])
    assert (context["stored"], context["size"], context["platforms"]) == (False, 77, ["linux/amd64"])
    assert context["layers"] == []


def test_fields_of_unexpected_types_are_left_out() -> None:
    odd = {"config": [], "layers": [1, {"size": "many", "digest": 5, "platform": []}], "annotations": 3, "subject": "x"}
    context = manifest_context("team/app", digest("m"), stored(odd), [], [])
    assert context["layers"] == [{"digest": "", "media_type": "", "size": None, "platform": "", "annotations": {}}]
    assert (context["config"], context["subject"], context["annotations"]) == (None, "", {})


def test_tags_that_hold_it_now_come_first() -> None:
    held = Committed(digest("m"), 1, since=NOW, first=NOW)
    moved = Committed(digest("other"), 2, since=NOW, first=NOW)
    records = [TagRecord("team/app", "a", committed=moved), TagRecord("team/app", "b", committed=held)]
    context = manifest_context("team/app", digest("m"), None, [], records)
    assert context["tags"] == [{"tag": "b", "now": True}, {"tag": "a", "now": False}]
