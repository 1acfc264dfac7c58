"""The pictures in docs/screenshots, made anew when IMMUPROXY_SCREENSHOTS is set (`make` leaves them as they are)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Open
from tests.browser.story import LIFE
from tests.console.events import digest
from tests.console.logging_in import ADMINISTRATOR

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
    "drift": ("/drift", {}, True),
    "drift-dark": ("/drift", DARK, True),
    "drift-phone": ("/drift", ON_PHONE, False),
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


def kept(page: Page, folder: Path, name: str, *, whole: bool = True) -> None:
    folder = FOLDER if os.environ.get(REFRESH) else folder
    folder.mkdir(parents=True, exist_ok=True)
    assert len(page.screenshot(path=folder / f"{name}.png", full_page=whole)) > 10_000


@pytest.mark.parametrize(
    ("name", "options"), [("exceptions", {}), ("exceptions-dark", DARK), ("exceptions-phone", ON_PHONE)]
)
def test_what_an_administrator_sees_can_be_pictured(
    open_as: Open, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    page = open_as(ADMINISTRATOR, "/exceptions", **options)
    expect(page.get_by_role("button", name="Allow it")).to_be_visible()
    kept(page, tmp_path, name, whole="viewport" not in options)


@pytest.mark.parametrize(("name", "options"), [("what-if", {}), ("what-if-dark", DARK)])
def test_a_trial_of_rules_can_be_pictured(open_page: Open, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    page = open_page("/rules/what-if", **options)
    box = page.get_by_label("Rules to try")
    box.fill(box.input_value().replace("[latest, main,", "[latest,"))
    page.get_by_role("button", name="Replay").click()
    expect(page.locator("#changed")).to_contain_text("would change")
    page.locator("#changed").scroll_into_view_if_needed()
    page.mouse.move(0, 0)
    kept(page, tmp_path, name, whole=False)
