"""What an image says of itself: its config, with labels and annotations.  PURE.

All of it was written by whoever built the image.  Values of environment variables are not shown: they hold secrets more
often than they should.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from immuproxy.console.manifests.document import MOST_PAIRS, pairs_of, read_object, text_of

MOST_CONFIG = 1024 * 1024
"""Bytes of a config that are read; real ones have some ten thousand."""

_PREFIX = "org.opencontainers.image."
_ORIGIN = ("title", "description", "version", "revision", "source", "url", "documentation", "vendor", "licenses")
_ORIGIN_NAMES = {name: _PREFIX + name for name in _ORIGIN} | {
    "base_name": f"{_PREFIX}base.name",
    "base_digest": f"{_PREFIX}base.digest",
    "created": f"{_PREFIX}created",
}


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image's config.  ``fields`` are what it is run with, by the names that people know; ``environment`` has the
    values, to be compared and not to be shown.
    """

    created: str = ""
    platform: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    steps: int = 0


def read_config(body: bytes) -> ImageConfig | None:
    """Read a config (image specification, "Image Configuration"); None where the bytes are none."""
    read = read_object(body)
    if read is None:
        return None
    inner = read.get("config")
    run = inner if isinstance(inner, dict) else {}
    history = read.get("history")
    return ImageConfig(
        created=text_of(read.get("created")),
        platform="/".join(filter(None, (text_of(read.get(key)) for key in ("os", "architecture", "variant")))),
        labels=pairs_of(run.get("Labels")),
        fields={name: text for name, text in _fields(read, run).items() if text},
        environment=_environment(run.get("Env")),
        steps=len(history) if isinstance(history, list) else 0,
    )


def _fields(read: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, str]:
    return {
        "entrypoint": _words(run.get("Entrypoint")),
        "command": _words(run.get("Cmd")),
        "user": text_of(run.get("User")),
        "working directory": text_of(run.get("WorkingDir")),
        "exposed ports": _names(run.get("ExposedPorts")),
        "volumes": _names(run.get("Volumes")),
        "stop signal": text_of(run.get("StopSignal")),
        "health check": _words(_inside(run.get("Healthcheck"), "Test")),
        "author": text_of(read.get("author")),
    }


def _inside(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _words(value: Any) -> str:
    """A command as its words, so that it is clear where each ends."""
    if isinstance(value, str):
        return text_of(value)
    words = [text_of(word) for word in value if isinstance(word, str)] if isinstance(value, list) else []
    return text_of(json.dumps(words, ensure_ascii=False)) if words else ""


def _names(value: Any) -> str:
    return text_of(", ".join(sorted(text_of(name) for name in value))) if isinstance(value, dict) else ""


def _environment(value: Any) -> dict[str, str]:
    lines = [line for line in value if isinstance(line, str)] if isinstance(value, list) else []
    pairs = (line.partition("=") for line in lines[:MOST_PAIRS])
    return {text_of(name): text for name, _, text in pairs}


def origin(annotations: Mapping[str, str], config: ImageConfig | None) -> dict[str, Any]:
    """Where an image comes from, as it says itself: the annotations of its manifest, else the labels of its config.

    ``created`` is a time in ms where it is one; ``source_href`` and the like are addresses that may be led to.
    """
    labels = config.labels if config else {}
    said = {name: annotations.get(key) or labels.get(key, "") for name, key in _ORIGIN_NAMES.items()}
    created = said.pop("created") or (config.created if config else "")
    links = {f"{name}_href": web_address(said[name]) for name in ("source", "url", "documentation")}
    return {**said, **links, "created": moment_of(created), "created_text": created}


def moment_of(text: str) -> int | None:
    """A time as images write it (RFC 3339) in milliseconds; None where it is none, or before 1970."""
    try:
        read = datetime.fromisoformat(text)
        moment = read.replace(tzinfo=read.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return int(moment * 1000) if moment >= 0 else None


_VISIBLE = re.compile(r"[!-~]{1,2000}", re.ASCII)


def web_address(text: str) -> str:
    """The text where it is an address of the web that a page may lead to; otherwise nothing.

    Only http and https, with a host, without a user, and nothing that a reader could not see.
    """
    if not _VISIBLE.fullmatch(text):
        return ""
    try:
        parts = urlsplit(text)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return ""
    return text if fine else ""


def image_dict(config: ImageConfig) -> dict[str, Any]:
    """A config as it is shown."""
    return {
        "platform": config.platform,
        "fields": dict(config.fields),
        "environment": list(config.environment),
        "labels": dict(config.labels),
        "steps": config.steps,
    }
