"""Whether two files say the same rules.  PURE."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from typing import Any

from immuproxy.rules.model import RuleSet
from immuproxy.rules.patterns import PatternList

_OF_THE_FILE = frozenset({"line"})
"""Fields that say where something is written, not what it means."""


def fingerprint(rules: RuleSet) -> str:
    """``sha256:`` of the rules in order, the built-in one and the default among them.

    The same for files that differ in comments, spelling, order within a list, or whatever is no rule.
    """
    written = _written((rules.rules, rules.default))
    return f"sha256:{hashlib.sha256(written.encode(errors='surrogatepass')).hexdigest()}"


def _written(value: Any) -> str:
    if isinstance(value, PatternList):
        return repr(sorted(value.texts))
    if is_dataclass(value):
        meant = (one.name for one in fields(value) if one.compare and one.name not in _OF_THE_FILE)
        return "{" + ",".join(f"{name}={_written(getattr(value, name))}" for name in meant) + "}"
    if isinstance(value, frozenset):
        return "<" + ",".join(sorted(_written(item) for item in value)) + ">"
    if isinstance(value, tuple):
        return "[" + ",".join(_written(item) for item in value) + "]"
    return repr(value)
