"""The rules in force: read from the file, read again when it changes, without a restart; settings go to their taker.

A good new version takes effect and is recorded as an event with its digest; a bad one is logged with its lines,
counted, shown in the console, and the old one stays in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import structlog

from immuproxy.console.sources import RulesInForce
from immuproxy.edge import record
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from immuproxy.ledger.proxies import Proxies
from immuproxy.rules.fingerprint import fingerprint
from immuproxy.rules.model import RuleSet
from immuproxy.rules.problems import DocumentErrors
from immuproxy.rules.source import MAX_BYTES
from immuproxy.service.config import Config, parse_config
from immuproxy.store.redis import LedgerUnavailableError
from immuproxy.telemetry.metrics import Metrics
from immuproxy.values import plain_files

log = structlog.get_logger("immuproxy.rules")

COMPARED_EVERY = 10.0
"""Seconds between two comparisons with the other proxies."""

Append = Callable[[Event], Awaitable[object]]

Take = Callable[[Config], tuple[str, ...]]
"""Takes the settings of a new version; the keys that need a restart."""


class LiveRules:
    """Holds the rule set in force and follows its file."""

    def __init__(self, path: Path, config: Config, metrics: Metrics, take: Take) -> None:
        """``config``: what was read from ``path``; ``take`` gets each later version."""
        self._path = path
        self._take = take
        self._metrics = metrics
        self._seen = config.digest
        self._differ = False
        self._state = _in_force(config)
        self._fingerprint = fingerprint(config.rules)
        self._untold: list[Event] = [_event(Outcome.LOADED, config.digest, f"{path.name} at the start")]

    def begin_with(self, latest: Config) -> None:
        """What the other processes of the proxy have in force, where it was started with another version (H142)."""
        if latest.digest != self._seen:
            self._seen = latest.digest
            self._load(latest, fingerprint(latest.rules))

    @property
    def state(self) -> RulesInForce:
        """The rules with their text, since when, and why a newer file is not in force."""
        return self._state

    def __call__(self) -> RuleSet:
        """The rule set in force."""
        return self._state.rules

    async def compare(self, replicas: Proxies) -> None:
        """Compare with the other proxies for ever (H57); cancel it to stop."""
        try:
            while True:
                with contextlib.suppress(LedgerUnavailableError):
                    self._say_whether_rules_differ(await replicas.announce(self._fingerprint))
                await asyncio.sleep(COMPARED_EVERY)
        finally:
            with contextlib.suppress(LedgerUnavailableError):
                await replicas.leave()

    def _say_whether_rules_differ(self, digests: frozenset[str]) -> None:
        differ = len(digests) > 1
        self._metrics.rules_differ.set(differ)
        if differ and not self._differ:
            log.error("another proxy on this Redis has other rules; give all of them the same file")
        self._differ = differ

    async def look(self) -> None:
        """Read the file if it changed."""
        try:
            content = await asyncio.to_thread(plain_files.read, self._path, MAX_BYTES)
        except OSError as error:
            self._reject(f"{self._path.name} cannot be read: {error.strerror}")
            return
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if digest == self._seen:
            return
        self._seen = digest
        try:
            config = await asyncio.to_thread(parse_config, content, str(self._path))
        except DocumentErrors as errors:
            self._reject(str(errors))
            return
        self._load(config, await asyncio.to_thread(fingerprint, config.rules))

    def _load(self, config: Config, print_: str) -> None:
        waiting = self._take(config)
        self._state = _in_force(config, waiting)
        self._metrics.rules_reloads.labels("loaded").inc()
        same = print_ == self._fingerprint
        said = "configuration loaded; the rules are the same" if same else "configuration loaded with other rules"
        log.info(said, file=self._path.name, digest=config.digest, rules=len(config.rules.rules))
        self._fingerprint = print_
        restart = f"; only after a restart: {', '.join(waiting)}" if waiting else ""
        self._untold.append(_event(Outcome.LOADED, config.digest, f"{self._path.name} changed{restart}"))

    def _reject(self, problem: str) -> None:
        if self._state.error == problem:
            return
        self._state = replace(self._state, error=problem)
        self._metrics.rules_reloads.labels("rejected").inc()
        log.error("new rules rejected; the old ones stay in force", file=self._path.name, problem=problem)
        self._untold.append(_event(Outcome.REJECTED, self._state.rules.digest, problem))

    async def tell(self, append: Append) -> None:
        """Record what is not recorded yet; while Redis is away it waits here."""
        try:
            while self._untold:
                await append(self._untold[0])
                self._untold.pop(0)
        except LedgerUnavailableError:
            return


def _in_force(config: Config, waiting: tuple[str, ...] = ()) -> RulesInForce:
    """The rules, with the file's text as it may be shown: passwords masked."""
    return RulesInForce(config.rules, config.shown, record.now_ms(), restart_needed=waiting)


def _event(outcome: Outcome, digest: str, reason: str) -> Event:
    return Event(
        id=new_event_id(),
        time=record.now_ms(),
        action=Action.RULES,
        outcome=outcome,
        digest=digest,
        reason=reason,
        actor_source=ActorSource.PROXY,
    )
