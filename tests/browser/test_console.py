from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, expect

from immuproxy.ledger.model import Outcome
from tests.browser.conftest import PHONE, Open
from tests.browser.story import LIFE
from tests.console.consoles import RunningConsole
from tests.console.events import HOSTILE, digest, push

TAG = f"/repositories/{LIFE[0]}/tags/{LIFE[1]}"
PAGES = [
    "/",
    "/audit",
    "/audit?q=outcme:refused",
    "/repositories",
    "/repositories/team/app",
    TAG,
    f"/repositories/team/app/manifests/{digest('life two')}",
    "/rules?tag=team/app:1.6.0&user=mira",
    "/rules/what-if",
    "/drift",
    "/exceptions",
    f"/compare?a=team/app@{digest('life one')}&b=team/app@{digest('life two')}",
    "/nowhere",
]


def test_a_refusal_shows_in_the_live_tail_by_itself_until_it_is_paused(
    open_page: Open, console: RunningConsole
) -> None:
    page = open_page("/audit?q=outcome:refused%20repo:live/app")
    expect(page.get_by_text("Nothing matches this search")).to_be_visible()
    console.seed([push(Outcome.REFUSED, repository="live/app", tag="before", reason="no")])
    page.reload()
    expect(page.locator("#log-rows tr")).to_have_count(1)
    console.seed([push(Outcome.REFUSED, repository="live/app", tag="missed", reason="no")])
    live = page.get_by_role("button", name="Live")
    live.click()
    expect(page.locator("#log-rows tr").first).to_contain_text("missed")
    expect(live).to_have_attribute("aria-pressed", "true")
    console.seed([push(Outcome.REFUSED, repository="live/app", tag="next", reason=HOSTILE, actor=HOSTILE)])
    expect(page.locator("#log-rows tr").first).to_contain_text("next")
    live.click()
    expect(live).to_have_attribute("aria-pressed", "false")
    console.seed([push(Outcome.REFUSED, repository="live/app", tag="after", reason="no")])
    page.wait_for_timeout(900)
    expect(page.locator("#log-rows tr")).to_have_count(3)


def test_live_on_an_empty_log_fills_it(open_page: Open, console: RunningConsole) -> None:
    page = open_page("/audit?q=repo:empty/live")
    page.get_by_role("button", name="Live").click()
    page.wait_for_timeout(500)
    console.seed([push(repository="empty/live", tag="one")])
    expect(page.locator("#log-rows tr")).to_have_count(1)


def test_a_search_is_completed_by_keyboard_and_is_a_url(open_page: Open) -> None:
    page = open_page("/audit")
    page.keyboard.press("/")
    box = page.get_by_role("combobox")
    expect(box).to_be_focused()
    box.press_sequentially("outco")
    expect(page.get_by_role("option")).to_have_count(1)
    box.press("ArrowDown")
    box.press("Enter")
    expect(box).to_have_value("outcome:")
    box.press_sequentially("refu")
    expect(page.get_by_role("option")).to_have_count(1)
    expect(page.get_by_role("option")).to_contain_text("outcome:refused")
    box.press("ArrowDown")
    box.press("Enter")
    expect(box).to_have_value("outcome:refused ")
    box.press("Enter")
    expect(page).to_have_url(re.compile(r"/audit\?q=outcome%3Arefused"))
    expect(page.locator("#log-rows .chip.good")).to_have_count(0)
    expect(page.locator("#log-rows .chip.bad")).not_to_have_count(0)


@pytest.mark.parametrize("answered", [True, False])
def test_who_chooses_before_the_last_answer_gets_what_they_chose(open_page: Open, *, answered: bool) -> None:
    page = open_page("/audit")
    box = page.get_by_role("combobox")
    box.press_sequentially("outc")
    expect(page.get_by_role("option")).to_have_count(1)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/v1/complete?*", hold)
    with page.expect_request("**/api/v1/complete?*"):
        box.press_sequentially("o")
    box.press("ArrowDown")
    expect(page.get_by_role("option")).to_have_attribute("aria-selected", "true")
    if answered:
        with page.expect_response("**/api/v1/complete?*") as late:
            held[0].continue_()
        late.value.finished()
    box.press("Enter")
    expect(box).to_have_value("outcome:")
    page.unroute("**/api/v1/complete?*", hold)


def test_hostile_text_stays_text(open_page: Open, console: RunningConsole) -> None:
    told = {"actor": HOSTILE, "user_agent": HOSTILE, "reason": HOSTILE, "rule": HOSTILE, "request_id": HOSTILE}
    event = push(Outcome.REFUSED, repository="hostile/app", id="hostile", **told)
    console.seed([event])
    for path in ("/", "/audit", "/repositories/hostile/app", "/repositories/hostile/app/tags/1.0", "/events/hostile"):
        page = open_page(path)
        expect(page.get_by_text(HOSTILE).first).to_be_visible()
        assert page.locator("img").count() == 0
    page = open_page("/audit")
    page.locator("#q").press_sequentially("actor:<scr")
    expect(page.get_by_role("option").first).to_contain_text("<script>")


def test_escape_closes_the_suggestions(open_page: Open) -> None:
    page = open_page("/audit")
    box = page.locator("#q")
    box.press_sequentially("a")
    expect(page.get_by_role("listbox")).to_be_visible()
    box.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()


def test_a_click_on_a_value_filters_by_it(open_page: Open) -> None:
    page = open_page("/audit?q=outcome:refused%20repo:team/app")  # other tests fill the first page with refusals
    page.locator("#log-rows").get_by_role("link", name="mira", exact=True).first.click()
    expect(page.locator("#q")).to_have_value("outcome:refused repo:team/app actor:mira")


def test_the_wrong_word_of_a_search_is_marked_and_mended_by_a_click(open_page: Open) -> None:
    page = open_page("/audit?q=repo:team/**%20outcme:refused")
    expect(page.locator(".pointed")).to_have_text("outcme:refused")
    page.get_by_role("alert").get_by_role("link").click()
    expect(page.locator("#q")).to_have_value("repo:team/** outcome:refused")
    expect(page.locator("#log-rows tr").first).to_be_visible()


def test_times_are_in_the_viewers_zone_with_the_exact_utc_on_hover(open_page: Open) -> None:
    page = open_page("/audit?limit=1")
    time = page.locator("#log-rows time").first
    shown, exact = time.inner_text(), time.get_attribute("title") or ""
    assert exact.endswith("UTC")
    hour = int(exact[11:13])
    assert re.search(rf"\b{(hour + 2) % 24:02d}:{exact[14:19]}", shown)
    expect(page.locator("#zone-note")).to_contain_text("Europe/Helsinki")


def test_a_copy_button_copies_the_whole(open_page: Open) -> None:
    page = open_page(TAG)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy pull command").click()
    assert page.evaluate("navigator.clipboard.readText()") == (
        f"docker pull registry.example:5000/{LIFE[0]}@{digest('life two')}"
    )


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_whole_without_javascript(open_page: Open, path: str) -> None:
    page = open_page(path, java_script_enabled=False)
    assert page.locator("h1").count() == 1
    for scripted in page.locator(".scripted").all():
        expect(scripted).to_be_hidden()


def test_a_refusal_is_found_without_javascript(open_page: Open) -> None:
    page = open_page("/", java_script_enabled=False)
    page.get_by_role("link", name="All refusals").click()
    expect(page.locator("#log-rows time").first).to_contain_text("UTC")
    page.locator("#q").fill(f"repo:{LIFE[0]} tag:{LIFE[1]} outcome:refused")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#log-rows tr")).to_have_count(3)
    page.locator("#log-rows").get_by_role("link", name=LIFE[1], exact=True).first.click()
    expect(page.locator(".line > li")).to_have_count(8)


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("viewport", [PHONE, {"width": 320, "height": 600}], ids=["phone", "narrow"])
def test_nothing_is_cut_off_on_a_phone(open_page: Open, path: str, viewport: dict[str, int]) -> None:
    page = open_page(path, viewport=viewport)
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider <= 0


def test_the_life_of_a_tag_is_drawn_and_listed(open_page: Open) -> None:
    page = open_page(TAG)
    expect(page.locator("svg.life .band")).to_have_count(2)
    expect(page.locator("svg.life .mark")).to_have_count(3)
    expect(page.get_by_role("img", name="The tag has held 2 digests; 3 attempts were refused.")).to_be_visible()
    assert [chip.inner_text() for chip in page.locator(".line .what .chip").all()] == [
        "healed", "found", "refused", "refused", "refused", "unchanged", "overwritten", "created",
    ]  # fmt: skip


def test_a_column_of_the_chart_leads_to_its_events(open_page: Open) -> None:
    page = open_page("/?range=7d")
    page.get_by_text("The numbers behind the chart").click()
    # Not one of the last hours: what was healed or allowed there is listed, and counts as none of the chart's.
    row = page.locator("details.behind tbody tr").nth(6)
    numbers = [int(cell.inner_text()) for cell in row.locator("td.number").all()]
    row.get_by_role("link").click()
    expect(page.locator("#log-rows tr").first).to_be_visible()
    assert page.locator("#log-rows tr").count() == min(sum(numbers), 50)


def test_the_rules_page_explains_a_tag(open_page: Open) -> None:
    page = open_page("/rules")
    page.get_by_label("Tag", exact=True).fill("team/app:1.6.0")
    page.get_by_label("pushed by").fill("mira")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#explanation")).to_contain_text("none of its overwrite conditions can hold for mira")
    expect(page.locator(".source li.hit")).to_contain_text("name: releases")
    expect(page.locator("body")).not_to_contain_text("secret")
