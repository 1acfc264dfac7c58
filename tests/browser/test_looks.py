"""What people notice before they read: nothing jumps, nothing is cut off, and the keyboard shows where it is."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Open
from tests.browser.test_console import PAGES

SHIFT = """() => new Promise(resolve => {
  let sum = 0;
  new PerformanceObserver(list => { for (const entry of list.getEntries()) sum += entry.value; })
    .observe({ type: "layout-shift", buffered: true });
  setTimeout(() => resolve(sum), 300);
})"""


@pytest.mark.parametrize("path", PAGES)
def test_nothing_moves_when_times_become_local(open_page: Open, path: str) -> None:
    page = open_page(path, timezone_id="Pacific/Auckland")
    assert page.evaluate(SHIFT) < 0.01


@pytest.mark.parametrize("path", PAGES)
def test_a_laptop_at_twice_the_size_needs_no_scrolling_sideways(open_page: Open, path: str) -> None:
    page = open_page(path, viewport={"width": 640, "height": 400}, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


@pytest.mark.parametrize("path", PAGES)
def test_the_keyboard_shows_where_it_is(open_page: Open, path: str) -> None:
    page = open_page(path)
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate(
                """() => {
                  const style = getComputedStyle(document.activeElement);
                  const box = document.activeElement.getBoundingClientRect();
                  const outlined = style.outlineStyle !== "none" || style.boxShadow !== "none";
                  return document.activeElement === document.body || (outlined && box.width > 0);
                }"""
            )
        )
    assert seen == {True}
