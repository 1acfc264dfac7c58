"""Two manifests side by side, over a real registry."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest

from immuproxy.audit.record import Projector
from tests.console.conftest import Console
from tests.console.events import HOSTILE
from tests.support.conversation import Image, RunningEdge, image, index, sha256
from tests.support.servers import RegistryServer

BASE = b"the base of all"


async def push(edge: RunningEdge, tag: str, pushed: Image, repository: str = "team/app") -> None:
    answer = await edge.client.push(repository, tag, pushed)
    assert answer.status == 201, answer.body
    await Projector(edge.store).sweep()


async def said(console: Console, a: str, b: str, status: int = 200) -> dict[str, Any]:
    """What the API says of the two, and the page's HTML."""
    query = f"a={quote(a, safe='')}&b={quote(b, safe='')}"
    async with console.get(f"/compare?{query}") as response:
        text = await response.text()
        assert response.status == status, text
        assert "<script>" not in text
        assert "<img" not in text
    async with console.get(f"/api/v1/compare?{query}") as response:
        assert response.status == status
        answer: dict[str, Any] = await response.json()
        return answer | {"html": unescape(text)}


def one(label: str = "1") -> Image:
    return image("one", labels={"version": label}, layers=(BASE, b"first"))


def two() -> Image:
    return image("two", labels={"version": "2", "hostile": HOSTILE}, layers=(BASE, b"second", b"third"))


async def test_what_changed_between_two_tags(edge: RunningEdge, reading: Console) -> None:
    await push(edge, "1.0", one())
    await push(edge, "2.0", two())
    found = await said(reading, "team/app:1.0", "2.0")
    assert found["sentence"] == "2 layers added, 1 removed, 1 shared."
    assert found["index"]["complete"]
    assert [row["digest"] for row in found["image"]["layers"] if row["status"] == "shared"] == [sha256(BASE)]
    labels = {row["name"]: (row["before"], row["after"]) for row in found["image"]["labels"]}
    assert labels == {"version": ("1", "2"), "hostile": (None, HOSTILE)}
    assert HOSTILE in found["html"]
    back = await said(reading, "team/app:2.0", f"registry.example:5000/team/app@{one().digest}")
    assert back["sentence"] == "1 layer added, 2 removed, 1 shared."


async def test_what_moved_from_one_repository_to_another(edge: RunningEdge, reading: Console) -> None:
    await push(edge, "1.0", one(), "staging/app")
    await push(edge, "1.0", one(), "prod/app")
    assert (await said(reading, "staging/app:1.0", "prod/app:1.0"))["same"]


async def test_a_moving_tag_is_compared_with_what_it_was(edge: RunningEdge, reading: Console) -> None:
    await push(edge, "latest", one())
    await push(edge, "latest", two())
    async with reading.get("/repositories/team/app/tags/latest") as response:
        text = unescape(await response.text())
    link = re.search(r'href="(/compare\?a=[^"]+)">what changed', text)
    assert link
    assert link[1] == f"/compare?a=team/app@{one().digest}&b=team/app@{two().digest}"
    async with reading.get(link[1]) as response:
        assert response.status == 200
        assert "2 layers added, 1 removed, 1 shared." in await response.text()


async def test_indexes_are_compared_platform_by_platform(edge: RunningEdge, reading: Console) -> None:
    shared = image("same")
    await push(edge, "1.0", index(one(), shared))
    await push(edge, "2.0", index(two(), shared, image("third platform")))
    found = await said(reading, "team/app:1.0", "team/app:2.0")
    assert [(row["platform"], row["status"]) for row in found["platforms"]] == [
        ("linux/arch0", "changed"), ("linux/arch1", "shared"), ("linux/arch2", "added"),
    ]  # fmt: skip
    assert found["platforms"][0]["changes"]["sums"]["added"]["count"] == 2
    assert "What changed in linux/arch0" in found["html"]


async def test_without_the_registry_layers_are_compared_and_labels_are_not(
    edge: RunningEdge, reading: Console, registry: RegistryServer
) -> None:
    await push(edge, "1.0", one())
    await push(edge, "2.0", two())
    registry.stop()
    found = await said(reading, "team/app:1.0", "team/app:2.0")
    assert found["image"]["sums"]["added"]["count"] == 2
    assert "could not be asked" in found["image"]["why_not"]
    assert found["image"]["labels"] == []


async def test_what_never_passed_the_proxy_is_not_compared(edge: RunningEdge, reading: Console) -> None:
    await push(edge, "1.0", one())
    assert (await edge.direct.push("team/app", "hidden", two())).status == 201
    for hidden in ("hidden", two().digest, "none/such:1.0"):
        found = await said(reading, "team/app:1.0", hidden, 404)
        assert found["error"]["code"] == "not_found"
        assert "The proxy knows no manifest" in found["html"]


@pytest.mark.parametrize(("a", "b"), [("nonsense", "team/app:1"), ("team/app:1", "Team:x"), ("<script>x", "y")])
async def test_what_names_nothing_is_asked_for_again(reading: Console, a: str, b: str) -> None:
    found = await said(reading, a, b, 400)
    assert "Write it as repository:tag" in found["html"]
    assert found["error"]["parameter"] in {"a", "b"}


async def test_the_form_offers_the_tags_of_the_repository(edge: RunningEdge, reading: Console) -> None:
    await push(edge, "1.0", one())
    async with reading.get("/compare?a=team/app:1.0") as response:
        text = await response.text()
    assert response.status == 200
    assert '<option value="team/app:1.0">' in text
    assert 'value="team/app:1.0" placeholder' in text
    async with reading.get("/compare") as response:
        assert response.status == 200
