"""The names of the record's Redis keys."""

from __future__ import annotations

from immuproxy.store.keys import PREFIX

AUDIT = PREFIX + "{audit}:"
"""What all keys of the record begin with: they share a slot, that one event enters it once."""

EVENTS = AUDIT + "events"
"""Stream: every event that was recorded, as `immuproxy.audit.record.rows` says."""

WATERMARK = AUDIT + "taken"
"""Hash: repository -> how far its outbox was taken (`immuproxy.audit.record.project`)."""

OLD_WATERMARK = AUDIT + "watermark"
"""The same hash of older releases.  Since a newer one took it over, a string, at which an older proxy beside that stops
before it takes what is taken (H126).
"""

UNREADABLE = AUDIT + "unreadable"
"""Stream: what stood in an outbox and was no event; the newest thousand or so."""
