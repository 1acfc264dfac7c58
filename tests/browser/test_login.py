"""Logging in, looking, and logging out, in a browser; with and without JavaScript."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Open
from tests.browser.story import rules, story
from tests.browser.test_accessibility import AXE, SERIOUS
from tests.browser.test_screenshots import DARK, FOLDER, REFRESH
from tests.console.consoles import RunningConsole, running_console
from tests.console.logging_in import ADMINISTRATOR, PASSWORDS, VIEWER, users_in
from tests.support.servers import running_redis

SEARCH = "/audit?q=repo:team/**%20outcome:refused"
LOOKS: dict[str, dict[str, Any]] = {"light": {}, "dark": DARK, "phone": {"viewport": PHONE, "device_scale_factor": 2}}


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    """A closed console with a week's events."""
    auth = users_in(tmp_path_factory.mktemp("users"))
    with running_redis() as redis, running_console(redis.url, ruling=rules(), auth=auth) as running:
        running.seed(story())
        yield running


def fill(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize("scripts", [True, False])
def test_whoever_wants_a_page_logs_in_and_gets_it_and_logs_out_again(open_page: Open, scripts: bool) -> None:
    page = open_page(SEARCH, java_script_enabled=scripts)
    expect(page).to_have_title("Log in · immuproxy")
    expect(page.get_by_role("navigation")).to_have_count(0)
    fill(page, ADMINISTRATOR, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    expect(page.get_by_label("Name")).to_have_value(ADMINISTRATOR)
    expect(page.get_by_label("Password")).to_have_value("")
    fill(page, ADMINISTRATOR, PASSWORDS[ADMINISTRATOR])
    expect(page).to_have_url(re.compile(re.escape(SEARCH)))
    expect(page.locator(".log tbody tr").first).to_contain_text("refused")
    expect(page.locator(".account")).to_contain_text("anna")
    expect(page.locator(".account")).to_contain_text("administrator")
    page.get_by_role("link", name="Rules").click()
    expect(page.locator(".account")).to_contain_text("anna")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile(r"/log-in\?out$"))
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    page.goto(SEARCH)
    expect(page).to_have_title("Log in · immuproxy")


def test_the_way_back_after_a_log_out_shows_nothing(open_page: Open) -> None:
    page = open_page("/rules")
    fill(page, VIEWER, PASSWORDS[VIEWER])
    expect(page.locator(".account")).to_contain_text("vera")
    expect(page.locator(".account")).not_to_contain_text("administrator")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    page.go_back()
    expect(page).to_have_title("Log in · immuproxy")


def test_the_keyboard_is_enough(open_page: Open) -> None:
    page = open_page("/")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type(VIEWER)
    page.keyboard.press("Tab")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Password")).to_be_focused()
    page.keyboard.type(PASSWORDS[VIEWER])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_log_in_holds_in_another_tab_and_so_does_a_log_out(open_page: Open) -> None:
    page = open_page("/")
    fill(page, VIEWER, PASSWORDS[VIEWER])
    expect(page.locator(".account")).to_contain_text("vera")
    other = page.context.new_page()
    other.goto("/rules")
    expect(other.locator(".account")).to_contain_text("vera")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    other.reload()
    expect(other).to_have_title("Log in · immuproxy")


def test_no_script_reads_the_cookie_and_the_browser_keeps_it_only_for_a_while(open_page: Open) -> None:
    page = open_page("/")
    fill(page, VIEWER, PASSWORDS[VIEWER])
    expect(page.locator(".account")).to_contain_text("vera")
    assert page.evaluate("document.cookie") == ""
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"], cookie["path"]) == (True, "Lax", -1, "/")


def test_the_log_in_is_in_the_audit_as_people_say_it(open_page: Open) -> None:
    page = open_page("/audit?q=action:log-in")
    fill(page, "mallory", "guess")
    expect(page.get_by_role("alert")).to_be_visible()
    fill(page, ADMINISTRATOR, PASSWORDS[ADMINISTRATOR])
    rows = page.locator("#log-rows tr")
    expect(rows.first).to_contain_text("granted")
    expect(rows.first).to_contain_text("log-in")
    expect(rows.first).to_contain_text("anna")
    expect(rows.nth(1)).to_contain_text("rejected")
    expect(rows.nth(1)).to_contain_text("unknown name")
    expect(page.locator("body")).not_to_contain_text("mallory")


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_no_serious_violation_when_logging_in(open_page: Open, look: str) -> None:
    page = open_page("/log-in", bypass_csp=True, **LOOKS[look])
    for step in ("empty", "wrong", "in"):
        if step != "empty":
            fill(page, ADMINISTRATOR, PASSWORDS[ADMINISTRATOR] if step == "in" else step)
        page.evaluate(AXE)
        found = page.evaluate("axe.run()")["violations"]
        assert not [each["help"] for each in found if each["impact"] in SERIOUS], step


@pytest.mark.parametrize("look", LOOKS)
def test_the_log_in_can_be_pictured(open_page: Open, tmp_path: Path, look: str) -> None:
    folder = FOLDER if os.environ.get(REFRESH) else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    page = open_page("/log-in", **LOOKS[look])
    name = "log-in" if look == "light" else f"log-in-{look}"
    assert page.screenshot(path=folder / f"{name}.png").startswith(b"\x89PNG")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
