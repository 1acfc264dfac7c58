"""What becomes of the content that a tag needs: half present, deleted, collected as garbage (H25, H34-H36)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from typing import Any

import pytest
from multidict import CIMultiDict

from immuproxy.edge import record
from immuproxy.edge.push import blob_check
from immuproxy.ledger.model import Action, Outcome
from tests.support.between import Request, between
from tests.support.conversation import Answer, RunningEdge, edge_over, image, index, sha256
from tests.support.servers import RedisServer, RegistryServer, program

REPOSITORY = "team/app"


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen of a blob before the storage was changed is old enough not to count any more."""
    monkeypatch.setattr(blob_check, "REMEMBERED", 0.0)


def lose(registry: RegistryServer, digest: str) -> None:
    """Take a blob's bytes off the disk; the registry's descriptor cache does not hear of it."""
    (registry.storage / f"docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data").unlink()


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("blob", [0, 1])
@pytest.mark.parametrize("nested", [False, True])
async def test_h25_what_the_registry_only_remembers_is_never_committed(
    edge: RunningEdge, registry: RegistryServer, nested: bool, blob: int
) -> None:
    one = image("one")
    pushed = index(one, image("two")) if nested else one
    await edge.client.blobs(REPOSITORY, pushed)
    lost = sha256(one.blobs[blob])
    assert (await edge.direct.ask("HEAD", f"/v2/{REPOSITORY}/blobs/{lost}")).status == 200
    lose(registry, lost)
    assert (await edge.direct.ask("HEAD", f"/v2/{REPOSITORY}/blobs/{lost}")).status == 200
    answer = await edge.client.put(REPOSITORY, "1.0", pushed)
    assert (answer.status, answer.error["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert answer.error["detail"]["digest"] == lost
    found = await edge.parts.register.read(REPOSITORY, "1.0")
    assert (found.committed, found.claim) == (None, None)
    assert (await edge.direct.pull(REPOSITORY, "1.0")).status == 404
    event = (await edge.events(REPOSITORY))[-1]
    assert event.outcome is Outcome.FAILED
    assert lost in event.reason
    registry.restart()
    await edge.client.blobs(REPOSITORY, pushed)
    assert (await edge.client.put(REPOSITORY, "1.0", pushed)).status == 201


@pytest.mark.usefixtures("forgetful")
async def test_h25_an_overwrite_that_could_not_be_pulled_leaves_the_old_content(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    edge.use_rules("rules: [{name: fresh, policy: immutable, overwrite: [{within: 15m}]}]")
    one, two = image("one"), image("two")
    await edge.client.push(REPOSITORY, "1.0", one)
    await edge.client.blobs(REPOSITORY, two)
    await edge.direct.ask("HEAD", f"/v2/{REPOSITORY}/blobs/{sha256(two.blobs[1])}")
    lose(registry, sha256(two.blobs[1]))
    assert (await edge.client.put(REPOSITORY, "1.0", two)).status == 400
    assert (await edge.client.pull(REPOSITORY, "1.0")).digest == one.digest


async def test_h25_a_blob_of_which_no_byte_comes_is_not_there(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    """The registry's word for it is 200, and its length is told as nothing, as of an empty file."""
    pushed = image("one")
    hollow = sha256(pushed.blobs[1])

    async def give_nothing(request: Request) -> Answer | None:
        is_it = request.method == "GET" and request.target.endswith(hollow)
        return Answer(200, CIMultiDict(), b"") if is_it else await request.forward()

    async with between(registry.url, give_nothing) as middle, edge_over(middle.url, redis_server.url) as edge:
        await edge.direct.blobs(REPOSITORY, pushed)
        answer = await edge.client.put(REPOSITORY, "1.0", pushed)
        assert (answer.status, answer.error["detail"]["digest"]) == (400, hollow)
        assert (await edge.direct.pull(REPOSITORY, "1.0")).status == 404


@pytest.mark.parametrize("reference", ["latest", "digest"])
async def test_h34_a_push_that_is_only_recorded_waits_for_a_delete_too(edge: RunningEdge, reference: str) -> None:
    """Else the tag would be set, and then lose what it points to."""
    pushed = image("one")
    await edge.direct.push(REPOSITORY, pushed.digest, pushed)
    draft = record.own(Action.DELETE_BLOB, Outcome.FAILED, REPOSITORY, digest=sha256(pushed.blobs[1]))
    register = edge.parts.register
    await register.begin_delete(REPOSITORY, draft.digest, holders=[], deadline_ms=60_000, draft=draft)
    named = pushed.digest if reference == "digest" else reference
    push = asyncio.create_task(edge.client.put(REPOSITORY, named, pushed))
    await asyncio.sleep(0.2)  # nothing tells that it goes on waiting
    assert not push.done()
    await register.end_delete(REPOSITORY, draft.digest, draft)
    assert (await push).status == 201


async def race(pusher: RunningEdge, deleter: RunningEdge, number: int) -> tuple[int, int]:
    """A push of a manifest to a tag against a delete of what it needs, each odd time of its layer.

    The push starts a little later each time, so that it meets the delete at every step.
    """
    pushed = image(f"race {number}")
    await pusher.direct.push(REPOSITORY, pushed.digest, pushed)
    digest = sha256(pushed.blobs[1])
    path = f"blobs/{digest}" if number % 2 else f"manifests/{pushed.digest}"

    async def push_later() -> int:
        await asyncio.sleep(number % 10 * 0.004)
        return (await pusher.client.put(REPOSITORY, f"1.{number}", pushed)).status

    put, delete = await asyncio.gather(push_later(), deleter.client.ask("DELETE", f"/v2/{REPOSITORY}/{path}"))
    if put == 201:
        assert (await deleter.direct.pull(REPOSITORY, f"1.{number}")).body == pushed.body
        assert (await deleter.direct.ask("GET", f"/v2/{REPOSITORY}/blobs/{digest}")).body == pushed.blobs[1]
    return put, delete.status


async def test_h34_no_push_that_was_accepted_lost_its_race_with_a_delete(
    registry: RegistryServer, redis_server: RedisServer
) -> None:
    async with (
        edge_over(registry.url, redis_server.url) as left,
        edge_over(registry.url, redis_server.url) as right,
    ):
        outcomes = {await race(left, right, number) for number in range(30)}
    refused, gone_first, needs_what_went = (201, 405), (201, 202), (400, 202)
    assert outcomes <= {refused, gone_first, needs_what_went}


@pytest.mark.parametrize("what", ["manifest", "layer"])
async def test_h34_a_push_waits_for_a_delete_that_is_on_its_way(
    registry: RegistryServer, redis_server: RedisServer, what: str
) -> None:
    """The delete is held up until the push has been taken, or has waited for a second."""
    pushed = image("one")
    taken, held = asyncio.Event(), asyncio.Event()
    digest = pushed.digest if what == "manifest" else sha256(pushed.blobs[1])

    async def hold_up(request: Request) -> Answer | None:
        if request.method == "DELETE" and digest in request.target:
            held.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(taken.wait(), 1.0)
        answer = await request.forward()
        if request.is_manifest_put:
            taken.set()
        return answer

    async with (
        between(registry.url, hold_up) as middle,
        edge_over(middle.url, redis_server.url) as left,
        edge_over(middle.url, redis_server.url) as right,
    ):
        await left.direct.push(REPOSITORY, pushed.digest, pushed)
        taken.clear()
        path = f"manifests/{digest}" if what == "manifest" else f"blobs/{digest}"
        delete = asyncio.create_task(left.client.ask("DELETE", f"/v2/{REPOSITORY}/{path}"))
        await held.wait()
        put = await right.client.put(REPOSITORY, "1.0", pushed)
        assert (await delete).status == 202
        assert put.status == (201 if what == "manifest" else 400)
        if put.status == 201:
            assert (await left.direct.pull(REPOSITORY, "1.0")).body == pushed.body


async def test_h34_without_the_mark_such_a_race_can_be_lost(registry: RegistryServer, edge: RunningEdge) -> None:
    """Straight at the registry, the same race leaves tags that cannot be pulled; that is what the mark is for."""
    dead = False
    for number in range(500):
        pushed = image(f"direct {number}")
        await edge.direct.blobs(REPOSITORY, pushed)
        await edge.direct.put(REPOSITORY, pushed.digest, pushed)
        put, _ = await asyncio.gather(
            edge.direct.put(REPOSITORY, f"1.{number}", pushed),
            edge.direct.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{pushed.digest}"),
        )
        dead = put.status == 201 and (await edge.direct.pull(REPOSITORY, f"1.{number}")).status != 200
        if dead:
            break
    assert dead


async def test_h35_a_broken_tag_link_makes_no_delete_a_success(edge: RunningEdge, registry: RegistryServer) -> None:
    edge.use_rules("rules: [{name: broken, tags: [old], policy: mutable}]")
    kept, loose = image("kept"), image("loose")
    await edge.client.push(REPOSITORY, "1.0", kept)
    await edge.client.push(REPOSITORY, "old", loose)
    await edge.client.push(REPOSITORY, loose.digest, loose)
    (link,) = registry.storage.glob(f"**/{REPOSITORY}/_manifests/tags/old/current/link")
    link.write_text("")
    answer = await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{loose.digest}")
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
    assert (await edge.client.pull(REPOSITORY, "1.0")).body == kept.body
    refused = await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{kept.digest}")
    assert refused.status == 405


async def test_h35_the_empty_link_of_a_protected_tag_is_written_again_before_anything_is_deleted(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    kept, loose = image("kept"), image("loose")
    await edge.client.push(REPOSITORY, "1.0", kept)
    await edge.client.push(REPOSITORY, loose.digest, loose)
    (link,) = registry.storage.glob(f"**/{REPOSITORY}/_manifests/tags/1.0/current/link")
    link.write_text("")
    await edge.client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{loose.digest}")
    answer = await edge.client.pull(REPOSITORY, "1.0")
    assert (answer.status, answer.body) == (200, kept.body)


def collect_garbage(registry: RegistryServer, *options: str) -> None:
    """As an operator does it: by the registry's own command, beside its storage."""
    command = [program("docker-registry"), "garbage-collect", *options, str(registry.directory / "registry.yml")]
    subprocess.run(command, capture_output=True, timeout=30, check=True)


def verified(registry: RegistryServer, redis: RedisServer, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """What `immuproxy verify` ends with and prints."""
    configuration = registry.directory / "immuproxy.yml"
    configuration.write_text(f"upstream: {{url: {registry.url}}}\nredis: {{url: {redis.url}}}\ndefault: immutable\n")
    command = [sys.executable, "-m", "immuproxy", "verify", "--config", str(configuration), "--json", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode in {0, 1}, ended.stderr
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]


async def test_h36_what_garbage_collection_took_is_told_by_verify_and_mended_by_a_push(
    edge: RunningEdge, registry: RegistryServer, redis_server: RedisServer
) -> None:
    pushed, plain = index(image("amd"), image("arm")), image("plain")
    await edge.client.push(REPOSITORY, "1.0", pushed)
    await edge.client.push(REPOSITORY, "2.0", plain)
    assert (await asyncio.to_thread(verified, registry, redis_server))[0] == 0
    registry.stop()
    await asyncio.to_thread(collect_garbage, registry, "-m")
    registry.start()
    child = pushed.children[0]
    assert (await edge.direct.pull(REPOSITORY, child.digest)).status == 404, "2.8 keeps no child of an index"
    assert (await edge.client.pull(REPOSITORY, "1.0")).body == pushed.body
    status, tags = await asyncio.to_thread(verified, registry, redis_server)
    holds = {tag["tag"]: tag["holds"] for tag in tags}
    assert (status, holds) == (1, {"1.0": False, "2.0": True})
    lost = {fault["digest"] for tag in tags for fault in tag["faults"]}
    blobs = {sha256(blob) for child in pushed.children for blob in child.blobs}
    assert lost == blobs | {child.digest for child in pushed.children}
    assert (await edge.client.push(REPOSITORY, "1.0", pushed)).status == 201
    assert (await asyncio.to_thread(verified, registry, redis_server))[0] == 0


@pytest.mark.usefixtures("forgetful")
async def test_h36_what_was_collected_between_upload_and_push_is_not_committed(
    edge: RunningEdge, registry: RegistryServer
) -> None:
    """The registry runs on, remembers the layers and would take the manifest."""
    pushed = image("one")
    await edge.client.blobs(REPOSITORY, pushed)
    await asyncio.to_thread(collect_garbage, registry)
    answer = await edge.client.put(REPOSITORY, "1.0", pushed)
    assert (answer.status, answer.error["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert (await edge.direct.put(REPOSITORY, "1.0", pushed)).status == 201, "the registry itself sees nothing wrong"
