"""Why a digest may not go: which tag needs it, and the rule that holds that tag; for a message that one can act on."""

from __future__ import annotations

from dataclasses import dataclass

from immuproxy.ledger.register import Register
from immuproxy.rules.model import Rule, RuleSet

SOME_TAG = "a protected tag needs it"
"""Where the tag is not found soon: the pins count those who need a digest, and do not name them."""

MOST_HOLDERS = 100
"""Tags that are matched with the rules, where all of them hold the digest."""


@dataclass(frozen=True, slots=True)
class Needed:
    """``reason`` is one line; ``tag`` is empty and ``rule`` None where it is not known who needs the digest."""

    reason: str = SOME_TAG
    tag: str = ""
    rule: Rule | None = None


async def by_whom(register: Register, rules: RuleSet, repository: str, digest: str) -> Needed:
    """Who needs a digest that is pinned: of the tags that hold it one that may not be deleted, else any that needs it.

    Of many holders only some are looked at.
    """
    holders = await register.holders.of(repository, digest, limit=MOST_HOLDERS)
    kept = (tag for tag in holders if not _may_go(rules.match(repository, tag)))
    tag = next(kept, "") or await register.holders.needing(repository, digest)
    if not tag:
        return Needed()
    rule = rules.match(repository, tag)
    return Needed(_reason(rule, f"tag {repository}:{tag} needs it"), tag, rule)


def _may_go(rule: Rule) -> bool:
    return rule.delete_allowed or not rule.protects


def _reason(rule: Rule, needs: str) -> str:
    if not rule.protects:
        return f"{needs}, from when it was protected; {rule} lets it move, so push or delete that tag first"
    if rule.delete_allowed:
        return f"{needs}, and {rule} is {rule.policy}; it allows deletes, so delete that tag first"
    return f"{needs}, and {rule} is {rule.policy}"
