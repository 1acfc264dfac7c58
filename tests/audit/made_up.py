"""Made-up events in any number, the same for the same seed, and a quick way to fill an audit with them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from itertools import islice

from immuproxy.audit.record.project import take
from immuproxy.audit.record.rows import entry
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from immuproxy.store.redis import Store

DAY_MS = 86_400_000
START = 1_700_000_000_000
_AGENTS = (
    (
        "docker/27.3.1 go/go1.22.7 git-commit/41ca978 kernel/6.1.0-28-amd64 os/linux arch/amd64 "
        "UpstreamClient(Docker-Client/27.3.1 \\(linux\\))"
    ),
    "containers/5.32.2 (github.com/containers/image)",
    "go-containerregistry/v0.20.2",
    "buildkit/v0.17",
)
_RULES = ("releases", "moving-tags", "default", "archive", "referrers", "nightly builds")
_OUTCOMES = (
    (Action.PUSH, Outcome.CREATED, 55),
    (Action.PUSH, Outcome.UNCHANGED, 18),
    (Action.PUSH, Outcome.OVERWRITTEN, 14),
    (Action.PUSH, Outcome.REFUSED, 8),
    (Action.PUSH, Outcome.FAILED, 2),
    (Action.ADOPT, Outcome.ADOPTED, 1),
    (Action.DRIFT, Outcome.FOUND, 1),
    (Action.DELETE_TAG, Outcome.REFUSED, 1),
)


def digest_of(number: int) -> str:
    return "sha256:" + hashlib.sha256(str(number).encode()).hexdigest()


def repository_names(count: int) -> list[str]:
    """The names that events are made up for."""
    return [f"team-{number % 40}/{'sub/' * (number % 3)}app-{number}" for number in range(count)]


def made_up_events(
    count: int,
    *,
    seed: int = 1,
    repositories: int = 5_000,
    start: int = START,
    days: float = 90,
    popularity: int | None = None,
    first: int = 0,
) -> Iterator[Event]:
    """``count`` events evenly over ``days``; few repositories get most of them, and half of the tags are unique.

    ``popularity``: the seed that says which repositories those are.  ``first``: the number of the first event.
    """
    chance = random.Random(seed)
    names = repository_names(repositories)
    (chance if popularity is None else random.Random(popularity)).shuffle(names)
    weights = [1 / (rank + 10) for rank in range(repositories)]
    chosen = chance.choices(names, weights, k=count)
    outcomes = chance.choices(_OUTCOMES, [weight for _, _, weight in _OUTCOMES], k=count)
    for number, (repository, (action, outcome, _)) in enumerate(zip(chosen, outcomes, strict=True)):
        time = start + int(days * DAY_MS * number / count)
        yield _event(chance, first + number, time, repository=repository, action=action, outcome=outcome)


def _event(
    chance: random.Random, number: int, time: int, *, repository: str, action: Action, outcome: Outcome
) -> Event:
    refused = outcome is Outcome.REFUSED
    person = int(chance.expovariate(0.02))
    tag = chance.choice(
        ("latest", "main", f"v1.{chance.randrange(200)}.{chance.randrange(10)}", f"git-{number:07x}", f"b{number}")
    )
    return Event(
        id=f"{time:012x}{number & 0xFFFFFFFF:08x}{chance.getrandbits(32):08x}",
        action=action,
        outcome=outcome,
        time=time,
        repository=repository,
        tag=tag,
        digest=digest_of(chance.randrange(10**6)),
        previous_digest=digest_of(chance.randrange(10**6)) if refused or outcome is Outcome.OVERWRITTEN else "",
        media_type="application/vnd.oci.image.index.v1+json",
        size=chance.randrange(10**6, 10**9),
        platforms=("linux/amd64", "linux/arm64/v8"),
        rule=chance.choice(_RULES),
        rule_line=chance.randrange(4, 90),
        shadow=chance.random() < 0.01,
        reason=f"{repository}:{tag} cannot be overwritten because the tag is immutable" if refused else "",
        actor=f"ci-{person}" if person else "",
        actor_source=ActorSource.BASIC if person else ActorSource.ANONYMOUS,
        actor_confirmed=bool(person),
        client_address=f"10.{person % 20}.{chance.randrange(4)}.{chance.randrange(1, 60)}",
        user_agent=chance.choice(_AGENTS),
        request_id=f"{chance.getrandbits(64):016x}",
        duration_ms=chance.randrange(3, 900),
    )


async def fill(store: Store, events: Iterable[Event], *, batch: int = 500) -> int:
    """Put events into an empty record by the script of the projector; how many."""
    written = (entry(event.to_dict()) for event in events)
    total, mark = 0, ""
    while chunk := list(islice(written, batch)):
        added, mark = await take(store, "made-up", chunk, mark=mark, becomes=f"{total + len(chunk)}-1")
        total += added
    return total
