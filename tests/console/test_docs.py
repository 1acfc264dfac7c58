from __future__ import annotations

import re
from pathlib import Path

import pytest

from immuproxy.console.app import make_console
from immuproxy.console.sources import Sources

TEXT = (Path(__file__).parents[2] / "docs" / "console.md").read_text()
PLACES = ("NAME", "NAME/tags/TAG", "NAME/manifests/DIGEST")


async def test_every_address_is_in_the_documentation(sources: Sources) -> None:
    for resource in make_console(sources).router.resources():
        path = resource.canonical
        if path.startswith("/static"):
            continue
        spelt = [path.replace("{place}", place).replace("{id}", "ID") for place in PLACES]
        assert all(f"`{each}" in TEXT or f" {each}" in TEXT for each in spelt), path


@pytest.mark.parametrize("picture", re.findall(r"\((screenshots/[^)]+)\)", TEXT))
def test_every_picture_is_there(picture: str) -> None:
    assert (Path(__file__).parents[2] / "docs" / picture).is_file()
