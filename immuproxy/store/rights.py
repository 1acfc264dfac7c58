"""What the proxy's user of Redis must be allowed, in words (H98).  Pure.

`scripts/rights.lua` tries it; a user that may run all commands on the keys ``immuproxy:*`` lacks nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_COMMAND = re.compile(r"run the '([A-Za-z|]+)' command")
_MANY = 10


def missing(commands: Sequence[str]) -> str:
    """The sentence about commands that were tried; where nothing at all is allowed, it is the keys."""
    if len(commands) > _MANY:
        return "the proxy's user of Redis may not use the keys immuproxy:*"
    return f"the proxy's user of Redis may not run {', '.join(commands)}, or this Redis does not know it"


def lacking(refusal: str) -> str:
    """The sentence about a refusal of Redis (NOPERM), without the name of the user."""
    found = _COMMAND.search(refusal)
    if found:
        return f"the proxy's user of Redis may not run {found[1].upper()}"
    return "the proxy's user of Redis may not use the keys immuproxy:*"
