"""Reading what is given on the command line; each raises `click.BadParameter`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import click

from immuproxy.allow import permission
from immuproxy.oci import names
from immuproxy.values.durations import parse_duration

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_duration(text: str) -> int:
    """``30m`` in milliseconds; raises `click.BadParameter`."""
    with fitting():
        return permission.read_duration(text)


def read_repository(text: str) -> str:
    """A repository name, without host and tag; raises `click.BadParameter`."""
    if not names.is_repository(text):
        named, _, tag = text.rpartition(":")
        hint = "; leave out the tag" if names.is_repository(named) and names.is_tag(tag) else ""
        raise click.BadParameter(names.repository_fault(text) + hint, param_hint="REPO")
    return text


def read_digest(text: str) -> str:
    """A whole digest; raises `click.BadParameter`."""
    with fitting():
        return permission.read_digest(text)


def split_reference(text: str, *, tag_needed: bool) -> tuple[str, str]:
    """``repo:tag``, or ``repo`` alone where that is allowed (the tag is empty then); raises `click.BadParameter`."""
    hint = "REPO:TAG" if tag_needed else "REPO[:TAG]"
    if tag_needed or ":" in text:
        with fitting(hint):
            return permission.read_reference(text)
    if not names.is_repository(text):
        raise click.BadParameter(names.repository_fault(text), param_hint=hint)
    return text, ""


@contextmanager
def fitting(hint: str | None = None) -> Iterator[None]:
    """Turn what is unfit for an exception into wrong usage; ``hint`` names the argument."""
    try:
        yield
    except permission.UnfitError as error:
        raise click.BadParameter(str(error), param_hint=hint) from None


def read_moment(text: str, now_ms: int, option: str) -> int:
    """A duration back from now (``90d``) or a date (``2026-01-31``), in milliseconds since 1970 UTC.

    Raises `click.BadParameter` that names ``option``, also for a time that is still to come.
    """
    try:
        at = now_ms - parse_duration(text)
    except ValueError:
        at = _date(text, option)
    if at > now_ms:
        raise click.BadParameter(f"{text!r} is still to come", param_hint=option)
    return max(0, at)


def _date(text: str, option: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a duration back from now (90d, 24h) nor a date (2026-01-31, 2026-01-31T18:00Z)",
            param_hint=option,
        ) from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)
