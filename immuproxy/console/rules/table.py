"""The rules page: the file in force, which rule holds what, and explanations.  PURE."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from immuproxy.console.sources import RulesInForce
from immuproxy.rules.explain import Explanation
from immuproxy.rules.model import Mode, Rule


@dataclass(frozen=True, slots=True)
class Count:
    """Tags and repositories by the name of the rule that decides about them, by the rules with this digest, at a time
    (ms).
    """

    rules: str
    at: int
    tags: Counter[str] = field(default_factory=Counter)
    repositories: Counter[str] = field(default_factory=Counter)


SECRET_MARK = "(not shown)"  # noqa: S105  # what stands in the place of one


_IN_ADDRESS = re.compile(r"(://)[^/@\s]*@")
_IN_SETTING = re.compile(r"(\b(?:password|token|secret|key_password)\s*:\s*)[^\s,}#][^,}#]*")


def shown_lines(text: str) -> list[str]:
    """The file's lines, without the passwords that may stand in its addresses and settings."""
    return [_without_secret(line) for line in text.splitlines()]


def _without_secret(line: str) -> str:
    line = _IN_ADDRESS.sub(rf"\1{SECRET_MARK}@", line)
    return _IN_SETTING.sub(rf"\1{SECRET_MARK}", line)


def rule_dict(rule: Rule, verdicts: Mapping[str, int], held: Count | None) -> dict[str, Any]:
    """One rule as people read it; ``verdicts`` counts events by the rule's name, ``held`` tags and repositories."""
    return {
        "name": rule.name,
        "line": rule.line,
        "policy": rule.policy.value,
        "shadow": rule.mode is Mode.SHADOW,
        "repositories": list(rule.repositories.texts),
        "tags": list(rule.tags.texts),
        "overwrite": [condition.describe() for condition in rule.overwrite],
        "delete": "allow" if rule.delete_allowed else "deny",
        "reuse": "allow" if rule.reuse_allowed else "never",
        "verdicts": verdicts.get(rule.name, 0),
        "holds": None if held is None else {"tags": held.tags[rule.name], "repositories": held.repositories[rule.name]},
    }


def rules_context(in_force: RulesInForce, verdicts: Mapping[str, int], held: Count | None) -> dict[str, Any]:
    """The file in force and its rules, in order, the default last; ``verdicts`` of the last week.

    ``held``: the last count of tags and repositories; None while they are being counted.
    """
    rules = (*in_force.rules.rules, in_force.rules.default)
    return {
        "file": in_force.to_dict(),
        "lines": shown_lines(in_force.text),
        "rules": [rule_dict(rule, verdicts, held) for rule in rules],
        "counted": held.at if held else None,
    }


def explanation_context(found: Explanation) -> dict[str, Any]:
    """Why a tag is judged as it is."""
    return {"explanation": found.to_dict()}
