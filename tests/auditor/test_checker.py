"""The checker itself: a right audit passes, and each kind of wrong one is found and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from tests.auditor.checker import violations
from tests.auditor.evidence import evidence, places
from tests.auditor.recording import Content, Flaw, Grant, Moment, Recording, Request, Sender
from tests.auditor.views import Views, as_row, differences
from tests.invariants.world import Write

NOW = 1_700_000_000.0
CI = Sender("ci", "basic", confirmed=True, address="127.0.0.2")
ONE = Content("sha256:one", "application/vnd.oci.image.manifest.v1+json", 100, ("linux/amd64",))
TWO = replace(ONE, digest="sha256:two")


def at(seconds: float) -> Moment:
    return Moment(seconds, NOW + seconds)


def push(number: int, tag: str, content: Content, status: int = 201, **more: Any) -> Request:
    """Begins in the second of its number and lasts half of one."""
    made = Request(
        name=f"docker {number}",
        method="PUT",
        kind="manifests",
        repository="app",
        reference=tag,
        tags=(tag,),
        sender=CI,
        proxy=number % 2,
        began=at(number),
        ended=at(number + 0.5),
        status=status,
        content=content,
        request_id=f"r{number}" if status else "",
    )
    return replace(made, **more)


def delete(number: int, reference: str, status: int = 202, tags: tuple[str, ...] = ()) -> Request:
    return replace(push(number, reference, ONE, status), method="DELETE", tags=tags, content=None)


def told(request: Request, outcome: str, tag: str | None = None, **more: Any) -> Event:
    """The event of a request as it should be."""
    content = request.content or Content("", "", 0)
    put = request.method == "PUT"
    number = int(request.name.split()[1])
    tag = (request.tags or ("",))[0] if tag is None else tag
    made = Event(
        id=f"e{number}{tag}",
        action=Action(request.action),
        outcome=Outcome(outcome),
        time=round((request.began.wall + 0.4) * 1000),
        repository=request.repository,
        tag=tag,
        digest=content.digest if put else request.reference,
        media_type=content.media_type,
        size=content.size if put else None,
        platforms=content.platforms,
        rule={"v": "default", "o": "overwritten", "m": "moving", "d": "mortal", "r": "reused"}.get(tag[:1], ""),
        actor=request.sender.actor,
        actor_source=ActorSource(request.sender.actor_source),
        actor_confirmed=request.sender.confirmed,
        client_address=request.sender.address,
        user_agent=request.name,
        request_id=f"r{number}",
        duration_ms=400,
    )
    return replace(made, **more)


def sent(request: Request, reference: str = "", *, status: int = 201) -> Write:
    """What its proxy sent to the registry, a tenth of a second after it came."""
    reference = reference or request.reference
    digest = request.content.digest if request.content else reference
    began = request.began.steady + 0.1
    return Write(began, request.method, request.name, "app", reference, digest, status, began + 0.1)


REFUSAL = {
    "code": "DENIED",
    "detail": {
        "tag": "v1",
        "rule": "default",
        "event": "e2v1",
        "current_digest": ONE.digest,
        "pushed_digest": TWO.digest,
    },
}
FIRST = push(1, "v1", ONE)
REFUSED = push(2, "v1", TWO, 409, error=REFUSAL)
AGAIN = push(3, "v1", ONE)
EMPTY = push(4, "v1", ONE, 400, flaw=Flaw.EMPTY)
STRANGER = push(5, "v1", ONE, 401, flaw=Flaw.STRANGER)
MOVED = push(6, "m1", ONE)
MOVED_ON = push(8, "m1", TWO)
GONE = delete(10, TWO.digest)
LOST = push(11, "m2", TWO, 0)
OVER = push(12, "o1", ONE)
OVERWRITER = push(13, "o1", TWO)
SEVERAL = push(14, ONE.digest, ONE, tags=("v2", "m3"))
BY_DIGEST = push(15, ONE.digest, ONE, tags=())
LACKING = push(16, "v3", ONE, 400)
NO_DELETE = replace(delete(17, "v1", 405, ("v1",)), error={"detail": {"event": "e17v1", "rule": "default"}})
GRANT = Grant("g1", "app", "x1", 18.0, 20.0, sure=True)

REQUESTS = (
    *(FIRST, REFUSED, AGAIN, EMPTY, STRANGER, MOVED, MOVED_ON, GONE, LOST, OVER, OVERWRITER, SEVERAL),
    *(BY_DIGEST, LACKING, NO_DELETE),
)
WRITES = (
    *(sent(FIRST), sent(MOVED), sent(MOVED_ON), sent(GONE, status=202), sent(OVER), sent(OVERWRITER)),
    *(sent(SEVERAL, "v2"), sent(SEVERAL, "m3"), sent(BY_DIGEST), sent(LACKING, status=400)),
)
UNREAD: dict[str, Any] = {"digest": "", "media_type": "", "size": None, "platforms": ()}
OWN: dict[str, Any] = {"user_agent": "", "actor_source": ActorSource.PROXY, "repository": "app"}
EVENTS = (
    told(FIRST, "created"),
    told(REFUSED, "refused", previous_digest=ONE.digest),
    told(AGAIN, "unchanged", previous_digest=ONE.digest),
    told(EMPTY, "failed", **UNREAD),
    told(MOVED, "created"),
    told(MOVED_ON, "overwritten", previous_digest=ONE.digest),
    told(GONE, "deleted"),
    told(GONE, "deleted", "m1", action=Action.DELETE_TAG),
    told(OVER, "created"),
    told(OVERWRITER, "overwritten", previous_digest=ONE.digest),
    told(SEVERAL, "created", "v2"),
    told(SEVERAL, "created", "m3"),
    told(BY_DIGEST, "created"),
    told(LACKING, "failed"),
    told(NO_DELETE, "refused", digest=ONE.digest),
    Event(id="g1", action=Action.EXCEPTION, outcome=Outcome.GRANTED, tag="x1", **OWN),
    Event(id="rules", action=Action.RULES, outcome=Outcome.LOADED, **(OWN | {"repository": ""})),
)
HELD = {("app", "v1"): ONE.digest, ("app", "o1"): TWO.digest, ("app", "v2"): ONE.digest, ("app", "v3"): ""}
RIGHT = Recording(REQUESTS, WRITES, (GRANT,), HELD)

Change = Callable[[list[Event]], object]


def found(
    change: Change = lambda _: None,
    recording: Recording = RIGHT,
) -> list[str]:
    events = list(EVENTS)
    change(events)
    return violations(recording, events)


def with_writes(*writes: Write, without: Sequence[Write] = ()) -> Recording:
    return replace(RIGHT, writes=(*(write for write in WRITES if write not in without), *writes))


def with_requests(*requests: Request) -> Recording:
    return replace(RIGHT, requests=(*REQUESTS, *requests))


def place(event_id: str) -> int:
    return next(at for at, event in enumerate(EVENTS) if event.id == event_id)


def set_to(event_id: str, **values: Any) -> Change:
    def change(events: list[Event]) -> None:
        at = next(at for at, event in enumerate(events) if event.id == event_id)
        events[at] = replace(events[at], **values)

    return change


def dropped(event_id: str) -> Change:
    return lambda events: events.pop(place(event_id))


def added(*more: Event) -> Change:
    return lambda events: events.extend(more)


def swapped(one: str, other: str) -> Change:
    def change(events: list[Event]) -> None:
        events[place(one)], events[place(other)] = events[place(other)], events[place(one)]

    return change


def test_a_right_audit_passes() -> None:
    assert found() == []


def test_an_unanswered_push_may_be_told_as_it_ended() -> None:
    arrived = with_writes(sent(LOST))
    assert found(added(told(LOST, "created", duration_ms=None)), arrived) == []
    unsure = with_writes(sent(LOST, status=0))
    assert found(added(told(LOST, "failed")), unsure) == []


def test_who_takes_over_an_interrupted_push_is_told_beside_it() -> None:
    cut_off, after = push(20, "v9", ONE, 0), push(21, "v9", ONE)
    recording = replace(with_requests(cut_off, after), writes=(*WRITES, sent(cut_off)))
    assert found(added(told(cut_off, "failed"), told(after, "created")), recording) == []


SAID_WRONG: dict[str, dict[str, Any]] = {
    "actor": {"actor": "somebody"},
    "actor_source": {"actor_source": ActorSource.TOKEN},
    "actor_confirmed": {"actor_confirmed": False},
    "client_address": {"client_address": "10.0.0.1"},
    "request_id": {"request_id": "r99"},
    "repository": {"repository": "web"},
    "digest": {"digest": TWO.digest},
    "media_type": {"media_type": "text/plain"},
    "size": {"size": 99},
    "platforms": {"platforms": ()},
    "rule": {"rule": "moving"},
    "time": {"time": round((NOW + 2) * 1000)},
    "duration_ms": {"duration_ms": 60_000},
}


@pytest.mark.parametrize("field", SAID_WRONG)
def test_each_field_is_compared(field: str) -> None:
    wrong = found(set_to("e1v1", **SAID_WRONG[field]))
    assert any(problem.startswith(f"{field}: e1v1") for problem in wrong), wrong


WRONG: dict[str, tuple[str, Change, Recording]] = {
    "an event is missing": ("count: docker 1 ", dropped("e1v1"), RIGHT),
    "of one of several tags": ("count: docker 14 ", dropped("e14m3"), RIGHT),
    "of a manifest by digest": ("count: docker 15 ", dropped("e15"), RIGHT),
    "of a refusal": ("count: docker 2 ", dropped("e2v1"), RIGHT),
    "of an empty push": ("count: docker 4 ", dropped("e4v1"), RIGHT),
    "of what the registry did not take": ("count: docker 16 ", dropped("e16v3"), RIGHT),
    "of a delete": ("count: docker 10 ", dropped("e10"), RIGHT),
    "of a refused delete": ("count: docker 17 ", dropped("e17v1"), RIGHT),
    "of an exception": ("count: exception g1", dropped("g1"), RIGHT),
    "of an unanswered push that went on": ("count: docker 11 ", lambda _: None, with_writes(sent(LOST, status=0))),
    "an event too many": ("count: docker 1 ", added(told(FIRST, "unchanged", id="more")), RIGHT),
    "a failure too many": ("count: docker 1 ", added(told(FIRST, "failed", id="more")), RIGHT),
    "of another tag": ("count: docker 1 ", added(told(FIRST, "created", "v7")), RIGHT),
    "of a stranger": ("count: docker 5 ", added(told(STRANGER, "failed")), RIGHT),
    "the same event twice": ("twice: event e1v1", lambda events: events.append(events[0]), RIGHT),
    "an event of nobody": ("nobody's", added(told(push(99, "v1", ONE), "unchanged")), RIGHT),
    "an adoption": (
        "nobody's",
        added(Event(id="a", action=Action.ADOPT, outcome=Outcome.ADOPTED, tag="v8", **OWN)),
        RIGHT,
    ),
    "an exception of nobody": (
        "nobody's: nobody granted",
        added(Event(id="g2", action=Action.EXCEPTION, outcome=Outcome.GRANTED, tag="x1", **OWN)),
        RIGHT,
    ),
    "an exception that ends twice": (
        "count: 2 exceptions",
        added(*(Event(id=i, action=Action.EXCEPTION, outcome=Outcome.ENDED, tag="x1", **OWN) for i in ("n1", "n2"))),
        RIGHT,
    ),
    "a success told as a failure": ("count: docker 1 ", set_to("e1v1", outcome=Outcome.FAILED), RIGHT),
    "a refusal told as a success": ("count: docker 2 ", set_to("e2v1", outcome=Outcome.UNCHANGED), RIGHT),
    "a delete told as a failure": ("count: docker 10 ", set_to("e10", outcome=Outcome.FAILED), RIGHT),
    "a refusal by another event than the answer's": ("id: other", set_to("e2v1", id="other"), RIGHT),
    "a refusal of another digest": ("previous_digest: e2v1", set_to("e2v1", previous_digest=TWO.digest), RIGHT),
    "one request id for two": (
        "request_id: r1 ",
        lambda _: None,
        with_requests(push(90, "v1", ONE, 503, request_id="r1")),
    ),
    "two request ids for one": (
        "request_id: events of docker 14",
        set_to("e14m3", request_id="r99"),
        RIGHT,
    ),
    "created out of nothing": ("story: docker 1 ", lambda _: None, with_writes(without=[sent(FIRST)])),
    "a moving push that was never sent": ("story: docker 6 ", lambda _: None, with_writes(without=[sent(MOVED)])),
    "told as failed and taken": ("story: docker 11 ", added(told(LOST, "failed")), with_writes(sent(LOST))),
    "told by another's push of the same": (
        "story: docker 11 ",
        added(told(LOST, "overwritten", previous_digest=TWO.digest)),
        with_requests(),
    ),
    "a refusal that the registry took": ("story: docker 2 ", lambda _: None, with_writes(sent(REFUSED))),
    "a delete that was never sent": (
        "story: docker 10 ",
        lambda _: None,
        with_writes(without=[sent(GONE, status=202)]),
    ),
    "a refused delete that went through": (
        "story: docker 17 ",
        lambda _: None,
        with_writes(sent(NO_DELETE, status=202)),
    ),
    "an overwrite of what was not there": (
        "previous_digest: e13o1",
        set_to("e13o1", previous_digest="sha256:x"),
        RIGHT,
    ),
    "a second beginning": ("previous_digest: e13o1", set_to("e13o1", outcome=Outcome.CREATED), RIGHT),
    "an overwrite told before what it overwrote": ("order: e12o1", swapped("e12o1", "e13o1"), RIGHT),
    "unchanged, of something else": (
        "order: e3v1",
        set_to("e3v1", digest=TWO.digest, previous_digest=TWO.digest),
        RIGHT,
    ),
    "a moving tag's order": (
        "order: e6m1",
        swapped("e6m1", "e8m1"),
        RIGHT,
    ),
    "a moving tag held something else": ("previous_digest: e8m1", set_to("e8m1", previous_digest="sha256:x"), RIGHT),
    "a moving tag held something": (
        "previous_digest: e8m1",
        set_to("e8m1", outcome=Outcome.CREATED, previous_digest=""),
        RIGHT,
    ),
    "a moving tag's own digest before": ("previous_digest: e8m1", set_to("e8m1", outcome=Outcome.UNCHANGED), RIGHT),
    "a reader got something else": (
        "end: the audit",
        lambda _: None,
        replace(RIGHT, finally_held=HELD | {("app", "v1"): TWO.digest}),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_each_wrong_audit_is_found(what: str) -> None:
    begins, change, recording = WRONG[what]
    wrong = found(change, recording)
    assert any(problem.startswith(begins) for problem in wrong), wrong


def test_a_delete_in_a_repository_of_which_nobody_knows_leaves_nothing() -> None:
    early = replace(delete(0, TWO.digest, 404), repository="web")
    assert found(recording=with_requests(early)) == []
    late = replace(early, repository="app", name="docker 40", began=at(40), ended=at(41))
    assert any(problem.startswith("count: docker 40") for problem in found(recording=with_requests(late)))


def test_what_changes_nothing_may_have_come_by_another() -> None:
    again = push(20, "m1", TWO)
    recording = with_requests(again)
    event = told(again, "unchanged", previous_digest=TWO.digest)
    assert not any(problem.startswith("story") for problem in found(added(event), recording))


def test_the_time_of_day_may_be_set_in_the_middle_of_a_request() -> None:
    odd = replace(FIRST, ended=Moment(FIRST.ended.steady, FIRST.ended.wall + 3600))
    recording = replace(RIGHT, requests=(odd, *REQUESTS[1:]))
    assert found(set_to("e1v1", time=round((NOW + 3600) * 1000)), recording) == []


def test_two_racing_overwrites_through_one_proxy_name_different_digests() -> None:
    """The later one came while the earlier one was under way."""
    third = replace(push(20, "m1", replace(ONE, digest="sha256:three")), began=at(8.0), ended=at(9.0))
    write = replace(sent(third), time=8.4, ended=8.5)
    racing = replace(with_requests(third), writes=(*WRITES, write))
    again = told(third, "overwritten", previous_digest=ONE.digest)
    assert any(problem.startswith("previous_digest: e20m1") for problem in found(added(again), racing))
    right = replace(again, previous_digest=TWO.digest)
    assert not any(problem.startswith("previous_digest") for problem in found(added(right), racing))


def calm_pushes(*, proxy: int = 0) -> list[Request]:
    """Of one image whose config tells its platform, one after the other; the second through some proxy."""
    content = replace(ONE, digest="sha256:single", by_config=True)
    return [push(30, "m30", content, proxy=0), push(32, "m32", content, proxy=proxy)]


@pytest.mark.parametrize(
    ("calm", "proxy", "named", "wrong"),
    [
        (inf, 0, (), False),
        (30.0, 1, (), False),
        (30.0, 0, (), True),
        (30.0, 0, ("linux/amd64",), False),
        (inf, 0, ("linux/arm64",), True),
    ],
    ids=["while things break", "another proxy has read it", "it has read it", "it names it", "it names another"],
)
def test_the_platform_of_a_single_image(calm: float, proxy: int, named: tuple[str, ...], wrong: bool) -> None:
    one, other = calm_pushes(proxy=proxy)
    recording = replace(with_requests(one, other), writes=(*WRITES, sent(one), sent(other)), calm=calm)
    events = added(told(one, "created", platforms=()), told(other, "created", platforms=named))
    assert any(problem.startswith("platforms: e32") for problem in found(events, recording)) is wrong


def test_a_write_that_lands_after_its_answer_is_out_of_the_order() -> None:
    again, after = push(20, "m1", TWO), push(22, "m1", ONE)
    late = replace(sent(again), time=24.0, ended=24.1)
    recording = replace(with_requests(again, after), writes=(*WRITES, late, sent(after)))
    events = added(
        told(again, "unchanged", previous_digest=TWO.digest), told(after, "overwritten", previous_digest=TWO.digest)
    )
    assert found(events, recording) == []


def test_a_refusal_is_told_before_the_overwrite_of_what_it_names() -> None:
    error = {"detail": REFUSAL["detail"] | {"tag": "o1", "rule": "overwritten", "event": "e20o1"}}  # type: ignore[operator]
    refused = push(20, "o1", replace(TWO, digest="sha256:three"), 409, error=error)
    event = told(refused, "refused", previous_digest=ONE.digest, rule="overwritten")
    assert any(problem.startswith("order: e20o1") for problem in found(added(event), with_requests(refused)))


LINES = [event.to_dict() for event in reversed(EVENTS)]
PAGES = {
    where: [line for line in LINES if (line["repository"], line["tag"]) == where]
    for where in {(line["repository"], line["tag"]) for line in LINES if line["tag"]}
}
SAME = Views(LINES, LINES, [as_row(line) for line in LINES], [LINES[::-1]], PAGES)


def test_views_that_show_the_same_pass() -> None:
    assert list(differences(SAME)) == []


@pytest.mark.parametrize(
    ("begins", "views"),
    [
        ("view: jsonl lacks 1", replace(SAME, lines=LINES[1:])),
        ("view: csv lacks 1", replace(SAME, rows=SAME.rows[:-1])),
        ("view: csv differs at 0", replace(SAME, rows=[{**SAME.rows[0], "size": "7"}, *SAME.rows[1:]])),
        ("view: tail 0 lacks 0 [] and has 1", replace(SAME, tailed=[[*LINES[::-1], LINES[0]]])),
        ("view: tail 0 differs at 0", replace(SAME, tailed=[LINES])),
        ("view: tag page app:v1 lacks", replace(SAME, pages=PAGES | {("app", "v1"): []})),
        ("view: tag page app:v9", replace(SAME, pages=PAGES | {("app", "v9"): LINES[:1]})),
    ],
)
def test_views_that_show_something_else_are_found(begins: str, views: Views) -> None:
    assert any(problem.startswith(begins) for problem in differences(views)), list(differences(views))


def test_what_a_spreadsheet_would_run_is_text() -> None:
    assert as_row({"actor": "=cmd", "tag": "a", "size": None, "shadow": True})["actor"] == "'=cmd"


def test_what_is_wrong_is_printed_with_all_that_explains_it() -> None:
    """The recording is gone when the run is over."""
    events = list(EVENTS)
    set_to("e1v1", outcome=Outcome.FAILED)(events)
    (violation, *_) = [problem for problem in violations(RIGHT, events) if problem.startswith("count: docker 1 ")]
    lines = list(
        evidence(violation, RIGHT, events, [(at(0).steady, "registry killed")], {("app", "v1"): "200 sha256:x"})
    )
    assert lines[0].startswith("app:v1: the registry shows 200 sha256:x, readers got ")
    told = "\n".join(lines)
    for name in ("request: {'name': 'docker 1'", "'sender': 'docker 1'", "'id': 'e1v1'", "fault: registry killed"):
        assert name in told, name
    assert "docker 6" not in told, "that is another tag"
    assert all(float(line.split()[0]) >= -10 for line in lines[1:])


@pytest.mark.parametrize("violation", ["story: docker 1 to v1", "time: e1v1 of somebody", "end: something (app:v1)"])
def test_a_tag_is_found_by_its_request_its_event_and_its_name(violation: str) -> None:
    assert places(violation, RIGHT, EVENTS) == {("app", "v1")}
