"""The steps that run in Redis: each room's Lua scripts, ready to be called by name.

Read once, at import, because reading a file blocks the loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

_ROOMS: Mapping[str, tuple[str, ...]] = {
    "store": ("store",),
    "ledger": ("store", "ledger"),
    "allow": ("store", "ledger"),
    "audit": (),
}
"""Rooms with ``scripts/``, and the rooms whose ``_common.lua`` stands in front of each of them."""

_COMMON = "_common.lua"
_WHOLE = "#!lua\n"
"""The first line makes Redis refuse a script whole where it has no memory left (H70)."""


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic step.

    ``sha``: SHA-1 of ``text``, in hexadecimal digits.  ``decides``: what it writes may decide what a tag holds, so it
    must not be written where Redis may forget it; the scripts of the record decide nothing.
    """

    text: str
    sha: str
    decides: bool


def _of_room(room: str, common: tuple[str, ...]) -> Iterator[tuple[str, Script]]:
    package = files("immuproxy")
    head = "".join(package.joinpath(each, "scripts", _COMMON).read_text() for each in common)
    for file in package.joinpath(room, "scripts").iterdir():
        if file.name.endswith(".lua") and file.name != _COMMON:
            text = (_WHOLE if common else "") + head + file.read_text()
            sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            yield file.name.removesuffix(".lua"), Script(text, sha, decides=bool(common))


SCRIPTS: Mapping[str, Script] = dict(each for room, common in _ROOMS.items() for each in _of_room(room, common))
"""By name, without ``.lua``; no two rooms have the same."""
