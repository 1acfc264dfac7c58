"""Short names stand on one line in tables, however full these are."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Open

LINES = """
[...document.querySelectorAll('td[data-label="By"] a, td[data-label="Granted by"] a.filterable, td .place a')]
  .filter(link => link.textContent.length < 8 && link.getClientRects().length > 1).map(link => link.textContent)
"""

WIDER = "all => all.forEach(one => { one.textContent = '28 November, 02:13:12'; one.style.whiteSpace = 'nowrap' })"


@pytest.mark.parametrize("width", [768, 1024, 1280])
def test_a_short_name_is_not_broken(open_page: Open, width: int) -> None:
    page = open_page("/exceptions", viewport={"width": width, "height": 900})
    page.locator("time").evaluate_all(WIDER)
    assert page.evaluate("document.querySelectorAll('td[data-label=\"By\"] a').length") > 0
    assert page.evaluate(LINES) == []
