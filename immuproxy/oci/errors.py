"""The error answer of the OCI distribution specification, "Error Codes", as an exception.

Raised where something cannot be done; turned into a response in one place (`immuproxy.edge.answers`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

NO_DETAIL: Mapping[str, Any] = MappingProxyType({})


class OciError(Exception):
    """One error of the specification: HTTP status, code, a message for a person, a detail for a program."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        detail: Mapping[str, Any] = NO_DETAIL,
        headers: Mapping[str, str] = NO_DETAIL,
    ) -> None:
        """``message`` is one line; ``headers`` are added to the answer (``Allow``, ``Retry-After``)."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail
        self.headers = headers

    def body(self) -> bytes:
        """The JSON of the answer."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.detail:
            error["detail"] = dict(self.detail)
        return json.dumps({"errors": [error]}, separators=(",", ":")).encode() + b"\n"


def bad_target(message: str) -> OciError:
    """A request target outside the grammar (H1-H5)."""
    return OciError(400, "UNSUPPORTED", message)


def bad_name(message: str) -> OciError:
    """A repository name outside the grammar (H7)."""
    return OciError(400, "NAME_INVALID", message)


def bad_tag(message: str) -> OciError:
    """A tag outside the grammar.

    Not TAG_INVALID on a manifest PUT: skopeo answers that with retries in other manifest formats (H78).
    """
    return OciError(400, "UNSUPPORTED", message)


def bad_digest(message: str) -> OciError:
    """A reference with a colon that is no supported digest (H8)."""
    return OciError(400, "DIGEST_INVALID", message)


def bad_manifest(message: str) -> OciError:
    """A manifest body that nobody could pull.

    The code is not MANIFEST_INVALID, on which skopeo tries four other formats (H78); the message says what is wrong.
    """
    return OciError(400, "UNSUPPORTED", message)


def bad_body(message: str) -> OciError:
    """A request body that breaks off or is no valid chunked coding (H50)."""
    return OciError(400, "UNSUPPORTED", message)


def too_slow(message: str) -> OciError:
    """A request body that stopped coming (H45)."""
    return OciError(408, "UNSUPPORTED", message)


def too_large(limit: int) -> OciError:
    """A manifest body over the limit; the specification wants 413 (H18)."""
    return OciError(413, "SIZE_INVALID", f"the manifest is larger than {limit} bytes")


def unsupported_media_type(message: str) -> OciError:
    """A manifest of a kind whose digest the proxy cannot vouch for (H17)."""
    return OciError(415, "UNSUPPORTED", message)


def method_not_allowed(method: str, allowed: tuple[str, ...]) -> OciError:
    """A method that the route does not have (H10)."""
    return OciError(
        405, "UNSUPPORTED", f"the method {method} is not supported here", headers={"Allow": ", ".join(allowed)}
    )


def not_found(message: str) -> OciError:
    """A path that is no endpoint of the specification (H10)."""
    return OciError(404, "UNSUPPORTED", message)


def blob_unknown(digest: str) -> OciError:
    """A blob that a manifest needs and that the upstream does not give out, whatever it answers to HEAD (H25)."""
    message = (
        f"the registry gives out no byte of {digest}; push it again, and where the client finds it there already, "
        "restart the registry: its descriptor cache has outlived the blob"
    )
    return OciError(400, "MANIFEST_BLOB_UNKNOWN", message, detail={"digest": digest})


def blob_unresolved(digest: str) -> OciError:
    """A blob that a manifest names by another algorithm, and of which the upstream does not say by which digest it
    keeps it: it could be deleted by that (H81).
    """
    message = f"the registry does not say by which digest it keeps {digest}; name it by its sha256 digest"
    return OciError(400, "UNSUPPORTED", message, detail={"digest": digest})


def unavailable(message: str, *, retry_after: int = 5) -> OciError:
    """The proxy cannot decide now; the client should try again (H78).  ``retry_after`` in seconds."""
    return OciError(503, "UNAVAILABLE", message, headers={"Retry-After": str(retry_after)})
