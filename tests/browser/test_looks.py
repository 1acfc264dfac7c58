"""What people notice before they read: nothing jumps, nothing is cut off, and the keyboard shows where it is."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Open
from tests.browser.test_console import PAGES

SHIFTS = """() => new Promise(resolve => {
  const shifts = [];
  const told = box => [box.x, box.y, box.width, box.height].map(Math.round).join(" ");
  const moved = source => `${source.node?.nodeName ?? "?"}.${source.node?.className ?? ""}`
    + ` ${told(source.previousRect)} -> ${told(source.currentRect)}`;
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) shifts.push({ value: entry.value, moved: entry.sources.map(moved) });
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => resolve(shifts), 300);
})"""


@pytest.mark.parametrize("path", PAGES)
def test_nothing_moves_when_times_become_local(open_page: Open, path: str) -> None:
    page = open_page(path, timezone_id="Pacific/Auckland")
    shifts = page.evaluate(SHIFTS)
    assert sum(shift["value"] for shift in shifts) < 0.01, shifts


@pytest.mark.parametrize("path", PAGES)
def test_no_width_needs_scrolling_sideways(open_page: Open, path: str) -> None:
    """Phones, tablets, and a laptop at twice or four times the size (WCAG 1.4.10)."""
    page = open_page(path)
    for width in (320, 390, 640, 740, 800, 880, 900, 1024, 1130):
        page.set_viewport_size({"width": width, "height": 400})
        beyond = page.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done("
            "document.documentElement.scrollWidth - document.documentElement.clientWidth))))"
        )
        assert beyond <= 0, width


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


@pytest.mark.parametrize("width", [768, 1000, 1440])
def test_what_happened_stays_in_its_column(open_page: Open, width: int) -> None:
    page = open_page("/audit?q=shadow:yes")
    page.set_viewport_size({"width": width, "height": 900})
    beyond = page.evaluate(
        """() => [...document.querySelectorAll(".log td .chip")].map(
          chip => chip.getBoundingClientRect().right - chip.closest("td").getBoundingClientRect().right)"""
    )
    assert beyond
    assert max(beyond) <= 0
