"""The words, shapes and numbers with which the pages speak.  PURE.

An outcome always shows as a word with a shape; its colour only repeats what they say.
"""

from __future__ import annotations

from datetime import UTC, datetime

import humanize

TONES = {
    "created": "good",
    "overwritten": "warn",
    "unchanged": "calm",
    "refused": "bad",
    "failed": "odd",
    "unknown": "note",
    "deleted": "warn",
    "missing": "calm",
    "adopted": "note",
    "found": "bad",
    "healed": "good",
    "granted": "note",
    "ended": "calm",
    "loaded": "note",
    "rejected": "bad",
}

SHAPES = {
    "created": "plus",
    "overwritten": "cycle",
    "unchanged": "equal",
    "refused": "cross",
    "failed": "bang",
    "unknown": "question",
    "deleted": "minus",
    "missing": "dot",
    "adopted": "in",
    "found": "diamond",
    "healed": "check",
    "granted": "check",
    "ended": "minus",
    "loaded": "in",
    "rejected": "cross",
}

ACTIONS = {
    "push": "push",
    "delete-tag": "tag delete",
    "delete-manifest": "manifest delete",
    "delete-blob": "blob delete",
    "adopt": "adoption",
    "drift": "drift",
    "repair": "repair",
    "exception": "exception",
    "rules": "rules file",
    "log-in": "log-in",
}

SOURCES = {
    "anonymous": "no credential was sent",
    "basic": "from Basic credentials",
    "token": "from the token's subject",
    "proxy": "named by a trusted proxy",
    "operator": "an operator of the proxy",
    "console": "at the console",
}

SHORT_DIGEST = 12
"""Hex digits of a digest that a page shows; the whole is in the title and behind the copy button."""


def tone(outcome: str) -> str:
    """The colour class of an outcome."""
    return TONES.get(outcome, "calm")


def shape(outcome: str) -> str:
    """The name of an outcome's shape."""
    return SHAPES.get(outcome, "dot")


def action(value: str) -> str:
    """An action as people say it."""
    return ACTIONS.get(value, value)


def actor_source(value: str) -> str:
    """How an actor was established, as people say it."""
    return SOURCES.get(value, value)


def short_digest(digest: str) -> str:
    """``sha256:`` is left out; another algorithm is named."""
    algorithm, colon, code = digest.partition(":")
    if not colon:
        return digest
    return code[:SHORT_DIGEST] if algorithm == "sha256" else f"{algorithm}:{code[:SHORT_DIGEST]}"


def size(octets: int | None) -> str:
    """Bytes for people, in powers of 1024; empty where they are not known."""
    if octets is None:
        return ""
    return humanize.naturalsize(octets, binary=True).replace("Byte", "byte")


def count(number: int) -> str:
    """A number with thousands apart."""
    return f"{number:,}"


def _utc(milliseconds: int) -> datetime:
    # Far outside any real time (a broken record) is still shown, at the calendar's edge.
    seconds = min(max(milliseconds / 1000, 0), 253402300799)
    return datetime.fromtimestamp(seconds, UTC)


def iso(milliseconds: int) -> str:
    """``2026-11-23T18:53:22.123Z``."""
    return _utc(milliseconds).strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"


def exact(milliseconds: int) -> str:
    """The exact time in UTC, for people."""
    return _utc(milliseconds).strftime("%Y-%m-%d %H:%M:%S.") + f"{milliseconds % 1000:03d} UTC"


def moment(milliseconds: int) -> str:
    """A time to the second in UTC; the script shows it in the viewer's zone."""
    return _utc(milliseconds).strftime("%Y-%m-%d %H:%M:%S UTC")


_SECOND = 1000
_SHOWN_IN_MS = 10 * _SECOND
_STEPS = ((86_400_000 * 2, 86_400_000, "d"), (3_600_000, 3_600_000, "h"), (60_000, 60_000, "min"), (0, 1000, "s"))


_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (_SECOND, "s"))


def ago(milliseconds: int, now: int) -> str:
    """How long ago, in one unit: ``just now``, ``40 s ago``, ``3 h ago``, ``12 d ago``."""
    passed = now - milliseconds
    if passed < _SECOND:
        return "just now"
    return next(f"{passed // unit} {name} ago" for least, unit, name in _STEPS if passed >= least)


def left(until: int, now: int) -> str:
    """How long until then, in two units, never more than is left: ``40 s``, ``3 h 12 min``, ``12 d``."""
    remaining, parts = max(until - now, 0), []
    for unit, name in _UNITS:
        count, remaining = divmod(remaining, unit)
        parts += [f"{count} {name}"] if count else []
    return " ".join(parts[:2]) or "0 s"


def duration(milliseconds: int | None) -> str:
    """How long something took."""
    if milliseconds is None:
        return ""
    return f"{milliseconds} ms" if milliseconds < _SHOWN_IN_MS else f"{milliseconds / _SECOND:.1f} s"


_SHORT_FORMS = {"time": "%H:%M", "weekday": "%a %H:%M", "day": "%-d %b"}


def short_moment(milliseconds: int, form: str) -> str:
    """A time below a chart, in UTC and without seconds: ``18:30``, ``Sat 18:30`` or ``21 Nov``."""
    return _utc(milliseconds).strftime(_SHORT_FORMS[form])


_THOUSANDS = 100_000


def scale_number(number: int) -> str:
    """A round number beside a chart: ``500``, ``20,000``, ``200k``."""
    return f"{number:,}" if number < _THOUSANDS else f"{number // 1000:,}k"


def iso_seconds(milliseconds: int) -> str:
    """``2026-11-23T18:53:22Z``, as a search takes it; part of a second is dropped."""
    return _utc(milliseconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_minutes(milliseconds: int) -> str:
    """``2026-11-23 18:53``, in UTC."""
    return _utc(milliseconds).strftime("%Y-%m-%d %H:%M")


_MEDIA_TYPES = {
    "application/vnd.oci.image.index.v1+json": "index",
    "application/vnd.docker.distribution.manifest.list.v2+json": "index, Docker",
    "application/vnd.oci.image.manifest.v1+json": "image",
    "application/vnd.docker.distribution.manifest.v2+json": "image, Docker",
    "application/vnd.oci.image.layer.v1.tar": "tar",
    "application/vnd.oci.image.layer.v1.tar+gzip": "tar, gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "tar, zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "tar, Docker",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "tar, gzip, Docker",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "tar, gzip, kept elsewhere",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "tar, gzip, kept elsewhere",
}


def short_media_type(media_type: str) -> str:
    """A media type in a word or two where it is a usual one."""
    return _MEDIA_TYPES.get(media_type, media_type)


def sentence(text: str) -> str:
    """With a capital letter and a full stop, unless it ends with a mark of its own."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?', '!')) else '.'}"
