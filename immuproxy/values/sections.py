"""What the rooms' settings models share: their base, and fields with a spelling of their own.  No I/O here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from immuproxy.values.durations import parse_duration
from immuproxy.values.listen import Listen, parse_listen
from immuproxy.values.networks import Network, parse_network

BASE = "base"
"""The key of pydantic's validation context under which the folder of the file stands."""


class Settings(BaseModel):
    """One section of the configuration file: unknown keys are errors, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)


def _from_text(parse: Callable[[str], Any]) -> BeforeValidator:
    """Read a text by its parser; a bare number gets the parser's message, which says what is missing."""

    def read(value: Any) -> Any:
        if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
            return parse(str(value))
        return value

    return BeforeValidator(read)


def _seconds(text: str) -> float:
    return parse_duration(text) / 1_000


def _some_seconds(text: str) -> float:
    seconds = _seconds(text)
    if not seconds:
        raise ValueError("a duration of nothing is of no use here; write one such as 10s")
    return seconds


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get(BASE)
    return Path(base) / path if base is not None else path


def parse_origin(url: str) -> str:
    """``http://host:port`` or ``https://``, nothing more; raises `ValueError` with what is too much."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("this is no URL; write it as http://HOST:PORT") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError("the URL must begin with http:// or https:// and name a host; write it as http://HOST:PORT")
    if "@" in parts.netloc:
        raise ValueError("the URL must not hold credentials; use the keys username and password")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or url.endswith(("?", "#")):
        raise ValueError(f"the URL must end after the port; write {parts.scheme}://{parts.netloc}")
    if port == 0 or not parts.netloc.isascii() or any(character.isspace() for character in url):
        raise ValueError("this is no URL that can be reached; write it as http://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc}"


def parse_upstream(url: str) -> str:
    """As `parse_origin`, or ``unix:///path`` of a socket; raises `ValueError` with what is wrong."""
    if not url.startswith("unix:"):
        return parse_origin(url)
    path = url.removeprefix("unix://")
    if not path.startswith("/") or path.endswith("/") or "?" in path or "#" in path:
        raise ValueError("this names no socket; write it as unix:///PATH, such as unix:///run/registry/registry.sock")
    return url


Seconds = Annotated[float, _from_text(_some_seconds)]
"""A duration such as ``10s``, in seconds."""

SecondsOrNone = Annotated[float, _from_text(_seconds)]
"""The same, where ``0s`` has a meaning of its own."""

ListenAddress = Annotated[Listen, _from_text(parse_listen)]
"""``host:port``, IPv6 in brackets."""

Networks = tuple[Annotated[Network, _from_text(parse_network)], ...]
"""A list of networks in CIDR form."""

FilePath = Annotated[Path, AfterValidator(_beside_the_file)]
"""A path; a relative one starts at the folder of the configuration file."""

Origin = Annotated[str, AfterValidator(parse_origin)]
"""Scheme, host and port of a URL."""

UpstreamUrl = Annotated[str, AfterValidator(parse_upstream)]
"""Scheme, host and port of a URL, or the path of a Unix socket."""

Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0)]


class TlsSettings(Settings):
    """Certificate chain and private key, in PEM files."""

    cert: FilePath
    key: FilePath
