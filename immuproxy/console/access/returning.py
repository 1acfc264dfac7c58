"""Where to go after a log-in: only ever to a page of the console.  PURE."""

from __future__ import annotations

import re
from urllib.parse import quote

LONGEST = 2_000
HOME = "/"

_SEGMENT = r"[A-Za-z0-9._~!$&'()*+,;=:@%-]+"
_LOCAL = re.compile(rf"/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?\[\]|{{}}^`-]*)?", re.ASCII)


def is_local(target: str) -> bool:
    """Whether a browser takes ``target`` for a path on this host, however it reads it.

    No empty segment (``//elsewhere``), no backslash, nothing that a browser strips (tabs and line breaks).  Taking dot
    segments out of what is left cannot make an empty one.
    """
    return len(target) <= LONGEST and _LOCAL.fullmatch(target) is not None


def local_or_home(target: str) -> str:
    """The target where it is local, else the first page."""
    return target if is_local(target) else HOME


def log_in_url(target: str) -> str:
    """The log-in page, which leads back to ``target``."""
    if target == HOME or not is_local(target):
        return "/log-in"
    return f"/log-in?next={quote(target, safe='/')}"
