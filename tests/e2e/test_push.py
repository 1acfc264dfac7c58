"""What people do with docker, podman and skopeo, through a real proxy to a real registry."""

from __future__ import annotations

import contextlib
import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.clients import Builder, Refused, Skopeo
from tests.e2e.layouts import ACCEPT_ALL, Layout, blobs_of
from tests.support.proxies import ProxyServer
from tests.support.servers import RedisServer, RegistryServer, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

PHRASE = "cannot be overwritten because the tag is immutable"
MIB = 1 << 20

ImageName = Callable[[str], str]


def resolve(base: str, image: str) -> str:
    """The digest of what a tag holds, by the bytes that `base` (the proxy or the registry itself) serves."""
    repository, tag = image.split("/", 1)[1].rsplit(":", 1)
    address = f"{base}/v2/{repository}/manifests/{tag}"
    request = urllib.request.Request(address, headers={"Accept": ACCEPT_ALL})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return "sha256:" + hashlib.sha256(answer.read()).hexdigest()


def outcomes(proxy: ProxyServer, image: str, number: int) -> list[str]:
    """The outcomes of all pushes of a tag, oldest first, as the audit tells them once it tells of ``number``.

    An event is in the audit soon after the answer, not at its very moment.
    """
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: len(_outcomes_now(proxy, image)) >= number, "the audit", 10.0)
    return _outcomes_now(proxy, image)


def _outcomes_now(proxy: ProxyServer, image: str) -> list[str]:
    repository, tag = image.split("/", 1)[1].rsplit(":", 1)
    query = f"repository={repository}&tag={tag}&action=push&limit=100"
    with urllib.request.urlopen(f"{proxy.console_url}/api/v1/events?{query}", timeout=10) as answer:
        events = json.load(answer)["events"]
    finished = [event for event in events if event["outcome"] != "intent"]
    return [event["outcome"] for event in sorted(finished, key=lambda event: event["id"])]


def test_a_first_push_can_be_pulled_again(builder: Builder, image_name: ImageName, proxy: ProxyServer) -> None:
    image = image_name("1.0.0")
    builder.build(image, "first")
    builder.push(image)
    pushed = builder.image_id(image)
    builder.remove(image)
    builder.pull(image)
    assert builder.image_id(image) == pushed
    assert outcomes(proxy, image, 1) == ["created"]


def test_the_same_image_may_be_pushed_again(
    builder: Builder, image_name: ImageName, proxy: ProxyServer, registry: RegistryServer
) -> None:
    image = image_name("1.0.0")
    builder.build(image, "first")
    builder.push(image)
    builder.push(image)
    assert outcomes(proxy, image, 2) == ["created", "unchanged"]
    name, tag = image.split("/", 1)[1].rsplit(":", 1)
    written = [
        line for line in registry.log.splitlines() if f'"PUT /v2/{name}/manifests/{tag}' in line and '" 201 ' in line
    ]
    assert len(written) == 1


def test_another_image_under_the_same_tag_is_refused_with_the_reason(
    builder: Builder, image_name: ImageName, proxy: ProxyServer, registry: RegistryServer
) -> None:
    image = image_name("1.0.0")
    builder.build(image, "first")
    builder.push(image)
    held = resolve(registry.url, image)
    builder.build(image, "second")
    with pytest.raises(Refused) as refusal:
        builder.push(image)
    printed = str(refusal.value)
    assert "denied: " in printed
    assert PHRASE in printed
    assert image.split("/", 1)[1] in printed
    assert held in printed
    assert "releases" in printed
    assert resolve(registry.url, image) == resolve(proxy.url, image) == held
    assert outcomes(proxy, image, 2) == ["created", "refused"]


def test_a_moving_tag_follows_each_push(builder: Builder, image_name: ImageName, proxy: ProxyServer) -> None:
    image = image_name("latest")
    held = []
    for text in ("first", "second"):
        builder.build(image, text)
        builder.push(image)
        held.append(resolve(proxy.url, image))
    assert held[0] != held[1]
    assert outcomes(proxy, image, 2) == ["created", "overwritten"]


def test_skopeo_is_told_the_reason_and_tries_no_other_format(
    skopeo: Skopeo, layout: Layout, image_name: ImageName, proxy: ProxyServer
) -> None:
    image = image_name("v2")
    held = layout.tag("one", layout.image("one"))
    layout.tag("two", layout.image("two"))
    skopeo.push(layout.source("one"), image)
    with pytest.raises(Refused) as refusal:
        skopeo.push(layout.source("two"), image)
    printed = str(refusal.value)
    assert "denied: " in printed
    assert PHRASE in printed
    assert held in printed
    assert "attempted the following formats" not in printed
    assert outcomes(proxy, image, 2) == ["created", "refused"]


def test_a_multi_platform_image_arrives_whole(
    skopeo: Skopeo, layout: Layout, image_name: ImageName, proxy: ProxyServer, tmp_path: Path
) -> None:
    image = image_name("3.1.0")
    platforms = [layout.image(f"for {p}", platform=p) for p in ("linux/amd64", "linux/arm64", "linux/s390x")]
    digest = layout.tag("all", layout.index(platforms))
    skopeo.push(layout.source("all"), image, "--all")
    assert resolve(proxy.url, image) == digest
    pulled = skopeo.pull(image, tmp_path / "pulled", "--all")
    assert blobs_of(pulled) == blobs_of(layout.root)


def test_a_multi_platform_tag_does_not_move_either(
    skopeo: Skopeo, layout: Layout, image_name: ImageName, proxy: ProxyServer
) -> None:
    image = image_name("3.1.0")
    digest = layout.tag("all", layout.index([layout.image("amd"), layout.image("arm", platform="linux/arm64")]))
    layout.tag("other", layout.index([layout.image("amd"), layout.image("another arm", platform="linux/arm64")]))
    skopeo.push(layout.source("all"), image, "--all")
    with pytest.raises(Refused, match=PHRASE):
        skopeo.push(layout.source("other"), image, "--all")
    assert resolve(proxy.url, image) == digest


def test_a_layer_of_300_mib_goes_through_unchanged_and_is_not_held_in_memory(
    skopeo: Skopeo, layout: Layout, image_name: ImageName, proxy: ProxyServer, tmp_path: Path
) -> None:
    image = image_name("1.0.0")
    layout.tag("big", layout.image("big", size=300 * MIB))
    before = peak_memory(proxy.pid)
    skopeo.push(layout.source("big"), image)
    pulled = skopeo.pull(image, tmp_path / "pulled")
    assert blobs_of(pulled) == blobs_of(layout.root)
    assert max(blobs_of(pulled).values()) > 300 * MIB
    assert peak_memory(proxy.pid) - before < 32 * MIB


def peak_memory(pid: int) -> int:
    """The largest resident size so far, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell VmHWM")


def test_what_was_pushed_is_still_there_after_everything_restarted(
    builder: Builder, image_name: ImageName, proxy: ProxyServer, registry: RegistryServer
) -> None:
    image = image_name("1.0.0")
    builder.build(image, "first")
    builder.push(image)
    held = resolve(proxy.url, image)
    proxy.stop()
    registry.restart()
    proxy.start()
    builder.build(image, "second")
    with pytest.raises(Refused, match=PHRASE):
        builder.push(image)
    assert resolve(proxy.url, image) == held
    assert outcomes(proxy, image, 2) == ["created", "refused"]


def test_a_push_that_redis_cannot_record_is_refused_and_pulls_go_on(
    builder: Builder, image_name: ImageName, proxy: ProxyServer, registry: RegistryServer, redis_server: RedisServer
) -> None:
    image, new = image_name("1.0.0"), image_name("1.0.1")
    builder.build(image, "first")
    builder.push(image)
    held = resolve(proxy.url, image)
    redis_server.stop()
    builder.build(new, "second")
    with pytest.raises(Refused, match=r"(?i)503|unavailable"):
        builder.push(new)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        resolve(registry.url, new)
    assert resolve(proxy.url, image) == held
