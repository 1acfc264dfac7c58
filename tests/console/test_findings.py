from __future__ import annotations

import pytest

from immuproxy.console.drift.findings import OpenFinding, comparison_dict, drift_context, finding_dict, history_rows
from immuproxy.console.sources import ComparisonPace
from immuproxy.ledger.comparisons import Compared
from immuproxy.ledger.model import Action, Committed, Event, Finding, Outcome, TagRecord
from immuproxy.rules.document import load_rules
from tests.console.events import NOW, digest, push

RULES = load_rules("default: immutable\nrules: [{name: r, tags: [latest], policy: mutable}]\n", "r.yml")
HELD = Committed(digest("one"), 1, NOW, NOW)


def finding(seen: str = "", attempt: Event | None = None, *, tag: str = "1.0", held: bool = True) -> OpenFinding:
    record = TagRecord("team/app", tag, HELD if held else None)
    return OpenFinding("team/app", Finding(tag, seen, NOW), record, attempt)


def failed(reason: str) -> Event:
    return push(Outcome.FAILED, action=Action.REPAIR, reason=reason, time=NOW + 5)


def test_a_moved_tag_in_plain_words() -> None:
    told = finding_dict(finding(digest("two")), RULES)
    assert (told["kind"], told["seen"], told["held"]) == ("moved", digest("two"), digest("one"))
    assert "another image" in told["problem"]
    assert "still gets what the tag holds" in told["readers"]
    assert told["attempt"] is None
    assert "about to" in told["advice"]


def test_a_missing_one_needs_the_layers() -> None:
    told = finding_dict(finding(), RULES)
    assert (told["kind"], told["seen"]) == ("missing", "")
    assert "as long as the registry has its layers" in told["readers"]


def test_a_tag_that_may_move_now_is_answered_by_the_registry() -> None:
    assert "what the registry shows" in finding_dict(finding(digest("two"), tag="latest"), RULES)["readers"]


def test_a_tag_that_holds_nothing_any_more() -> None:
    told = finding_dict(finding(held=False), RULES)
    assert (told["held"], told["advice"]) == ("", "Nothing.")


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("the upstream answered 403: denied", "upstream.username"),
        ("the upstream answered 401: who", "upstream.username"),
        ("the upstream answered 405: no", "takes no pushes"),
        ("the ledger has no copy of the manifest", "Push the same image again"),
        ("the upstream answered 404: blob unknown", "immuproxy verify team/app"),
        (
            "the upstream took the manifest and still does not give it out, so its storage is damaged",
            "immuproxy verify",
        ),
    ],
)
def test_what_to_do_depends_on_why_it_could_not_be_repaired(reason: str, advice: str) -> None:
    told = finding_dict(finding(digest("two"), failed(reason)), RULES)
    assert advice in told["advice"]
    assert told["attempt"]["reason"] == reason


def test_the_history_says_how_long_each_finding_was_open() -> None:
    def told(action: Action, outcome: Outcome, time: int, tag: str = "1.0") -> Event:
        return push(outcome, action=action, time=NOW + time, tag=tag)

    rows = history_rows(
        [
            told(Action.REPAIR, Outcome.HEALED, 900),
            told(Action.DRIFT, Outcome.FOUND, 700, "2.0"),
            told(Action.REPAIR, Outcome.FAILED, 500),
            told(Action.DRIFT, Outcome.FOUND, 400),
            told(Action.REPAIR, Outcome.HEALED, 300),
            told(Action.DRIFT, Outcome.FOUND, 100),
        ]
    )
    assert [row["after_ms"] for row in rows] == [500, None, None, None, 200, None]


def test_how_far_the_comparison_is() -> None:
    told = comparison_dict(Compared(3, 2, 20, 10, "b"), ComparisonPace(600, 20))
    assert (told["repositories"], told["known"], told["oldest_repository"], told["every_seconds"]) == (2, 3, "b", 600)
    assert comparison_dict(Compared(0), None)["tags_a_second"] is None


def test_counts_and_cursors() -> None:
    context = drift_context(
        [finding()],
        counts={"a": 2, "b": 1},
        totals={"found": 5, "healed": 4, "refused": 9},
        history=[],
        rules=RULES,
        comparison={},
        cursors=("next", ""),
    )
    assert (context["open"], context["open_repositories"], context["found"], context["healed"]) == (3, 2, 5, 4)
    assert (context["next_cursor"], context["history_cursor"]) == ("next", None)
