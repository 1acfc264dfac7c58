"""How records lie in Redis, and how they become values.  Pure.

One hash a tag: the committed part, the claim part (``claim_…``) and the tombstone (``deleted…``) side by side; see
``scripts/_common.lua``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from immuproxy.ledger.model import (
    Claim,
    ClaimReply,
    Committed,
    Finding,
    Reply,
    State,
    Step,
    TagRecord,
    Tombstone,
)

SHOWN = ("by", "first_by", "first_adopted", "media_type", "size", "platforms", "rule", "event")
FIELDS = (
    "digest",
    "generation",
    "born",
    "since",
    "first",
    "aged_from",
    *SHOWN,
    "claim_state",
    "claim_digest",
    "claim_token",
    "claim_lease",
    "claim_term",
    "claim_armed",
    "claim_event",
    "deleted",
    "deleted_digest",
    "deleted_by",
)


def reply_of(repository: str, tag: str, reply: Sequence[bytes]) -> Reply:
    """A script's answer: status, time, then the record's fields and values in turn."""
    status, now, fields = _parts(reply)
    return Reply(status, now, record_of(repository, tag, fields))


def claim_reply_of(repository: str, tag: str, reply: Sequence[bytes]) -> ClaimReply:
    """The same of ``claim.lua``, which has more to say behind the record."""
    status, now, fields = _parts(reply)
    return ClaimReply(
        status,
        now,
        record_of(repository, tag, fields),
        deletes=int(fields["deletes"]),
        excepted=fields["excepted"] == "1",
        unattached=tuple(fields["unattached"].split()),
        adopted=fields["adopted"] == "1",
    )


def _parts(reply: Sequence[bytes]) -> tuple[Step, int, dict[str, str]]:
    status, now, *flat = (item.decode() for item in reply)
    return Step(status), int(now), dict(zip(flat[::2], flat[1::2], strict=True))


def record_of(repository: str, tag: str, fields: Mapping[str, str]) -> TagRecord:
    """A tag's record from the fields of its hash that there are."""
    return TagRecord(
        repository,
        tag,
        committed=_committed(fields) if "digest" in fields else None,
        claim=_claim(fields) if "claim_state" in fields else None,
        tombstone=_tombstone(fields) if "deleted" in fields else None,
        generation=int(fields.get("generation", 0)),
    )


def _committed(fields: Mapping[str, str]) -> Committed:
    shown: dict[str, Any] = {name: fields[name] for name in SHOWN if name in fields}
    shown["first_adopted"] = fields.get("first_adopted") == "1"
    shown["size"] = int(fields.get("size", 0))
    shown["platforms"] = tuple(fields.get("platforms", "").split())
    return Committed(
        digest=fields["digest"],
        generation=int(fields["generation"]),
        born=int(fields.get("born", 1)),
        since=int(fields["since"]),
        first=int(fields["first"]),
        aged_from=int(fields.get("aged_from", fields["first"])),
        **shown,
    )


def _claim(fields: Mapping[str, str]) -> Claim:
    return Claim(
        state=State(fields["claim_state"].upper()),
        digest=fields["claim_digest"],
        token=fields["claim_token"],
        lease=int(fields["claim_lease"]),
        armed=int(fields.get("claim_armed", 0)),
        event=fields.get("claim_event", ""),
        term=int(fields["claim_term"]) if "claim_term" in fields else None,
    )


def finding_of(tag: str, value: str) -> Finding:
    seen, since = value.split()
    return Finding(tag, "" if seen == "-" else seen, int(since))


def _tombstone(fields: Mapping[str, str]) -> Tombstone:
    return Tombstone(int(fields["deleted"]), fields.get("deleted_digest", ""), fields.get("deleted_by", ""))
