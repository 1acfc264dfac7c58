"""Short ways to write rules files and pushes in tests."""

from __future__ import annotations

from textwrap import dedent

import pytest

from immuproxy.rules.document import load_rules
from immuproxy.rules.model import Held, Image, PushFacts, RuleSet
from immuproxy.rules.patterns import Axis, PatternList, parse
from immuproxy.rules.problems import DocumentErrors, FileProblem

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def rules_of(text: str) -> RuleSet:
    return load_rules(dedent(text), "rules.yml")


def problems_of(text: str | bytes) -> tuple[FileProblem, ...]:
    """The errors of a file that must have some."""
    with pytest.raises(DocumentErrors) as raised:
        load_rules(dedent(text) if isinstance(text, str) else text, "rules.yml")
    return raised.value.problems


def the_problem(text: str | bytes) -> FileProblem:
    """The only error of a file."""
    (problem,) = problems_of(text)
    return problem


def users(*patterns: str) -> PatternList:
    return PatternList(tuple(parse(pattern, Axis.USER) for pattern in patterns))


def digest(name: str) -> str:
    return f"sha256:{name * 64}"


def image(name: str, *entries: str, media_type: str = MANIFEST, **labels: str) -> Image:
    return Image(digest(name), media_type, frozenset(map(digest, entries)), labels)


def index(name: str, *entries: str) -> Image:
    return image(name, *entries, media_type=INDEX)


def held(what: Image, *, since_ms: int | None = 0, by: str = "ci") -> Held:
    return Held(what, since_ms, by)


def push(
    what: Image, *, now_ms: int = 0, user: str | None = None, confirmed: bool = True, address: str | None = None
) -> PushFacts:
    return PushFacts(
        repository="team/app",
        tag="1.4",
        image=what,
        user=user,
        user_confirmed=confirmed and user is not None,
        address=address,
        now_ms=now_ms,
    )
