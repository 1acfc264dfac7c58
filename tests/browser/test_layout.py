"""Where things stand, at the widths of a phone, a tablet, a small and a large screen."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from immuproxy.ledger.model import Outcome
from tests.browser.conftest import Open
from tests.browser.story import PAIR
from tests.browser.test_console import PAGES
from tests.console.consoles import RunningConsole
from tests.console.events import push
from tests.console.logging_in import ADMINISTRATOR

NARROW, TABLET, SMALL, LARGE = 320, 768, 1024, 1440
NARROWED = {"since=3d"}
"""Times that need the day of the week as well are longer, so a phone shows fewer."""

COMPARE = f"/compare?a={PAIR[0]}:{PAIR[1][0]}&b={PAIR[0]}:{PAIR[1][1]}"
COLUMNS = """tables => tables.map(table => [...table.rows].map(row =>
  [...row.cells].map(cell => Math.round(cell.getBoundingClientRect().x))))"""
PLAIN_LINKS = """all => all.filter(one => {
  if (one.closest("nav, svg, thead") || one.matches(".chip, .button, .sift, .source a")) return false;
  const style = getComputedStyle(one);
  return style.textDecorationLine !== "underline" && style.borderBottomStyle === "none";
}).map(one => one.outerHTML)"""


def at(page: Page, width: int, height: int = 900) -> Page:
    """The page at a width, laid out."""
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page


def boxes(page: Page, selector: str) -> list[dict[str, float]]:
    found: list[dict[str, float]] = page.locator(selector).evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(({ x, y, right, bottom }) => ({ x, y, right, bottom }))"
    )
    return found


@pytest.mark.parametrize("path", [*PAGES, COMPARE])
def test_tables_stay_tables_and_links_look_like_links(open_page: Open, path: str) -> None:
    page = open_page(path)
    for width in (TABLET, SMALL, LARGE):
        at(page, width)
        for rows in page.locator("main table:visible").evaluate_all(COLUMNS):
            whole = [row for row in rows if len(row) == len(rows[0])]
            assert whole == [rows[0]] * len(whole), f"heads stand above their columns at {width}"
        heads = page.locator("main table thead")
        assert set(heads.evaluate_all("all => all.map(one => getComputedStyle(one).display)")) <= {"table-header-group"}
    assert page.locator("main :is(li, td, th, dd) a:visible").evaluate_all(PLAIN_LINKS) == []


def test_names_are_not_broken_and_nothing_stands_apart_from_its_by(open_as: Open) -> None:
    page = open_as(ADMINISTRATOR, "/exceptions")
    for width in (TABLET, SMALL, LARGE):
        assert_names_are_whole(at(page, width))


def assert_names_are_whole(page: Page) -> None:
    heights = page.locator("td[data-label='By'] a, td[data-label='Granted by'] a.filterable").evaluate_all(
        "all => all.map(one => one.getClientRects().length)"
    )
    assert set(heights) == {1}
    cells = page.locator("td[data-label='State']", has_text="by anna")
    left = [cell.evaluate("cell => cell.querySelector('.chip').getBoundingClientRect().x") for cell in cells.all()]
    by = [cell.get_by_text("by anna").evaluate("one => one.getBoundingClientRect().x") for cell in cells.all()]
    assert left
    assert by == pytest.approx(left, abs=1)


def test_no_empty_line_stands_above_a_reason(open_page: Open, console: RunningConsole) -> None:
    """Whatever the tag's length: what shows beside it on hover takes no line of its own."""
    console.seed([push(Outcome.REFUSED, repository="long/names", tag="x" * n, reason="so") for n in range(5, 75)])
    page = open_page("/audit?q=repo:long/names&limit=70")
    for width in (TABLET, SMALL, LARGE):
        at(page, width)
        gaps = page.locator("td[data-label='Tag'] > div").evaluate_all(
            """all => all.map(one => one.querySelector(".why").getBoundingClientRect().top
                 - one.querySelector(".place").getBoundingClientRect().bottom)"""
        )
        assert len(gaps) == 70
        assert max(gaps) < 12, width


def test_a_row_without_a_reason_has_one_line(open_page: Open) -> None:
    page = at(open_page("/audit?q=outcome:unchanged"), LARGE)
    heights = [box["bottom"] - box["y"] for box in boxes(page, "#log-rows tr")]
    assert len(heights) == 50
    assert max(heights) < 48


@pytest.mark.parametrize("path", ["/repositories", "/repositories/team/app"])
def test_on_a_phone_the_first_cell_is_not_indented(open_page: Open, path: str) -> None:
    page = at(open_page(path), 390)
    lefts = (
        page.locator("table.cards tbody tr")
        .first.locator("th > *, td[data-label]")
        .evaluate_all("all => all.map(one => Math.round(one.getBoundingClientRect().x))")
    )
    assert len(lefts) > 3
    assert len(set(lefts)) == 1


@pytest.mark.parametrize("asked", ["range=1h", "range=24h", "range=7d", "range=30d", "range=90d", "since=3d"])
def test_four_to_six_times_stand_below_the_chart(open_page: Open, asked: str) -> None:
    page = open_page(f"/?{asked}")
    for width in (NARROW, 390, TABLET, SMALL, LARGE):
        at(page, width)
        found = boxes(page, ".chart-times text:visible")
        assert (3 if (width < TABLET and asked in NARROWED) or width == NARROW else 4) <= len(found) <= 6, width
        assert all(one["right"] + 4 <= other["x"] for one, other in pairwise(found)), width
        assert found[-1]["right"] <= width
    words = page.locator(".chart-times text").all_text_contents()
    assert words[-1] == "now"
    assert all(word.count(":") <= 1 for word in words), "no seconds"


def test_numbers_beside_the_chart_do_not_lie_upon_each_other(open_page: Open) -> None:
    found = sorted(boxes(open_page("/?range=7d"), ".chart-scale text"), key=lambda box: box["y"])
    assert len(found) == 3
    assert all(above["bottom"] <= below["y"] + 2 for above, below in pairwise(found))


def test_on_a_phone_the_pages_stand_in_one_row(open_page: Open) -> None:
    page = open_page("/")
    for width in (NARROW, 390):
        at(page, width)
        assert len({round(box["y"]) for box in boxes(page, ".nav a")}) == 1
        assert page.locator(".bar").evaluate("bar => bar.getBoundingClientRect().height") < 110


def test_on_a_phone_who_is_logged_in_takes_no_row_of_their_own(open_as: Open) -> None:
    page = at(open_as(ADMINISTRATOR, "/"), 390)
    assert page.locator(".bar").evaluate("bar => bar.getBoundingClientRect().height") < 110
    assert {box["right"] <= 390 for box in boxes(page, ".bar button, .bar .light")} == {True}


@pytest.mark.parametrize(
    ("query", "name", "said"),
    [
        ("since=soon&until=", "since", "is a duration back from now"),
        ("since=2d&until=1999-13-01", "until", "is a duration back from now"),
        ("until=1d", "since", "from when on?"),
        ("since=1d&until=2d", "since", "is not before"),
        ("since=400d", "since", "366 days"),
    ],
)
def test_a_wrong_date_is_explained_beside_its_field(open_page: Open, query: str, name: str, said: str) -> None:
    page = open_page(f"/?{query}")
    for width in (390, TABLET, LARGE):
        at(page, width)
        field = page.locator(f"#{name}")
        why = page.locator(f"#{field.get_attribute('aria-describedby')}")
        expect(why).to_contain_text(said)
        box, told = (one.evaluate("one => one.getBoundingClientRect().toJSON()") for one in (field, why))
        assert 0 <= told["y"] - box["bottom"] < 16, width
        assert told["x"] - box["x"] < 40, width
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_the_results_of_a_trial_come_into_view(open_page: Open) -> None:
    page = at(open_page("/rules/what-if"), LARGE, 700)
    box = page.get_by_label("Rules to try")
    box.fill(box.input_value().replace("[latest, main,", "[latest,"))
    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("button", name="Replay").click()
    changed = page.locator("#changed")
    expect(changed).to_contain_text("would change")
    expect(changed).to_be_in_viewport()
    page.wait_for_function("document.getElementById('changed').getBoundingClientRect().top < innerHeight / 2")


def test_figures_fill_their_rows(open_page: Open) -> None:
    page = open_page("/")
    for width in (390, TABLET, SMALL, LARGE):
        rows = Counter(round(box["y"]) for box in boxes(at(page, width), ".tile"))
        assert len(set(rows.values())) == 1, "no row is shorter than another"
