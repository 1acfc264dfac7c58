"""Nothing that a protected tag needs can be deleted through the proxy (H29-H34)."""

from __future__ import annotations

import pytest

from immuproxy.edge import record
from immuproxy.ledger.going import GoneTag
from immuproxy.ledger.model import Action, Outcome, Step
from tests.support.conversation import RunningEdge, image, index, sha256

DELETABLE = """
rules:
  - {name: never-again, tags: ["1.*"], policy: immutable, delete: allow, reuse: never}
  - {name: again, tags: ["2.*"], policy: immutable, delete: allow, reuse: allow}
"""


async def test_h29_to_h33_every_way_to_take_a_protected_tag_apart_is_closed(edge: RunningEdge) -> None:
    child = image("child")
    pushed = index(child)
    await edge.client.push("team/app", "1.0", pushed)
    config, layer = (sha256(blob) for blob in child.blobs)
    for path in (
        "manifests/1.0",
        f"manifests/{pushed.digest}",
        f"manifests/{child.digest}",
        f"manifests/{layer}",
        f"manifests/{config}",
        f"blobs/{layer}",
        f"blobs/{config}",
        f"blobs/{pushed.digest}",
        f"manifests/%73ha256%3a{pushed.digest[7:]}",
    ):
        answer = await edge.client.ask("DELETE", f"/v2/team/app/{path}")
        assert (answer.status, answer.error["code"]) == (405, "UNSUPPORTED"), path
        assert "DELETE" not in answer.headers["Allow"]
    assert (await edge.direct.pull("team/app", "1.0")).body == pushed.body
    refused = [event for event in await edge.events("team/app") if event.outcome is Outcome.REFUSED]
    assert len(refused) == 9


RULED = """
default: mutable
rules:
  - {name: lists, tags: ["list-*"], policy: append-only}
  - {name: loose, tags: ["2.*"], policy: immutable, delete: allow}
  - {name: releases, tags: ["1.*"], policy: immutable}
"""


async def test_the_refusal_of_a_digest_names_the_tag_that_needs_it_and_its_rule(edge: RunningEdge) -> None:
    edge.use_rules(RULED)
    one, child, loose, moved = image("one"), image("child"), image("loose"), image("moved")
    await edge.client.push("team/app", "1.0", one)
    await edge.client.push("team/app", "list-1", index(child))
    await edge.client.push("team/app", "2.0", loose)
    await edge.client.push("team/app", "1.9", moved)
    edge.use_rules(RULED.replace('["1.*"]', '["1.0"]'))

    def needs(tag: str, rest: str) -> str:
        return f"cannot be deleted: tag team/app:{tag} needs it, {rest}"

    for path, needed_by, rule, message in (
        (f"manifests/{one.digest}", "1.0", "releases", needs("1.0", "and rule releases (line 6) is immutable")),
        (f"blobs/{sha256(one.blobs[1])}", "1.0", "releases", needs("1.0", "and rule releases (line 6) is immutable")),
        (f"manifests/{child.digest}", "list-1", "lists", needs("list-1", "and rule lists (line 4) is append-only")),
        (
            f"blobs/{sha256(loose.blobs[0])}",
            "2.0",
            "loose",
            needs("2.0", "and rule loose (line 5) is immutable; it allows deletes, so delete that tag first"),
        ),
        (
            f"blobs/{sha256(moved.blobs[0])}",
            "1.9",
            "default",
            needs(
                "1.9",
                "from when it was protected; the default (line 2) lets it move, so push or delete that tag first",
            ),
        ),
    ):
        answer = await edge.client.ask("DELETE", f"/v2/team/app/{path}")
        assert (answer.status, answer.error["message"]) == (405, f"{path.partition('/')[2]} {message}")
        assert (answer.error["detail"]["needed_by"], answer.error["detail"]["rule"]) == (needed_by, rule)
        event = (await edge.events("team/app"))[-1]
        assert (event.rule, f"cannot be deleted: {event.reason}") == (rule, message)


async def test_h77_tags_that_predate_the_proxy_are_adopted_before_the_first_delete(edge: RunningEdge) -> None:
    old = image("old")
    await edge.direct.push("team/app", "0.9", old)
    answer = await edge.client.ask("DELETE", f"/v2/team/app/manifests/{old.digest}")
    assert answer.status == 405


async def test_what_nothing_needs_may_go(edge: RunningEdge) -> None:
    loose = image("loose")
    await edge.client.push("team/app", loose.digest, loose)
    answer = await edge.client.ask("DELETE", f"/v2/team/app/manifests/{loose.digest}")
    assert answer.status == 202
    event = (await edge.events("team/app"))[-1]
    assert (event.action, event.outcome) == (Action.DELETE_MANIFEST, Outcome.DELETED)


async def test_h33_a_layer_cannot_be_deleted_by_the_manifests_route(edge: RunningEdge) -> None:
    loose = image("loose")
    await edge.client.push("team/app", "dev-1", loose)
    layer = sha256(loose.blobs[1])
    assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{layer}")).status == 404
    assert (await edge.direct.ask("GET", f"/v2/team/app/blobs/{layer}")).status == 200


@pytest.mark.parametrize(("tag", "again"), [("1.0", 409), ("2.0", 201)])
async def test_a_rule_may_allow_deletes_and_keep_the_name_taken(edge: RunningEdge, tag: str, again: int) -> None:
    edge.use_rules(DELETABLE)
    pushed = image("one")
    await edge.client.push("team/app", tag, pushed)
    answer = await edge.client.ask("DELETE", f"/v2/team/app/manifests/{pushed.digest}")
    assert answer.status == 202, answer.body
    assert (await edge.client.pull("team/app", tag)).status == 404
    assert (await edge.client.push("team/app", tag, image("two"))).status == again


@pytest.mark.parametrize(("tag", "status"), [("1.0", 404), ("2.0", 200)])
async def test_a_name_that_stays_taken_is_not_taken_by_going_round_the_proxy(
    edge: RunningEdge, tag: str, status: int
) -> None:
    edge.use_rules(DELETABLE)
    pushed, other = image("one"), image("two")
    await edge.client.push("team/app", tag, pushed)
    assert (await edge.client.ask("DELETE", f"/v2/team/app/manifests/{pushed.digest}")).status == 202
    await edge.direct.push("team/app", tag, other)
    for method in ("GET", "HEAD"):
        assert (await edge.client.pull("team/app", tag, method=method)).status == status
    found = await edge.parts.register.read("team/app", tag)
    assert (found.tombstone is None, found.committed is None) == (status == 200, status == 404)
    assert (await edge.client.push("team/app", tag, image("three"))).status == 409
    edge.use_rules(DELETABLE.replace("never}", "allow}"))
    assert (await edge.client.pull("team/app", tag)).digest == other.digest


@pytest.mark.parametrize("by", ["digest", "tag"])
async def test_what_is_being_deleted_is_neither_drift_nor_put_back(edge: RunningEdge, by: str) -> None:
    """The registry has done it already, and the proxy that asked for it does not know yet."""
    edge.use_rules(DELETABLE)
    pushed = image("one")
    await edge.client.push("team/app", "1.0", pushed)
    found = await edge.parts.register.read("team/app", "1.0")
    draft = record.own(Action.DELETE_TAG, Outcome.FAILED, "team/app", tag="1.0", digest=pushed.digest)
    mark = pushed.digest if by == "digest" else "tag:1.0"
    begun = await edge.parts.register.begin_delete(
        "team/app", mark, holders=["1.0"] if by == "digest" else [], deadline_ms=60_000, draft=draft
    )
    assert begun is Step.GRANTED
    await edge.direct.ask("DELETE", f"/v2/team/app/manifests/{pushed.digest}")
    assert await edge.parts.healer.check(found)
    assert (await edge.direct.pull("team/app", "1.0")).status == 404
    assert await edge.parts.register.drifts("team/app") == []
    await edge.parts.register.end_delete("team/app", mark, draft)
    assert await edge.parts.healer.check(found), "the delete has failed, so the tag is to be there"
    assert (await edge.direct.pull("team/app", "1.0")).digest == pushed.digest


@pytest.mark.parametrize("by", ["digest", "tag"])
async def test_h92_a_push_of_what_is_being_deleted_does_not_bring_it_back(edge: RunningEdge, by: str) -> None:
    edge.use_rules(DELETABLE)
    pushed = image("one")
    await edge.client.push("team/app", "1.0", pushed)
    draft = record.own(Action.DELETE_TAG, Outcome.FAILED, "team/app", tag="1.0", digest=pushed.digest)
    mark, holders = (pushed.digest, ["1.0"]) if by == "digest" else ("tag:1.0", [])
    register = edge.parts.register
    await register.begin_delete("team/app", mark, holders=holders, deadline_ms=60_000, draft=draft)
    await edge.direct.ask("DELETE", f"/v2/team/app/manifests/{pushed.digest}")
    answer = await edge.client.put("team/app", "1.0", pushed)
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
    assert (await edge.direct.pull("team/app", "1.0")).status == 404
    await register.end_delete("team/app", mark, draft, [GoneTag("1.0", pushed.digest, tombstone=True)])
    assert (await edge.client.put("team/app", "1.0", pushed)).status == 409


async def test_h34_what_is_being_deleted_is_not_adopted(edge: RunningEdge) -> None:
    edge.use_rules(DELETABLE)
    pushed = image("one")
    await edge.direct.push("team/app", "1.0", pushed)
    draft = record.own(Action.DELETE_MANIFEST, Outcome.FAILED, "team/app", digest=pushed.digest)
    register = edge.parts.register
    for digest in (pushed.digest, sha256(pushed.blobs[0])):
        await register.begin_delete("team/app", digest, holders=[], deadline_ms=60_000, draft=draft)
        for method in ("GET", "HEAD"):
            assert (await edge.client.pull("team/app", "1.0", method=method)).status == 404
        answer = await edge.client.put("team/app", "1.0", image("two"))
        assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
        assert (await register.read("team/app", "1.0")).committed is None
        await register.end_delete("team/app", digest, draft)
    assert (await edge.client.pull("team/app", "1.0")).digest == pushed.digest


async def test_h31_a_child_that_comes_after_its_index_brings_in_what_it_needs(edge: RunningEdge) -> None:
    """An index may be older than the proxy and lack a child (some registries take such a one)."""
    child = image("child")
    pushed = index(child, image("other"))
    await edge.direct.push("team/app", "1.0", pushed)
    assert (await edge.direct.ask("DELETE", f"/v2/team/app/manifests/{child.digest}")).status == 202
    assert (await edge.client.pull("team/app", "1.0")).digest == pushed.digest
    assert not await edge.parts.register.is_pinned("team/app", sha256(child.blobs[1]))
    assert (await edge.client.put("team/app", child.digest, child)).status == 201
    for blob in child.blobs:
        answer = await edge.client.ask("DELETE", f"/v2/team/app/blobs/{sha256(blob)}")
        assert (answer.status, answer.error["code"]) == (405, "UNSUPPORTED")


async def test_a_refused_delete_says_so_once(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "1.0", image("one"))
    answer = await edge.client.ask("DELETE", "/v2/team/app/manifests/1.0")
    assert answer.error["message"].count("cannot be deleted") == 1
    assert answer.error["message"].count("team/app:1.0") == 1


@pytest.mark.parametrize(
    ("action", "path"),
    [
        ("delete-blob", f"blobs/{sha256(b'never pushed')}"),
        ("delete-blob", f"blobs/sha512:{'0' * 128}"),
        ("delete-manifest", f"manifests/{sha256(b'never pushed')}"),
        ("delete-manifest", f"manifests/sha512:{'0' * 128}"),
        ("delete-tag", "manifests/latest"),
    ],
)
async def test_a_delete_of_what_is_not_there_is_no_failure_of_the_registry(
    edge: RunningEdge, action: str, path: str
) -> None:
    """A typo does not set off an alert on failures."""
    await edge.client.push("team/app", "1.0", image("one"))
    answer = await edge.client.ask("DELETE", f"/v2/team/app/{path}")
    assert answer.status in {404, 400}  # 2.8 deletes no tag by name, and says 400 to that
    (told,) = [event for event in await edge.events("team/app") if event.action == action]
    assert told.outcome is Outcome.MISSING


async def test_a_tag_that_the_registry_cannot_delete_is_a_failure(edge: RunningEdge) -> None:
    await edge.client.push("team/app", "latest", image("one"))
    answer = await edge.client.ask("DELETE", "/v2/team/app/manifests/latest")
    (told,) = [event for event in await edge.events("team/app") if event.action is Action.DELETE_TAG]
    assert told.outcome is (Outcome.DELETED if answer.status == 202 else Outcome.FAILED)  # 2.8 deletes none by name


@pytest.mark.parametrize("kind", ["manifests", "blobs"])
async def test_h96_a_delete_of_nothing_where_nothing_is_leaves_no_key(edge: RunningEdge, kind: str) -> None:
    for name in ("nowhere/a", "nowhere/b"):
        answer = await edge.client.ask("DELETE", f"/v2/{name}/{kind}/{sha256(b'nothing')}")
        assert (answer.status, answer.error["code"]) == (404, f"{kind[:-1].upper()}_UNKNOWN")
    assert await edge.store.client.dbsize() == 0
