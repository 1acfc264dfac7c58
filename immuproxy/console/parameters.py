"""The query of a request, read once into values.  PURE; a mistake is a `RequestProblem` that names the parameter."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

from multidict import MultiMapping

from immuproxy.audit.search import Moment, Search, SearchError, from_parameters, parse
from immuproxy.console.links import ImageName, Place, parse_image, parse_place
from immuproxy.console.overview.figures import LONGEST, RANGES, USUAL_RANGE, Period, TimeRange
from immuproxy.console.problems import bad_parameter, not_found
from immuproxy.console.repositories.tag_list import ORDERS, STATES, USUAL_ORDER, TagQuery
from immuproxy.console.wording import sentence
from immuproxy.oci.names import parse_tag

FILTERS = ("repository", "tag", "actor", "outcome", "action", "since", "until")
"""The separate filters of the API; each may be given several times, which means any of them."""

MOST = 1000
"""The largest ``limit``."""

Query = MultiMapping[str]
_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)

_MOMENTS = "Write a date such as 2026-01-31, a time such as 2026-01-31T18:00Z, or how long ago: 7d, 24h, 30m."

PAGE = 50
"""Lines of a page that does not ask for more."""

API_PAGE = 100
"""Entries of an answer of the API that does not ask for more."""


def refuse_unknown(query: Query, known: Collection[str]) -> None:
    """A misspelt filter must not look like an answer to everything."""
    for name in query:
        if name not in known:
            near = get_close_matches(name, known, 1)
            meant = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(sorted(known)) or 'none'}."
            raise bad_parameter(name, f"There is no parameter {name!r}.", meant)


def search_of(query: Query, now: int) -> Search:
    """``q``; raises `RequestProblem` for the first thing that makes no sense."""
    text = query.get("q", "")
    try:
        return parse(text, now)
    except SearchError as error:
        word = text[error.offset : error.offset + error.length]
        where = f"At character {error.offset + 1}: {word!r}."
        raise bad_parameter("q", sentence(error.message), where) from error


def filters_of(query: Query, now: int) -> Search:
    """The separate filters, which have to hold beside ``q``; raises `RequestProblem`."""
    given = {name: query.getall(name) for name in FILTERS if name in query}
    try:
        return from_parameters(now, **given)
    except SearchError as error:
        raise bad_parameter(error.key or "q", sentence(error.message)) from error


def limit_of(query: Query, usual: int, most: int = MOST) -> int:
    """``limit``: a whole number from 1 to ``most``."""
    text = query.get("limit", str(usual))
    if not (_NUMBER.fullmatch(text) and 1 <= int(text) <= most):
        raise bad_parameter("limit", f"limit is a whole number from 1 to {most}, not {text!r}.")
    return int(text)


def choice_of(query: Query, name: str, choices: Collection[str], usual: str) -> str:
    """One of ``choices``."""
    value = query.get(name, usual)
    if value not in choices:
        raise bad_parameter(name, f"{name} is one of {', '.join(choices)}, not {value!r}.")
    return value


def range_of(query: Query, now: int) -> TimeRange | Period:
    """``range``: how far back the overview looks; or ``since`` and ``until``, as a search takes them."""
    given = {name: [value for value in query.getall(name, []) if value.strip()] for name in ("since", "until")}
    if not any(given.values()):
        return RANGES[choice_of(query, "range", RANGES, USUAL_RANGE)]
    if "range" in query:
        raise bad_parameter("range", "range and since say two things.", "Give one of them.")
    if not given["since"]:
        raise bad_parameter("since", "until needs since: from when on?", _MOMENTS)
    try:
        found = from_parameters(now, since=given["since"], until=given["until"])
    except SearchError as error:
        raise bad_parameter(error.key or "since", sentence(error.message), _MOMENTS) from error
    return _period(found, now)


def _period(found: Search, now: int) -> Period:
    since, until = found.since or Moment(0, ""), found.until or Moment(now, "")
    if since.at >= min(until.at, now):
        said = f"until {until.text}" if until.at < now else "now"
        raise bad_parameter("since", f"since {since.text} is not before {said}.", _MOMENTS)
    if min(until.at, now) - since.at > LONGEST:
        raise bad_parameter("since", "The overview counts at most 366 days at once.", "Search the audit log for more.")
    return Period(since.at, min(until.at, now), since.text, until.text, now)


def text_of(query: Query, name: str, longest: int = 300) -> str:
    """Free text, cleaned of what no name holds."""
    value = query.get(name, "")
    if len(value) > longest:
        raise bad_parameter(name, f"{name} has at most {longest} characters.")
    return value.strip()


def wish_of(query: Query) -> TagQuery:
    """Which tags of a repository, and in which order: ``filter``, ``state``, ``rule``, ``order``."""
    state = query.get("state", "")
    return TagQuery(
        text=text_of(query, "filter"),
        state=choice_of(query, "state", STATES, "") if state else "",
        rule=text_of(query, "rule"),
        order=choice_of(query, "order", ORDERS, USUAL_ORDER),
    )


def position_of(query: Query, length: int) -> int:
    """``at``: the cursor's place in ``q``; its end when not given."""
    text = query.get("at", str(length))
    if not _NUMBER.fullmatch(text):
        raise bad_parameter("at", f"at is a whole number, not {text!r}.")
    return min(int(text), length)


def tag_of(query: Query, name: str = "tag") -> tuple[str, str]:
    """``repository:tag`` as its two parts."""
    text = query.get(name, "")
    try:
        return parse_tag(text)
    except ValueError:
        advice = "Write it as repository:tag, such as team/app:1.4.0."
        raise bad_parameter(name, f"{text[:200]!r} is no tag.", advice) from None


def images_of(query: Query, edge: str) -> tuple[ImageName, ImageName]:
    """``a`` and ``b``: the two to be compared; a tag or digest alone in ``b`` is one of the repository of ``a``."""
    before = _image_of(query, "a", edge, "")
    return before, _image_of(query, "b", edge, before.repository)


def _image_of(query: Query, name: str, edge: str, repository: str) -> ImageName:
    text = query.get(name, "")
    found = parse_image(text, edge=edge, repository=repository)
    if found is None:
        advice = "Write it as repository:tag or repository@digest, such as team/app:1.4.0."
        raise bad_parameter(name, f"{text[:200]!r} names no manifest.", advice)
    return found


def place_of(raw_path: str) -> Place:
    """What a path, still encoded, names; raises `RequestProblem` when it can be nothing."""
    _, _, rest = raw_path.partition("/repositories/")
    place = parse_place(rest)
    if place is None:
        raise not_found(
            "This address names no repository, tag or manifest.",
            "Repository names are lower-case letters and digits with . _ - and / between them.",
        )
    return place
