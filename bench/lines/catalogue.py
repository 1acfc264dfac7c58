"""All lines by the name with which one is asked for, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.lines import blobs, fresh, ledger, pulls, pushes, rules
from bench.measure import Line
from bench.scene import Scene

LINES: Mapping[str, Callable[[Scene], Line]] = {
    "download": blobs.download,
    "upload": blobs.upload,
    "get-tag": pulls.get_by_tag,
    "get-digest": pulls.get_by_digest,
    "head": pulls.head_by_tag,
    "push-1": pushes.one_by_one,
    "push-8": pushes.by_eight,
    "refused": pushes.refused,
    "repeated": pushes.repeated,
    "memory-idle": fresh.idle,
    "memory-stalled": fresh.with_stalled_readers,
    "memory-reading": fresh.with_readers,
    "start": fresh.start,
    "rules": rules.matching,
    "redis-bytes": ledger.bytes_of_a_tag,
}
