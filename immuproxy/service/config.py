"""The configuration file: the rooms' settings and the rules, all errors at once, each with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from immuproxy.console.settings import ConsoleSettings
from immuproxy.edge.settings import EdgeSettings, UpstreamSettings
from immuproxy.rules.document import SERVER_SECTIONS, check_sections, digest_of, read_rules
from immuproxy.rules.model import RuleSet
from immuproxy.rules.problems import DocumentErrors, FileProblem, Findings, Located, did_you_mean, one_of
from immuproxy.rules.source import MAX_BYTES, Mapping, Node, Scalar, Sequence, compose, decode, describe, plain_value
from immuproxy.store.settings import RedisSettings
from immuproxy.values.sections import BASE, FilePath, Settings

MASK = "********"
STATE = "STATE_DIRECTORY"
"""The environment variable in which systemd says where a service may keep files (``StateDirectory=``)."""

_INDEX = "audit"
"""The folder of the audit's index, among other files of the proxy."""

_SECRET_KEYS = frozenset({"password"})
_URL_PASSWORD = re.compile(r"(://[^:@/\s]*:)\S*(?=@)")


class LogSettings(Settings):
    """``console`` is for people at a terminal, ``json`` for everything else."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class AuditSettings(Settings):
    """``index``: the folder of the audit's index; None keeps it in memory, the newest events only."""

    index: FilePath | None = None


class _Sections(Settings):
    upstream: UpstreamSettings
    redis: RedisSettings
    edge: EdgeSettings = EdgeSettings()
    console: ConsoleSettings = ConsoleSettings()
    audit: AuditSettings = AuditSettings()
    log: LogSettings = LogSettings()


@dataclass(frozen=True, slots=True)
class Config:
    """One version of the file, read.

    ``source`` names the file, ``digest`` is ``sha256:`` of its bytes, ``shown`` its text with passwords masked.
    ``audit.index`` is the folder that is used where the file names none, too.
    """

    upstream: UpstreamSettings
    edge: EdgeSettings
    console: ConsoleSettings
    redis: RedisSettings
    audit: AuditSettings
    log: LogSettings
    rules: RuleSet
    source: str
    digest: str
    shown: str = field(repr=False)
    warnings: tuple[FileProblem, ...] = ()


def load_config(path: Path | str) -> Config:
    """Read the file at ``path``; raises `OSError` where it cannot be read and `DocumentErrors` where it is wrong."""
    with Path(path).open("rb") as file:
        data = file.read(MAX_BYTES + 1)  # one more than allowed shows that it is too large
    return parse_config(data, str(path))


def parse_config(data: bytes, source: str) -> Config:
    """Read a configuration; raises `DocumentErrors` with all that is wrong.

    ``source`` is what messages call the file; relative paths in it start at its folder.
    """
    findings = Findings()
    top = compose(data, source, findings)
    check_sections(top, findings)
    digest = digest_of(data)
    rules = read_rules(top, findings, source, digest)
    sections = _read_sections(top, Path(source).parent, findings)
    if sections is not None:
        _check_together(sections, top, findings)
    if sections is None or findings.errors:
        raise DocumentErrors(source, findings.errors, findings.warnings)
    return Config(
        upstream=sections.upstream,
        edge=sections.edge,
        console=sections.console,
        redis=sections.redis,
        audit=AuditSettings(index=sections.audit.index or _state_folder(sections)),
        log=sections.log,
        rules=rules,
        source=source,
        digest=digest,
        shown=_masked(decode(data, source), top),
        warnings=tuple(sorted(findings.warnings)),
    )


def _read_sections(top: Mapping, base: Path, findings: Findings) -> _Sections | None:
    values = {key: plain_value(node) for key in SERVER_SECTIONS if (node := top.get(key)) is not None}
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return _Sections.model_validate(given, context={BASE: base})
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=True, include_input=False):
            _report(details, top, findings)
        return None


def _state_folder(sections: _Sections) -> Path | None:
    """Where the index is kept unless the file says it: with what else the proxy keeps, else where systemd lets it."""
    states = os.environ.get(STATE, "").split(":")[0]
    folder = sections.redis.embedded or (Path(states) if states else None)
    return folder / _INDEX if folder else None


def _report(details: ErrorDetails, top: Mapping, findings: Findings) -> None:
    """One of pydantic's errors, in the words of this project."""
    place = [part for part in details["loc"] if not (isinstance(part, str) and "[" in part)]
    key = str(place[-1]) if place else ""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    node, key_node = _find(top, place)
    message, suggestion = _words(details, key, node)
    at: Located = key_node if details["type"] == "extra_forbidden" and key_node else node
    findings.error(at, message, suggestion, path)


def _find(top: Mapping, place: list[int | str]) -> tuple[Node, Scalar | None]:
    """The deepest node that exists on the way to a place, and the key by which it was reached."""
    node: Node = top
    key: Scalar | None = None
    for part in place:
        if isinstance(node, Mapping) and part in node.entries:
            key, node = node.entries[str(part)]
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        else:
            break
    return node, key


def _words(details: ErrorDetails, key: str, node: Node) -> tuple[str, str]:
    context: dict[str, Any] = details.get("ctx", {})
    match details["type"]:
        case "missing":
            return f'"{key}" is missing', _EXAMPLES.get(key, "")
        case "extra_forbidden":
            known = _known_keys(details["loc"][:-1])
            return f'unknown key "{key}"', did_you_mean(key, known) or f"known keys are {', '.join(known)}"
        case "literal_error":
            words = re.findall(r"'([^']*)'", str(context.get("expected", "")))
            near = did_you_mean(node.text, words) if isinstance(node, Scalar) else ""
            return f"{key} is {one_of(words)}", near
        case "value_error":
            message, _, suggestion = str(context.get("error", details["msg"])).partition("; ")
            return message, suggestion
        case "greater_than_equal":
            return f"{key} is at least {context.get('ge')}", ""
        case _:
            return _wrong_type(details["type"], key, node)


_EXAMPLES = {
    "upstream": "write upstream: {url: http://HOST:PORT}",
    "redis": "write redis: {url: redis://HOST:6379/0}, or {embedded: DIRECTORY} for a private server",
}
_WANTED = {
    "model_type": "a mapping (key: value)",
    "tuple_type": "a list",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a duration such as 10s",
}


def _wrong_type(kind: str, key: str, node: Node) -> tuple[str, str]:
    if isinstance(node, Scalar) and kind not in _WANTED and node.kind not in {"text", "empty"}:
        word = "it" if key in _SECRET_KEYS else f'"{node.text}"'
        return (
            f"{key} is text, but this is {node.kind} to YAML",
            f"quote {word}" if word == "it" else f"quote it: {word}",
        )
    return f"{key} is {_WANTED.get(kind, 'text')}, not {describe(node)}", ""


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at a place."""
    model: type[Settings] = _Sections
    for part in place:
        found = model.model_fields.get(str(part))
        inner = next(_models(found.annotation), None) if found else None
        if inner is not None:
            model = inner
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[Settings]]:
    """The settings models in an annotation such as ``TlsSettings | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)


def _check_together(sections: _Sections, top: Mapping, findings: Findings) -> None:
    """What only shows when sections are seen side by side."""
    edge, console = sections.edge.listen, sections.console.listen
    if edge == console and edge.port:
        node, _ = _find(top, ["console", "listen"])
        findings.error(
            node, f"edge and console both listen on {edge}", "give one of them another port", "console.listen"
        )
    if not console.is_loopback and sections.console.auth is None:
        node, _ = _find(top, ["console", "listen"])
        message = f"the console listens on {console} and has no auth: whoever reaches it can read the audit log"
        findings.warn(node, message, path="console.listen")
    if not console.is_loopback and sections.console.auth is not None and _passwords_are_plain(sections.console):
        node, _ = _find(top, ["console", "listen"])
        message = f"the console listens on {console} without TLS, so passwords can be read on their way to it"
        findings.warn(node, message, "give console.tls, or name the proxy in auth.trusted_proxies", "console.listen")
    if sections.audit.index is not None and sections.audit.index == sections.redis.embedded:
        node, _ = _find(top, ["audit", "index"])
        findings.error(
            node, "audit.index and redis.embedded are one folder", "give the index another folder", "audit.index"
        )
    if sections.upstream.url in {f"http://{edge}", f"https://{edge}"}:
        node, _ = _find(top, ["upstream", "url"])
        findings.error(
            node, "upstream.url is the address of the edge itself", "name the registry behind it", "upstream.url"
        )


def _passwords_are_plain(console: ConsoleSettings) -> bool:
    auth = console.auth
    return auth is not None and auth.users_file is not None and console.tls is None and not auth.trusted_proxies


def _masked(text: str, top: Mapping) -> str:
    """The text of the file without passwords."""
    for scalar, replacement in sorted(_secrets(text, top).items(), key=lambda secret: -secret[0].start):
        text = text[: scalar.start] + replacement + text[scalar.end :]
    return text


def _secrets(text: str, top: Mapping) -> dict[Scalar, str]:
    """Values that must not be shown, with what to show instead."""
    secrets: dict[Scalar, str] = {}
    seen: set[tuple[str, Node]] = set()
    waiting: list[tuple[str, Node]] = [(key, value) for key, (_, value) in top.entries.items() if key != "rules"]
    while waiting:
        key, node = place = waiting.pop()
        if isinstance(node, Mapping) and place not in seen:
            waiting += [(inner, value) for inner, (_, value) in node.entries.items()]
        elif isinstance(node, Scalar):
            written = text[node.start : node.end]
            if key in _SECRET_KEYS:
                secrets[node] = MASK
            elif _URL_PASSWORD.search(written):
                secrets.setdefault(node, _URL_PASSWORD.sub(rf"\g<1>{MASK}", written))
        seen.add(place)
    return secrets
