"""The label values that are known beforehand, for each metric with labels.

Other rooms own these words; a test holds this table against theirs.  What is missing here only appears later.
"""

from __future__ import annotations

from itertools import product

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

_READ = ("GET", "HEAD")
_READ_STATUSES = ("200", "401", "404", "503")
_ANSWERS = {
    ("base", _READ): _READ_STATUSES,
    ("catalog", _READ): _READ_STATUSES,
    ("tags", _READ): _READ_STATUSES,
    ("referrers", _READ): _READ_STATUSES,
    ("manifest", _READ): (*_READ_STATUSES, "304"),
    ("manifest", ("PUT",)): ("201", "400", "401", "409", "503"),
    ("manifest", ("DELETE",)): ("202", "401", "404", "405", "503"),
    ("blob", _READ): (*_READ_STATUSES, "206", "307"),
    ("blob", ("DELETE",)): ("202", "401", "404", "405", "503"),
    ("uploads", ("POST",)): ("201", "202", "401", "503"),
    ("upload", _READ): ("204", "401", "404", "503"),
    ("upload", ("PATCH",)): ("202", "401", "404", "503"),
    ("upload", ("PUT",)): ("201", "400", "401", "404", "503"),
    ("upload", ("DELETE",)): ("204", "401", "404", "503"),
    ("none", METHODS): ("400", "404", "405"),
}
REQUESTS = tuple((kind, *pair) for (kind, methods), statuses in _ANSWERS.items() for pair in product(methods, statuses))
KINDS = tuple(dict.fromkeys(kind for kind, _ in _ANSWERS))

_DELETES = ("delete-tag", "delete-manifest", "delete-blob")
_OUTCOMES = {
    ("push",): ("created", "overwritten", "unchanged", "refused", "failed", "unknown"),
    _DELETES: ("deleted", "refused", "missing", "failed", "unknown"),
    ("adopt",): ("adopted",),
    ("drift",): ("found",),
    ("repair",): ("healed", "failed", "ended"),
    ("exception",): ("granted", "ended"),
    ("rules",): ("loaded", "rejected"),
    ("log-in",): ("granted", "ended", "rejected"),
}
EVENTS = tuple(pair for actions, outcomes in _OUTCOMES.items() for pair in product(actions, outcomes))
SHADOW = tuple((action,) for action in ("push", *_DELETES))

COMPARED = (("agrees",), ("drifted",), ("unanswered",))
CLOCK_JUMPS = (("back",), ("ahead",))
RELOADS = (("loaded",), ("rejected",))
PARTS = (("redis",), ("upstream",))
READY = (("pulls",), ("pushes",))
SOURCES = (("memory",), ("upstream",))
POOLS = (("data",), ("control",))
