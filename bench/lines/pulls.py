"""Pulls of the manifest of a protected tag."""

from __future__ import annotations

from bench.clients import heads, plain, wrk
from bench.clients.load import Load
from bench.lines.loads import all_taken, line
from bench.measure import Line
from bench.proxies.starting import IMMUPROXY
from bench.scene import Scene
from immuproxy.oci.manifests import ACCEPT_ALL
from tests.support.conversation import Image, image

_READERS = 16
_REPOSITORY, _TAG = "bench/pulled", "1.0"


def get_by_tag(scene: Scene) -> Line:
    _pulled(scene)
    return _reads(scene, "get-tag", "protected manifest GET by tag", _TAG)


def get_by_digest(scene: Scene) -> Line:
    return _reads(scene, "get-digest", "manifest GET by digest of what a tag needs", _pulled(scene).digest)


def head_by_tag(scene: Scene) -> Line:
    _pulled(scene)

    def ask(_: str, url: str) -> Load:
        address = f"{url}/v2/{_REPOSITORY}/manifests/{_TAG}"
        return heads.load(address, connections=_READERS, seconds=scene.seconds, accept=ACCEPT_ALL)

    return line(scene, "head", "protected manifest HEAD by tag", f"{_READERS} connections", ask)


def _reads(scene: Scene, key: str, name: str, reference: str) -> Line:
    def ask(_: str, url: str) -> Load:
        address = f"{url}/v2/{_REPOSITORY}/manifests/{reference}"
        return all_taken(wrk.load(address, "GET", connections=_READERS, seconds=scene.seconds, accept=ACCEPT_ALL))

    return line(scene, key, name, f"{_READERS} connections", ask)


def _pulled(scene: Scene) -> Image:
    pulled = image("pulled")
    plain.push(scene.url(IMMUPROXY), _REPOSITORY, _TAG, pulled)
    return pulled
