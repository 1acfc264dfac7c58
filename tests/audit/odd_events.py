"""Events and searches as nobody would write them, at random, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from immuproxy.audit.record import rows
from immuproxy.audit.schema import place_of
from immuproxy.audit.search import MOST_TERMS, Moment, Search, Term, has_wildcard
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from tests.audit.made_up import digest_of

START = 1_700_000_000_000
_REPOSITORIES = ("", "team/app", "team/web", "team/web/deep", "team", "a", "a/b/c/d/e", "Straße/x", "we?ird/*", "x**/y")
_TAGS = ("", "latest", "v1", "v1.2", "V1.2", "v10", "*", "a*b", "?", "sha256-abc", "İstanbul", "x:y", "__", "\u017f")
_ACTORS = (
    "",
    "ci",
    "CI",
    "ci-1",
    "ci-*",
    "o'brien",
    'say "hi"',
    "ANNA",
    "ß",
    "ss",
    "50%",
    "a_b",
    "\ud7ff\U0010ffff",
    "nul\0nul",
)
_RULES = ("", "releases", "moving tags", "a*b", "[x]", "default")
_REASONS = (
    "",
    "no such manifest",
    "ATTACHED  twice",
    "line\nbreak",
    "a\\b",
    "cafe",
    "sha256",
    "\U0001f40b whale",
    "x" * 300,
)
_ADDRESSES = (
    "",
    "10.0.0.1",
    "10.0.3.7",
    "::ffff:10.0.0.1",
    "192.168.1.1",
    "2001:db8::1",
    "::1",
    "no address",
    "fe80::1%eth0",
)
_AGENTS = ("", "docker/27.3.1 go/go1.22", "containers/5.32.2", "*", "curl/8")
_MEDIA = ("", "application/vnd.oci.image.index.v1+json")
_PLATFORMS: tuple[tuple[str, ...], ...] = ((), ("linux/amd64",), ("linux/amd64", "linux/arm64/v8"))


def _digest(chance: random.Random) -> str:
    return chance.choice(
        ("", digest_of(chance.randrange(40)), digest_of(chance.randrange(40)), "sha512:abc", "sha256:AB", "odd")
    )


def events(chance: random.Random, count: int, first: int = 0) -> Iterator[tuple[int, Event]]:
    """With their places, ascending; some came late, some have a time to come."""
    at = START + first * 700
    for number in range(first, first + count):
        at += chance.choice((0, 1, 700, 1_300))
        late = chance.choice((0,) * 12 + (1, 1_999, 2_000, 2_001, 90_000, -2_500, -60_000))
        yield place_of(at, number & 0xFFFF), _event(chance, number, max(0, at - late))


def _event(chance: random.Random, number: int, time: int) -> Event:
    return Event(
        id=chance.choice((f"{number:022x}", f"{number:022x}", f"odd-{number}", f"A{number:021x}")),
        action=chance.choice(list(Action)),
        outcome=chance.choice(list(Outcome)),
        time=time,
        repository=chance.choice(_REPOSITORIES),
        tag=chance.choice((*_TAGS, f"t{number % 97}")),
        digest=_digest(chance),
        previous_digest=_digest(chance),
        media_type=chance.choice(_MEDIA),
        size=chance.choice((None, 0, 7, 10**30)),
        platforms=chance.choice(_PLATFORMS),
        rule=chance.choice(_RULES),
        rule_line=chance.choice((None, 3)),
        shadow=chance.random() < 0.1,
        reason=chance.choice(_REASONS),
        actor=chance.choice(_ACTORS),
        actor_source=chance.choice(list(ActorSource)),
        actor_confirmed=chance.random() < 0.5,
        client_address=chance.choice(_ADDRESSES),
        user_agent=chance.choice(_AGENTS),
        request_id=chance.choice(("", f"{chance.randrange(50):016x}", "req", "abc")),
        duration_ms=chance.choice((None, 12)),
    )


def written(event: Event) -> bytes:
    """As it stands in the stream."""
    return rows.packed({name: rows.text(name, value) for name, value in event.to_dict().items()}).encode()


_VALUES = {
    "repo": (
        *_REPOSITORIES,
        *("team/*", "team/**", "**/deep", "**", "*", "**/c/**", "te?m/*", "*/*", "nowhere", "str*/x"),
    ),
    "tag": (*_TAGS, "v1*", "*1", "t?", "t1*", "?*", "none", "*:*", "v1.?"),
    "actor": (*_ACTORS, "ci*", "*i", "c?", "*", "nobody", "*'*", "?"),
    "rule": (*_RULES, "*a*", "r*s", "[*"),
    "outcome": (*Outcome, "re*"),
    "action": (*Action, "delete-*", "*e*"),
    "agent": (*_AGENTS, "docker/*", "*go*", "curl/?"),
    "ip": (
        *("10.0.0.0/8", "10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "::/0", "0.0.0.0/0"),
        *("2001:db8::/32", "::ffff:0:0/96", "fe80::/10"),
    ),
    "shadow": ("yes", "no"),
    "text": (
        *("team", "APP", "v1", "a", "strasse", "i\u0307stanbul", "no such", "b\\", "team/app:v1", "p:l", "push", "12"),
        *(
            "256:ab",
            "sha256:",
            "ab",
            "000000",
            "linux/amd64 linux",
            "arm64",
            "\n",
            'say "',
            "never-ever",
            "abc",
            "nul\0",
        ),
        *("\0nul", "req", "json", "whale", "\U0001f40b w", "x" * 200, "s", "ss", ":"),
    ),
}


def search(chance: random.Random, known: Sequence[Event]) -> Search:
    """One to four conditions, now and then many."""
    count = chance.choice((0, 1, 1, 2, 2, 3, 4, 9))
    terms = dict.fromkeys(_term(chance, known) for _ in range(min(count, MOST_TERMS)))
    return Search(tuple(terms), _moment(chance, known), _moment(chance, known))


def _term(chance: random.Random, known: Sequence[Event]) -> Term:
    exclude = chance.random() < 0.25
    key = chance.choice((*_VALUES, "id", "digest"))
    event = chance.choice(known)
    if key == "id":
        return Term("id", chance.choice((event.id, event.request_id, "none", "", "abcd")), exclude=exclude)
    if key == "digest":
        digest = event.digest if event.digest.startswith("sha256:") and event.digest.islower() else digest_of(3)
        return Term("digest", digest[: chance.choice((8, 9, 10, 12, 71))], exclude=exclude)
    value = chance.choice(_VALUES[key])
    literal = key not in {"text", "ip", "shadow", "outcome", "action"} and has_wildcard(value) and chance.random() < 0.4
    return Term(key, str(value), literal=literal, exclude=exclude)


def _moment(chance: random.Random, known: Sequence[Event]) -> Moment | None:
    if chance.random() < 0.7:
        return None
    at = max(0, chance.choice(known).time + chance.choice((-1, 0, 1, 2_000, -2_000)))
    return Moment(at, str(at))
