"""The certificate of one listener, read again when its files change.

The files' content decides, not their times: Kubernetes replaces a secret by moving a symbolic link.  A pair that cannot
be used is told once, and the one before it stays in force.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from immuproxy.listening.validity import not_after
from immuproxy.values import plain_files
from immuproxy.values.sections import TlsSettings

log = structlog.get_logger("immuproxy")

MAX_BYTES = 1024 * 1024
"""Bytes of a certificate chain, or of a key."""

Expires = Callable[[str, float], None]
"""Told the listener and the time at which its certificate ends, in seconds since 1970."""


def unheard(_listener: str, _ends: float) -> None:
    """For where nobody wants to know."""


class CertificateError(Exception):
    """The pair of files cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """What was read: ``seen`` is the digest of both files."""

    context: ssl.SSLContext
    expires: float
    seen: bytes


class Certificates:
    """Certificate chain and key of a listener."""

    def __init__(self, listener: str, files: TlsSettings, pair: _Pair, expires: Expires) -> None:
        """Use `read`."""
        self.files = files
        self._listener = listener
        self._pair = pair
        self._suspected = self._rejected = b""
        self._told = expires
        self._tell()

    @classmethod
    async def read(cls, listener: str, files: TlsSettings, expires: Expires = unheard) -> Certificates:
        """Read them at the start; raises `CertificateError`."""
        return cls(listener, files, await asyncio.to_thread(_read, listener, files), expires)

    def __call__(self) -> ssl.SSLContext:
        """The context for a connection that begins now."""
        return self._pair.context

    async def look(self) -> None:
        """Read the files if they changed; set ``files`` to look at others.

        A bad pair is told at the second look: at the first, perhaps only one of both has been replaced yet.
        """
        seen = await asyncio.to_thread(_seen, self.files)
        if seen in {self._pair.seen, self._rejected}:
            return
        try:
            self._pair = await asyncio.to_thread(_read, self._listener, self.files)
        except CertificateError as error:
            if seen == self._suspected:
                log.error("the new certificate is not in force", listener=self._listener, problem=str(error))  # noqa: TRY400  # said in full
                self._rejected = seen
            self._suspected = seen
            return
        self._suspected = self._rejected = b""
        log.info("certificate read", listener=self._listener, file=self.files.cert.name)
        self._tell()

    def _tell(self) -> None:
        self._told(self._listener, self._pair.expires)
        if self._pair.expires < time.time():
            log.error("the certificate has expired", listener=self._listener, file=self.files.cert.name)


def _seen(files: TlsSettings) -> bytes:
    return b"".join(_digest(path) for path in (files.cert, files.key))


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(plain_files.read(path, MAX_BYTES)).digest()
    except OSError:
        return b"gone"


def _read(listener: str, files: TlsSettings) -> _Pair:
    """What is replaced while it is read does not belong together, or is read again at the next look."""
    seen = _seen(files)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        chain, _ = (_content(listener, path) for path in (files.cert, files.key))
        context.load_cert_chain(files.cert, files.key, password=_no_password)
        return _Pair(context, not_after(chain.decode()), seen)
    except (OSError, ValueError) as error:  # of OpenSSL's errors all are an OSError
        words = f"{listener}.tls: {files.cert} and {files.key} cannot be used: {error}"
        raise CertificateError(words) from error


def _content(listener: str, path: Path) -> bytes:
    """What OpenSSL reads once more, by its name: a pipe would make it wait, and it does not say which of both files it
    cannot read.
    """
    try:
        content = plain_files.read(path, MAX_BYTES)
    except OSError as error:
        raise CertificateError(f"{listener}.tls: cannot read {path}: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path.name} has more than 1 MiB")
    return content


def _no_password() -> str:
    raise ValueError("the key is encrypted; write it without a password")
