"""Debian's Chromium before a console full of a week's events.

The browser is one a module: Playwright keeps a loop of its own on this thread while it runs, and the async tests of
other modules must not meet it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, sync_playwright

from tests.browser import story
from tests.servers import program, running_redis
from tests.web.consoles import RunningConsole, running_console

HERE = Path(__file__).parent
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = {"width": 390, "height": 844}
LAPTOP = {"width": 1280, "height": 800}
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def console() -> Iterator[RunningConsole]:
    with running_redis() as redis, running_console(redis.url, ruling=story.rules()) as running:
        running.seed(story.story())
        running.run(story.hold(running.sources.register))
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    environment: dict[str, Any] = {**os.environ, "FONTCONFIG_FILE": str(HERE / "fonts.conf")}
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program("chromium"), args=list(QUIET), env=environment)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser, console: RunningConsole) -> Iterator[Open]:
    """Open a page of the console; errors of its scripts and breaches of its policy fail the test at the end."""
    wrong: list[str] = []
    contexts = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    def refuse(dialog: Dialog) -> None:
        wrong.append(f"a script of the data ran: {dialog.message}")
        dialog.dismiss()

    def open_(path: str, **options: Any) -> Page:
        usual = {"viewport": LAPTOP, "timezone_id": "Europe/Helsinki", "locale": "en-GB"}
        context = browser.new_context(base_url=console.url, **(usual | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", listen)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", refuse)
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not wrong
