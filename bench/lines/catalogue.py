"""All lines by the name with which one is asked for, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.lines import blobs, fresh, ledger, manifests, rules
from bench.measure import Line
from bench.scene import Scene

LINES: Mapping[str, Callable[[Scene], Line]] = {
    "download": blobs.download,
    "upload": blobs.upload,
    "get-tag": manifests.get_by_tag,
    "get-digest": manifests.get_by_digest,
    "head": manifests.head_by_tag,
    "push-1": manifests.push_one_by_one,
    "push-8": manifests.push_by_eight,
    "refused": manifests.refused,
    "repeated": manifests.repeated,
    "memory-idle": fresh.idle,
    "memory-stalled": fresh.with_stalled_readers,
    "memory-reading": fresh.with_readers,
    "start": fresh.start,
    "rules": rules.matching,
    "redis-bytes": ledger.bytes_of_a_tag,
}
