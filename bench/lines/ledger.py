"""What a protected tag costs in Redis."""

from __future__ import annotations

import time
from dataclasses import replace

from redis import Redis

from bench.clients import plain
from bench.measure import Line, Row
from bench.proxies.starting import IMMUPROXY
from bench.scene import Scene
from tests.support.conversation import Image, image

_REPOSITORY = "bench/ten-layers"
_SHARED = tuple(f"shared layer {number}".encode() for number in range(6))
_FEWEST = 20


def bytes_of_a_tag(scene: Scene) -> Line:
    """By MEMORY USAGE of all keys, with the events of the pushes, before and after many tags.

    Four of an image's ten layers are its own; the repository has some tags before.
    """
    tags = max(_FEWEST, round(200 * scene.scale))

    def measure(contender: str) -> tuple[float]:
        with scene.fresh(contender) as fresh, Redis.from_url(fresh.redis.url) as redis:
            _push(scene, fresh.front.url, range(_FEWEST))
            before = _settled(redis)
            _push(scene, fresh.front.url, range(_FEWEST, _FEWEST + tags))
            return ((_settled(redis) - before) / tags,)

    return Line(
        (Row("redis-bytes", "Redis bytes for a protected tag of an image with ten layers", 0),),
        (IMMUPROXY,),
        measure,
        once=True,
    )


def _push(scene: Scene, url: str, numbers: range) -> None:
    for number in numbers:
        own = [f"layer {layer} of {number}".encode() for layer in range(4)]
        pushed = _named_as_usual(image(f"ten layers {number}", layers=(*_SHARED, *own)))
        for blob in pushed.blobs:
            plain.upload(scene.registry.url, _REPOSITORY, blob)
        plain.put(url, _REPOSITORY, f"1.0.{number}", pushed)


def _named_as_usual(made: Image) -> Image:
    """Layers are of the type that builders write, which is longer."""
    layer = b"application/vnd.oci.image.layer.v1.tar+gzip"
    return replace(made, body=made.body.replace(b"application/octet-stream", layer))


def _settled(redis: Redis) -> int:
    """The bytes of all keys, when a second has not changed them: events move on after their push."""
    found = -1
    while (now := _bytes(redis)) != found:
        found = now
        time.sleep(1)
    return found


def _bytes(redis: Redis) -> int:
    return sum(int(redis.memory_usage(key, samples=0) or 0) for key in redis.scan_iter(count=1_000))
