"""A push that cannot even be judged has its event as well (I10)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from immuproxy.ledger.model import Action, Outcome
from immuproxy.oci.manifests import MAX_MANIFEST_BYTES, OCI_MANIFEST
from tests.support.conversation import RunningEdge, image, sha256
from tests.support.wire import request, wire

REPOSITORY, TAG = "team/app", "1.0"
MANIFEST = f"/v2/{REPOSITORY}/manifests"
ONE = image("one")

UNFIT = {
    "empty": (f"{MANIFEST}/{TAG}", b"", OCI_MANIFEST, 400),
    "no JSON": (f"{MANIFEST}/{TAG}", b"{", OCI_MANIFEST, 400),
    "no manifest": (f"{MANIFEST}/{TAG}", b"{}", OCI_MANIFEST, 400),
    "another type": (f"{MANIFEST}/{TAG}", ONE.body, "text/plain", 415),
    "another digest": (f"{MANIFEST}/{image('two').digest}?tag={TAG}", ONE.body, OCI_MANIFEST, 400),
}


async def too_large() -> AsyncIterator[bytes]:
    for _ in range(MAX_MANIFEST_BYTES // 65_536 + 1):
        yield b" " * 65_536


@pytest.mark.parametrize("name", UNFIT)
async def test_i10_what_is_refused_before_it_is_judged_is_told(edge: RunningEdge, name: str) -> None:
    target, body, media_type, status = UNFIT[name]
    answer = await edge.client.ask("PUT", target, body, Content_Type=media_type)
    assert answer.status == status, answer.body
    (told,) = await edge.events(REPOSITORY)
    assert (told.action, told.outcome, told.tag, told.rule) == (Action.PUSH, Outcome.FAILED, TAG, "default")
    assert told.reason == answer.error["message"]
    assert told.digest == (sha256(body) if body else "")
    assert await edge.parts.register.intents(REPOSITORY) == []


async def test_i10_so_is_a_body_that_turns_out_too_large(edge: RunningEdge) -> None:
    async with edge.client.session.put(f"{edge.client.url}{MANIFEST}/{TAG}", data=too_large()) as answer:
        assert answer.status == 413
    (told,) = await edge.events(REPOSITORY)
    assert (told.outcome, told.tag) == (Outcome.FAILED, TAG)


async def test_i10_so_is_a_body_that_breaks_off(edge: RunningEdge) -> None:
    async with wire(edge.port) as line:
        await line.send(
            request("PUT", f"{MANIFEST}/{TAG}", [("Transfer-Encoding", "chunked"), ("Expect", "100-continue")])
        )
        await line.reader.readuntil(b"100 Continue\r\n\r\n")
        await line.send(b"zz\r\n")
        assert (await line.answer("PUT")).status == 400
    (told,) = await edge.events(REPOSITORY)
    assert (told.outcome, told.tag) == (Outcome.FAILED, TAG)


REFERENCES = {"a tag that may move": "latest", "a digest": ONE.digest, "a digest and a tag": f"{ONE.digest}?tag=latest"}
TAGS = {"a tag that may move": "latest", "a digest": "", "a digest and a tag": "latest"}


@pytest.mark.parametrize("name", REFERENCES)
async def test_i10_so_is_what_no_rule_holds(edge: RunningEdge, name: str) -> None:
    target = f"{MANIFEST}/{REFERENCES[name]}"
    two = image("two").body
    for body, media_type in ((b"", OCI_MANIFEST), (b"{", OCI_MANIFEST), (two, OCI_MANIFEST), (two, "text/plain")):
        answer = await edge.client.ask("PUT", target, body, Content_Type=media_type)
        assert answer.status >= 400
    async with edge.client.session.put(edge.client.url + target, data=too_large()) as refused:
        assert refused.status == 413
    async with wire(edge.port) as line:
        await line.send(request("PUT", target, [("Transfer-Encoding", "chunked"), ("Expect", "100-continue")]))
        await line.reader.readuntil(b"100 Continue\r\n\r\n")
        await line.send(b"zz\r\n")
        assert (await line.answer("PUT")).status == 400
    told = await edge.events(REPOSITORY)
    assert [(event.outcome, event.tag) for event in told] == [(Outcome.FAILED, TAGS[name])] * 6
    assert await edge.parts.register.intents(REPOSITORY) == []


async def test_i10_the_question_whether_one_may_push_is_none(edge: RunningEdge) -> None:
    """As this proxy itself asks it, behind another one."""
    answer = await edge.client.ask("PUT", f"{MANIFEST}/{sha256(b'')}", b"", Content_Type=OCI_MANIFEST)
    assert answer.status == 400
    assert await edge.store.do(edge.store.client.keys("*team/app*")) == []
