"""What the audit promises and does not hold yet.  `NOT_YET` is the one place to switch a rule of the checker on."""

from __future__ import annotations

from enum import StrEnum


class Promise(StrEnum):
    UNKNOWN = "what became of a push to a moving tag, or of a delete, is told as `unknown` where nobody can know it"
    MOVING_ORDER = "pushes of one moving tag through one proxy are told in the order in which the registry took them"
    UNCHANGED_ORDER = "`unchanged` is told of what the tag held at that place of its story"
    PLATFORMS = "a single image has its platform"


NOT_YET: frozenset[Promise] = frozenset()
"""Delete from here what holds by now."""
