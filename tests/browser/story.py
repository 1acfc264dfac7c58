"""A week in the life of a registry, for the pages to show: the same at each run, ending now."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from immuproxy.allow.exceptions import Exceptions
from immuproxy.audit.record import Record
from immuproxy.console.sources import RulesInForce
from immuproxy.ledger import keys
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome, StoredManifest
from immuproxy.ledger.register import Register
from tests.console.events import digest, in_force, now, push
from tests.support.conversation import sha256

HOUR = 3_600_000
DAY = 24 * HOUR
RULES = """\
# The rules of our registry.  The first that matches decides.
upstream: {url: http://registry:5000}
edge:     {listen: 0.0.0.0:5000}
redis:    {url: redis://proxy:secret@redis:6379/0}

default: immutable

rules:
  - name: moving-tags
    tags: [latest, main, "dev-*"]
    policy: mutable
  - name: releases
    repositories: ["team/**", "platform/**", "!team/sandbox/**"]
    tags: ["semver:>=1.0.0"]
    policy: immutable
    overwrite:
      - {users: [release-bot], within: 15m}
  - name: archive
    repositories: ["archive/**"]
    policy: frozen
"""
REPOSITORIES = ("team/app", "team/api", "platform/gateway", "platform/auth", "data/etl/ingest", "web/shop")
WEIGHTS = (8, 6, 4, 3, 3, 5)
TAGS = ("1.4.0", "1.4.1", "1.5.0", "2.0.0-rc.1", "main", "latest")
ACTORS = ("ci", "ci", "ci", "release-bot", "mira", "jonas")
INDEX = "application/vnd.oci.image.index.v1+json"
MOVING = ("main", "latest")
LIFE = ("team/app", "1.6.0")


def rules() -> RulesInForce:
    return in_force(RULES)


def story() -> list[Event]:
    """All events, oldest first."""
    end = now()
    return sorted([*_everyday(end), *_life_of_a_tag(end), *_beside_it(end)], key=lambda event: event.time)


def _everyday(end: int) -> Iterator[Event]:
    chance = random.Random(5)
    times = sorted(end - int(chance.random() ** 1.6 * 6.5 * DAY) - 60_000 for _ in range(520))
    held: dict[tuple[str, str], str] = {}
    for time in times:
        repository = chance.choices(REPOSITORIES, WEIGHTS)[0]
        tag, actor = chance.choice(TAGS), chance.choice(ACTORS)
        variant = chance.randint(1, 3) if chance.random() < 0.3 else 0
        wanted = digest(f"{repository}:{tag}:{variant}:{time // DAY if tag in MOVING else 0}")
        before = held.get((repository, tag), "")
        outcome = _outcome(tag, before, wanted)
        if outcome in (Outcome.CREATED, Outcome.OVERWRITTEN):
            held[repository, tag] = wanted
        yield _told(chance, outcome, time, repository, tag, wanted, before, actor)


def _outcome(tag: str, before: str, wanted: str) -> Outcome:
    if not before:
        return Outcome.CREATED
    if before == wanted:
        return Outcome.UNCHANGED
    return Outcome.OVERWRITTEN if tag in MOVING else Outcome.REFUSED


def _told(chance: random.Random, outcome: Outcome, time: int, *what: str) -> Event:
    repository, tag, wanted, before, actor = what
    refusal = (
        f"{repository}:{tag} cannot be overwritten because the tag is immutable: rule releases (line 12), "
        f"it holds {before[:19]}"
    )
    return push(
        outcome,
        time=time,
        repository=repository,
        tag=tag,
        digest=wanted,
        previous_digest=before,
        media_type=INDEX,
        platforms=("linux/amd64", "linux/arm64"),
        size=chance.randint(10**7, 3 * 10**8),
        rule="moving-tags" if tag in MOVING else "releases",
        rule_line=9 if tag in MOVING else 12,
        reason=refusal if outcome is Outcome.REFUSED else "",
        actor=actor,
        client_address=f"10.1.4.{chance.randint(2, 60)}",
        user_agent="docker/27.3.1 go/go1.22.7 os/linux arch/amd64",
        request_id=f"{chance.getrandbits(64):016x}",
        duration_ms=chance.randint(20, 900),
    )


def _beside_it(end: int) -> Iterator[Event]:
    """What happens seldom: a long tag is refused, shadow rules speak, deletes end in every way."""
    gateway: dict[str, Any] = {"repository": "platform/gateway", "tag": LONG_TAG, "rule": "referrers"}
    grown = "the tag may only grow: rule referrers (built in), the pushed index leaves out an entry of the one it holds"
    yield push(Outcome.REFUSED, time=end - 90_000, reason=f"platform/gateway:{LONG_TAG}: {grown}", **gateway)
    why = "rule archive (line 18) would refuse this: the tag is frozen"
    yield push(Outcome.OVERWRITTEN, time=end - HOUR, repository="web/shop", tag="latest", shadow=True, reason=why)
    blob: dict[str, Any] = {"action": Action.DELETE_BLOB, "tag": "", "media_type": "", "size": None, "rule": ""}
    for hours, (outcome, reason) in enumerate(_DELETES, 2):
        yield push(outcome, time=end - hours * HOUR, digest=digest(f"blob {hours}"), reason=reason, **blob)


_DELETES = (
    (Outcome.DELETED, "no protected tag needs it"),
    (Outcome.REFUSED, "a protected tag needs it"),
    (Outcome.MISSING, "the upstream answered 404: blob unknown"),
)


def _life_of_a_tag(end: int) -> Iterator[Event]:
    repository, tag = LIFE
    first, second = digest("life one"), digest("life two")

    def told(outcome: Outcome, time: int, wanted: str, **fields: Any) -> Event:
        known = {"repository": repository, "tag": tag, "media_type": INDEX, "rule_line": 12, "size": 187_654_321}
        return push(outcome, time=time, digest=wanted, **(known | fields))

    yield told(Outcome.CREATED, end - 5 * DAY, first)
    why = "allowed by rule releases (line 12): user release-bot, within 15m of the first push"
    yield told(
        Outcome.OVERWRITTEN, end - 5 * DAY + HOUR // 5, second, previous_digest=first, actor="release-bot", reason=why
    )
    yield told(Outcome.UNCHANGED, end - 4 * DAY, second)
    refusal = f"{repository}:{tag} cannot be overwritten because the tag is immutable: rule releases (line 12)"
    for number, (ago, actor) in enumerate([(40, "jonas"), (38, "jonas"), (20, "old-jenkins")]):
        yield told(
            Outcome.REFUSED,
            end - ago * HOUR,
            digest(f"other {number}"),
            previous_digest=second,
            actor=actor,
            actor_confirmed=actor == "jonas",
            reason=refusal,
        )
    nobody: dict[str, Any] = {"actor": "", "actor_source": ActorSource.ANONYMOUS, "actor_confirmed": False}
    nobody |= {"client_address": "", "user_agent": ""}
    yield told(
        Outcome.FOUND,
        end - 5 * HOUR,
        digest("behind our back"),
        previous_digest=second,
        action=Action.DRIFT,
        reason="the registry shows another digest than the ledger holds",
        **nobody,
    )
    yield told(Outcome.HEALED, end - 5 * HOUR + 2000, second, action=Action.REPAIR, **nobody)


PAIR = ("platform/base", ("1.0.0", "1.1.0"))
"""A repository, and two tags of images that can be compared."""

LONG_TAG = "sha256-" + "ab12" * 16 + ".att"
"""As long as the tags of attestations are."""


async def pair(register: Register) -> None:
    """Two images that differ in a layer and in what they say of themselves."""
    repository, tags = PAIR
    for number, tag in enumerate(tags):
        about = {f"org.opencontainers.image.{name}": value.format(tag) for name, value in _SAID.items()}
        layers = [_described("base", 4_012_345), _described(f"change {number}", 8_012_345)]
        manifest = {"schemaVersion": 2, "mediaType": IMAGE, "config": _described(f"config {number}", 1_681)}
        body = json.dumps(manifest | {"layers": layers, "annotations": about}).encode()
        event = push(repository=repository, tag=tag, digest=sha256(body), media_type=IMAGE, size=9_000_000)
        await _commit(register, event, 0, body)


IMAGE = "application/vnd.oci.image.manifest.v1+json"
_SAID = {
    "version": "{}",
    "revision": "{} of the branch that holds what was agreed upon, by the long name that people gave to it",
    "source": "https://git.example.com/platform/base/-/tree/{}",
}


def _described(name: str, size: int) -> dict[str, Any]:
    return {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(name), "size": size}


_PARTS = b"""{"schemaVersion":2,"mediaType":"%s","annotations":{"org.opencontainers.image.revision":"4be1c0d"},
"manifests":[
{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":1681,
 "platform":{"os":"linux","architecture":"amd64"}},
{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":1681,
 "platform":{"os":"linux","architecture":"arm64"}}]}"""


async def hold(register: Register) -> None:
    """Let the ledger hold what the story pushed under immutable tags.

    The story tells of these pushes already; carried into the audit as well, each would be there twice.
    """
    register = Register(register._store, register._epoch)  # one that wakes nobody who carries events
    held: dict[tuple[str, str], list[Event]] = {}
    for event in story():
        sets = event.outcome in (Outcome.CREATED, Outcome.OVERWRITTEN) and event.tag not in MOVING
        if sets:
            held.setdefault((event.repository, event.tag), []).append(event)
    for events in held.values():
        for generation, event in enumerate(events):
            await _commit(register, event, generation)
    for repository in {repository for repository, _ in held}:
        await register._store.do(register._store.client.delete(keys.outbox(repository)))


async def _commit(register: Register, event: Event, generation: int, written: bytes = b"") -> None:
    body = written or _PARTS % (INDEX.encode(), digest("amd64").encode(), digest("arm64").encode())
    content = Content(
        digest=event.digest,
        needs=frozenset({event.digest}),
        stored=(StoredManifest(event.digest, event.media_type, body),),
        media_type=event.media_type,
        size=event.size or 0,
        platforms=("linux/amd64", "linux/arm64"),
    )
    where = (event.repository, event.tag, content)
    over = (await register.read(event.repository, event.tag)).committed
    held = over.digest if over else ""
    await register.claim(*where, token="t", lease_ms=5000, over_generation=generation, over_digest=held)
    await register.arm(*where, token="t", lease_ms=5000, draft=event, closing=None)
    await register.commit(*where, token="t", event=event, first=not generation)
    moments: dict[Any, Any] = {"since": event.time} | ({"first": event.time} if not generation else {})
    await register._store.do(register._store.client.hset(keys.tag(event.repository, event.tag), mapping=moments))


async def trouble(register: Register) -> None:
    """Two tags that the registry shows otherwise, of which one could not be set right."""
    for repository, tag, seen, failure in TROUBLE:
        found = await register.read(repository, tag)
        held = found.committed.digest if found.committed else ""
        about: dict[str, Any] = {"repository": repository, "tag": tag, "previous_digest": held}
        about |= {"actor_source": ActorSource.PROXY}
        reason = (
            "the upstream shows other content under this tag" if seen else "the upstream does not give out this tag"
        )
        drift = Event(
            id=f"drift-{tag}", action=Action.DRIFT, outcome=Outcome.FOUND, digest=seen, reason=reason, **about
        )
        assert await register.open_drift(repository, tag, seen=seen, held=held, event=drift)
        if failure:
            tried = {**about, "digest": held, "previous_digest": seen}
            await register.record(
                Event(id=f"try-{tag}", action=Action.REPAIR, outcome=Outcome.FAILED, reason=failure, **tried)
            )
    for repository in REPOSITORIES[:5]:
        await register.comparisons.finish(repository)


TROUBLE = (
    ("platform/auth", "1.4.1", digest("somebody else's"), "the upstream answered 403: this account may not push"),
    ("team/api", "1.5.0", "", ""),
)


async def permissions(exceptions: Exceptions, record: Record) -> None:
    """Exceptions: one in force and used, one for a single image, one ended by hand, one whose time is over."""
    for number, (tag, lasts, who, why, only) in enumerate(PERMISSIONS):
        granted = _exception(Outcome.GRANTED, number, tag, who=who, why=why, only=only)
        await exceptions.grant(granted, lasts_ms=lasts)
        if not number:
            await record.append(_use(granted))
        if lasts < 2 * HOUR:
            exemption = await exceptions.of(granted.repository, granted.tag)
            assert exemption
            by_hand = number == 2
            reason = f"{'ended by hand' if by_hand else 'its time was over'}: {why}"
            ended = _exception(Outcome.ENDED, number, tag, who=who if by_hand else "", why=reason, only=only)
            await exceptions.end(exemption, ended)


PERMISSIONS: tuple[tuple[tuple[str, str], int, str, str, str], ...] = (
    (("team/app", "1.4.1"), 8 * HOUR, "anna", "rebuild without the debug key", ""),
    (("platform/gateway", "1.5.0"), 2 * HOUR, "mira", "security fix 2026-118", digest("the fixed one")),
    (("web/shop", "1.4.0"), HOUR, "anna", "base image had expired certificates", ""),
    (("team/api", "1.4.0"), 1, "mira", "signed with the wrong key", ""),
)


def _exception(outcome: Outcome, number: int, tag: tuple[str, str], *, who: str, why: str, only: str) -> Event:
    return Event(
        id=f"exception-{number}-{outcome}",
        action=Action.EXCEPTION,
        outcome=outcome,
        repository=tag[0],
        tag=tag[1],
        digest=only,
        reason=why,
        actor=who,
        actor_source=ActorSource.CONSOLE if who else ActorSource.PROXY,
        actor_confirmed=bool(who),
        rule="releases",
        rule_line=12,
    )


def _use(granted: Event) -> Event:
    why = f"a temporary exception allows it: event {granted.id}, granted by {granted.actor}: {granted.reason}"
    return push(
        Outcome.OVERWRITTEN,
        repository=granted.repository,
        tag=granted.tag,
        digest=digest("rebuilt"),
        previous_digest=digest("with the key"),
        actor="release-bot",
        rule_line=12,
        reason=why,
    )
