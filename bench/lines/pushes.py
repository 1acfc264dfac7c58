"""Pushes of manifests.

The image has a configuration and one layer, both in the registry already.  Each contender pushes to a repository of its
own: what went past immuproxy would be drift of the tags that it holds.
"""

from __future__ import annotations

import json
import time

from bench.clients import plain, wrk
from bench.clients.load import Load
from bench.lines.loads import all_taken, line, none_taken
from bench.measure import Line
from bench.proxies.starting import CONTENDERS, IMMUPROXY
from bench.scene import Scene
from tests.support.conversation import Image, image

_TAG = "1.0"


def one_by_one(scene: Scene) -> Line:
    return _new_tags(scene, 1, "one at a time")


def by_eight(scene: Scene) -> Line:
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
        arguments = ("PUT", str(file), f"run-{time.time_ns()}-")
        return all_taken(wrk.load(address, *arguments, connections=connections, seconds=scene.seconds))

    return line(scene, f"push-{connections}", "guarded push, a new tag each time", how, ask)


def _same_tag(scene: Scene, key: str, name: str, pushed: Image, *, refusing: bool) -> Line:
    repositories, file = dict(_repositories(key)), scene.directory / f"{key}.json"
    file.write_bytes(pushed.body)

    def ask(contender: str, url: str) -> Load:
        address = f"{url}/v2/{repositories[contender]}/manifests/{_TAG}"
        load = wrk.load(address, "PUT", str(file), connections=8, seconds=scene.seconds)
        return none_taken(load) if refusing and contender == IMMUPROXY else all_taken(load)

    return line(scene, key, name, "8 at a time", ask)


def _repositories(work: str) -> list[tuple[str, str]]:
    return [(contender, f"bench/{work}-{contender.lower()}") for contender in CONTENDERS]
