"""What somebody must say to allow one tag to be overwritten or deleted for a while, wherever they say it.  Pure.

Every mistake is an `UnfitError` that names the part at fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from immuproxy.allow.exceptions import Allows, Exemption
from immuproxy.ledger.model import Event, Outcome, TagRecord
from immuproxy.oci import names
from immuproxy.rules.model import Rule
from immuproxy.rules.problems import one_of
from immuproxy.values.durations import format_duration, parse_duration

LONGEST_MS = 30 * 86_400_000
"""Thirty days: what is to last longer belongs into the rules."""

MAX_REASON = 500
"""Characters."""


_T = TypeVar("_T")


class UnfitError(ValueError):
    """A part that cannot be used: ``part`` is tag, for, reason, digest or allows."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """What somebody wants to allow: of which tag, for how long (ms), why, of which digest (empty: of any), and whether
    its overwrite or its delete.
    """

    repository: str
    tag: str
    lasts_ms: int
    reason: str
    digest: str = ""
    allows: Allows = Allows.OVERWRITE


def read_parts(typed: Mapping[str, str]) -> tuple[PermissionRequest | None, dict[str, str]]:
    """A wish from ``tag`` (repository:tag), ``for``, ``reason``, ``digest`` (empty: any) and ``allows`` (empty: an
    overwrite), or what is wrong with each part that is.
    """
    errors: dict[str, str] = {}

    def part(name: str, read: Callable[[str], _T], otherwise: _T) -> _T:
        try:
            return read(typed.get(name, "").strip())
        except UnfitError as error:
            errors[name] = str(error)
            return otherwise

    repository, tag = part("tag", read_reference, ("", ""))
    lasts, reason = part("for", read_duration, 0), part("reason", read_reason, "")
    digest = part("digest", read_digest, "") if typed.get("digest", "").strip() else ""
    allows = part("allows", read_allows, Allows.OVERWRITE)
    return (None if errors else PermissionRequest(repository, tag, lasts, reason, digest, allows)), errors


def read_reference(text: str) -> tuple[str, str]:
    """``repository:tag``."""
    try:
        return names.parse_tag(text)
    except ValueError as error:
        raise UnfitError("tag", str(error)) from None


def read_duration(text: str) -> int:
    """``30m`` in milliseconds."""
    try:
        lasts = parse_duration(text)
    except ValueError as error:
        raise UnfitError("for", str(error)) from None
    if not 0 < lasts <= LONGEST_MS:
        raise UnfitError("for", f"it is at most {format_duration(LONGEST_MS)}; for longer, change the rules")
    return lasts


def read_digest(text: str) -> str:
    """A whole digest."""
    if not names.is_digest(text):
        raise UnfitError("digest", f"{text!r} is no digest; it is sha256: and 64 of the characters 0-9 and a-f")
    return text


def read_reason(text: str) -> str:
    """One line of text."""
    if not text.strip():
        raise UnfitError("reason", "say in a few words why")
    if len(text) > MAX_REASON or not text.isprintable():
        raise UnfitError("reason", f"it is one line of at most {MAX_REASON} characters")
    return text


def read_allows(text: str) -> Allows:
    """``overwrite``, as nothing at all does, or ``delete``."""
    try:
        return Allows(text or Allows.OVERWRITE)
    except ValueError:
        raise UnfitError("allows", f"{text!r} is not known here; it is {one_of(Allows)}") from None


def granting(event: Event, rule: Rule) -> Event:
    """The event of a grant, with the rule that holds the tag."""
    return replace(event, rule=rule.name, rule_line=rule.line)


def needless(rule: Rule, repository: str, tag: str, allows: Allows = Allows.OVERWRITE) -> str:
    """What to say where the tag may be overwritten, or deleted, anyway; empty where it may not."""
    if not rule.protects:
        done = "overwritten" if allows is Allows.OVERWRITE else "deleted"
        return f"{rule} does not hold {repository}:{tag}, so it may be {done} without an exception"
    if allows is Allows.DELETE and rule.delete_allowed:
        return f"{rule} lets {repository}:{tag} be deleted without an exception"
    return ""


def unknown(rule: Rule, found: TagRecord) -> str:
    """What to ask where nothing is known of a tag that the rule would hold; empty where something is."""
    if not rule.protects or found.committed or found.tombstone or found.claim:
        return ""
    return f"nobody has pushed or imported {found.repository}:{found.tag} yet; is the name right?"


def ending(event: Event, exemption: Exemption) -> Event:
    """The event of an end by hand; its reason is that of the grant where none is given."""
    reason = event.reason or f"ended by hand: {exemption.reason}"
    return replace(event, outcome=Outcome.ENDED, digest=exemption.digest, reason=reason)
