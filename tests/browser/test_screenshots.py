"""The pictures in docs/screenshots, made anew when IMMUPROXY_SCREENSHOTS is set (`make` leaves them as they are)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import PHONE, Open
from tests.browser.story import LIFE
from tests.web.events import digest

REFRESH = "IMMUPROXY_SCREENSHOTS"
FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
TAG = f"/repositories/{LIFE[0]}/tags/{LIFE[1]}"
DARK = {"color_scheme": "dark"}
ON_PHONE = {"viewport": PHONE, "device_scale_factor": 2}
SHOTS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "overview": ("/?range=7d", {}, True),
    "overview-dark": ("/?range=7d", DARK, True),
    "audit": ("/audit?q=repo:team/**%20since:7d&limit=14", {}, True),
    "audit-phone": ("/audit?q=repo:team/**%20since:7d&limit=14", ON_PHONE, False),
    "search-error": ("/audit?q=repo:team/**%20outcme:refused", {}, False),
    "repository": ("/repositories/team/app", {}, False),
    "tag": (TAG, {}, True),
    "tag-dark": (TAG, DARK, True),
    "tag-phone": (TAG, ON_PHONE, False),
    "manifest": (f"/repositories/team/app/manifests/{digest('life two')}", {}, True),
    "rules": ("/rules?tag=team/app:1.6.0&user=mira", {}, True),
}


@pytest.mark.parametrize("name", SHOTS)
def test_the_page_can_be_pictured(open_page: Open, tmp_path: Path, name: str) -> None:
    path, options, whole = SHOTS[name]
    page = open_page(path, **options)
    folder = FOLDER if os.environ.get(REFRESH) else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    picture = page.screenshot(path=folder / f"{name}.png", full_page=whole)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000
