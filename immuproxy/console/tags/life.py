"""A tag: what it holds, why, and how it came to.  PURE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from immuproxy.allow.exceptions import Exemption
from immuproxy.audit.values import EventPage, TagFacts
from immuproxy.console.drift.findings import OpenFinding, finding_dict
from immuproxy.console.manifests.referrers import about_of
from immuproxy.ledger.model import Action, Event, Outcome, TagRecord
from immuproxy.rules.explain import explain
from immuproxy.rules.model import Policy, RuleSet

HOLDS = {Outcome.CREATED, Outcome.OVERWRITTEN, Outcome.ADOPTED}
ENDS = {(Action.DELETE_TAG, Outcome.DELETED)}


@dataclass(frozen=True, slots=True)
class StateChip:
    """A tag's state in one word, with the tone and shape of its chip."""

    state: str
    tone: str
    shape: str


HELD = StateChip("held", "good", "pin")
MOVES = StateChip("moves", "calm", "cycle")
DELETED = StateChip("deleted", "warn", "minus")
FREE = StateChip("free", "calm", "dot")


def standing(record: TagRecord) -> StateChip:
    """The word for a tag's record; `FREE` where there is none."""
    if record.committed and record.claim:
        return StateChip("being overwritten", "warn", "cycle")
    if record.committed:
        return HELD
    if record.tombstone:
        return DELETED
    return StateChip("being pushed", "note", "in") if record.claim else FREE


def standing_of(record: TagRecord, facts: TagFacts) -> StateChip:
    """The word for a tag, also for one that the ledger does not hold."""
    word = standing(record)
    if word is not FREE:
        return word
    return DELETED if facts.gone else MOVES if facts.digest else FREE


def policy_of(rules: RuleSet, record: TagRecord) -> dict[str, Any]:
    """The rule that decides about the tag now, and what each kind of request that makes sense for it would meet."""
    found = explain(rules, record.repository, record.tag)
    beside_the_point = "first push" if record.committed else "push after a delete"
    return {
        "rule": found.rule.name,
        "line": found.rule.line,
        "policy": found.rule.policy.value,
        "mode": found.rule.mode.value,
        "sentence": f"{found.rule.policy.value} by {found.rule}",
        "answers": [
            {"request": answer.request, "outcome": answer.outcome, "text": answer.text}
            for answer in found.answers
            if answer.request != beside_the_point
        ],
    }


def spans(history: Iterable[Event], now: int) -> list[dict[str, Any]]:
    """The stretches during which the tag held one digest, oldest first; ``history`` in any order."""
    found: list[dict[str, Any]] = []
    for event in sorted(history, key=lambda event: (event.time, event.id)):
        holds, ends = event.outcome in HOLDS, (event.action, event.outcome) in ENDS
        if found and found[-1]["until"] is None and (holds or ends):
            if holds and found[-1]["digest"] == event.digest:
                continue
            found[-1]["until"] = event.time
        if holds and event.digest:
            found.append(
                {"digest": event.digest, "since": event.time, "until": None, "by": event.actor, "event": event.id}
            )
    return [span | {"until": now if span["until"] is None else span["until"]} for span in found]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a tag now; ``exemption`` may have run out."""

    record: TagRecord
    facts: TagFacts
    rules: RuleSet
    now: int
    drift: OpenFinding | None = None
    exemption: Exemption | None = None


_HELD = "The proxy answers with this digest, whatever the registry says."
_TAKEN = "The tag was deleted. Its name stays taken, so that it can never mean something else."
_COMING = "The first push of this tag is under way. Until it is done a pull finds nothing."
_MOVED = "The last digest pushed. The tag may move: a pull is answered by the registry."
_NOT_YET_HELD = (
    "The last digest pushed, when the tag could still move. The next pull or push takes what the registry shows into "
    "the ledger, and it is held from then on."
)
_MOVES = "The tag may move: a pull is answered by the registry."
_FREED = "The tag was deleted, and its name is free again."
_NEVER_SEEN = "The proxy has not seen this tag. A pull asks the registry, and what it finds is held from then on."


def digest_now(record: TagRecord, facts: TagFacts, policy: Policy) -> tuple[str, str]:
    """The digest a pull gets, empty where nobody can say, and why."""
    if record.committed:
        return record.committed.digest, _HELD
    if record.tombstone or record.claim:
        return "", _TAKEN if record.tombstone else _COMING
    moves = policy is Policy.MUTABLE
    if facts.digest:
        return facts.digest, _MOVED if moves else _NOT_YET_HELD
    if facts.gone:
        return "", _FREED
    return "", _MOVES if moves else _NEVER_SEEN


def _life_sentence(held: Sequence[dict[str, Any]], refused: Sequence[int]) -> str:
    digests = len({span["digest"] for span in held})
    return (
        f"The tag has held {digests or 'no'} digest{'' if digests == 1 else 's'}; "
        f"{len(refused) or 'no'} attempt{' was' if len(refused) == 1 else 's were'} refused."
    )


def life(drawn: EventPage, now: int) -> dict[str, Any]:
    """What is drawn of a tag's life; ``drawn_all`` is false when there is, or may be, more before it."""
    held = spans(drawn.events, now)
    refused = sorted(event.time for event in drawn.events if event.outcome is Outcome.REFUSED)
    return {
        "spans": held,
        "refused_times": refused,
        "drawn": len(drawn.events),
        "drawn_all": drawn.complete and not drawn.next_cursor,
        "life_sentence": _life_sentence(held, refused),
    }


_CHANGES = frozenset({Outcome.CREATED, Outcome.OVERWRITTEN, Outcome.ADOPTED})


def _told(event: Event) -> dict[str, Any]:
    """An event with the digest that it can be compared with: what the tag held before it changed."""
    changed = event.outcome in _CHANGES and event.previous_digest not in {"", event.digest}
    return event.to_dict() | {"compare_with": event.previous_digest if changed and event.digest else None}


def tag_context(known: Known, history: EventPage, drawn: EventPage | None) -> dict[str, Any]:
    """``history``: a page of the tag's events, newest first; ``drawn``: the newest, or None on a page of older ones."""
    record = known.record
    policy = known.rules.match(record.repository, record.tag).policy
    digest, why = digest_now(record, known.facts, policy)
    word = standing_of(record, known.facts)
    return {
        "repository": record.repository,
        "tag": record.tag,
        "state": word.state,
        "tone": word.tone,
        "shape": word.shape,
        "digest": digest,
        "why": why,
        "policy": policy_of(known.rules, record),
        **_committed(record, known.facts if digest else None),
        "deleted": record.tombstone.deleted if record.tombstone else None,
        "about": about_of(record.tag),
        "drift": finding_dict(known.drift, known.rules) if known.drift else None,
        "exception": _in_force(known),
        "life": life(drawn, known.now) if drawn else None,
        "history": [_told(event) for event in history.events],
        "next_cursor": history.next_cursor or None,
        "now": known.now,
    }


def _in_force(known: Known) -> dict[str, Any] | None:
    """The exception that allows an overwrite now."""
    exemption = known.exemption
    return exemption.to_dict() if exemption and exemption.ends > known.now else None


def _committed(record: TagRecord, facts: TagFacts | None) -> dict[str, Any]:
    """What the ledger holds, or else what the last push of a tag that moves set."""
    held = record.committed
    moved = facts if held is None else None
    return {
        "generation": record.generation,
        "overwrites": held.overwrites if held else 0,
        "since": held.since if held else (moved.changed if moved else None),
        "by": held.by if held else (moved.by if moved else ""),
        "first": held.first if held else None,
        "first_by": held.first_by if held else "",
        "first_adopted": held.first_adopted if held else False,
        "rule": held.rule if held else "",
        "event": held.event if held else "",
        "media_type": held.media_type if held else "",
        "size": held.size if held else None,
        "platforms": list(held.platforms) if held else [],
    }
