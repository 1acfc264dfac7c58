"""The stylesheets, scripts, templates and the API's description, read from the package when it is loaded.

So no request ever waits for a disk, and no request can name a file that is not one of these.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, cast

import yaml

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file; ``version`` changes with its bytes."""

    name: str
    content_type: str
    body: bytes
    version: str

    @property
    def url(self) -> str:
        """Where the pages load it from; it may be kept for ever there."""
        return f"/static/{self.name}?v={self.version}"


def _asset(name: str, body: bytes) -> Asset:
    suffix = name[name.rfind(".") :]
    return Asset(name, _TYPES[suffix], body, hashlib.sha256(body).hexdigest()[:12])


def _static() -> dict[str, Asset]:
    found = files("immuproxy.console").joinpath("static").iterdir()
    return {file.name: _asset(file.name, file.read_bytes()) for file in found if file.is_file()}


def _templates() -> dict[str, str]:
    """Those that views share, by their names, and each view's own, by its folder and name: ``audit/event.html``."""
    return {
        file.name if folder.name == "templates" else f"{folder.name}/{file.name}": file.read_text(encoding="utf-8")
        for folder in files("immuproxy.console").iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
        if file.name.endswith(".html")
    }


@cache
def openapi() -> dict[str, Any]:
    """The API's description, of the form OpenAPI 3.1; the first call takes some ten milliseconds of the processor."""
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # in Python it takes ten times as long
    return cast("dict[str, Any]", yaml.load(_OPENAPI, Loader=loader))  # noqa: S506  # both are safe loaders


STATIC = _static()
TEMPLATES = _templates()
_OPENAPI = files("immuproxy.console").joinpath("openapi.yaml").read_text(encoding="utf-8")
