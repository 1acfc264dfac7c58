"""From a request line to one parsed value: ``parse(method, target) -> Operation``.

Everything the proxy decides, it decides on an `Operation`; everything it forwards, it builds from one
(`Operation.target`).  The client's own spelling of a path never travels on (H1-H6).

The target is read as the registry's router would read it (percent-decoded once), but where the router is lenient
(it cleans paths and redirects), this grammar refuses.  The last two segments decide the kind; what stands before them
is the repository (H6: ``a/blobs/uploads/manifests/v1`` is tag ``v1`` of ``a/blobs/uploads``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote

from immuproxy.oci import errors, names

MAX_TAGS = 10
"""Tags that one ``?tag=`` push may carry; the specification wants at least ten supported (H11)."""


class RouteKind(StrEnum):
    """The endpoints of the distribution specification."""

    BASE = "base"
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    REFERRERS = "referrers"


_READ = ("GET", "HEAD")
METHODS: dict[RouteKind, tuple[str, ...]] = {
    RouteKind.BASE: _READ,
    RouteKind.CATALOG: _READ,
    RouteKind.TAGS: _READ,
    RouteKind.REFERRERS: _READ,
    RouteKind.MANIFEST: (*_READ, "PUT", "DELETE"),
    RouteKind.BLOB: (*_READ, "DELETE"),
    RouteKind.UPLOADS: ("POST",),
    RouteKind.UPLOAD: (*_READ, "PATCH", "PUT", "DELETE"),
}
"""The endpoint table: which methods each kind has.  Anything else is 405 here and never reaches the upstream (H10)."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One request of the specification, parsed.

    ``reference`` is a tag or digest (MANIFEST), a digest (BLOB, REFERRERS), an upload id (UPLOAD), else empty.
    ``query`` is the raw query that may be forwarded.  ``tags`` are the values of ``?tag=`` on a manifest PUT (H11).
    """

    method: str
    kind: RouteKind
    repository: str = ""
    reference: str = ""
    query: str = ""
    tags: tuple[str, ...] = field(default=())

    @property
    def is_tag(self) -> bool:
        """Whether the request names a manifest by tag."""
        return self.kind is RouteKind.MANIFEST and ":" not in self.reference

    @property
    def is_write(self) -> bool:
        """Whether the request may change the upstream."""
        return self.method not in _READ

    @property
    def target(self) -> str:
        """The canonical path and query, rebuilt from the parsed parts."""
        path = build_path(self.kind, self.repository, self.reference)
        return f"{path}?{self.query}" if self.query else path


_PATHS: dict[RouteKind, str] = {
    RouteKind.BASE: "/v2/",
    RouteKind.CATALOG: "/v2/_catalog",
    RouteKind.TAGS: "/v2/{repository}/tags/list",
    RouteKind.MANIFEST: "/v2/{repository}/manifests/{reference}",
    RouteKind.BLOB: "/v2/{repository}/blobs/{reference}",
    RouteKind.UPLOADS: "/v2/{repository}/blobs/uploads/",
    RouteKind.UPLOAD: "/v2/{repository}/blobs/uploads/{reference}",
    RouteKind.REFERRERS: "/v2/{repository}/referrers/{reference}",
}


def build_path(kind: RouteKind, repository: str = "", reference: str = "") -> str:
    """The one spelling of an endpoint's path; both parts must have passed their grammar."""
    return _PATHS[kind].format(repository=repository, reference=quote(reference, safe="-._~:="))


def parse(method: str, target: str) -> Operation:
    """Parse a raw request target; raises `immuproxy.oci.errors.OciError` for whatever is outside the grammar.

    ``target`` is the request target exactly as received, in origin form (RFC 9112 section 3.2.1).
    """
    path, mark, query = _split(target)
    kind, repository, reference = _classify(_decode(path))
    if method not in METHODS[kind]:
        raise errors.method_not_allowed(method, METHODS[kind])
    if kind is RouteKind.MANIFEST:
        _check_reference(reference)
        # Nothing but `tag` means anything on a manifest, and what means nothing today may mean something to
        # another upstream tomorrow: the query is read here and never forwarded (H11).
        tags = _query_tags(query) if method == "PUT" else ()
        if tags and ":" in reference and not names.is_digest(reference):
            raise errors.bad_digest("a push that sets tags must name its manifest by a sha256 digest")
        return Operation(method, kind, repository, reference, tags=tags)
    return Operation(method, kind, repository, reference, query=query if mark else "")


_VISIBLE = re.compile(r"[!-~]+", re.ASCII)
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)


def _split(target: str) -> tuple[str, str, str]:
    """Path, question mark, query; only visible ASCII in origin form gets through (H4, H5)."""
    if not target.startswith("/"):
        raise errors.bad_target("the request target must be a path that starts with /")
    if _VISIBLE.fullmatch(target) is None or "#" in target or "\\" in target:
        raise errors.bad_target("the request target holds a character that no endpoint has")
    return target.partition("?")


def _decode(path: str) -> str:
    """Percent-decode once, as Go does: ``+`` stays, a bad escape is an error (H1)."""
    if "%" not in path:
        return path
    return _unescape(path, "path")


def _unescape(text: str, part: str) -> str:
    if _ESCAPE.search(text):
        raise errors.bad_target(f"the {part} holds an incomplete percent-escape")
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode("ascii"))
    decoded = raw.decode("latin-1")
    if _VISIBLE.fullmatch(decoded) is None:
        raise errors.bad_target(f"the {part} holds a character that no endpoint has")
    return decoded


_Found = tuple[RouteKind, str, str]


def _classify(path: str) -> _Found:
    if path in {"/v2/", "/v2"}:
        return RouteKind.BASE, "", ""
    if not path.startswith("/v2/"):
        raise errors.not_found("only the paths of the registry API under /v2/ are served here")
    if path == "/v2/_catalog":
        return RouteKind.CATALOG, "", ""
    segments = path.removeprefix("/v2/").split("/")
    for endpoint in (_uploads, _by_two_segments):
        found = endpoint(segments)
        if found:
            return _checked(found)
    raise errors.not_found("this path is no endpoint of the registry API")


def _uploads(segments: list[str]) -> _Found | None:
    """``<name>/blobs/uploads/`` and ``<name>/blobs/uploads/<id>``."""
    match segments:
        case [*name, "blobs", "uploads", ""] if name:
            return RouteKind.UPLOADS, "/".join(name), ""
        case [*name, "blobs", "uploads", upload] if name and upload not in {".", ".."}:
            return RouteKind.UPLOAD, "/".join(name), upload
        case _:
            return None


def _by_two_segments(segments: list[str]) -> _Found | None:
    """The endpoints that the last two segments name."""
    match segments:
        case [*name, "manifests", reference] if name:
            return RouteKind.MANIFEST, "/".join(name), reference
        case [*name, "tags", "list"] if name:
            return RouteKind.TAGS, "/".join(name), ""
        case [*name, "blobs", digest] if name:
            return RouteKind.BLOB, "/".join(name), digest
        case [*name, "referrers", digest] if name:
            return RouteKind.REFERRERS, "/".join(name), digest
        case _:
            return None


def _checked(found: _Found) -> _Found:
    kind, repository, reference = found
    if not names.is_repository(repository):
        raise errors.bad_name(_name_fault(repository))
    check = _REFERENCE_CHECKS.get(kind)
    if check:
        check(reference)
    return found


def _name_fault(repository: str) -> str:
    if len(repository) > names.MAX_NAME_LENGTH:
        return f"the repository name is longer than {names.MAX_NAME_LENGTH} characters"
    return (
        "the repository name must be lower-case letters and digits, separated by single . _ __ or - inside a component "
        "and by / between components"
    )


def _check_reference(reference: str) -> None:
    """A tag or a digest; a colon never makes a tag (H8)."""
    if ":" in reference:
        _check_digest(reference)
    elif not names.is_tag(reference):
        raise errors.bad_tag("a tag must be 1 to 128 letters, digits, _ . or -, and start with a letter, digit or _")


def _check_digest(reference: str) -> None:
    if names.ANY_DIGEST.fullmatch(reference) is None:
        raise errors.bad_digest("a digest must be sha256: and 64 lower-case hexadecimal digits (or sha384, sha512)")


_UPLOAD_ID = re.compile(r"[A-Za-z0-9._=-]{1,256}", re.ASCII)


def _check_upload(reference: str) -> None:
    if _UPLOAD_ID.fullmatch(reference) is None:
        raise errors.not_found("this is no upload id")


_REFERENCE_CHECKS: dict[RouteKind, Callable[[str], None]] = {
    RouteKind.BLOB: _check_digest,
    RouteKind.REFERRERS: _check_digest,
    RouteKind.UPLOAD: _check_upload,
}


def _query_tags(query: str) -> tuple[str, ...]:
    """The ``tag`` parameters of a manifest PUT, decoded once, each once, in sorted order (H11)."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    values = [
        _unescape(value.replace("+", "%20"), "query") if value else "" for key, _, value in pairs if _key(key) == "tag"
    ]
    for value in values:
        if not names.is_tag(value):
            raise errors.bad_tag("a tag parameter must be 1 to 128 letters, digits, _ . or -")
    if len(set(values)) > MAX_TAGS:
        raise errors.OciError(400, "UNSUPPORTED", f"one push may set at most {MAX_TAGS} tags")
    return tuple(sorted(set(values)))


def _key(text: str) -> str:
    return _unescape(text, "query") if text else ""
