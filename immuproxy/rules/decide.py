"""Rule + push + what the tag holds -> verdict.

Reasons are one line each and fit both the audit and a client's terminal; text that a client chose is cut and cleaned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from immuproxy.rules.model import Decision, Held, Image, Mode, OverwriteCondition, Policy, PushFacts, Rule, Verdict
from immuproxy.rules.patterns import PatternList
from immuproxy.rules.problems import one_of
from immuproxy.values.durations import format_duration, roughly
from immuproxy.values.networks import parse_address
from immuproxy.values.text import MAX_SHOWN

_SHOWN = 60
_DIGEST = 80
_NAMED = 3

BY_EXCEPTION = "a temporary exception allows it: "
"""How the reason begins where an exception decided."""

CHILD_FIRST = (
    "the tag holds one of the platforms of this index: the client pushed a platform's manifest to the tag before "
    "the index; use a client that pushes platforms by digest (docker buildx 0.22 or newer)"
)
"""The cause that old clients leave behind (H19); the remedy is the client's, the tag stays."""


def decide_push(
    rule: Rule, push: PushFacts, held: Held | None, *, deleted: Held | None = None, permitted: str | None = None
) -> Verdict:
    """Judge a push of a tag by the rule that matched it.

    ``held``: what the tag means now.  ``deleted``: what it meant when it was deleted, where that is remembered.
    ``permitted``: the text of a temporary exception in force for this tag and digest; it is used only where the rule
    alone would refuse.
    """
    verdict = _judge(rule, push, held, deleted)
    if verdict.allowed:
        return verdict
    goes_on = Decision.CREATE if held is None else Decision.OVERWRITE
    return _softened(rule, verdict, goes_on, permitted)


def decide_delete(rule: Rule, *, repository: str, tag: str, permitted: str | None = None) -> Verdict:
    """Judge a delete of a tag by the rule that matched it; allowed is `Decision.DELETE`."""
    if rule.delete_allowed:
        stays = rule.protects and not rule.reuse_allowed
        after = "; the name stays taken afterwards" if stays else ""
        return _verdict(rule, Decision.DELETE, f"{rule} allows deletes{after}")
    refused = _verdict(rule, Decision.REFUSE, f"{rule} is {rule.policy}: {repository}:{tag} cannot be deleted")
    return _softened(rule, refused, Decision.DELETE, permitted)


def _verdict(rule: Rule, outcome: Decision, reason: str, *, shadow: bool = False) -> Verdict:
    return Verdict(outcome, reason, rule.name, rule.line, shadow)


def _softened(rule: Rule, refused: Verdict, goes_on: Decision, permitted: str | None) -> Verdict:
    """A refusal, or what shadow mode or an exception makes of it."""
    if rule.mode is Mode.SHADOW:
        return _verdict(rule, goes_on, f"in shadow mode; would have been refused: {refused.reason}", shadow=True)
    if permitted is not None:
        return _verdict(rule, goes_on, f"{BY_EXCEPTION}{shown(permitted, 200)}")
    return refused


def _judge(rule: Rule, push: PushFacts, held: Held | None, deleted: Held | None) -> Verdict:
    if held is not None and held.image.digest == push.image.digest:
        return _verdict(rule, Decision.UNCHANGED, f"the tag already holds this digest ({rule})")
    if rule.policy is Policy.MUTABLE:
        outcome = Decision.CREATE if held is None else Decision.OVERWRITE
        return _verdict(rule, outcome, f"{rule} lets the tag move")
    if rule.policy is Policy.FROZEN:
        return _verdict(rule, Decision.REFUSE, f"{rule} is frozen: nothing new is accepted")
    return _judge_first(rule, deleted) if held is None else _judge_change(rule, push, held)


def _judge_first(rule: Rule, deleted: Held | None) -> Verdict:
    if deleted is None:
        return _verdict(rule, Decision.CREATE, f"the first push of the tag; {rule} is {rule.policy}")
    if rule.reuse_allowed:
        return _verdict(rule, Decision.CREATE, f"the tag was deleted, and {rule} allows its reuse")
    reason = f"the tag was deleted when it held {deleted.image.digest}, and {rule} does not let a name be used again"
    return _verdict(rule, Decision.REFUSE, reason)


def _judge_change(rule: Rule, push: PushFacts, held: Held) -> Verdict:
    change = CHANGES[rule.policy]
    obstacle = change.obstacle(held.image, push.image)
    if obstacle is None:
        reason = f"{rule} is {rule.policy}, and the new {push.image.kind} {change.taken}"
        return _verdict(rule, Decision.OVERWRITE, reason)
    failures = []
    for condition in rule.overwrite:
        failure = next(_failures(condition, push, held), None)
        if failure is None:
            return _verdict(rule, Decision.OVERWRITE, f"{rule} allows the overwrite: {condition.describe()}")
        failures.append(failure)
    parts = [f"{rule} is {rule.policy} and {obstacle}", _unmet(failures)]
    if not held.image.is_index and held.image.digest in push.image.entries:
        parts.append(CHILD_FIRST)
    return _verdict(rule, Decision.REFUSE, "; ".join(filter(None, parts)))


def _unmet(failures: list[str]) -> str:
    match failures:
        case []:
            return ""
        case [only]:
            return f"its overwrite condition does not hold: {only}"
        case _:
            numbered = ", ".join(f"({number}) {failure}" for number, failure in enumerate(failures, 1))
            return f"none of its overwrite conditions holds: {numbered}"


def _always(_old: Image, _new: Image) -> str:
    return "the tag already holds another digest"


def _lost_entries(old: Image, new: Image) -> str | None:
    if old.is_index != new.is_index:
        return f"the tag holds an {old.kind}, while the push is an {new.kind}"
    lost, changed = old.entries - new.entries, {line.partition(" ")[0] for line in old.descriptors - new.descriptors}
    for what, entries in (("drops", lost), ("changes", changed)):
        if entries:
            of = f"{len(entries)} of the {len(old.entries)} entries that the tag holds"
            return f"the new {new.kind} {what} {of} ({_first(sorted(entries))})"
    turned = sorted(platform for platform, digest in old.platforms.items() if new.platforms.get(platform) != digest)
    return f"the new index gives other content than before to {_first(turned)}" if turned else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a policy alone lets follow on the image that a tag holds.

    ``obstacle(old, new)`` says why the new image may not follow, None where it may; ``taken`` is said of one that may,
    and ``condition`` beforehand of any (empty: none may).  ``scope`` and ``advice`` end the message of a refusal.
    """

    obstacle: Callable[[Image, Image], str | None] = _always
    taken: str = ""
    condition: str = ""
    scope: str = ""
    advice: str = "Push it under a new tag; the digest that it holds would be accepted again"


CHANGES: Mapping[Policy, Change] = {
    Policy.IMMUTABLE: Change(),
    Policy.APPEND_ONLY: Change(
        obstacle=_lost_entries,
        taken="keeps every entry",
        condition="the new index (or image) keeps every entry of the old one",
        scope=" in what it lists already",
        advice="Push what keeps every entry that it holds, or use a new tag",
    ),
    Policy.FROZEN: Change(),
    Policy.MUTABLE: Change(obstacle=lambda _old, _new: None),
}
"""The policies where a tag holds something; what is frozen or mutable is decided before anybody looks at images."""


def _first(names: Sequence[str]) -> str:
    return ", ".join(shown(name, _DIGEST) for name in names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _failures(condition: OverwriteCondition, push: PushFacts, held: Held) -> Iterator[str]:
    """What keeps the condition from holding; nothing where it holds."""
    if condition.users:
        yield from _user_failure(condition.users, push)
    if condition.networks:
        yield from _network_failure(condition, push)
    if condition.within_ms is not None:
        yield from _time_failure(condition.within_ms, push, held)
    for key in condition.same:
        yield from _label_failure(key, held.image, push.image)


def _user_failure(users: PatternList, push: PushFacts) -> Iterator[str]:
    wanted = users.described(limit=_NAMED)
    if not push.user:
        yield f"the push names no user, it takes {wanted}"
    elif len(push.user) >= MAX_SHOWN:  # longer ones are cut where they are read, and a pattern may look at the end
        yield f"the user's name is too long, {MAX_SHOWN - 1} characters count at most"
    elif not users.matches(push.user):
        yield f"the user {shown(push.user)} is not {wanted}"
    elif not push.user_confirmed:
        yield f"the upstream has not confirmed that the user is {shown(push.user)}"


def _network_failure(condition: OverwriteCondition, push: PushFacts) -> Iterator[str]:
    address = parse_address(push.address) if push.address else None
    if address is None:
        yield "the client's address is not known"
    elif not any(address in network for network in condition.networks):
        yield f"the client {address} is not in {_few([str(network) for network in condition.networks])}"


def _time_failure(within_ms: int, push: PushFacts, held: Held) -> Iterator[str]:
    limit = format_duration(within_ms)
    if held.since_ms is None:
        yield f"nobody knows when the tag was first pushed, the limit is {limit}"
    elif push.now_ms < held.since_ms:  # a clock was ahead, and nobody knows for how long
        yield f"the first push is dated {roughly(held.since_ms - push.now_ms)} from now, so nobody knows when it was"
    elif push.now_ms - held.since_ms > within_ms:
        yield f"the first push was {roughly(push.now_ms - held.since_ms)} ago, the limit is {limit}"


def _label_failure(key: str, old: Image, new: Image) -> Iterator[str]:
    before, now = old.labels.get(key, ""), new.labels.get(key, "")
    if not before or not now:
        yield f"the {'old' if not before else 'new'} image carries no {key}"
    elif before != now:
        yield f'{key} was "{shown(before)}" and is "{shown(now)}"'


def _few(words: list[str]) -> str:
    return one_of(words) if len(words) <= _NAMED else f"{', '.join(words[:_NAMED])} or {len(words) - _NAMED} others"


def shown(text: str, limit: int = _SHOWN) -> str:
    """Text that somebody else chose, as one short line without control characters."""
    cut = text[: limit + 1]
    clean = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
    return clean if len(clean) <= limit else f"{clean[:limit]}..."
