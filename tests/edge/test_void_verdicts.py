"""A verdict holds for exactly what it was judged against, and for no longer than the rules say so (H102, H103)."""

from __future__ import annotations

from typing import Any

import pytest

from immuproxy.ledger import keys
from immuproxy.ledger.model import Outcome
from tests.support.conversation import RunningEdge, image

REPOSITORY, TAG = "team/app", "1.0"
ONE, TWO, THREE = image("one"), image("two"), image("three")
OF_ONE_LINE = """
rules:
  - name: again
    policy: immutable
    delete: allow
    reuse: allow
    overwrite: [{same: [line]}]
"""


@pytest.fixture
async def blobs(edge: RunningEdge) -> None:
    for pushed in (ONE, TWO, THREE):
        await edge.direct.blobs(REPOSITORY, pushed)


async def test_h102_what_was_deleted_and_pushed_anew_is_judged_anew(
    edge: RunningEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same line as what was deleted, not of what has come instead."""
    edge.use_rules(OF_ONE_LINE)
    first, anew, over = (
        image("one", labels={"line": "a"}),
        image("two", labels={"line": "b"}),
        image("three", labels={"line": "a"}),
    )
    assert (await edge.client.push(REPOSITORY, TAG, first)).status == 201
    register: Any = edge.parts.register
    real = register.claim

    async def after_a_change(*arguments: Any, **named: Any) -> Any:
        if named["over_generation"]:
            monkeypatch.setattr(register, "claim", real)
            path = f"/v2/{REPOSITORY}/manifests/{first.digest}"
            assert (await edge.client.ask("DELETE", path)).status == 202
            assert (await edge.client.push(REPOSITORY, TAG, anew)).status == 201
        return await real(*arguments, **named)

    monkeypatch.setattr(register, "claim", after_a_change)
    answer = await edge.client.push(REPOSITORY, TAG, over)
    assert (answer.status, answer.error["detail"]["current_digest"]) == (409, anew.digest)
    assert (await edge.client.pull(REPOSITORY, TAG)).digest == anew.digest
    found = (await register.read(REPOSITORY, TAG)).committed
    assert (found.generation, found.overwrites) == (2, 0)


async def test_h102_a_ledger_that_came_back_older_and_counts_anew_makes_no_verdict_valid(
    edge: RunningEdge, blobs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same generation of other content."""
    edge.use_rules("rules: [{name: fresh, policy: immutable, overwrite: [{within: 15m}]}]")
    await edge.client.put(REPOSITORY, TAG, ONE)
    register: Any = edge.parts.register
    real = register.claim

    async def after_a_loss(*arguments: Any, **named: Any) -> Any:
        if named["over_generation"]:
            monkeypatch.setattr(register, "claim", real)
            await edge.store.do(edge.store.client.hset(keys.tag(REPOSITORY, TAG), "digest", THREE.digest))
        return await real(*arguments, **named)

    monkeypatch.setattr(register, "claim", after_a_loss)
    assert (await edge.client.put(REPOSITORY, TAG, TWO)).status == 201
    told = (await edge.events(REPOSITORY))[-1]
    assert (told.outcome, told.previous_digest) == (Outcome.OVERWRITTEN, THREE.digest)
