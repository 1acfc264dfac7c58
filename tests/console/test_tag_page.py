"""What else a tag's page tells: drift, an exception in force, and what a signature's tag is about."""

from __future__ import annotations

import re
import time

from immuproxy.console.sources import Sources
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Action, Outcome
from immuproxy.store.redis import Store
from tests.console.conftest import Console, Seed
from tests.console.events import HOSTILE, digest, push
from tests.console.test_drift_page import drifted

URL = "/repositories/team/app/tags/1.0"


async def test_open_drift_shows_on_the_page_of_its_tag_and_of_no_other(
    console: Console, sources: Sources, store: Store, seed: Seed
) -> None:
    await seed([push(), push(tag="1.1")])
    await drifted(sources, store, "team/app", "1.0", digest("evil"))
    page = await (await console.get(URL)).text()
    assert "The registry shows another image under this tag" in page
    assert 'href="/drift"' in page.partition("drifted")[2]
    found = (await (await console.get(f"/api/v1{URL}")).json())["drift"]
    assert (found["kind"], found["seen"], found["held"]) == ("moved", digest("evil"), digest("one"))
    other = await (await console.get("/api/v1/repositories/team/app/tags/1.1")).json()
    assert other["drift"] is None


async def test_an_adopted_tag_says_that_it_is_older_than_its_first_time(console: Console, sources: Sources) -> None:
    adopted = push(Outcome.ADOPTED, action=Action.ADOPT, id="adopted", actor="")
    content = Content(digest=digest("one"), needs=frozenset({digest("one")}))
    await sources.register.adopt("team/app", "1.0", content, event=adopted, reuse=False)
    page = await (await console.get(URL)).text()
    facts = page.partition('<dl class="facts">')[2].partition("</dl>")[0]
    assert "<dt>Adopted</dt>" in facts
    assert "older than that" in facts
    assert "anonymous" not in facts
    assert (await (await console.get(f"/api/v1{URL}")).json())["first_adopted"] is True


async def test_an_exception_shows_as_long_as_it_is_in_force(console: Console, sources: Sources, seed: Seed) -> None:
    await seed([push()])
    assert (await (await console.get(f"/api/v1{URL}")).json())["exception"] is None
    now = sources.clock()
    event = push(
        Outcome.GRANTED,
        action=Action.EXCEPTION,
        id="grant1",
        time=time.time_ns() // 1_000_000,
        reason=HOSTILE,
        actor="anna",
    )
    ends = await sources.exceptions.grant(event, lasts_ms=3_600_000)
    assert ends > now
    page = await (await console.get(URL)).text()
    shown = page.partition('id="allowed"')[2].partition("</section>")[0]
    assert 'href="/exceptions"' in shown
    assert 'href="/events/grant1"' in shown
    assert "by anna" in shown
    assert HOSTILE not in page
    told = (await (await console.get(f"/api/v1{URL}")).json())["exception"]
    assert (told["ends"], told["by"], told["reason"]) == (ends, "anna", HOSTILE)


async def test_a_signatures_tag_and_what_it_signs_lead_to_each_other(console: Console, seed: Seed) -> None:
    signed = digest("one")
    tag = f"{signed.replace(':', '-')}.sig"
    await seed([push(), push(tag=tag, digest=digest("signature"))])
    page = await (await console.get(f"/repositories/team/app/tags/{tag}")).text()
    line = re.search(r"the signatures\s+of.*?</dd>|the signatures of.*?</p>", page, re.DOTALL)
    assert line
    assert f'href="/repositories/team/app/manifests/{signed}"' in line[0]
    told = await (await console.get(f"/api/v1/repositories/team/app/tags/{tag}")).json()
    assert told["about"] == {"kind": "signatures", "digest": signed}
    manifest = await (await console.get(f"/repositories/team/app/manifests/{signed}")).text()
    assert f'href="/repositories/team/app/tags/{tag}"' in manifest.partition('id="about"')[2]
    assert (await (await console.get(f"/api/v1{URL}")).json())["about"] is None


async def test_h114_a_push_whose_end_is_unknown_says_what_was_seen_and_what_the_tag_held_before(
    console: Console, seed: Seed
) -> None:
    reason = "the push was interrupted; at 2026-11-28T02:00:00Z the tag held nothing"
    await seed([push(Outcome.UNKNOWN, digest=digest("two"), previous_digest=digest("one"), reason=reason)])
    page = await (await console.get(URL)).text()
    assert reason in page
    assert "it held before" in page
    found = await (await console.get("/api/v1/events?q=outcome:unknown")).json()
    assert [event["digest"] for event in found["events"]] == [digest("two")]
