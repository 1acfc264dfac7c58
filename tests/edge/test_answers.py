"""The answers that the proxy makes itself, as they stand on the wire."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from multidict import CIMultiDict

from immuproxy.edge import answers
from immuproxy.edge.answers import Answer
from immuproxy.ledger.model import StoredManifest
from immuproxy.oci import errors
from tests.support.wire import WireAnswer, ask, request, served

DIGEST = f"sha256:{'0a' * 32}"


async def sent(answer: Answer, method: str = "GET") -> WireAnswer:
    async def handle(asked: web.BaseRequest) -> web.StreamResponse:
        return await answers.send(asked, answer)

    async with served(handle) as port:
        return await ask(port, request(method, "/v2/"))


def names(answer: WireAnswer) -> list[str]:
    return [name for name, _ in answer.headers]


async def test_h46_no_header_is_added_but_the_date() -> None:
    answer = await sent(Answer(200, CIMultiDict([("B", "1"), ("A", "2"), ("B", "3")]), b"body"))
    assert names(answer) == ["B", "A", "B", "Content-Length", "Date"]
    assert answer.all("B") == ["1", "3"]
    assert answer.body == b"body"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_answer_leaves_in_one_piece(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    async def handle(asked: web.BaseRequest) -> web.StreamResponse:
        assert asked.transport is not None
        write = asked.transport.write

        def note(data: bytes) -> None:
            written.append(data)
            write(data)

        monkeypatch.setattr(asked.transport, "write", note)
        return await answers.send(asked, Answer(200, CIMultiDict(), b"body"))

    async with served(handle) as port:
        answer = await ask(port, request(method, "/v2/"))
    assert (answer.status, answer.header("Content-Length")) == (200, "4")
    assert len(written) == 1


async def test_h46_a_content_type_is_never_invented() -> None:
    answer = await sent(Answer(201, CIMultiDict(), b"x"))
    assert answer.header("Content-Type") is None
    assert answer.header("Content-Length") == "1"


async def test_h46_an_empty_answer_says_so() -> None:
    answer = await sent(answers.created("a/b", DIGEST, "http://edge"), "PUT")
    assert answer.status == 201
    assert answer.header("Content-Length") == "0"
    assert answer.header("Transfer-Encoding") is None


@pytest.mark.parametrize("status", [204, 304])
async def test_h46_204_and_304_have_no_length(status: int) -> None:
    answer = await sent(Answer(status, CIMultiDict([("Etag", '"x"')])))
    assert names(answer) == ["Etag", "Date"]


async def test_h46_a_head_tells_the_length_of_what_a_get_would_bring() -> None:
    made = await sent(answers.manifest(StoredManifest(DIGEST, "application/x", b"12345"), {}), "HEAD")
    assert made.header("Content-Length") == "5"
    relayed = await sent(Answer(200, CIMultiDict([("Content-Length", "587")])), "HEAD")
    assert relayed.header("Content-Length") == "587"
    unknown = await sent(Answer(404, CIMultiDict()), "HEAD")
    assert unknown.header("Content-Length") is None


async def test_h46_a_stated_length_never_differs_from_the_body() -> None:
    answer = await sent(Answer(200, CIMultiDict([("Content-Length", "999")]), b"body"))
    assert (answer.header("Content-Length"), answer.body) == ("4", b"body")


async def test_h80_a_proxy_made_201_has_all_that_containerd_compares() -> None:
    answer = await sent(answers.created("a/b", DIGEST, "http://edge", {"OCI-Tag": "v1"}), "PUT")
    assert answer.header("Docker-Content-Digest") == DIGEST
    assert answer.header("Docker-Distribution-Api-Version") == "registry/2.0"
    assert answer.header("Location") == f"http://edge/v2/a/b/manifests/{DIGEST}"
    assert answer.header("OCI-Tag") == "v1"


def test_a_caller_without_a_host_is_told_a_path() -> None:
    assert answers.created("a/b", DIGEST, "").headers["Location"] == f"/v2/a/b/manifests/{DIGEST}"


def test_a_manifest_is_told_as_the_registry_tells_it() -> None:
    made = answers.manifest(StoredManifest(DIGEST, "application/x", b"{}"), {"X-Frame-Options": "DENY"})
    assert made.digest == DIGEST
    assert made.headers["X-Frame-Options"] == "DENY"
    assert made.headers["Etag"] == f'"{DIGEST}"'
    assert answers.not_modified(DIGEST).status == 304


async def test_an_error_is_json_with_its_headers() -> None:
    answer = await sent(answers.error(errors.method_not_allowed("POST", ("GET",))))
    assert answer.status == 405
    assert answer.header("Allow") == "GET"
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    assert answer.error["code"] == "UNSUPPORTED"


async def test_an_error_on_head_has_no_body() -> None:
    problem = errors.not_found("no such path")
    answer = await sent(answers.error(problem), "HEAD")
    assert answer.header("Content-Length") == str(len(problem.body()))
    assert json.loads(problem.body())["errors"]
    assert answer.body == b""
