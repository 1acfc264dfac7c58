"""The files that a configuration names: are they there, can they be read, and are they what they are taken for?

Only ``immuproxy check`` asks; what serves opens each of them itself.  Nothing that stands in a file is repeated.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from immuproxy.rules.document import SERVER_SECTIONS
from immuproxy.rules.problems import Findings, Located
from immuproxy.rules.source import Mapping, compose
from immuproxy.service.config import Config
from immuproxy.values.sections import Settings

MAX_BYTES = 1024 * 1024
"""Of any of them; certificate chains and users files have some kilobytes."""

Place = tuple[str, ...]
_INDEX: Place = ("audit", "index")


class _UnfitError(Exception):
    """What is wrong with a file."""


def look_at_files(config: Config, data: bytes, findings: Findings) -> None:
    """Report what is wrong with the files that ``config`` names; ``data`` are the bytes it was read from."""
    top = compose(data, config.source, Findings())
    for section in SERVER_SECTIONS:
        for place, check in _checks(getattr(config, section), (section,)):
            try:
                check()
            except _UnfitError as unfit:
                findings.error(_node(top, place), str(unfit), path=".".join(place))
    _look_at_index(top, config, findings)


def _look_at_index(top: Mapping, config: Config, findings: Findings) -> None:
    """Where the file names the folder of the audit's index: the proxy runs without it, so it is no error."""
    folder = config.audit.index
    node = _node(top, _INDEX)
    if folder is None or node is _node(top, _INDEX[:-1]):
        return
    there = next(path for path in (folder, *folder.parents) if path.exists())
    why = (
        "is no folder" if not there.is_dir() else "" if os.access(there, os.W_OK | os.X_OK) else "cannot be written to"
    )
    if why:
        message = f"{there} {why}, so the audit's index would be kept in memory, the newest events only"
        findings.warn(node, message, path=".".join(_INDEX))


def _checks(settings: Settings, at: Place) -> Iterator[tuple[Place, Callable[[], object]]]:
    """The files of one section, and of those in it, each with the way to look at it."""
    named = {key: getattr(settings, key) for key in type(settings).model_fields}
    for key, value in named.items():
        if isinstance(value, Settings):
            yield from _checks(value, (*at, key))
        elif isinstance(value, Path) and (key in {"cert", "key"} or key.endswith("_file")):
            yield (*at, key), _check_of(key, value, named)


def _check_of(key: str, path: Path, beside: dict[str, Any]) -> Callable[[], object]:
    match key:
        case "cert":
            return lambda: _pair(path, beside.get("key"))
        case "ca_file":
            return lambda: _authority(path)
        case "users_file":
            return lambda: _users(path)
        case "key":
            return lambda: _bytes(path)
        case _:
            return lambda: _secret(path)


def _node(top: Mapping, place: Place) -> Located:
    """Where a key's value stands, or the deepest mapping on the way to it."""
    node: Located = top
    for key in place:
        inner = node.get(key) if isinstance(node, Mapping) else None
        node = inner or node
    return node


def _bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise _UnfitError(f"{path} is no file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _UnfitError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise _UnfitError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
    return content


def _secret(path: Path) -> None:
    try:
        text = _bytes(path).decode()
    except UnicodeDecodeError:
        raise _UnfitError(f"{path} holds no text (UTF-8)") from None
    if not text.strip():
        raise _UnfitError(f"{path} is empty")


def _pair(cert: Path, key: Path | None) -> None:
    """A key that is not there has an error of its own."""
    _bytes(cert)
    if key is None or not key.is_file():
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        raise _UnfitError(f"{cert} and {key} cannot be used together: {_said(error)}") from None


def _no_passphrase() -> str:
    """Nobody is there to type one where the proxy runs."""
    raise ValueError("the key is locked with a passphrase")


def _authority(path: Path) -> None:
    _bytes(path)
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise _UnfitError(f"{path} holds no certificate of an authority: {_said(error)}") from None


def _said(error: Exception) -> str:
    """OpenSSL's reason, such as KEY_VALUES_MISMATCH, in small letters."""
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else str(error)


def _users(path: Path) -> None:
    from immuproxy.console.access.users import UsersFileError, read_users  # noqa: PLC0415  # brings aiohttp with it

    try:
        read_users(_bytes(path), str(path))
    except UsersFileError as error:
        raise _UnfitError(str(error).replace("\n", "; ")) from None
