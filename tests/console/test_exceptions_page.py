"""Allowing and ending an exception, by form and by JSON, and who may."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from immuproxy.allow.exceptions import Allows
from immuproxy.audit import views
from immuproxy.audit.pruning import prune
from immuproxy.audit.record import Projector, Record
from immuproxy.audit.search import Search
from immuproxy.console.exceptions import view
from immuproxy.console.sources import Sources
from immuproxy.ledger.model import Action, ActorSource, Outcome
from immuproxy.store.redis import Store
from tests.audit.following import followed
from tests.console.conftest import Console, Seed
from tests.console.events import HOSTILE, digest, now, push
from tests.console.logging_in import ADMINISTRATOR, VIEWER, log_in, send_form

WISH = {"tag": "team/app:1.4", "for": "30m", "reason": "the key leaked"}


async def told(sources: Sources, store: Store) -> list[Any]:
    """The events of exceptions, oldest first."""
    await Projector(store).sweep()
    page = await sources.audit.events(Search().with_term("action", Action.EXCEPTION))
    return list(page.events)[::-1]


async def test_an_administrator_allows_and_ends_by_form(
    closed_console: Console, sources: Sources, store: Store
) -> None:
    await log_in(closed_console, ADMINISTRATOR)
    answer = await send_form(closed_console, "/exceptions", WISH)
    assert answer.status == 200
    page = await answer.text()
    assert "may be overwritten now" in page
    granted = await sources.exceptions.of("team/app", "1.4")
    assert granted is not None
    assert (granted.by, granted.reason, granted.ends - granted.granted) == (ADMINISTRATOR, "the key leaked", 1_800_000)
    ending = {"tag": "team/app:1.4", "event": granted.event}
    assert (await send_form(closed_console, "/exceptions/end", ending)).status == 200
    assert await sources.exceptions.of("team/app", "1.4") is None
    events = await told(sources, store)
    assert [(event.outcome, event.actor, event.actor_source, event.rule) for event in events] == [
        (Outcome.GRANTED, ADMINISTRATOR, ActorSource.CONSOLE, "releases"),
        (Outcome.ENDED, ADMINISTRATOR, ActorSource.CONSOLE, ""),
    ]
    assert events[1].reason == "ended by hand: the key leaked"
    assert (await send_form(closed_console, "/exceptions/end", ending)).status == 404


async def test_the_button_of_an_old_page_ends_no_later_exception(closed_console: Console, sources: Sources) -> None:
    await log_in(closed_console, ADMINISTRATOR)
    await send_form(closed_console, "/exceptions", WISH)
    first = await sources.exceptions.of("team/app", "1.4")
    await send_form(closed_console, "/exceptions", WISH)
    assert first is not None
    ending = {"tag": "team/app:1.4", "event": first.event}
    assert (await send_form(closed_console, "/exceptions/end", ending)).status == 404
    assert await sources.exceptions.of("team/app", "1.4") is not None


async def test_what_is_unfit_is_said_beside_its_field_and_nothing_is_lost(
    closed_console: Console, sources: Sources
) -> None:
    await log_in(closed_console, ADMINISTRATOR)
    answer = await send_form(
        closed_console, "/exceptions", {"tag": "team/app", "for": "31d", "reason": HOSTILE, "digest": "x"}
    )
    page = await answer.text()
    assert answer.status == 400
    for part in ("tag", "for", "digest"):
        assert f'id="{part}-wrong"' in page
    assert 'id="reason-wrong"' not in page
    assert "&lt;script&gt;alert(1)" in page
    assert HOSTILE not in page
    assert await sources.exceptions.count() == 0


async def test_nobody_else_may(closed_console: Console, console: Console, sources: Sources) -> None:
    await log_in(closed_console, VIEWER)
    page = await (await closed_console.get("/exceptions")).text()
    assert "Allow it</button>" not in page
    assert "immuproxy allow" in page
    for client, data in ((closed_console, WISH), (console, WISH)):
        assert (await send_form(client, "/exceptions", data)).status == 403
        assert (await send_form(client, "/exceptions/end", data)).status == 403
        assert (await client.post("/api/v1/exceptions", json=WISH)).status == 403
        assert (await client.delete("/api/v1/exceptions?tag=team/app:1.4")).status == 403
    assert await sources.exceptions.count() == 0


async def test_a_form_from_nowhere_or_from_elsewhere_changes_nothing(closed_console: Console, sources: Sources) -> None:
    await log_in(closed_console, ADMINISTRATOR)
    assert (await closed_console.post("/exceptions", data=WISH)).status == 403
    foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    assert (await send_form(closed_console, "/exceptions", WISH, headers=foreign)).status == 403
    assert (await closed_console.post("/api/v1/exceptions", json=WISH, headers=foreign)).status == 403
    assert await sources.exceptions.count() == 0
    await closed_console.post("/api/v1/exceptions", json=WISH)
    answer = await closed_console.delete("/api/v1/exceptions?tag=team/app:1.4", headers=foreign)
    assert (answer.status, await sources.exceptions.count()) == (403, 1)


async def test_the_same_by_json(closed_console: Console, sources: Sources, store: Store) -> None:
    await log_in(closed_console, ADMINISTRATOR)
    answer = await closed_console.post("/api/v1/exceptions", json={**WISH, "digest": digest("only")})
    begun = (await answer.json())["exception"]
    assert answer.status == 201
    assert (begun["repository"], begun["tag"], begun["digest"], begun["needless"]) == (
        "team/app", "1.4", digest("only"), "",
    )  # fmt: skip
    listed = await (await closed_console.get("/api/v1/exceptions")).json()
    assert listed["in_force"] == 1
    assert {key: listed["exceptions"][0][key] for key in begun} == begun
    ended = await closed_console.delete("/api/v1/exceptions", params={"tag": "team/app:1.4", "reason": "done"})
    assert (ended.status, (await ended.json())["exception"]["event"]) == (200, begun["event"])
    assert (await closed_console.delete("/api/v1/exceptions?tag=team/app:1.4")).status == 404
    assert [event.reason for event in await told(sources, store)] == ["the key leaked", "done"]


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"tag": "x"}, "tag"),
        ({"for": "soon"}, "for"),
        ({"for": 30}, "for"),
        ({"reason": ""}, "reason"),
        ({"digest": "sha256:1"}, "digest"),
        ({"dgest": "x"}, "dgest"),
        ({"allows": "push"}, "allows"),
    ],
)
async def test_json_that_is_unfit_names_the_part(
    closed_console: Console, sources: Sources, change: dict[str, Any], parameter: str
) -> None:
    await log_in(closed_console, ADMINISTRATOR)
    answer = await closed_console.post("/api/v1/exceptions", json=WISH | change)
    assert (answer.status, (await answer.json())["error"]["parameter"]) == (400, parameter)
    assert await sources.exceptions.count() == 0


async def test_which_push_made_use_of_it_is_shown(
    closed_console: Console, sources: Sources, store: Store, record: Record
) -> None:
    await log_in(closed_console, ADMINISTRATOR)
    begun = (await (await closed_console.post("/api/v1/exceptions", json=WISH)).json())["exception"]
    await Projector(store).sweep()
    why = f"a temporary exception allows it: event {begun['event']}, granted by anna: the key leaked"
    forged = {"id": "forged", "user_agent": f"event {begun['event']}, granted", "reason": "lets the tag move"}
    await record.append(push(Outcome.OVERWRITTEN, tag="1.4", id="used", reason=why, actor="release-bot"))
    await record.append(push(Outcome.OVERWRITTEN, tag="1.4", **forged))
    found = await (await closed_console.get("/api/v1/exceptions")).json()
    assert [use["event"] for use in found["exceptions"][0]["used"]] == ["used"]
    assert [(row["state"], [use["actor"] for use in row["used"]]) for row in found["history"]] == [
        ("in force", ["release-bot"])
    ]


async def test_a_grant_is_ended_by_what_came_next_however_much_came_after_it(
    console: Console, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = now() - 3_600_000
    grants = [
        push(Outcome.GRANTED, action=Action.EXCEPTION, id=f"g{each}", actor=f"a{each}", time=start + each)
        for each in range(120)
    ]
    await seed(grants)
    history, cursor = list[Any](), ""
    for _ in range(2):
        found = await (await console.get("/api/v1/exceptions", params={"history_cursor": cursor})).json()
        history, cursor = history + found["history"], found["history_cursor"] or ""
    ended = [(row["event"], row["state"], row["ended_event"], row["ended_by"]) for row in history[::-1]]
    replaced = [(f"g{each}", "replaced", f"g{each + 1}", f"a{each + 1}") for each in range(119)]
    assert ended == [*replaced, ("g119", "ended", None, "")]
    monkeypatch.setattr(view, "MOST_LOOKED_AT", 1)  # what is not known is not guessed
    (*_, oldest) = (await (await console.get("/api/v1/exceptions", params={"limit": "70"})).json())["history"]
    assert (oldest["event"], oldest["state"], oldest["ended_event"]) == ("g50", "ended", None)


async def test_a_delete_is_allowed_by_form_and_its_use_is_shown(
    closed_console: Console, sources: Sources, store: Store, record: Record
) -> None:
    await log_in(closed_console, ADMINISTRATOR)
    answer = await send_form(closed_console, "/exceptions", {**WISH, "allows": "delete"})
    assert "may be deleted now" in await answer.text()
    granted = await sources.exceptions.of("team/app", "1.4")
    assert granted is not None
    assert granted.allows is Allows.DELETE
    why = f"a temporary exception allows it: event {granted.event}, granted by anna: the key leaked"
    deleted: dict[str, Any] = {"digest": digest("one"), "reason": f"its tags may be deleted: 1.4; {why}"}
    await Projector(store).sweep()
    await record.append(push(Outcome.DELETED, action=Action.DELETE_MANIFEST, tag="", id="used", **deleted))
    await record.append(push(Outcome.DELETED, action=Action.DELETE_TAG, tag="1.4", id="too", reason=why))
    found = await (await closed_console.get("/api/v1/exceptions")).json()
    for row in (found["exceptions"][0], found["history"][0]):
        assert (row["allows"], row["reason"], [use["event"] for use in row["used"]]) == (
            "delete", "the key leaked", ["too", "used"],
        )  # fmt: skip
    tag = await (await closed_console.get("/repositories/team/app/tags/1.4")).text()
    assert "A delete is allowed" in tag


async def test_a_name_that_nobody_knows_is_asked_about_and_leaves_no_phantom(
    closed_console: Console, sources: Sources, store: Store, record: Record
) -> None:
    await log_in(closed_console, ADMINISTRATOR)
    await record.append(push(tag="1.0"))
    for tag in ("typo/app:1.0", "team/app:l.0"):
        await closed_console.post("/api/v1/exceptions", json=WISH | {"tag": tag})
    await Projector(store).sweep()

    async def asked(path: str) -> Any:
        return await (await closed_console.get(f"/api/v1/{path}")).json()

    found = await asked("exceptions")
    assert all("is the name right?" in each["unknown"] for each in found["exceptions"])
    assert "is the name right?" in await (await closed_console.get("/exceptions")).text()
    listed = (await asked("repositories"))["repositories"]
    assert [(row["repository"], row["tags"], row["events"]) for row in listed] == [("team/app", 1, 2)]
    assert [row["tag"] for row in (await asked("repositories/team/app"))["tags"]] == ["1.0"]
    for search in ("repo:typo/*", "repo:typo/app", "repo:team/app tag:l*"):
        events = (await asked(f"events?q={quote(search)}"))["events"]
        assert [event["action"] for event in events] == ["exception"], search
    await record.append(push(repository="typo/app", tag="1.0"))
    assert len((await asked("repositories"))["repositories"]) == 2


async def test_what_an_exception_alone_named_is_forgotten_with_its_events(store: Store) -> None:
    event, record = push(Outcome.GRANTED, action=Action.EXCEPTION, repository="typo/app", tag="1.0"), Record(store)
    async with followed(store, None) as found:

        async def known(*names: str) -> bool:
            return {each.value for each in await found.audit.ask(views.known_values, "repo")} == set(names)

        await record.append(event)
        await record.append(push(time=event.time + 1))
        await found.until(lambda: known("team/app", "typo/app"))
        async for _ in prune(store, event.time + 1):
            pass
        await found.until(lambda: known("team/app"))


async def test_a_refused_delete_leads_an_administrator_to_the_form(
    closed_console: Console, sources: Sources, record: Record
) -> None:
    await record.append(push(Outcome.REFUSED, action=Action.DELETE_TAG, id="no", digest=digest("two")))
    await log_in(closed_console, ADMINISTRATOR)
    page = await (await closed_console.get("/events/no")).text()
    assert f"/exceptions?tag=team/app:1.0&amp;digest={digest('two')}&amp;allows=delete#allow" in page
    form = await (await closed_console.get("/exceptions?tag=team/app:1.0&allows=delete")).text()
    assert '<option value="delete" selected>' in form


async def test_one_whose_time_is_over_is_not_in_force(closed_console: Console, sources: Sources, store: Store) -> None:
    await log_in(closed_console, ADMINISTRATOR)
    await closed_console.post("/api/v1/exceptions", json=WISH | {"for": "1ms"})
    await Projector(store).sweep()
    found = await (await closed_console.get("/api/v1/exceptions")).json()
    assert (found["in_force"], found["exceptions"]) == (0, [])
    assert [row["state"] for row in found["history"]] == ["ended"]


async def test_a_refused_event_leads_an_administrator_to_the_form(
    closed_console: Console, sources: Sources, record: Record
) -> None:
    await record.append(push(Outcome.REFUSED, id="no", digest=digest("two")))
    await log_in(closed_console, VIEWER)
    assert "Allow an overwrite" not in await (await closed_console.get("/events/no")).text()
    closed_console.session.cookie_jar.clear()
    await log_in(closed_console, ADMINISTRATOR)
    page = await (await closed_console.get("/events/no")).text()
    assert f"/exceptions?tag=team/app:1.0&amp;digest={digest('two')}#allow" in page
    form = await (await closed_console.get(f"/exceptions?tag=team/app:1.0&digest={digest('two')}")).text()
    assert 'value="team/app:1.0"' in form
    assert f'value="{digest("two")}"' in form
