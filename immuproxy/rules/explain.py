"""Which rules were tried for a tag, which one decides, and what it means for whoever pushes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from immuproxy.rules.decide import CHANGES, decide_delete, decide_push
from immuproxy.rules.model import (
    DEFAULT,
    Decision,
    Held,
    Image,
    Mode,
    OverwriteCondition,
    Policy,
    PushFacts,
    Rule,
    RuleSet,
    Verdict,
)
from immuproxy.values.durations import format_duration
from immuproxy.values.networks import parse_address

_SHOWN_RULES = 20

_ONE = Image("sha256:" + "1" * 64, "application/vnd.oci.image.manifest.v1+json")
_OUTCOMES = {
    Decision.CREATE: "accepted",
    Decision.OVERWRITE: "accepted",
    Decision.UNCHANGED: "accepted",
    Decision.DELETE: "accepted",
    Decision.REFUSE: "refused",
}
DEPENDS = "depends"
"""The outcome where it is not known beforehand: see the text."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One rule that was looked at; ``why`` says what took the tag in or left it out."""

    rule: str
    line: int
    matched: bool
    why: str


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a request would get: ``outcome`` is accepted, refused or `DEPENDS`."""

    request: str
    outcome: str
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is to be said about one tag.  ``tried`` ends with the rule that decides."""

    repository: str
    tag: str
    rule: Rule
    tried: tuple[Tried, ...]
    answers: tuple[Foreseen, ...]
    source: str
    user: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "repository": self.repository,
            "tag": self.tag,
            "user": self.user,
            "source": self.source,
            "rule": self.rule.name,
            "line": self.rule.line,
            "policy": self.rule.policy.value,
            "mode": self.rule.mode.value,
            "protected": self.rule.protects,
            "tried": [asdict(tried) for tried in self.tried],
            "answers": [asdict(answer) for answer in self.answers],
        }

    def lines(self) -> Iterator[str]:
        """The same for a person to read."""
        yield f"{self.repository}:{self.tag} is decided by {self.rule} of {self.source}: {_kind(self.rule)}"
        yield ""
        hidden = max(len(self.tried) - _SHOWN_RULES, 0)
        if hidden:
            yield f"  ({hidden} rules before do not match)"
        for tried in self.tried[hidden:]:
            place = f"line {tried.line}" if tried.line else "built in"
            yield f"  {'=>' if tried.matched else '  '} {tried.rule} ({place}): {tried.why}"
        yield ""
        for answer in self.answers:
            yield f"  {answer.request}: {answer.outcome}; {answer.text}"


def _kind(rule: Rule) -> str:
    return f"{rule.policy}, in shadow mode: nothing is refused" if rule.mode is Mode.SHADOW else str(rule.policy)


def explain(
    rules: RuleSet, repository: str, tag: str, *, user: str | None = None, address: str | None = None
) -> Explanation:
    """Explain a tag.

    ``user`` (taken to be confirmed by the upstream) and ``address`` narrow down which overwrite conditions can hold.
    """
    rule = rules.match(repository, tag)
    return Explanation(
        repository=repository,
        tag=tag,
        rule=rule,
        tried=tuple(_tried(rules, rule, repository, tag)),
        answers=tuple(_answers(rule, repository, tag, user, address)),
        source=rules.source or "the rules",
        user=user,
    )


def _tried(rules: RuleSet, decides: Rule, repository: str, tag: str) -> Iterator[Tried]:
    for rule in rules.rules:
        if rule is decides:
            yield Tried(rule.name, rule.line, matched=True, why=_why(rule))
            return
        reasons = (("repository", rule.repositories.why_not(repository)), ("tag", rule.tags.why_not(tag)))
        why = " and ".join(f"the {what} {reason}" for what, reason in reasons if reason)
        yield Tried(rule.name, rule.line, matched=False, why=why)
    yield Tried(DEFAULT, decides.line, matched=True, why="no rule matches")


def _why(rule: Rule) -> str:
    parts = [
        f"{what} {', '.join(patterns.texts)}"
        for what, patterns in (("repositories", rule.repositories), ("tags", rule.tags))
        if patterns.patterns
    ]
    return f"matches {' and '.join(parts)}" if parts else "matches everything"


def _answers(rule: Rule, repository: str, tag: str, user: str | None, address: str | None) -> Iterator[Foreseen]:
    held = Held(_ONE, since_ms=0)
    push = PushFacts(
        repository=repository, tag=tag, image=_ONE, user=user, user_confirmed=bool(user), address=address, now_ms=0
    )
    yield _answer("first push", decide_push(rule, push, None))
    yield _answer("push of the digest it holds", decide_push(rule, push, held))
    yield _other_push(rule, user, address)
    yield _answer("delete", decide_delete(rule, repository=repository, tag=tag))
    if rule.delete_allowed and rule.protects:
        yield _answer("push after a delete", decide_push(rule, push, None, deleted=held))


def _answer(request: str, verdict: Verdict) -> Foreseen:
    return Foreseen(request, _OUTCOMES[verdict.outcome], verdict.reason)


def _other_push(rule: Rule, user: str | None, address: str | None) -> Foreseen:
    """A push of another digest.  What it gets may depend on things that only a real push shows."""
    request = "push of another digest"
    if rule.mode is Mode.SHADOW:
        return Foreseen(request, "accepted", f"{rule} is in shadow mode and only records what it would have refused")
    if rule.policy is Policy.MUTABLE:
        return Foreseen(request, "accepted", f"{rule} lets the tag move")
    if rule.policy is Policy.FROZEN:
        return Foreseen(request, "refused", f"{rule} is frozen: nothing new is accepted")
    possible = [condition for condition in rule.overwrite if _possible(condition, user, address)]
    ways = [_remaining(condition, user, address) for condition in possible]
    if "" in ways:
        return Foreseen(request, "accepted", f"{rule} allows the overwrite: {possible[ways.index('')].describe()}")
    ways = [*filter(None, [CHANGES[rule.policy].condition]), *ways]
    if ways:
        return Foreseen(request, DEPENDS, f"{rule} is {rule.policy}; accepted only if {', or if '.join(ways)}")
    why = (
        f"none of its overwrite conditions can hold for {user or address}" if rule.overwrite else "allows no overwrite"
    )
    return Foreseen(request, "refused", f"{rule} is {rule.policy} and {why}")


def _possible(condition: OverwriteCondition, user: str | None, address: str | None) -> bool:
    """Whether what is known leaves a chance for the condition."""
    if condition.users and user is not None and not condition.users.matches(user):
        return False
    return not (condition.networks and address is not None and not _inside(condition, address))


def _inside(condition: OverwriteCondition, address: str) -> bool:
    found = parse_address(address)
    return found is not None and any(found in network for network in condition.networks)


def _remaining(condition: OverwriteCondition, user: str | None, address: str | None) -> str:
    """What must hold beyond the user and the address that are given; empty if nothing."""
    open_parts = []
    if condition.users and user is None:
        open_parts.append(f"the user is {condition.users.described()}")
    if condition.networks and address is None:
        open_parts.append(f"the client is in {' or '.join(map(str, condition.networks))}")
    if condition.within_ms is not None:
        open_parts.append(f"the first push was no more than {format_duration(condition.within_ms)} ago")
    open_parts += [f"both images carry the same {key}" for key in condition.same]
    return " and ".join(open_parts)
