"""Manifests, pulled and pushed by many requests one after the other on each connection.

The image has a configuration and one layer, both in the registry already.  Each contender pushes to a repository of its
own: what went past immuproxy would be drift of the tags that it holds.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

from bench.clients import heads, plain, wrk
from bench.clients.load import Load
from bench.measure import Line, Row
from bench.proxies.starting import CONTENDERS, IMMUPROXY
from bench.scene import Scene
from immuproxy.oci.manifests import ACCEPT_ALL
from tests.support.conversation import Image, image

_READERS = 16
_PULLED, _TAG = "bench/pulled", "1.0"
_prefixes = (f"run-{number}-" for number in itertools.count())


def get_by_tag(scene: Scene) -> Line:
    _pulled(scene)
    return _reads(scene, "get-tag", "protected manifest GET by tag", _TAG)


def get_by_digest(scene: Scene) -> Line:
    return _reads(scene, "get-digest", "manifest GET by digest of what a tag needs", _pulled(scene).digest)


def head_by_tag(scene: Scene) -> Line:
    _pulled(scene)

    def ask(_: str, url: str) -> Load:
        address = f"{url}/v2/{_PULLED}/manifests/{_TAG}"
        return heads.load(address, connections=_READERS, seconds=scene.seconds, accept=ACCEPT_ALL)

    return _line(scene, "head", "protected manifest HEAD by tag", f"{_READERS} connections", ask)


def push_one_by_one(scene: Scene) -> Line:
    return _new_tags(scene, 1, "one at a time")


def push_by_eight(scene: Scene) -> Line:
    return _new_tags(scene, 8, "8 at a time")


def refused(scene: Scene) -> Line:
    """The tag holds another image.  The others pass the push on."""
    held, pushed = image("held"), image("refused")
    for contender, repository in _repositories("refused"):
        plain.push(scene.url(contender), repository, _TAG, held)
        plain.push(scene.registry.url, repository, pushed.digest, pushed)
    if not plain.is_refused(scene.url(IMMUPROXY), dict(_repositories("refused"))[IMMUPROXY], _TAG, pushed):
        raise RuntimeError("what was to be refused was not")
    return _same_tag(scene, "refused", "refused push (others pass it on)", pushed, refusing=True)


def repeated(scene: Scene) -> Line:
    held = image("held")
    for contender, repository in _repositories("repeated"):
        plain.push(scene.url(contender), repository, _TAG, held)
    return _same_tag(scene, "repeated", "identical re-push", held, refusing=False)


def _pulled(scene: Scene) -> Image:
    pulled = image("pulled")
    plain.push(scene.url(IMMUPROXY), _PULLED, _TAG, pulled)
    return pulled


def _repositories(work: str) -> list[tuple[str, str]]:
    return [(contender, f"bench/{work}-{contender.lower()}") for contender in CONTENDERS]


def _reads(scene: Scene, key: str, name: str, reference: str) -> Line:
    def ask(_: str, url: str) -> Load:
        address = f"{url}/v2/{_PULLED}/manifests/{reference}"
        return _all_taken(wrk.load(address, "GET", connections=_READERS, seconds=scene.seconds, accept=ACCEPT_ALL))

    return _line(scene, key, name, f"{_READERS} connections", ask)


def _new_tags(scene: Scene, connections: int, how: str) -> Line:
    repositories, file = dict(_repositories(f"pushed-{connections}")), scene.directory / "new-tag.json"
    pushed = image("pushed")
    file.write_text(
        json.dumps(json.loads(pushed.body) | {"annotations": {"org.opencontainers.image.version": "@TAG@"}})
    )
    for repository in repositories.values():
        plain.push(scene.registry.url, repository, pushed.digest, pushed)

    def ask(contender: str, url: str) -> Load:
        address = f"{url}/v2/{repositories[contender]}/manifests/"
        arguments = ("PUT", str(file), next(_prefixes))
        return _all_taken(wrk.load(address, *arguments, connections=connections, seconds=scene.seconds))

    return _line(scene, f"push-{connections}", "guarded push, a new tag each time", how, ask)


def _same_tag(scene: Scene, key: str, name: str, pushed: Image, *, refusing: bool) -> Line:
    repositories, file = dict(_repositories(key)), scene.directory / f"{key}.json"
    file.write_bytes(pushed.body)

    def ask(contender: str, url: str) -> Load:
        address = f"{url}/v2/{repositories[contender]}/manifests/{_TAG}"
        load = wrk.load(address, "PUT", str(file), connections=8, seconds=scene.seconds)
        return _none_taken(load) if refusing and contender == IMMUPROXY else _all_taken(load)

    return _line(scene, key, name, "8 at a time", ask)


def _all_taken(load: Load) -> Load:
    if load.refused:
        raise RuntimeError(f"{load.refused} of {load.requests} requests were refused")
    return load


def _none_taken(load: Load) -> Load:
    if load.refused != load.requests:
        raise RuntimeError(f"{load.requests - load.refused} of {load.requests} requests were not refused")
    return load


def _line(scene: Scene, key: str, name: str, how: str, ask: Callable[[str, str], Load]) -> Line:
    rows = (
        Row(key, f"{name}, {how}, /s", 0),
        Row(f"{key}-ms", f"{name}, {how}, median ms"),
        Row(f"{key}-cpu", f"{name}, {how}, CPU ms of the proxy per request", 3),
    )

    def measure(contender: str) -> tuple[float | None, ...]:
        load, cpu = scene.spending(contender, lambda url: ask(contender, url))
        return load.rate, load.median_ms, cpu and cpu * 1_000 / load.requests

    return Line(rows, CONTENDERS, measure)
