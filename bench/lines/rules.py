"""How long it takes to find the rule of a tag."""

from __future__ import annotations

import time

from bench.measure import Line, Row
from bench.proxies.starting import IMMUPROXY
from bench.scene import Scene
from immuproxy.rules.document import load_rules
from immuproxy.rules.model import RuleSet

_SIZES = (10, 1_000, 10_000)
_NAMES = 2_000


def matching(_scene: Scene) -> Line:
    """Each rule has a repository pattern of its own, and one of fifty tag patterns."""
    loaded = [(load_rules(_file(size), "bench.yml"), size) for size in _SIZES]

    def measure(_contender: str) -> tuple[float, ...]:
        return tuple(_microseconds(rules, size) for rules, size in loaded)

    return Line(
        tuple(Row(f"rules-{size}", f"rules: a match among {size:,}, microseconds", 1) for size in _SIZES),
        (IMMUPROXY,),
        measure,
    )


def _file(size: int) -> str:
    rules = (
        f'- {{name: r{n}, repositories: ["t{n}/**"], tags: ["v{n % 50}.*"], policy: immutable}}' for n in range(size)
    )
    return "\n".join(["default: mutable", "rules:", *rules, ""])


def _microseconds(rules: RuleSet, size: int) -> float:
    numbers = [n * size // _NAMES for n in range(_NAMES)]
    new = time.time_ns()  # what was matched once is remembered
    names = [(f"t{n}/app-{new + at}", f"v{n % 50}.{n}") for at, n in enumerate(numbers)]
    begun = time.perf_counter()
    found = [rules.match(*name).name for name in names]
    took = time.perf_counter() - begun
    if found != [f"r{n}" for n in numbers]:
        raise RuntimeError(f"the wrong rules among {size}")
    return took / _NAMES * 1e6
