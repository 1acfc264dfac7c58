from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Site
from tests.support.answering import Said, answering
from tests.support.conversation import RunningEdge, image, index, sha256
from tests.support.servers import RegistryServer, wait_until

CHILDREN = image("amd64"), image("arm64")
INDEX = index(*CHILDREN)
REPOSITORY = "docker/registry/v2/repositories/team/app"


@pytest.fixture
def pushed(site: Site) -> Site:
    async def push(edge: RunningEdge) -> None:
        await edge.client.push("team/app", "1.0", INDEX)
        await edge.client.push("team/app", "1.1", image("one"))
        await edge.client.push("team/web", "2.0", image("two"))

    site.talk(push)
    return site


def manifest_link(registry: RegistryServer, digest: str) -> Path:
    return registry.storage / REPOSITORY / "_manifests/revisions/sha256" / digest[7:]


def faults(found: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    return [
        (each["tag"], fault["problem"], fault["part"], fault["digest"]) for each in found for fault in each["faults"]
    ]


def test_all_is_as_recorded(pushed: Site) -> None:
    result = pushed.run("verify")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "3 tags verified, 0 not as recorded\n"
    found = pushed.lines("verify", "team/app")
    assert [(each["tag"], each["holds"]) for each in found] == [("1.0", True), ("1.1", True)]


def test_a_tag_that_was_moved_is_told_and_healed(pushed: Site) -> None:
    other = image("other")

    async def move(edge: RunningEdge) -> None:
        await edge.direct.push("team/app", "1.1", other)

    pushed.talk(move)
    result = pushed.run("verify")
    assert result.exit_code == 1
    assert f"team/app:1.1  moved tag {image('one').digest}: the upstream shows {other.digest}" in result.stdout
    assert "3 tags verified, 1 not as recorded\n" in result.stdout
    healed = [each for each in pushed.lines("verify", "--heal") if each["healed"]]
    assert [(each["tag"], each["holds"]) for each in healed] == [("1.1", True)]
    assert pushed.run("verify").exit_code == 0
    events = [(event["action"], event["outcome"]) for event in pushed.lines("history", "team/app:1.1")]
    assert events == [("repair", "healed"), ("drift", "found"), ("push", "created")]


def test_without_heal_nothing_is_written(pushed: Site, registry: RegistryServer) -> None:
    shutil.rmtree(registry.storage / REPOSITORY / "_manifests/tags/1.1")
    before = len(registry.log)
    assert faults(pushed.lines("verify", status=1)) == [("1.1", "missing", "tag", image("one").digest)]
    assert '"PUT ' not in registry.log[before:]
    assert [event["action"] for event in pushed.lines("history", "team/app:1.1")] == ["push"]


def test_h31_children_that_are_gone_are_put_back_before_their_index(site: Site, registry: RegistryServer) -> None:
    outer = index(INDEX)

    async def push(edge: RunningEdge) -> None:
        await edge.client.push("team/app", "1.0", outer)

    site.talk(push)
    gone = [outer.digest, INDEX.digest, CHILDREN[0].digest]
    for digest in gone:
        shutil.rmtree(manifest_link(registry, digest))
    registry.restart()
    assert faults(site.lines("verify", "team/app", status=1)) == [
        ("1.0", "missing", "tag", outer.digest),
        *(("1.0", "missing", "manifest", digest) for digest in gone),
    ]
    assert site.run("verify", "--heal").stdout.startswith(f"team/app:1.0  {outer.digest[:19]}  repaired\n")
    assert site.run("verify").exit_code == 0
    repairs = [event["digest"] for event in site.lines("history", "team/app:1.0") if event["outcome"] == "healed"]
    assert repairs == gone


def test_h25_a_blob_that_is_gone_cannot_be_healed(pushed: Site, registry: RegistryServer) -> None:
    layer = sha256(CHILDREN[1].blobs[1])
    (registry.storage / f"docker/registry/v2/blobs/sha256/{layer[7:9]}/{layer[7:]}/data").unlink()
    registry.restart()
    assert faults(pushed.lines("verify", "--heal", status=1)) == [("1.0", "missing", "blob", layer)]


def test_h25_a_blob_of_nothing_but_its_length_is_no_blob(pushed: Site, registry: RegistryServer) -> None:
    layer = sha256(CHILDREN[1].blobs[1])

    async def read_once(edge: RunningEdge) -> None:
        await edge.direct.ask("GET", f"/v2/team/app/blobs/{layer}")

    pushed.talk(read_once)
    (registry.storage / f"docker/registry/v2/blobs/sha256/{layer[7:9]}/{layer[7:]}/data").write_bytes(b"")
    found = faults(pushed.lines("verify", status=1))
    assert [(tag, part, digest) for tag, _, part, digest in found] == [("1.0", "blob", layer)]


def test_damaged_bytes_are_seen(pushed: Site, registry: RegistryServer) -> None:
    digest = image("one").digest
    data = registry.storage / f"docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"
    data.write_bytes(image("two").body)
    found = faults(pushed.lines("verify", status=1))
    assert {(tag, problem) for tag, problem, _, _ in found} == {("1.1", "unreadable")}


def test_ctrl_c_says_how_far_it_came(pushed: Site, registry: RegistryServer) -> None:
    before = len(registry.log)
    with pushed.start("verify", "--rate", "1") as process:
        assert process.stderr is not None
        wait_until(lambda: '"GET /v2/team/' in registry.log[before:], "the first tag to be looked at", 60)
        process.send_signal(signal.SIGINT)
        result, errors = process.communicate(timeout=20)
    assert (process.returncode, result) == (130, "")
    assert errors.startswith("interrupted; ")
    assert errors.endswith("verified, 0 not as recorded\n")


def test_what_tags_share_is_looked_at_once(site: Site, registry: RegistryServer) -> None:
    async def push(edge: RunningEdge) -> None:
        for number in range(5):
            await edge.client.push("team/app", f"{number}.0", image("one"))

    site.talk(push)
    before = len(registry.log)
    site.run("verify")
    asked = registry.log[before:]
    assert asked.count(f'"GET /v2/team/app/manifests/{image("one").digest} ') == 1
    assert asked.count('"GET /v2/team/app/blobs/') == 2


def test_an_upstream_that_is_down(pushed: Site, registry: RegistryServer) -> None:
    registry.stop()
    result = pushed.run("verify")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"error: the upstream {registry.url} does not answer: " in result.stderr


def test_an_upstream_that_lets_nobody_look(pushed: Site) -> None:
    with answering(lambda asked: Said(401)) as server:
        pushed.write(upstream=f"{{url: {server.url}}}")
        result = pushed.run("verify", "team/web")
    assert result.exit_code == 1
    assert "the upstream answered 401: immuproxy may not look (upstream.username)" in result.stdout


def test_a_repository_that_the_ledger_does_not_know_is_said(pushed: Site) -> None:
    result = pushed.run("verify", "team/wbe", "team/web")
    assert (result.exit_code, result.stdout) == (1, "1 tag verified, 0 not as recorded\n")
    assert result.stderr == "the ledger knows no repository team/wbe; `immuproxy import team/wbe` takes it in\n"


def test_an_account_that_is_refused_is_no_drift(pushed: Site) -> None:
    with answering(lambda asked: Said(401)) as server:
        pushed.write(upstream=f"{{url: {server.url}, username: immuproxy, password: wrong}}")
        result = pushed.run("verify")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"error: the upstream {server.url} does not let in 'immuproxy'" in result.stderr


def test_nothing_to_verify(site: Site) -> None:
    result = site.run("verify")
    assert (result.exit_code, result.stdout) == (0, "0 tags verified, 0 not as recorded\n")
    assert result.stderr == "the ledger knows no repository yet; `immuproxy import` takes in what the upstream holds\n"


def test_wrong_usage(site: Site) -> None:
    result = site.run("verify", "team/app:1.0")
    assert result.exit_code == 2
    assert "Invalid value for REPO: 'team/app:1.0' is no repository; leave out the tag" in result.stderr
