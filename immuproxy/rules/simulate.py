"""What another file would have said to past pushes.

The past is replayed tag by tag: where the other rules would have refused a push that went through, later pushes of
that tag are judged against the digest that would have stayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from immuproxy.rules.decide import decide_delete, decide_push
from immuproxy.rules.model import Decision, Held, PushFacts, Rule, RuleSet, Verdict


class Request(StrEnum):
    PUSH = "push"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A push or delete of a tag as the audit has it, oldest first when replayed.

    ``was`` is the verdict of that time.  ``before`` is what the tag held just before, None for nothing.
    ``permitted`` has the words of the temporary exception that allowed it then, None for none.
    ``content_known``: the push's image and ``before`` carry their entries and labels; the audit alone does not have
    them.
    """

    event: str
    push: PushFacts
    was: Verdict
    before: Held | None = None
    request: Request = Request.PUSH
    permitted: str | None = None
    content_known: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """A verdict that would change.  ``uncertain`` says why the new one may be wrong; empty where it is certain."""

    recorded: Recorded
    now: Verdict
    uncertain: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        push = self.recorded.push
        return {
            "event": self.recorded.event,
            "time": push.now_ms,
            "request": self.recorded.request.value,
            "repository": push.repository,
            "tag": push.tag,
            "digest": push.image.digest,
            "actor": push.user,
            "was": _verdict_dict(self.recorded.was),
            "now": _verdict_dict(self.now),
            "uncertain": self.uncertain,
        }


def _verdict_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome.value,
        "rule": verdict.rule,
        "line": verdict.line,
        "reason": verdict.reason,
        "shadow": verdict.shadow,
    }


@dataclass(slots=True)
class _Tag:
    """What a tag would mean under the other rules."""

    held: Held | None
    deleted: Held | None = None


class Simulation:
    """Judges recorded requests anew, one after the other, oldest first.

    Keeps one small value per tag seen.  An exception that allowed a request then allows it again; one that was in force
    and not used is not known.
    """

    def __init__(self, rules: RuleSet) -> None:
        """``rules``: the file to try."""
        self._rules = rules
        self._tags: dict[tuple[str, str], _Tag] = {}

    def judge(self, recorded: Recorded) -> Difference | None:
        """What changes for this request: its outcome or its shadow mark; None where nothing does."""
        key = (recorded.push.repository, recorded.push.tag)
        tag = self._tags.setdefault(key, _Tag(recorded.before))
        rule = self._rules.match(*key)
        uncertain = _uncertain(rule, recorded, tag)
        now = _judge(rule, recorded, tag)
        _apply(recorded, tag, now)
        if (now.outcome, now.shadow) == (recorded.was.outcome, recorded.was.shadow):
            return None
        return Difference(recorded, now, uncertain)


def simulate(rules: RuleSet, records: Iterable[Recorded]) -> Iterator[Difference]:
    """Judge recorded requests anew, oldest first; yields those of which something changes."""
    simulation = Simulation(rules)
    return (found for recorded in records if (found := simulation.judge(recorded)))


def _judge(rule: Rule, recorded: Recorded, tag: _Tag) -> Verdict:
    push = recorded.push
    if recorded.request is Request.DELETE:
        return decide_delete(rule, repository=push.repository, tag=push.tag, permitted=recorded.permitted)
    return decide_push(rule, push, tag.held, deleted=tag.deleted, permitted=recorded.permitted)


def _apply(recorded: Recorded, tag: _Tag, verdict: Verdict) -> None:
    """Move the tag on as the verdict says; `Held.since_ms` stays that of the first push."""
    push = recorded.push
    match verdict.outcome:
        case Decision.CREATE:
            tag.held, tag.deleted = Held(push.image, push.now_ms, push.user or ""), None
        case Decision.OVERWRITE:
            since = tag.held.since_ms if tag.held else push.now_ms
            tag.held = Held(push.image, since, push.user or "")
        case Decision.DELETE:
            tag.deleted = tag.held or tag.deleted
            tag.held = None
        case Decision.UNCHANGED | Decision.REFUSE:
            pass


def _uncertain(rule: Rule, recorded: Recorded, tag: _Tag) -> str:
    changes = tag.held is not None and tag.held.image.digest != recorded.push.image.digest
    if recorded.content_known or recorded.request is Request.DELETE or not changes:
        return ""
    if rule.needs_entries:
        return "what the manifests list is not recorded"
    return "the labels of the images are not recorded" if rule.needs_labels else ""
