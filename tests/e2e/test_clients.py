"""The clients and the hand-made images work on a bare registry: what fails elsewhere is then not their fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.clients import Builder, Refused, Skopeo
from tests.e2e.layouts import Layout, blobs_of
from tests.support.servers import RegistryServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_a_bare_registry_lets_a_tag_be_overwritten(
    builder: Builder, shared_registry: RegistryServer, unique_name: str
) -> None:
    image = f"{shared_registry.address}/{unique_name}:1"
    ids = []
    for text in ("first", "second"):
        builder.build(image, text)
        builder.push(image)
        builder.remove(image)
        builder.pull(image)
        ids.append(builder.image_id(image))
    assert ids[0] != ids[1]


def test_an_error_of_a_client_carries_what_it_printed(builder: Builder, shared_registry: RegistryServer) -> None:
    with pytest.raises(Refused, match=r"(?i)manifest unknown|not found"):
        builder.pull(f"{shared_registry.address}/no/such:tag")


def test_a_layout_made_by_hand_survives_the_way_through_a_registry(
    skopeo: Skopeo, layout: Layout, shared_registry: RegistryServer, unique_name: str, tmp_path: Path
) -> None:
    image = f"{shared_registry.address}/{unique_name}:1"
    platforms = [layout.image(f"for {p}", size=3_000_000, platform=p) for p in ("linux/amd64", "linux/arm64")]
    layout.tag("all", layout.index(platforms))
    skopeo.push(layout.source("all"), image, "--all")
    assert blobs_of(skopeo.pull(image, tmp_path / "pulled", "--all")) == blobs_of(layout.root)
