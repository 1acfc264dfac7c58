"""An index that is being built, or has no room for all: each page says so, once, where it pushes nothing aside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from immuproxy.audit.follow import BATCH
from immuproxy.ledger.model import Outcome
from tests.audit.loading import Line, written
from tests.audit.settled import full, newest_only
from tests.browser import story
from tests.browser.conftest import opening
from tests.console.consoles import RunningConsole, running_console
from tests.console.events import digest, now, push
from tests.support.servers import running_redis

WIDTHS = (390, 768, 1440)
PAGES = (
    "/",
    "/audit",
    "/audit?q=outcome:refused",
    "/repositories",
    "/repositories?filter=old",
    "/repositories/team/app",
    "/repositories/team/app/tags/2.0",
    f"/repositories/team/app/manifests/{digest('one')}",
    "/drift",
    "/exceptions",
    "/rules",
)


@pytest.fixture(
    scope="module",
    params=[(newest_only, BATCH, "is being built"), (full, 4 * BATCH, "room for the newest events only")],
    ids=["half built", "full"],
)
def said(request: pytest.FixtureRequest) -> Iterator[tuple[RunningConsole, str]]:
    """A console, and what it says of its index."""
    index, count, words = request.param
    with running_redis() as redis:
        line = Line(redis.url)
        line.send(written(push(Outcome.REFUSED, repository="old/app", tag="1.0", time=now() - 86_400_000)))
        for at in range(now() - count - 10, now() - 10):
            line.send(written(push(repository="team/app", tag="2.0", digest=digest("one"), time=at)))
        line.close()
        with running_console(redis.url, ruling=story.rules(), index=index) as running:
            yield running, words


def test_each_page_says_once_how_far_back_it_reaches(
    browser: Browser, said: tuple[RunningConsole, str], tmp_path: Path
) -> None:
    console, words = said
    with opening(browser, console) as open_page:
        page = open_page("/")
        for path in PAGES:
            page.goto(path)
            note = page.get_by_text(words)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                expect(note).to_have_count(1)
                expect(note).to_be_in_viewport()
                box = note.bounding_box()
                assert box is not None
                assert box["height"] < 120, f"{path} at {width}"
                scrolled = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert scrolled <= 0, f"{path} at {width}"
                page.screenshot(path=tmp_path / f"{PAGES.index(path)}-{width}.png")
