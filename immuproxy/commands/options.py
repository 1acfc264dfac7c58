"""What the commands share on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from immuproxy.oci import names
from immuproxy.values import format_duration, parse_duration

DEFAULT_FILE = "immuproxy.yml"
SETTINGS = {"help_option_names": ["-h", "--help"]}
EXAMPLE_TAG = "such as team/app:1.4"

LONGEST_MS = 30 * 86_400_000
"""Thirty days: what is to last longer belongs into the rules."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_F = TypeVar("_F", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(("\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)))


def config_option(command: _F) -> _F:
    """``--config FILE``, given to the command as ``path``."""
    return click.option(
        "--config",
        "path",
        metavar="FILE",
        type=click.Path(path_type=Path),
        default=Path(DEFAULT_FILE),
        envvar="IMMUPROXY_CONFIG",
        show_default=True,
        show_envvar=True,
        help="The configuration file.",
    )(command)


def json_option(text: str) -> Callable[[_F], _F]:
    """``--json``, given to the command as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help=text)


def rate_option(default: int) -> Callable[[_F], _F]:
    """``--rate N``: requests for manifests and blobs a second."""
    return click.option(
        "--rate",
        type=click.FloatRange(min=0.1, max=10_000),
        default=default,
        show_default=True,
        help="Questions to the upstream in a second, at most.",
    )


def read_duration(text: str) -> int:
    """``30m`` in milliseconds; raises `click.BadParameter`."""
    try:
        lasts = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not 0 < lasts <= LONGEST_MS:
        raise click.BadParameter(f"it is at most {format_duration(LONGEST_MS)}; for longer, change the rules")
    return lasts


def read_repository(text: str) -> str:
    """A repository name, without host and tag; raises `click.BadParameter`."""
    if not names.is_repository(text):
        raise click.BadParameter(_repository_fault(text))
    return text


def read_digest(text: str) -> str:
    """A whole digest; raises `click.BadParameter`."""
    if not names.is_digest(text):
        raise click.BadParameter(f"{text!r} is no digest; it is sha256: and 64 of the characters 0-9 and a-f")
    return text


def split_reference(text: str, *, tag_needed: bool) -> tuple[str, str]:
    """``repo:tag``, or ``repo`` alone where that is allowed (the tag is empty then); raises `click.BadParameter`."""
    hint = "REPO:TAG" if tag_needed else "REPO[:TAG]"
    repository, colon, tag = text.rpartition(":")
    if not colon and not tag_needed:
        repository, tag = text, ""
    elif not colon or "@" in text:
        raise click.BadParameter(f"write it as REPOSITORY:TAG, {EXAMPLE_TAG}", param_hint=hint)
    if not names.is_repository(repository):
        raise click.BadParameter(_repository_fault(repository), param_hint=hint)
    if colon and not names.is_tag(tag):
        raise click.BadParameter(f"{tag!r} is no tag", param_hint=hint)
    return repository, tag


def _repository_fault(text: str) -> str:
    hint = "; leave out the host" if re.match(r"[^/]*[.:][^/]*/|localhost/", text) else ""
    return f"{text!r} is no repository{hint}"


def read_moment(text: str, now_ms: int) -> int:
    """A duration back from now (``90d``) or a date (``2026-01-31``), in milliseconds since 1970 UTC.

    Raises `click.BadParameter`, also for a time that is still to come.
    """
    try:
        at = now_ms - parse_duration(text)
    except ValueError:
        at = _date(text)
    if at > now_ms:
        raise click.BadParameter(f"{text!r} is still to come")
    return max(0, at)


def _date(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a duration back from now (90d, 24h) nor a date (2026-01-31, 2026-01-31T18:00Z)"
        ) from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)
