"""A quick way to put very many events into an empty record: what ``record_take.lua`` would have written."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from immuproxy.audit.record import keys
from immuproxy.audit.record.rows import entry
from immuproxy.ledger.model import Event

_SEND_BYTES = 1 << 20


def command(*parts: str | bytes | int) -> bytes:
    """A command as Redis reads it from the wire."""
    encoded = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded)


class Line:
    """Commands without replies, so that neither side waits for the other."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname, place.port or 6379))
        self._waiting = bytearray(command("CLIENT", "REPLY", "OFF"))

    def send(self, *commands: bytes) -> None:
        for each in commands:
            self._waiting += each
        if len(self._waiting) >= _SEND_BYTES:
            self._flush()

    def close(self) -> None:
        """Wait until all of it was done."""
        self.send(command("CLIENT", "REPLY", "ON"))
        self._flush()
        said = self._socket.recv(100)
        self._socket.close()
        if said != b"+OK\r\n":
            raise RuntimeError(said.decode())

    def _flush(self) -> None:
        self._socket.sendall(self._waiting)
        self._waiting.clear()


def written(event: Event) -> bytes:
    """The command for an event; each needs a millisecond of its own, and none may be late."""
    made = entry(event.to_dict())
    return command("XADD", keys.EVENTS, f"{made.time}-0", made.field, made.packed)
