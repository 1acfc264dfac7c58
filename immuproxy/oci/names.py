"""Grammars of repository names, tags and digests, each as a named pattern, and of `repository:tag@digest`.

All are matched with `re.Pattern.fullmatch` and are ASCII (H5).  The registry's own grammar for names is wider than the
specification's (upper-case domains, ports); the wider part is refused, because storage may alias it (H7).
"""

from __future__ import annotations

import hashlib
import re

MAX_NAME_LENGTH = 255
"""Characters of a whole repository name, as the registry limits it (H7)."""

_ALPHANUMERIC = r"[a-z0-9]+"
_SEPARATOR = r"(?:\.|_|__|-+)"
_COMPONENT = rf"{_ALPHANUMERIC}(?:{_SEPARATOR}{_ALPHANUMERIC})*"

REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
"""Specification, "Pulling manifests": ``<name>``."""

TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
"""Specification, "Pulling manifests": ``<reference>`` as a tag."""

DIGEST = re.compile(r"sha256:[a-f0-9]{64}", re.ASCII)
"""The algorithm by which the proxy, and docker/distribution, keep all content."""

ANY_DIGEST = re.compile(r"(?:sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128})", re.ASCII)
"""Every algorithm of the registry's digest library; the same content has a digest by each of them (H81)."""

ALGORITHMS = ("sha256", "sha384", "sha512")

SHORTEST_DIGEST = len("sha256:") + 64
"""Characters."""

DIGEST_IN_TEXT = re.compile(r"sha(?:256:[a-f0-9]{64}|384:[a-f0-9]{96}|512:[a-f0-9]{128})(?![a-f0-9])", re.ASCII)
"""Finds digests inside other text."""


EXAMPLE = "team/app:1.4"

_HOST = re.compile(r"[^/]*[.:][^/]*/|localhost/")
"""Finds what looks like one in front of a name, as Docker's clients tell it from a first component."""


def is_repository(text: str) -> bool:
    """Whether ``text`` is a repository name of the specification, at most 255 characters long."""
    return len(text) <= MAX_NAME_LENGTH and REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether ``text`` is a tag."""
    return TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether ``text`` is a sha256 digest in its canonical spelling."""
    return DIGEST.fullmatch(text) is not None


def parse_tag(text: str) -> tuple[str, str]:
    """``repository:tag`` as its two parts; raises `ValueError` that says what is wrong with it."""
    if ":" not in text or "@" in text:
        raise ValueError(f"write it as REPOSITORY:TAG, such as {EXAMPLE}")
    repository, tag, _ = parse_image(text)
    return repository, tag


def parse_image(text: str) -> tuple[str, str, str]:
    """``repository[:tag][@digest]`` as its parts, empty where one is missing; raises `ValueError` as `parse_tag`."""
    name, at, digest = text.partition("@")
    repository, colon, tag = name.rpartition(":") if ":" in name else (name, "", "")
    if not is_repository(repository):
        raise ValueError(repository_fault(repository))
    if colon and not is_tag(tag):
        raise ValueError(f"{tag!r} is no tag")
    if at and not is_digest(digest):
        raise ValueError(f"{digest!r} is no digest")
    return repository, tag, digest


def repository_fault(text: str) -> str:
    """Why something is no repository; the usual mistake is the host in front."""
    return f"{text!r} is no repository{'; leave out the host' if _HOST.match(text) else ''}"


def digest_of(content: bytes) -> str:
    """The digest by which the registry will know these raw bytes (H17)."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def spellings(content: bytes) -> tuple[str, ...]:
    """All digests by which these raw bytes may be named, sha256 first (H81)."""
    return tuple(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}" for algorithm in ALGORITHMS)


def is_digest_of(digest: str, content: bytes) -> bool:
    """Whether ``digest``, of any of the algorithms, names these raw bytes."""
    algorithm = digest.partition(":")[0]
    return algorithm in ALGORITHMS and digest == f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
