"""Clients that ask for a blob, read the head of the answer, and then nothing more."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit


@contextlib.contextmanager
def stalled(url: str, count: int) -> Iterator[None]:
    """That many of them, for as long as the block runs."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(_asked(url))
        yield


def _asked(url: str) -> socket.socket:
    place = urlsplit(url)
    line = socket.create_connection((place.hostname, place.port or 80), timeout=30)
    line.sendall(f"GET {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
    if not line.recv(12).endswith(b"200"):
        line.close()
        raise RuntimeError(f"{url} is not answered 200")
    return line
