"""How an event stands in the audit: what is written for it, and the keys it is found by.  No I/O here."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from immuproxy.ledger import keys
from immuproxy.ledger.audit import calendar, rows
from immuproxy.ledger.model import Action, Outcome
from immuproxy.values import parse_address

VALUE_FIELDS = ("repo", "actor", "rule", "ip", "outcome", "action", "attempt")
"""Fields with a posting for each value and a list of values; ``attempt`` is what `attempt` gives."""

_DELETES = frozenset({Action.DELETE_TAG.value, Action.DELETE_MANIFEST.value, Action.DELETE_BLOB.value})

_SETTING = frozenset({Outcome.CREATED.value, Outcome.OVERWRITTEN.value, Outcome.UNCHANGED.value, Outcome.ADOPTED.value})

LONGEST_ACTOR = 200
"""Characters of an actor that are kept beside each tag."""

GONE = "-"
"""Stands for the digest of a tag that was deleted."""

BUCKET_DIGITS = 4
"""Hexadecimal digits that choose the posting of a digest, an event id, a tag: at most 65,536 postings of each kind."""


BUCKETS = ("id", "tag", "tagged", "digest", "address")
"""Kinds of postings that several values share."""


def posting(field: str, value: str) -> str:
    """String: the ids of all events with this value."""
    return keys.audit(f"index:{field}:{value}")


def bucket(kind: str, *parts: str) -> str:
    """String: the ids of events with these values, and of some others: check the event.

    Values that are almost as many as the events would each cost a key of their own.
    """
    name = hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:BUCKET_DIGITS]
    return keys.audit(f"index:{kind}:{name}")


def digest_bucket(first_digits: str) -> str:
    """String: the ids of all events with a digest that begins so (`BUCKET_DIGITS` digits)."""
    return keys.audit(f"index:digest:{first_digits}")


def attempt(action: str, outcome: str) -> str:
    """What was tried and how it ended, such as ``push refused``; all deletes are ``delete``.

    Counted as one value, so that a chart of pushes does not count the deletes that ended in the same way.
    """
    return f"{'delete' if action in _DELETES else action} {outcome}"


def values_key(field: str) -> str:
    """Sorted set: every value of the field, score = milliseconds of its last event."""
    return keys.audit(f"values:{field}")


def tags_key(repository: str) -> str:
    """Sorted set: every tag that an event of the repository names, other than those of exceptions; score = milliseconds
    of the last of them.
    """
    return keys.audit(f"tags:{repository}")


EXCEPTED = "excepted"
"""Instead of `repo`: the field of the repositories that an exception names, which may be nobody's."""


def excepted_tags_key(repository: str) -> str:
    """Sorted set: as `tags_key`, of the tags that exceptions name."""
    return keys.audit(f"excepted:{repository}")


def sets_key(repository: str) -> str:
    """Hash: tag -> when it was last set, to which digest (`GONE` once it was deleted), and by whom."""
    return keys.audit(f"sets:{repository}")


EVENTS = keys.audit("events")
WATERMARK = keys.audit("watermark")
LATE = keys.audit("late")
SHADOW = posting("shadow", "yes")
UNREADABLE = keys.audit("unreadable")
"""Stream: what stood in an outbox and was no event; the newest thousand or so."""


@lru_cache(maxsize=4_096)
def network_of(address: str) -> str:
    """What an address is found by: its /24, for IPv6 its /64; the text itself where it is no address."""
    parsed = parse_address(address)
    if parsed is None:
        return address
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False))


@lru_cache(maxsize=4_096)
def plain_address(text: str) -> str:
    """An address in the form in which it is looked up; empty where it is none."""
    return str(parse_address(text) or "")


@dataclass(frozen=True, slots=True)
class Entry:
    """An event ready to be written: see ``scripts/audit_project.lua`` for what becomes of each part."""

    event_id: str
    time: int
    packed: str
    postings: tuple[str, ...]
    lasts: tuple[tuple[str, str], ...]
    counts: tuple[tuple[str, str], ...]
    sets: tuple[tuple[str, str, str], ...]


class UnreadableError(ValueError):
    """An outbox entry that holds no event."""


def entry_from_json(raw: bytes) -> Entry:
    """Read what a script of the register wrote; raises `UnreadableError`.

    Actions and outcomes need not be known here: a newer proxy may have written them.
    """
    try:
        values = json.loads(raw)
        return entry(values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableError(str(error)) from error


def entry(values: Mapping[str, Any]) -> Entry:
    """The entry of an event given as `Event.to_dict` gives it."""
    texts = {name: rows.text(name, values.get(name)) for name in rows.FIELDS}
    if not (texts["id"] and texts["action"] and texts["outcome"]):
        raise UnreadableError("id, action and outcome are needed")
    by_field = _values(texts)
    return Entry(
        event_id=texts["id"],
        time=int(texts["time"] or 0),
        packed=rows.packed(texts),
        postings=_postings(texts, by_field),
        lasts=_lasts(texts, by_field),
        counts=_counts(texts),
        sets=_sets(texts),
    )


def _values(texts: Mapping[str, str]) -> dict[str, str]:
    found = {"repo": texts["repository"], **{name: texts[name] for name in ("actor", "rule", "outcome", "action")}}
    found["attempt"] = attempt(texts["action"], texts["outcome"])
    address = texts["client_address"]
    return found | {"ip": network_of(address)} if address else found


def _postings(texts: Mapping[str, str], by_field: Mapping[str, str]) -> tuple[str, ...]:
    repository, tag = texts["repository"], texts["tag"]
    found = [bucket("id", texts["id"])]
    found += [posting(field, value) for field, value in by_field.items()]
    if texts["request_id"] and texts["request_id"] != texts["id"]:
        found.append(bucket("id", texts["request_id"]))
    if tag:
        found += [bucket("tag", tag), bucket("tagged", repository, tag)]
    if texts["shadow"]:
        found.append(SHADOW)
    if texts["outcome"] == Outcome.REFUSED:
        found.append(posting("refused", repository))
    if address := plain_address(texts["client_address"]):
        found.append(bucket("address", address))
    digests = (texts["digest"], texts["previous_digest"])
    found += [digest_bucket(hex_digits(digest)[:BUCKET_DIGITS]) for digest in digests if digest]
    return tuple(dict.fromkeys(found))


def hex_digits(digest: str) -> str:
    """What stands behind ``sha256:``."""
    return digest.rpartition(":")[2]


def _lasts(texts: Mapping[str, str], by_field: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """An exception may name what nobody knows, and that is not to be listed."""
    excepted = texts["action"] == Action.EXCEPTION
    names = dict.fromkeys(by_field) | {"repo": EXCEPTED if excepted else "repo"}
    found = [(values_key(names[field] or field), value) for field, value in by_field.items()]
    if texts["tag"]:
        key = excepted_tags_key if excepted else tags_key
        found.append((key(texts["repository"]), texts["tag"]))
    return tuple(found)


def _counts(texts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    repository, tag = texts["repository"], texts["tag"]
    values = {
        "repo": repository,
        "tag": f"{repository}:{tag}" if tag else "",
        "actor": texts["actor"],
        "rule": texts["rule"],
    }
    return tuple(calendar.counted(int(texts["time"] or 0), texts["outcome"], values))


def _sets(texts: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    deleted = (texts["action"], texts["outcome"]) == (Action.DELETE_TAG, Outcome.DELETED)
    digest = GONE if deleted else texts["digest"]
    if not ((deleted or texts["outcome"] in _SETTING) and texts["tag"] and digest):
        return ()
    value = f"{texts['time'] or 0} {digest} {texts['actor'][:LONGEST_ACTOR]}"
    return ((sets_key(texts["repository"]), texts["tag"], value),)


def arguments(batch: Sequence[tuple[str, Entry]]) -> tuple[list[str], list[str | int]]:
    """Keys and arguments of ``audit_project`` for entries with their outbox ids, behind the fixed ones."""
    numbers: dict[str, int] = {}
    flat: list[str | int] = []

    def number(key: str) -> int:
        return numbers.setdefault(key, len(numbers) + 4)

    for outbox_id, each in batch:
        flat += [outbox_id, each.event_id, each.time, rows.field_of(each.packed), each.packed]
        flat += [len(each.postings), *(number(key) for key in each.postings)]
        for members in (each.lasts, each.counts):
            flat.append(len(members))
            flat += [item for key, member in members for item in (number(key), member)]
        flat.append(len(each.sets))
        flat += [item for key, name, value in each.sets for item in (number(key), name, value)]
    return list(numbers), flat


def all_buckets() -> list[str]:
    """The names of all postings that `bucket` and `digest_bucket` can give."""
    names = [f"{number:0{BUCKET_DIGITS}x}" for number in range(16**BUCKET_DIGITS)]
    return [keys.audit(f"index:{kind}:{name}") for kind in BUCKETS for name in names]
