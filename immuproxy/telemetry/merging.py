"""The metrics of all processes of a proxy as those of one.

Counters and histograms are added up, with what processes had counted that have ended since: a sum that falls when one
of them ends would be taken for a restart of the whole, and all that the others have counted for new (H144).  How gauges
are put together is said in the table of metrics (`immuproxy.telemetry.metrics.Across`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.samples import Sample

from immuproxy.telemetry.metrics import Registry

Snapshot = Mapping[str, Sequence[tuple[str, Mapping[str, str], float]]]
"""Of each metric, by its name, each series: its name, its labels and its value."""

_COUNTED = frozenset({"counter", "histogram"})
_TOGETHER: Mapping[str, Callable[[Iterable[float]], float]] = {"sum": sum, "least": min, "most": max}


def snapshot(registry: Registry) -> bytes:
    """What others need of this process, as JSON.  Reads files of the process."""
    told = {
        family.name: [(sample.name, sample.labels, sample.value) for sample in family.samples]
        for family in registry.collect()
        if registry.across.get(family.name, "office") != "office"
    }
    return json.dumps(told).encode()


class Totals:
    """What processes have counted, each by its name and by how often it was replaced: ``edge-1#0``.

    Kept in a file without a name, so that the office that comes after this one goes on with it.
    """

    def __init__(self, file: int) -> None:
        """``file``: its descriptor, which stays open."""
        self._file = file
        kept = json.loads(os.pread(file, os.fstat(file).st_size, 0) or b"{}")
        self._gone: Snapshot = kept.get("gone", {})
        self._last: dict[str, Snapshot] = kept.get("last", {})

    def take(self, told: Mapping[str, Snapshot]) -> Sequence[Snapshot]:
        """What each process has told just now; what all have counted, those included that are silent or gone."""
        for process, counted in told.items():
            for before in [one for one in self._last if _name(one) == _name(process) and one != process]:
                self._gone = _added([self._gone, self._last.pop(before)])
            self._last[process] = counted
        written = json.dumps({"gone": self._gone, "last": self._last}).encode()
        os.ftruncate(self._file, os.pwrite(self._file, written, 0))
        return [self._gone, *self._last.values()]


def _name(process: str) -> str:
    return process.partition("#")[0]


def _added(snapshots: Sequence[Snapshot]) -> Snapshot:
    return {
        name: [(sample.name, sample.labels, sample.value) for sample in _samples(snapshots, name, sum)]
        for name in dict.fromkeys(name for one in snapshots for name in one)
    }


def merged(own: Registry, told: Sequence[Snapshot], counted: Sequence[Snapshot]) -> CollectorRegistry:
    """The metrics of all: ``own`` are the office's, ``told`` what all processes tell that run, and ``counted`` what
    those have counted that ever ran.
    """
    whole = CollectorRegistry()
    whole.register(_Families(list(_families(own, told, counted))))
    return whole


class _Families:
    """To be read once, or again."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(own: Registry, told: Sequence[Snapshot], counted: Sequence[Snapshot]) -> Iterator[Metric]:
    for family in own.collect():
        across = own.across.get(family.name, "office")
        if across != "office":
            sources = counted if across == "sum" and family.type in _COUNTED else told
            family.samples = list(_samples(sources, family.name, _TOGETHER[across]))
        yield family


def _samples(sources: Sequence[Snapshot], name: str, together: Callable[[Iterable[float]], float]) -> Iterator[Sample]:
    """The series of a metric; all of one histogram stay together, as they do in each source."""
    found: dict[tuple[str, Any], list[float]] = {}
    for source in sources:
        for series, labels, value in source.get(name, ()):
            found.setdefault((series, tuple(sorted(labels.items()))), []).append(value)
    for (series, labels), values in found.items():
        yield Sample(series, dict(labels), together(values))
