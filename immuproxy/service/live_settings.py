"""The settings beside the rules: what takes effect while the proxy runs, and what waits for a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import structlog

from immuproxy.edge.handler import ClientAddressing
from immuproxy.rules.document import SERVER_SECTIONS
from immuproxy.service.config import Config
from immuproxy.telemetry import logs
from immuproxy.telemetry.metrics import Metrics
from immuproxy.values.sections import Settings

log = structlog.get_logger("immuproxy")

LIVE = frozenset(
    [
        *("edge.trusted_proxies", "edge.external_url", "edge.tls.cert", "edge.tls.key"),
        *("console.tls.cert", "console.tls.key"),
        *("upstream.timeouts.connect", "upstream.timeouts.idle", "upstream.trust"),
        *("log.level", "log.format"),
    ]
)
"""Keys that take effect at once; `upstream.timeouts.manifest` does not: the leases of claims follow from it."""

Use = Callable[[Config], None]
"""Told each new version, to take from it what is its own."""


class LiveSettings:
    """The settings in force."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        """``config``: the version that the proxy was started with."""
        self._started = flat(config)
        self._config = config
        self._waiting: tuple[str, ...] = ()
        self._gauge = metrics.restart_needed
        self._users: list[Use] = []

    @property
    def door(self) -> ClientAddressing:
        """How clients reach the edge."""
        return ClientAddressing(self._config.edge.trusted_proxies, self._config.edge.external_url)

    @property
    def trust(self) -> float:
        """For how many seconds the upstream need not be asked again who may pull."""
        return self._config.upstream.trust

    def used_by(self, use: Use) -> None:
        """``use`` takes its part of each version to come."""
        self._users.append(use)

    def take(self, config: Config) -> tuple[str, ...]:
        """A new version of the file; the keys that were changed since the start and need a restart."""
        if config.log != self._config.log:
            logs.configure(level=config.log.level, form=config.log.format)
        self._config = config
        for use in self._users:
            use(config)
        waiting = tuple(sorted(changed(self._started, flat(config)) - LIVE))
        self._gauge.set(len(waiting))
        if waiting and waiting != self._waiting:
            log.warning("settings were changed that need a restart; until then the old ones are in force", keys=waiting)
        self._waiting = waiting
        return waiting


def flat(config: Config) -> dict[str, Any]:
    """Every setting by its place in the file, such as ``upstream.timeouts.connect``."""
    return {key: value for name in SERVER_SECTIONS for key, value in _flat(name, getattr(config, name))}


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Settings):
        yield place, value
        return
    for name in type(value).model_fields:
        yield from _flat(f"{place}.{name}", getattr(value, name))


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """The keys with another value; of a section that came or went, only its own name."""
    keys = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    whole = {key for key in before.keys() ^ after.keys() if _is_section(key, before, after)}
    return {key for key in keys if not any(key.startswith(f"{section}.") for section in whole)} | whole


def _is_section(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a key stands on one side for what has keys of its own on the other."""
    return any(other.startswith(f"{key}.") for other in before.keys() | after.keys())
