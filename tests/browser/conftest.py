"""Debian's headless Chromium before a console full of a week's events.

It is the same engine as the whole one and takes half of its processor time.
The browser is one a module: Playwright keeps a loop of its own on this thread while it runs, and the async tests of
other modules must not meet it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, expect, sync_playwright

from immuproxy.console.settings import ConsoleAuth
from tests.browser import story
from tests.console.consoles import RunningConsole, running_console
from tests.console.logging_in import PASSWORDS, users_in
from tests.support.servers import program, running_redis

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
expect.set_options(timeout=30_000)  # ms; five seconds are too few where others keep the machine busy
PHONE = {"width": 390, "height": 844}
LAPTOP = {"width": 1280, "height": 800}
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def console() -> Iterator[RunningConsole]:
    """Open to everybody."""
    with _storied(None) as running:
        yield running


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    """One of its own that asks for passwords: see `tests.console.logging_in`."""
    with _storied(users_in(tmp_path_factory.mktemp("users"))) as running:
        yield running


@contextlib.contextmanager
def _storied(auth: ConsoleAuth | None) -> Iterator[RunningConsole]:
    with running_redis() as redis, running_console(redis.url, ruling=story.rules(), auth=auth) as running:
        running.seed(story.story())
        running.run(story.hold(running.sources.register))
        running.run(story.pair(running.sources.register))
        running.run(story.trouble(running.sources.register))
        running.run(story.permissions(running.sources.exceptions, running.record))
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    environment: dict[str, Any] = {**os.environ, "FONTCONFIG_FILE": str(HERE / "fonts.conf")}
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=program("chromium-headless-shell"), args=list(QUIET), env=environment
        )
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser, console: RunningConsole) -> Iterator[Open]:
    """Open a page of the console; errors of its scripts and breaches of its policy fail the test at the end."""
    with opening(browser, console) as open_:
        yield open_


@pytest.fixture
def open_as(browser: Browser, closed: RunningConsole) -> Iterator[Open]:
    """The same of the console that asks for passwords; the first argument is who logs in."""
    with opening(browser, closed) as open_:

        def log_in_and_open(name: str, path: str, **options: Any) -> Page:
            page = open_("/log-in", **options)
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password").fill(PASSWORDS[name])
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url("**/")
            page.goto(path)
            return page

        yield log_in_and_open


@contextlib.contextmanager
def opening(browser: Browser, console: RunningConsole) -> Iterator[Open]:
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
