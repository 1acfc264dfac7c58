"""A line of many requests, one after the other on each connection."""

from __future__ import annotations

from collections.abc import Callable

from bench.clients.load import Load
from bench.measure import Line, Row
from bench.proxies.starting import CONTENDERS
from bench.scene import Scene


def line(scene: Scene, key: str, name: str, how: str, ask: Callable[[str, str], Load]) -> Line:
    """``ask`` is called with the contender and its address; ``how`` says how many ask at a time."""
    rows = (
        Row(key, f"{name}, {how}, /s", 0),
        Row(f"{key}-ms", f"{name}, {how}, median ms"),
        Row(f"{key}-cpu", f"{name}, {how}, CPU ms of the proxy per request", 3),
    )

    def measure(contender: str) -> tuple[float | None, ...]:
        load, cpu = scene.spending(contender, lambda url: ask(contender, url))
        return load.rate, load.median_ms, cpu and cpu * 1_000 / load.requests

    return Line(rows, CONTENDERS, measure)


def all_taken(load: Load) -> Load:
    """Raises `RuntimeError` where a request was refused."""
    if load.refused:
        raise RuntimeError(f"{load.refused} of {load.requests} requests were refused")
    return load


def none_taken(load: Load) -> Load:
    """Raises `RuntimeError` where a request was not refused."""
    if load.refused != load.requests:
        raise RuntimeError(f"{load.requests - load.refused} of {load.requests} requests were not refused")
    return load
