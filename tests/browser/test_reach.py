"""An index that is still being built: each page says so, once, where it does not push anything aside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from immuproxy.audit.follow import BATCH
from immuproxy.ledger.model import Outcome
from tests.audit.loading import Line, written
from tests.audit.settled import newest_only
from tests.browser import story
from tests.browser.conftest import opening
from tests.servers import running_redis
from tests.web.consoles import RunningConsole, running_console
from tests.web.events import digest, now, push

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


@pytest.fixture(scope="module")
def half_built() -> Iterator[RunningConsole]:
    with running_redis() as redis:
        line = Line(redis.url)
        line.send(written(push(Outcome.REFUSED, repository="old/app", tag="1.0", time=now() - 86_400_000)))
        for at in range(now() - BATCH - 10, now() - 10):
            line.send(written(push(repository="team/app", tag="2.0", digest=digest("one"), time=at)))
        line.close()
        with running_console(redis.url, ruling=story.rules(), index=newest_only) as running:
            yield running


def test_each_page_says_once_how_far_back_it_reaches(
    browser: Browser, half_built: RunningConsole, tmp_path: Path
) -> None:
    with opening(browser, half_built) as open_page:
        page = open_page("/")
        for path in PAGES:
            page.goto(path)
            note = page.get_by_text("The audit's index is being built")
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
