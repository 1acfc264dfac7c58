"""Exports: text that an image's author, a pusher or a client chose, as it comes out of the audit in every form."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.attack.arena import EVIL, REPOSITORY, Arena, arena
from tests.support.conversation import Image, image
from tests.support.wire import ask, request, wire

TEXTS: dict[str, str] = {
    "formula": "=1+1",
    "formula-plus": "+1+1",
    "formula-minus": "-1+1",
    "formula-at": "@SUM(1)",
    "formula-after-blanks": "   =1+1",
    "formula-after-tab": "\t=1+1",
    "formula-of-pipes": "|calc",
    "formula-percent": "%0A=1",
    "link": '=HYPERLINK("http://evil.example","x")',
    "quotes": '"""',
    "quotes-and-commas": '","refused","x',
    "semicolons": "a;b;=1+1",
    "apostrophe": "'=1+1",
    "markup": "<script>alert(1)</script>",
    "markup-attribute": '" onmouseover="alert(1)',
    "template": "{{ 7 * 7 }}{% raw %}",
    "entity": "&lt;b&gt;&#60;",
    "comment": "--><!--",
    "backslash": "\\u0022\\",
    "latin-1": "\xe9\xff",
    "percent": "%s%n%x",
    "very-long": "x" * 4000,
    "format": "{0.__class__}",
    "event-stream": "data: x",
    "nothing": "",
    "blank": " ",
}
"""User agents: visible, as a header takes them."""

NAMES: dict[str, str] = {
    "line-break": "eve\r\n=1+1",
    "null": "eve\0",
    "escape-codes": "\x1b[31meve",
    "right-to-left": "\u202eeve",
    "line-separator": "eve\u2028=1+1",
    "fullwidth-formula": "\uff1d1+1",
    "combining": "e" + "\u0301" * 300,
    "emoji": "\U0001f469\u200d\U0001f4bb",
    "formula": "=cmd",
    "surrogates": "\udc80",
}
"""Names of users: any bytes, in base64."""


@pytest.fixture(scope="module")
def told() -> Iterator[Arena]:
    """An installation whose audit tells of all that."""
    with arena() as standing:
        asyncio.run(standing.prepare())
        asyncio.run(_push_all(standing))
        asyncio.run(standing.api("events"))  # until all of it can be searched
        yield standing
        asyncio.run(standing.aftermath())


async def _push_all(standing: Arena) -> None:
    for name, text in TEXTS.items():
        await _push(standing, f"dev-agent-{name}", [("User-Agent", text)])
    for name, text in NAMES.items():
        key = base64.b64encode(f"{text}:x".encode("utf-8", "surrogatepass")).decode()
        await _push(standing, f"dev-name-{name}", [("Authorization", f"Basic {key}")])


async def _push(standing: Arena, tag: str, headers: list[tuple[str, str]]) -> None:
    sent = [("Content-Type", EVIL.media_type), *headers]
    answer = await standing.edge(request("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", sent, EVIL.body))
    assert answer.status == 201, (tag, answer)


TAGS = [*(f"dev-agent-{name}" for name in TEXTS), *(f"dev-name-{name}" for name in NAMES)]


@pytest.mark.parametrize("tag", TAGS)
async def test_a_sheet_has_one_line_for_an_event_and_no_formula(told: Arena, tag: str) -> None:
    answer = await told.console(request("GET", f"/api/v1/events.csv?tag={tag}"))
    assert answer.status == 200
    head, *lines = csv.reader(io.StringIO(answer.body.decode(), newline=""))
    (line,) = lines
    event = dict(zip(head, line, strict=True))
    assert (event["tag"], event["outcome"], event["repository"]) == (tag, "created", REPOSITORY)
    for cell in line:
        assert cell.lstrip(" ")[:1] not in {"=", "+", "-", "@", "\t", "\r", "\n", "|", "%"}, cell
        assert cell.isprintable()


@pytest.mark.parametrize("tag", TAGS)
async def test_each_line_of_json_is_one_event(told: Arena, tag: str) -> None:
    answer = await told.console(request("GET", f"/api/v1/events.jsonl?tag={tag}"))
    (line,) = answer.body.decode().splitlines()
    event = json.loads(line)
    assert (event["tag"], event["outcome"], event["repository"]) == (tag, "created", REPOSITORY)
    assert all(len(str(value)) <= 300 for value in event.values())


@pytest.mark.parametrize("tag", TAGS)
async def test_a_page_shows_it_as_text(told: Arena, tag: str) -> None:
    (event,) = (await told.api(f"events?tag={tag}"))["events"]
    for path in (f"/audit?q=tag:{tag}", f"/events/{quote(event['id'])}", f"/repositories/{REPOSITORY}/tags/{tag}"):
        answer = await told.console(request("GET", path))
        assert answer.status == 200
        for never in (b"<script>alert", b'" onmouseover="alert', b"--><!--", b">49<"):
            assert never not in answer.body
        found = answer.body.decode()
        assert "\x1b" not in found
        assert "\u202e" not in found
        assert "\0" not in found
    told.log_is_clean()


@pytest.mark.parametrize("shape", ["row", "json"])
@pytest.mark.parametrize("name", ["markup", "event-stream", "template", "quotes"])
async def test_a_live_tail_sends_one_message_for_an_event(told: Arena, name: str, shape: str) -> None:
    tag = f"dev-live-{shape}-{name}"
    async with wire(told.proxy.console_port) as line, asyncio.timeout(15):
        await line.send(request("GET", f"/api/v1/live?as={shape}&tag={tag}"))
        await line.reader.readuntil(b": listening")
        await _push(told, tag, [("User-Agent", TEXTS[name])])
        message = await line.reader.readuntil(b"\n\n\r\n")
        while b"id: " not in message:
            message = await line.reader.readuntil(b"\n\n\r\n")
    assert message.count(b"\nid: ") == 1
    assert b"<script>alert" not in message or shape == "json"
    told.log_is_clean()


LABELS = {
    "platform-of-markup": {"os": "<script>alert(1)</script>", "architecture": "x"},
    "platform-of-a-formula": {"os": "=1+1", "architecture": "+1"},
    "platform-of-newlines": {"os": "a\r\nb", "architecture": "c\u2028d"},
    "platform-of-numbers": {"os": 1, "architecture": [2]},
    "platform-very-long": {"os": "x" * 10_000, "architecture": "y" * 10_000},
    "platform-nested": {"os": {"os": "linux"}, "architecture": None},
}


@pytest.mark.parametrize("name", LABELS)
async def test_what_an_author_writes_into_an_index_is_text(told: Arena, name: str) -> None:
    listed = {"mediaType": EVIL.media_type, "digest": EVIL.digest, "size": len(EVIL.body), "platform": LABELS[name]}
    body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}).encode()
    async with told.client() as client:
        answer = await client.put(REPOSITORY, f"dev-{name}", Image(body, INDEX))
    assert answer.status in {201, 400}, answer
    tag = f"dev-{name}"
    for path in (f"/audit?q=tag:{tag}", f"/repositories/{REPOSITORY}/tags/{tag}"):
        page = await told.console(request("GET", path))
        assert page.status == 200
        assert b"<script>alert" not in page.body
    sheet = await told.console(request("GET", f"/api/v1/events.csv?tag={tag}"))
    for line in csv.reader(io.StringIO(sheet.body.decode(), newline="")):
        assert all(cell.isprintable() and not cell.startswith(("=", "+", "@")) for cell in line)
    told.log_is_clean()


INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
async def test_an_export_that_is_hung_up_leaves_no_trace(told: Arena, form: str) -> None:
    for _ in range(10):
        async with wire(told.proxy.console_port) as line:
            await line.send(request("GET", f"/api/v1/events.{form}"))
    assert (await ask(told.proxy.console_port, request("GET", "/healthz"))).status == 200
    await asyncio.sleep(0.5)  # nobody tells when the last of them was given up
    told.log_is_clean()


CONFIGS: dict[str, bytes] = {
    "label-of-markup": b'{"config":{"Labels":{"<script>alert(1)</script>":"<script>alert(1)</script>"}}}',
    "environment": b'{"config":{"Env":["A=<script>alert(1)</script>",null,3,["x"]]}}',
    "history": b'{"history":[{"created_by":"<script>alert(1)</script>"},null,7,{"created_by":[1]}]}',
    "command": b'{"config":{"Cmd":{"a":1},"Entrypoint":"text","ExposedPorts":[1],"User":[]}}',
    "created-far": b'{"created":"99999-01-01T00:00:00Z","rootfs":{"diff_ids":5}}',
    "no-json": b"<script>alert(1)</script>",
    "nested": b"[" * 50_000,
    "nothing": b"",
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("tag", ["dev", "v1"])
async def test_what_an_image_says_of_itself_is_text(told: Arena, name: str, tag: str) -> None:
    config = CONFIGS[name]
    made = json.loads(image(name).body)
    made["config"] = made["config"] | {"digest": Image(config, "").digest, "size": len(config)}
    pushed = Image(
        json.dumps(made | {"annotations": {"from": tag}}).encode(), EVIL.media_type, (config, *image(name).blobs)
    )
    repository = f"configs/{name}"
    async with told.client() as client:
        assert (await client.push(repository, f"{tag}-1", pushed)).status == 201
        await client.push(repository, f"{tag}-2", EVIL)
    await told.api("events")  # what a moving tag holds is known from there
    for path in (
        f"/repositories/{repository}/manifests/{pushed.digest}",
        f"/repositories/{repository}/tags/{tag}-1",
        f"/compare?a={repository}:{tag}-1&b={repository}:{tag}-2",
    ):
        page = await told.console(request("GET", path))
        assert page.status == 200
        assert b"<script>alert" not in page.body
    told.log_is_clean()
