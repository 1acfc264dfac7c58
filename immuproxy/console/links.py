"""The console's URLs, made and read in one place.  PURE.

Repository names hold slashes, and a name may even end in ``/tags/x``.  So a path is read from the right, as the
registry reads its own: ``/repositories/team/app/tags/1.4`` is the tag ``1.4`` of ``team/app``.  A slash of the name may
always be written ``%2F``, which is then never taken for a separator; links made here do so just where it matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote, urlencode

from immuproxy.oci import names


class PlaceKind(StrEnum):
    """What a path below ``/repositories/`` names."""

    REPOSITORY = "repository"
    TAG = "tag"
    MANIFEST = "manifest"


@dataclass(frozen=True, slots=True)
class Place:
    """A repository, or a tag or manifest in it; ``reference`` is empty for the repository itself."""

    kind: PlaceKind
    repository: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class ImageName:
    """A manifest as people name it: a tag or a digest of a repository."""

    repository: str
    reference: str

    @property
    def is_digest(self) -> bool:
        """Whether the reference says which manifest it is, for ever."""
        return names.is_digest(self.reference)

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.repository}{'@' if self.is_digest else ':'}{self.reference}"


def parse_image(text: str, *, edge: str = "", repository: str = "") -> ImageName | None:
    """Read ``team/app:1.4``, ``team/app@sha256:…`` or both at once, then the digest counts; None for what is none.

    The address that people push to (``edge``) may stand in front.  Where ``repository`` is given, a tag or a digest
    alone is one of that.
    """
    text = text.strip().removeprefix(f"{edge}/" if edge else "")
    if repository and (names.is_digest(text) or names.is_tag(text)):
        return ImageName(repository, text)
    try:
        name, tag, digest = names.parse_image(text)
    except ValueError:
        return None
    return ImageName(name, digest or tag) if digest or tag else None


_COLLECTIONS = {"tags": PlaceKind.TAG, "manifests": PlaceKind.MANIFEST}
_GRAMMARS = {PlaceKind.TAG: names.is_tag, PlaceKind.MANIFEST: names.is_digest}


def parse_place(raw: str) -> Place | None:
    """Read what stands after ``/repositories/``, still percent-encoded; None where it can name nothing."""
    name, collection, last = _split(raw)
    kind = _COLLECTIONS.get(collection, PlaceKind.REPOSITORY)
    repository, reference = (_unquote(raw), "") if kind is PlaceKind.REPOSITORY else (_unquote(name), _unquote(last))
    if not names.is_repository(repository):
        return None
    if kind is not PlaceKind.REPOSITORY and not _GRAMMARS[kind](reference):
        return None
    return Place(kind, repository, reference)


def _split(path: str) -> tuple[str, str, str]:
    """All but the last two segments, and those two; empty where there are fewer than three."""
    name, _, last = path.rpartition("/")
    name, _, collection = name.rpartition("/")
    return (name, collection, last) if name else ("", "", "")


def _unquote(text: str) -> str:
    return unquote(text, errors="replace")


def _name(repository: str) -> str:
    ambiguous = _split(repository)[1] in _COLLECTIONS
    return quote(repository, safe="" if ambiguous else "/")


def repository_url(repository: str, base: str = "") -> str:
    """The page of a repository; ``base`` is put in front (``/api/v1`` for the JSON)."""
    return f"{base}/repositories/{_name(repository)}"


def tag_url(repository: str, tag: str, base: str = "") -> str:
    """The page of a tag."""
    return f"{base}/repositories/{quote(repository)}/tags/{quote(tag, safe='')}"


def manifest_url(repository: str, digest: str, base: str = "") -> str:
    """The page of a manifest."""
    return f"{base}/repositories/{quote(repository)}/manifests/{quote(digest, safe=':')}"


def compare_url(before: str, after: str, base: str = "") -> str:
    """The comparison of two manifests, each written as `parse_image` reads it."""
    return with_query(f"{base}/compare", a=before, b=after)


def event_url(event_id: str, base: str = "") -> str:
    """The page of one event."""
    return f"{base}/events/{quote(event_id, safe='')}"


def with_query(path: str, **parameters: str | int | None) -> str:
    """``path`` with those parameters that say something."""
    said = {key: value for key, value in parameters.items() if value not in {None, ""}}
    return f"{path}?{urlencode(said, safe=':/*@,', quote_via=quote)}" if said else path


def search_url(search: str = "", **parameters: str | int | None) -> str:
    """The audit log, searched."""
    return with_query("/audit", q=search, **parameters)
