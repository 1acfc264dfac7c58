"""A tag: what it holds, why, and how it came to.  PURE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from immuproxy.ledger.model import Action, Event, Outcome, TagRecord
from immuproxy.rules.explain import explain
from immuproxy.rules.model import Policy, RuleSet

HOLDS = {Outcome.CREATED, Outcome.OVERWRITTEN, Outcome.ADOPTED}
ENDS = {(Action.DELETE_TAG, Outcome.DELETED)}


@dataclass(frozen=True, slots=True)
class Standing:
    """A tag's state in one word, with the tone and shape of its chip."""

    state: str
    tone: str
    shape: str


def standing(record: TagRecord) -> Standing:
    """The word for a tag's record."""
    if record.committed and record.claim:
        return Standing("being overwritten", "warn", "cycle")
    if record.committed:
        return Standing("held", "good", "pin")
    if record.tombstone:
        return Standing("deleted", "warn", "minus")
    if record.claim:
        return Standing("being pushed", "note", "in")
    return Standing("free", "calm", "dot")


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


def _digest_now(record: TagRecord, policy: Policy, held: Sequence[dict[str, Any]], now: int) -> tuple[str, str]:
    """The digest a pull gets, empty where nobody can say, and why."""
    if record.committed:
        return record.committed.digest, "The proxy answers with this digest, whatever the registry says."
    if record.tombstone:
        return "", "The tag was deleted. Its name stays taken, so that it can never mean something else."
    if record.claim:
        return "", "The first push of this tag is under way. Until it is done a pull finds nothing."
    if held and held[-1]["until"] == now:
        return str(held[-1]["digest"]), "The last digest pushed. The tag may move: a pull is answered by the registry."
    if policy is Policy.MUTABLE:
        return "", "The tag may move: a pull is answered by the registry."
    return "", "The proxy has not seen this tag. A pull asks the registry, and what it finds is held from then on."


def _life_sentence(held: Sequence[dict[str, Any]], refused: Sequence[int]) -> str:
    digests = len({span["digest"] for span in held})
    return (
        f"The tag has held {digests or 'no'} digest{'' if digests == 1 else 's'}; "
        f"{len(refused) or 'no'} attempt{' was' if len(refused) == 1 else 's were'} refused."
    )


def tag_context(record: TagRecord, rules: RuleSet, history: Sequence[Event], *, older: str, now: int) -> dict[str, Any]:
    """``history``: the tag's events, newest first; ``older``: the cursor of those before them."""
    held = spans(history, now)
    refused = sorted(event.time for event in history if event.outcome is Outcome.REFUSED)
    policy = rules.match(record.repository, record.tag).policy
    digest, why = _digest_now(record, policy, held, now)
    word = standing(record)
    return {
        "repository": record.repository,
        "tag": record.tag,
        "state": word.state,
        "tone": word.tone,
        "shape": word.shape,
        "digest": digest,
        "why": why,
        "policy": policy_of(rules, record),
        **_committed(record),
        "deleted": record.tombstone.deleted if record.tombstone else None,
        "spans": held,
        "held": list(dict.fromkeys(span["digest"] for span in held)),
        "refused_times": refused,
        "life_sentence": _life_sentence(held, refused),
        "history": [event.to_dict() for event in history],
        "next_cursor": older or None,
        "now": now,
    }


def _committed(record: TagRecord) -> dict[str, Any]:
    held = record.committed
    return {
        "generation": record.generation,
        "since": held.since if held else None,
        "by": held.by if held else "",
        "first": held.first if held else None,
        "first_by": held.first_by if held else "",
        "rule": held.rule if held else "",
        "event": held.event if held else "",
        "media_type": held.media_type if held else "",
        "size": held.size if held else None,
        "platforms": list(held.platforms) if held else [],
    }
