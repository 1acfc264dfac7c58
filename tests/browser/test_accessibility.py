from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import HERE, PHONE, Open
from tests.browser.test_console import PAGES

AXE = (HERE / "vendor" / "axe-core" / "axe.min.js").read_text()
SERIOUS = ("serious", "critical")
LOOKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "light": ({"color_scheme": "light"}, {}),
    "dark": ({"color_scheme": "dark"}, {"runOnly": {"type": "rule", "values": ["color-contrast"]}}),
    "phone": ({"viewport": PHONE}, {"rules": {"color-contrast": {"enabled": False}}}),
}
"""How a page is opened, and what of axe is asked then: by colours only the contrast changes, and by width the rest."""


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_no_serious_violation(open_page: Open, path: str, look: str) -> None:
    options, asked = LOOKS[look]
    page = open_page(path, bypass_csp=True, **options)
    for details in page.locator("details").all():
        details.evaluate("element => { element.open = true; }")
    page.evaluate(AXE)
    found = page.evaluate("asked => axe.run(asked)", asked)
    told = [
        f"{each['id']}: {each['help']} at {[node['html'][:120] for node in each['nodes'][:3]]}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
    ]
    assert not told, "\n".join(told)
    assert len(found["passes"]) > (0 if look == "dark" else 10)


def test_axe_would_find_something(open_page: Open) -> None:
    page = open_page("/", bypass_csp=True)
    page.evaluate("document.querySelector('main').innerHTML += '<img src=\"/static/icon.svg\"><input>'")
    page.evaluate(AXE)
    found = page.evaluate("axe.run()")
    assert {each["id"] for each in found["violations"]} >= {"image-alt", "label"}
