"""The figures as one Markdown table for people and as JSON for programs.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.measure import Series, Spread
from bench.proxies.starting import CONTENDERS, DIRECT, IMMUPROXY, NGINX, PROXIES

_NONE = "-"


def table(all_series: Sequence[Series]) -> str:
    """A row a line; the ratios are of immuproxy, with their least and greatest value."""
    head = ["what", *CONTENDERS, "of nginx", "of direct"]
    return "\n".join([_cells(head), "|---" * len(head) + "|", *(_cells(_row(each)) for each in all_series)])


def document(all_series: Sequence[Series], about: Mapping[str, Any]) -> dict[str, Any]:
    """All values of all rounds, with what ``about`` says of the run."""
    return {**about, "rows": [_as_dict(each) for each in all_series]}


def heading(about: Mapping[str, Any]) -> str:
    """Date, machine and versions, a sentence each."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['date']}, {about['machine']}; load before {about['load_before']}, after {about['load_after']}. "
        f"{about['runs']} runs, scale {about['scale']:g}.\n{versions}.\n"
    )


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(series: Series) -> list[str]:
    digits = series.row.digits
    medians = (series.median(name) for name in CONTENDERS)
    values = [_NONE if value is None else f"{value:,.{digits}f}" for value in medians]
    return [series.row.name, *values, *(_spread(series.ratio(IMMUPROXY, to)) for to in (NGINX, DIRECT))]


def _spread(ratio: Spread | None) -> str:
    return _NONE if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _as_dict(series: Series) -> dict[str, Any]:
    return {
        "key": series.row.key,
        "name": series.row.name,
        "values": {name: values for name in CONTENDERS if (values := series.values(name))},
        "medians": {name: median for name in CONTENDERS if (median := series.median(name)) is not None},
        "ratio_to_nginx": _ratios(series, NGINX),
        "ratio_to_direct": _ratios(series, DIRECT),
    }


def _ratios(series: Series, to: str) -> dict[str, dict[str, float]]:
    return {name: asdict(ratio) for name in PROXIES if name != to and (ratio := series.ratio(name, to)) is not None}
