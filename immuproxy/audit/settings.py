"""The section ``audit`` of the configuration file."""

from __future__ import annotations

from immuproxy.settings import FilePath, Settings


class AuditSettings(Settings):
    """``index``: the folder of the audit's index; None keeps it in memory, the newest events only."""

    index: FilePath | None = None
