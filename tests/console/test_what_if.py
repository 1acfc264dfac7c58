"""Trying rules on the past: as JSON, as lines, as a page, in pieces; bounded, and ended with its visitor."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from aiohttp import FormData

from immuproxy.console.what_if import trials
from immuproxy.ledger.model import Outcome
from immuproxy.rehearsal.run import rehearse
from tests.console.conftest import Console, Seed
from tests.console.events import HOSTILE, digest, push
from tests.rehearsal.test_run import children

API = "/api/v1/rules/simulate"
YAML = {"Content-Type": "application/yaml"}
FROZEN = "default: frozen\nreferrers: false\n"
PAST = [
    push(id="a1", time=1_000, tag="latest", rule="moving", reason="first"),
    push(Outcome.OVERWRITTEN, id="a2", time=2_000, tag="latest", digest=digest("two"), previous_digest=digest("one"),
         rule="moving", reason=HOSTILE, actor=HOSTILE),
]  # fmt: skip


@pytest.fixture
async def filled(console: Console, seed: Seed) -> Console:
    await seed(PAST)
    return console


async def test_what_would_change_with_both_reasons(filled: Console) -> None:
    answer = await filled.post(API, data=FROZEN, headers=YAML)
    found = await answer.json()
    assert (answer.status, found["judged"], found["changed"], found["complete"]) == (200, 2, 2, True)
    first = found["differences"][0]
    assert (first["event"], first["was"]["outcome"], first["now"]["outcome"]) == ("a1", "created", "refused")
    assert (first["was"]["reason"], "frozen" in first["now"]["reason"]) == ("first", True)


async def test_only_the_last(filled: Console) -> None:
    assert (await (await filled.post(f"{API}?last=1", data=FROZEN, headers=YAML)).json())["judged"] == 1


async def test_every_difference_is_a_line_and_the_last_is_the_result(filled: Console) -> None:
    answer = await filled.post(f"{API}?as=lines", data=FROZEN, headers=YAML)
    lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert [list(line) for line in lines] == [["difference"], ["difference"], ["result"]]
    assert lines[-1]["result"]["changed"] == 2


@pytest.mark.parametrize("query", ["", "?as=lines"])
async def test_a_wrong_file_is_told_line_by_line(filled: Console, query: str) -> None:
    answer = await filled.post(API + query, data="default: immutable\nrules: [{name: a, polcy: x}]\n", headers=YAML)
    found = await answer.json()
    assert (answer.status, found["error"]["code"], found["problems"][0]["line"]) == (422, "wrong_file", 2)
    assert "polcy" in found["problems"][0]["code"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        (API, "", YAML, 400),
        (API, " \n", YAML, 400),
        (f"{API}?last=0", FROZEN, YAML, 400),
        (f"{API}?last=100001", FROZEN, YAML, 400),
        (f"{API}?as=table", FROZEN, YAML, 400),
        (f"{API}?lsat=5", FROZEN, YAML, 400),
        (API, "{}", {"Content-Type": "application/json"}, 415),
        (API, FROZEN, YAML | {"Sec-Fetch-Site": "cross-site"}, 403),
        (API, "x" * (2 * 1024 * 1024), YAML, 413),
        (API, "#" * (1024 * 1024 + 1), YAML, 422),
    ],
)
async def test_what_cannot_be_tried(
    filled: Console, path: str, body: str, headers: dict[str, str], status: int
) -> None:
    assert (await filled.post(path, data=io.BytesIO(body.encode()), headers=headers)).status == status


def form(rules: str = FROZEN, last: str = "100", file: bytes = b"") -> FormData:
    data = FormData()
    data.add_field("rules", rules)
    data.add_field("last", last)
    data.add_field("file", file, filename="new.yml", content_type="application/octet-stream")
    return data


async def test_the_page_lists_the_changes_as_text(filled: Console) -> None:
    answer = await filled.post("/rules/what-if", data=form())
    page = await answer.text()
    assert answer.status == 200
    assert "2 of 2 verdicts would change" in page
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;alert(1)") == 2


async def test_an_uploaded_file_goes_before_the_text(filled: Console) -> None:
    page = await (await filled.post("/rules/what-if", data=form(FROZEN, file=b"default: mutable\n"))).text()
    assert "No verdict would change" in page
    assert "default: mutable" in page


async def test_the_page_shows_errors_with_their_lines(filled: Console) -> None:
    answer = await filled.post("/rules/what-if", data=form(f"default: imutable\n# {HOSTILE}\n"))
    page = await answer.text()
    assert answer.status == 422
    assert "line 1:10" in page
    assert "did you mean" in page
    assert HOSTILE not in page


async def test_the_script_gets_the_same_in_pieces(filled: Console) -> None:
    answer = await filled.post("/rules/what-if?as=pieces", data=form())
    pieces: list[dict[str, Any]] = [json.loads(line) for line in (await answer.text()).splitlines()]
    kinds = [next(iter(piece)) for piece in pieces]
    assert [kind for kind in kinds if kind != "stage"] == ["table", "row", "row", "result"]
    assert all(HOSTILE not in json.dumps(piece) for piece in pieces)
    assert pieces[-1]["result"].count("would change") == 1


async def test_a_visitor_tries_one_file_at_a_time(filled: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, began = rehearse, asyncio.Event()

    async def never_ending(*arguments: Any, **options: Any) -> Any:
        async for step in slow(*arguments, **options):
            began.set()
            yield step
            await asyncio.sleep(30)

    with monkeypatch.context() as patched:
        patched.setattr(trials, "rehearse", never_ending)
        first = asyncio.create_task(filled.post(API, data=FROZEN, headers=YAML))
        await began.wait()
        second = await filled.post(API, data=FROZEN, headers=YAML)
        assert (second.status, second.headers["Retry-After"]) == (429, "5")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    async with asyncio.timeout(10):  # who went away makes room, and his process has ended
        while (await filled.post(API, data=FROZEN, headers=YAML)).status != 200:
            await asyncio.sleep(0.2)
    assert children() == []
