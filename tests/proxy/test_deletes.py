"""Nothing that a protected tag needs can be deleted through the proxy (H29-H34)."""

from __future__ import annotations

import pytest

from immuproxy.ledger.model import Action, Outcome
from tests.conversation import RunningEdge, image, index, sha256

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
