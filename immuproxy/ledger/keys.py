"""The names of the ledger's Redis keys.

All keys of one repository share the hash tag ``{<repository>}``, so each step of the protocol is one script on one
slot of a Redis cluster.  The record (`immuproxy.audit.record.keys`) shares ``{audit}``.  Repository names hold no
braces (specification grammar), and no repository's slot keys can be confused with the audit's, because the part after
the hash tag differs.

No key of a tag, pin, manifest or event ever carries a time to live (I12).  `compared`, which is only a hint, does.
"""

from __future__ import annotations

from immuproxy.store.keys import PREFIX

REPOSITORIES = PREFIX + "repositories"
"""Set of every repository that anything was ever written for; added before the first write of a repository."""

REPLICAS = PREFIX + "replicas"
"""Hash: id of a living proxy -> the rules file that it has, and when it last said so."""

_BESIDE_REPOSITORIES = f"{PREFIX}{{{REPOSITORIES}}}:"
"""Puts a key into the same slot of a cluster as `REPOSITORIES`."""

LINEAGE = _BESIDE_REPOSITORIES + "lineage"
"""Hash: ``names`` -> random names of the ledger, the newest first, one more for each loss that was noticed;
``lost`` -> when that was last (ms); ``history`` -> the server's when it was last known to have lost nothing;
``doubted`` -> when who could not know found a server with another one (ms).
"""

CLOCK = PREFIX + "{:clock}:clock"
"""Hash: the ledger's own time, which never goes back (H113); see ``scripts/clock.lua``.  No repository's, whose names
hold no colon.
"""

BEATS = _BESIDE_REPOSITORIES + "beats"
"""Sorted set: process -> its last beat, and ``counter`` -> the last of all; see `immuproxy.ledger.epoch`."""

DRIFTING = PREFIX + "drifting"
"""Sorted set: every repository that has an open finding of drift, and some that had; score = when one was last opened.

See `immuproxy.ledger.attention` for how it is kept.
"""

EXCEPTED = PREFIX + "excepted"
"""Sorted set: the same for exceptions that have not been ended."""

COMPARISONS = PREFIX + "comparisons"
"""Sorted set: repository, score = when all its tags were last compared with the upstream."""


def tag(repository: str, tag_name: str) -> str:
    """Hash: the record of one tag."""
    return f"{PREFIX}{{{repository}}}:tag:{tag_name}"


def tags(repository: str) -> str:
    """Sorted set: tag names with a record, score = time of the last commit."""
    return f"{PREFIX}{{{repository}}}:tags"


def holders(repository: str) -> str:
    """Sorted set: ``<digest> <tag>`` for each tag with a committed record, score 0; see `immuproxy.ledger.holders`."""
    return f"{PREFIX}{{{repository}}}:holders"


def floor(repository: str) -> str:
    """Counter: the highest generation of a tag whose record went without a tombstone (H102)."""
    return f"{PREFIX}{{{repository}}}:floor"


def late(repository: str) -> str:
    """Sorted set: ``<tag> <digest>`` of what a tag held or was to hold, and a PUT may still bring; score = when it can
    land no more (ms); see `immuproxy.ledger.late`.
    """
    return f"{PREFIX}{{{repository}}}:late"


def moving(repository: str) -> str:
    """Sorted set: ``<digest> <tag>`` for each tag that no rule holds and that was pushed through a proxy, score 0."""
    return f"{PREFIX}{{{repository}}}:moving"


def moved(repository: str) -> str:
    """Hash: tag -> digest, the other way round than `moving`."""
    return f"{PREFIX}{{{repository}}}:moved"


def pins(repository: str) -> str:
    """Hash: digest -> number of committed tags that need it."""
    return f"{PREFIX}{{{repository}}}:pins"


def manifests(repository: str) -> str:
    """Hash: digest -> stored manifest (media type and raw bytes), kept so that the upstream can be healed.

    ``needs <digest>`` -> what that manifest needs, space-separated, where it came after those who need it (H91).
    ``freed`` -> the digests of those that are needed no more, and of which what they need is still pinned.
    """
    return f"{PREFIX}{{{repository}}}:manifests"


def marks(repository: str) -> str:
    """Sorted set: digests that a delete is under way for, score = deadline of the mark."""
    return f"{PREFIX}{{{repository}}}:marks"


def adopted(repository: str) -> str:
    """String: random, set when a proxy began to adopt all tags of the repository; gone with everything else when the
    ledger is emptied.
    """
    return f"{PREFIX}{{{repository}}}:adopted"


def deletes(repository: str) -> str:
    """Counter: deletes that have ended, whatever became of them."""
    return f"{PREFIX}{{{repository}}}:deletes"


def intents(repository: str) -> str:
    """Hash: event id -> draft of the event of a push that may have reached the upstream and has no outcome yet."""
    return f"{PREFIX}{{{repository}}}:intents"


def unproved(repository: str) -> str:
    """Hash: event id -> the event that others told of an interrupted push without proof (H114), for a day."""
    return f"{PREFIX}{{{repository}}}:unproved"


def claims(repository: str) -> str:
    """Sorted set: tag names that were claimed of late, score = end of the claim's lease; the sweep clears it."""
    return f"{PREFIX}{{{repository}}}:claims"


def drift(repository: str) -> str:
    """Hash: tag -> digest that the upstream showed instead ("-" for none), and since when, for each open finding."""
    return f"{PREFIX}{{{repository}}}:drift"


def compared(repository: str) -> str:
    """String with a time to live: somebody compared the repository with the upstream a short while ago.

    A hint, so that replicas share the work; nothing depends on it.
    """
    return f"{PREFIX}{{{repository}}}:compared"


def compared_to(repository: str) -> str:
    """String: the last tag that an unfinished comparison with the upstream has looked at."""
    return f"{PREFIX}{{{repository}}}:compared-to"


def exceptions(repository: str) -> str:
    """Hash: tag -> temporary permission to overwrite or delete it."""
    return f"{PREFIX}{{{repository}}}:exceptions"


def outbox(repository: str) -> str:
    """Stream: events written in the same step as what they tell of, until the audit has taken them over."""
    return f"{PREFIX}{{{repository}}}:outbox"
