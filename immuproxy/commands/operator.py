"""Who answers for what a command changes: the actor of its events."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

MAX_NAME = 100
"""Characters."""

_NUMBER = re.compile(r"(uid\s*)?[+-]?\d+", re.IGNORECASE)
_F = TypeVar("_F", bound=Callable[..., Any])


def as_option(command: _F) -> _F:
    """``--as NAME``, given to the command as ``name``."""
    text = "Who you are, for the audit; without it the caller of sudo, or the operating system's user."
    return click.option("--as", "name", metavar="NAME", help=text)(command)


def operator(given: str | None) -> str:
    """The name that the audit keeps: ``given``, else who called sudo, else the user of the operating system.

    Nobody checks it: whoever may run a command can write to the ledger anyway.  Raises `click.BadParameter` for what
    names nobody, such as the number alone by which a container knows its user.
    """
    name = (given if given is not None else os.environ.get("SUDO_USER") or _login()).strip()
    if not name or len(name) > MAX_NAME or not name.isprintable() or _NUMBER.fullmatch(name):
        said = f"{name!r} does not name a person" if name else "that does not name a person"
        raise click.BadParameter(f"{said}; say who you are with --as NAME", param_hint="--as")
    return name


def _login() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
