"""Until when a certificate is valid.  PURE: the few bytes of ASN.1 that say so (RFC 5280 section 4.1).

The standard library tells it only of the other side's certificate, and a library for X.509 is a hundred times this.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)

_SEQUENCE = 0x30
_UTC_TIME = 0x17


def not_after(pem: str) -> float:
    """The end of the first certificate of a file, in seconds since 1970; raises `ValueError` where there is none."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("there is no certificate in it")
    try:
        _, certificate = next(_elements(ssl.PEM_cert_to_DER_cert(found[0])))
        _, signed = next(_elements(certificate))
        fields = [value for tag, value in _elements(signed) if tag == _SEQUENCE]
        validity = fields[2]  # after the algorithm and the issuer
        _, (tag, ends) = _elements(validity)
        return _time(tag, ends.decode("ascii"))
    except (StopIteration, IndexError, UnicodeDecodeError) as error:
        raise ValueError("the certificate cannot be read") from error


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and value of each element that follows another."""
    while data:
        length, start = data[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(data[2:start], "big")
        yield data[0], data[start : start + length]
        data = data[start + length :]


def _time(tag: int, text: str) -> float:
    """RFC 5280 section 4.1.2.5: always in UTC, with seconds; a year of two digits below 50 is in this century."""
    if tag == _UTC_TIME:
        text = ("20" if int(text[:2]) < 50 else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
