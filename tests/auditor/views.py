"""All ways to the audit show the same: the API's pages, both exports, the live tail and the pages of tags."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Views:
    """The same audit in all its forms.

    `listed`, `lines` and `rows`: the API's list, JSON Lines and CSV, newest first; `tailed`: what each listener heard,
    in that order, from before the first event on; `pages`: the history of each tag, newest first.
    """

    listed: Sequence[Line]
    lines: Sequence[Line]
    rows: Sequence[Mapping[str, str]]
    tailed: Sequence[Sequence[Line]]
    pages: Mapping[tuple[str, str], Sequence[Line]]


def differences(views: Views) -> Iterator[str]:
    """Where they do not show the same."""
    yield from _same("jsonl", views.listed, views.lines)
    yield from _same("csv", [as_row(event) for event in views.listed], views.rows)
    for number, heard in enumerate(views.tailed):
        yield from _same(f"tail {number}", views.listed[::-1], heard)
    by_tag: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for event in views.listed:
        if event["tag"]:
            by_tag[event["repository"], event["tag"]].append(event)
    for where in sorted(by_tag.keys() | views.pages.keys()):
        shown = [
            {key: value for key, value in event.items() if key != "compare_with"}
            for event in views.pages.get(where, ())
        ]
        yield from _same(f"tag page {where[0]}:{where[1]}", by_tag.get(where, []), shown)


def _same(view: str, wanted: Sequence[Line], shown: Sequence[Line]) -> Iterator[str]:
    if list(wanted) == list(shown):
        return
    listed, seen = Counter(event["id"] for event in wanted), Counter(event["id"] for event in shown)
    missing, more = [*(listed - seen)], [*(seen - listed)]
    if missing or more:
        yield f"view: {view} lacks {len(missing)} {missing[:3]} and has {len(more)} too many {more[:3]}"
        return
    place, (one, other) = next(
        (place, pair) for place, pair in enumerate(zip(wanted, shown, strict=True)) if pair[0] != pair[1]
    )
    unlike = {key: (one[key], other.get(key)) for key in one if one[key] != other.get(key)}
    yield f"view: {view} differs at {place}, {one['id']}: {unlike}"


def as_row(event: Line) -> dict[str, str]:
    """An event as the CSV is documented to show it; its time in milliseconds, as `read_row` reads it."""
    return {key: _harmless(_text(key, value)) for key, value in event.items()}


def _text(key: str, value: Any) -> str:
    if key == "platforms":
        return " ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _harmless(text: str) -> str:
    """What a spreadsheet would run has an apostrophe in front."""
    return f"'{text}" if text.lstrip(" ").startswith(tuple("=+-@|%\t\r\n")) else text


def read_row(row: Mapping[str, str]) -> dict[str, str]:
    """A line of CSV with its time in milliseconds."""
    moment = datetime.fromisoformat(row["time"])
    return {**row, "time": str(round(moment.timestamp() * 1000))}
