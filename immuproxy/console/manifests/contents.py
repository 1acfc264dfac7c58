"""What the console reads of the registry itself, and in which form it gets it.  No I/O here.

The ledger keeps the manifests that held tags need.  Manifests of tags that move, and what an image says of itself (its
config), are only in the registry; whoever puts the console together may hand in a reader for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes that are what their digest says; or none, and in ``why_not`` a sentence that says why."""

    body: bytes = b""
    media_type: str = ""
    why_not: str = ""


class RegistryReader(Protocol):
    """Reads by digest only, within seconds and bounds of its own; never raises."""

    async def manifest(self, repository: str, digest: str) -> Bytes:
        """A manifest."""

    async def config(self, repository: str, digest: str) -> Bytes:
        """An image's config."""


class NoContents:
    """For a console that reads nothing of the registry."""

    async def manifest(self, _repository: str, _digest: str) -> Bytes:
        """None."""
        return Bytes(why_not="This console reads nothing from the registry.")

    async def config(self, _repository: str, _digest: str) -> Bytes:
        """None."""
        return Bytes(why_not="This console reads nothing from the registry.")
