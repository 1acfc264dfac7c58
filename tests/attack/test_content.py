"""Content: bodies that the proxy, the registry and a client might read differently.

Whatever is accepted is given out again byte for byte under its own digest; whatever is refused leaves its tag free.
"""

from __future__ import annotations

import gzip
import json
from itertools import count
from typing import Any

import pytest

from immuproxy.oci.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.attack.arena import EVIL, REPOSITORY, Arena, held
from tests.support.conversation import Image, sha256
from tests.support.wire import request

_numbers = count(1)
NOW = json.loads(EVIL.body)
CONFIG, LAYERS = NOW["config"], NOW["layers"]
CHILD = {"mediaType": OCI_MANIFEST, "digest": EVIL.digest, "size": len(EVIL.body)}
INDEX = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [CHILD]}


def changed(**changes: Any) -> bytes:
    """The image's manifest with some keys changed, or left out (None)."""
    document = NOW | changes
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


def indexed(**changes: Any) -> bytes:
    return json.dumps(INDEX | changes).encode()


def text(old: str, new: str) -> bytes:
    """The image's manifest with some of its text changed."""
    assert old in EVIL.body.decode(), old
    return EVIL.body.decode().replace(old, new, 1).encode("utf-8", "surrogatepass")


OK, NO, TYPE = {201}, {400}, {415}
Case = tuple[bytes, str, set[int]]

DOCUMENTS: dict[str, Case] = {
    # read otherwise by Go
    "keys-twice": (text('"layers":', '"layers": [], "layers":'), OCI_MANIFEST, NO),
    "keys-twice-in-annotations": (changed(annotations={"a": "b"})[:-2] + b', "a": "c"}}', OCI_MANIFEST, NO),
    "config-twice-escaped": (text('"config":', '"conf\\u0069g": {}, "config":'), OCI_MANIFEST, NO),
    "key-in-capitals": (text('"layers"', '"LAYERS"'), OCI_MANIFEST, NO),
    "key-in-kelvin": (text('"layers"', '"layer\u017f"'), OCI_MANIFEST, NO),
    "digest-key-in-capitals": (text('"digest"', '"Digest"'), OCI_MANIFEST, NO),
    "media-type-key-in-capitals": (text('"mediaType"', '"mediatype"'), OCI_MANIFEST, NO),
    "bom": (b"\xef\xbb\xbf" + EVIL.body, OCI_MANIFEST, NO),
    "utf-16": (EVIL.body.decode().encode("utf-16"), OCI_MANIFEST, NO),
    "utf-32": (EVIL.body.decode().encode("utf-32-le"), OCI_MANIFEST, NO),
    "latin-1": (changed(annotations={"a": "b"}).replace(b'"b"', b'"\xe9"'), OCI_MANIFEST, NO),
    "surrogate-in-bytes": (changed(annotations={"a": "b"}).replace(b'"b"', b'"\xed\xa0\x80"'), OCI_MANIFEST, NO),
    "surrogate-escaped": (changed(annotations={"a": "b"}).replace(b'"b"', b'"\\ud800"'), OCI_MANIFEST, NO),
    "overlong-utf-8": (changed(annotations={"a": "b"}).replace(b'"b"', b'"\xc0\xaf"'), OCI_MANIFEST, NO),
    "nan": (text('"size": ', '"size": NaN, "x": '), OCI_MANIFEST, NO),
    "infinity": (text('"size": ', '"size": -Infinity, "x": '), OCI_MANIFEST, NO),
    "comment": (EVIL.body + b"// end", OCI_MANIFEST, NO),
    "comma-behind": (EVIL.body[:-1] + b",}", OCI_MANIFEST, NO),
    "second-document": (EVIL.body + EVIL.body, OCI_MANIFEST, NO),
    "null-behind": (EVIL.body + b"\0", OCI_MANIFEST, NO),
    "null-in-text": (changed(annotations={"a": "b"}).replace(b'"b"', b'"\0"'), OCI_MANIFEST, NO),
    "tab-in-text": (changed(annotations={"a": "b"}).replace(b'"b"', b'"\t"'), OCI_MANIFEST, NO),
    "single-quotes": (EVIL.body.replace(b'"', b"'"), OCI_MANIFEST, NO),
    "cut": (EVIL.body[:-1], OCI_MANIFEST, NO),
    "nested-arrays": (b'{"schemaVersion":2,"x":' + b"[" * 5000 + b"]" * 5000 + b"}", OCI_MANIFEST, NO),
    "nested-objects": (b'{"schemaVersion":2,"x":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}", OCI_MANIFEST, NO),
    "nested-in-annotations": (changed(annotations={"x": json.loads("[" * 70 + "]" * 70)}), OCI_MANIFEST, NO),
    "an-array": (b"[" + EVIL.body + b"]", OCI_MANIFEST, NO),
    "a-string": (json.dumps(EVIL.body.decode()).encode(), OCI_MANIFEST, NO),
    "null": (b"null", OCI_MANIFEST, NO),
    "a-number": (b"2", OCI_MANIFEST, NO),
    "blanks": (b"   \n", OCI_MANIFEST, NO),
    "nothing": (b"", OCI_MANIFEST, NO),
    # of no kind, or of another
    "schema-version-1": (changed(schemaVersion=1), OCI_MANIFEST, NO),
    "schema-version-text": (changed(schemaVersion="2"), OCI_MANIFEST, NO),
    "media-type-of-another-kind": (changed(mediaType=OCI_INDEX), OCI_MANIFEST, NO),
    "media-type-of-docker": (changed(mediaType=DOCKER_MANIFEST), OCI_MANIFEST, NO),
    "image-as-index": (EVIL.body, OCI_INDEX, NO),
    "index-as-image": (indexed(), OCI_MANIFEST, NO),
    "image-as-docker-list": (EVIL.body, DOCKER_LIST, NO),
    "both-kinds": (changed(manifests=[CHILD]), OCI_MANIFEST, NO),
    "both-kinds-as-index": (indexed(config=CONFIG, layers=LAYERS), OCI_INDEX, NO),
    "config-null": (text('"config": {', '"config": null, "x": {'), OCI_MANIFEST, NO),
    "config-a-list": (changed(config=[CONFIG]), OCI_MANIFEST, NO),
    "config-a-text": (changed(config=CONFIG["digest"]), OCI_MANIFEST, NO),
    "layers-an-object": (changed(layers=LAYERS[0]), OCI_MANIFEST, NO),
    "layers-of-text": (changed(layers=[LAYERS[0]["digest"]]), OCI_MANIFEST, NO),
    "layer-unknown": (changed(layers=[LAYERS[0] | {"digest": sha256(b"nowhere")}]), OCI_MANIFEST, NO),
    "config-unknown": (changed(config=CONFIG | {"digest": sha256(b"nowhere")}), OCI_MANIFEST, NO),
    "layer-digest-in-capitals": (
        changed(layers=[LAYERS[0] | {"digest": LAYERS[0]["digest"].upper()}]),
        OCI_MANIFEST,
        NO,
    ),
    "layer-digest-empty": (changed(layers=[LAYERS[0] | {"digest": ""}]), OCI_MANIFEST, NO),
    "layer-digest-a-path": (changed(layers=[LAYERS[0] | {"digest": "sha256:../../../../etc"}]), OCI_MANIFEST, NO),
    "layer-digest-a-number": (changed(layers=[LAYERS[0] | {"digest": 1}]), OCI_MANIFEST, NO),
    "layer-size-a-text": (changed(layers=[LAYERS[0] | {"size": "1"}]), OCI_MANIFEST, NO),
    "layer-size-huge": (changed(layers=[LAYERS[0] | {"size": 10**400}]), OCI_MANIFEST, NO),
    "index-of-a-blob": (indexed(manifests=[CHILD | {"digest": CONFIG["digest"]}]), OCI_INDEX, OK),
    "index-of-nobody": (indexed(manifests=[CHILD | {"digest": sha256(b"nowhere")}]), OCI_INDEX, NO),
    "brackets-without-end": (b'{"schemaVersion":2,"x":[' + b"[]," * 100_001 + b"[]]}", OCI_MANIFEST, NO),
    "too-large": (changed(annotations={"x": "y" * (4 * 1024 * 1024)}), OCI_MANIFEST, {413}),
    # odd, and a manifest
    "blanks-around": (b"\n\t " + EVIL.body + b" \r\n", OCI_MANIFEST, OK),
    "unknown-keys": (changed(x={"y": [1, None, True, 1.5e3]}), OCI_MANIFEST, OK),
    "escaped-digest": (text("sha256:", "\\u0073ha256:"), OCI_MANIFEST, OK),
    "same-layer-often": (changed(layers=LAYERS * 50), OCI_MANIFEST, OK),
    "subject-unknown": (changed(subject=CHILD | {"digest": sha256(b"nowhere")}), OCI_MANIFEST, OK),
    "artifact-type": (changed(artifactType="application/x"), OCI_MANIFEST, OK),
    "annotations-of-any-name": (changed(annotations={"Layers": "x", "DIGEST": "y", "": "z"}), OCI_MANIFEST, OK),
    "emoji": (changed(annotations={"a": "\U0001f9e8"}), OCI_MANIFEST, OK),
    "surrogates-in-a-pair": (changed(annotations={"a": "b"}).replace(b'"b"', b'"\\ud83e\\udde8"'), OCI_MANIFEST, OK),
    "null-escaped": (changed(annotations={"a": "b\0c"}), OCI_MANIFEST, OK),
    "without-media-type": (changed(mediaType=None), OCI_MANIFEST, OK),
    "index-with-one-child-twice": (indexed(manifests=[CHILD, CHILD]), OCI_INDEX, OK),
    "index-of-an-index": (
        indexed(manifests=[CHILD | {"mediaType": OCI_INDEX, "digest": held()["multi"].digest}]),
        OCI_INDEX,
        OK,
    ),
    "four-mebibytes": (changed(annotations={"x": "y" * (4 * 1024 * 1024 - len(EVIL.body) - 40)}), OCI_MANIFEST, OK),
}


async def unharmed(arena: Arena, tag: str, body: bytes, status: int) -> None:
    """Accepted: it is what everybody gets, from then on.  Refused: the tag is free for something better."""
    image = Image(body, OCI_MANIFEST)
    async with arena.client() as client:
        got = await client.pull(REPOSITORY, tag)
        if status == 201:
            assert (got.status, got.body) == (200, body)
            assert got.digest == image.digest == arena.storage.tag(REPOSITORY, tag)
            assert (await client.put(REPOSITORY, tag, EVIL)).status == 409
        else:
            assert got.status == 404
            assert tag not in arena.storage.tags(REPOSITORY)
            assert (await client.put(REPOSITORY, tag, EVIL)).status == 201, "the tag is blocked"
    await arena.unharmed()


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_document_is_what_everybody_reads_or_nothing(target: Arena, name: str) -> None:
    body, media_type, expected = DOCUMENTS[name]
    tag = f"content-{next(_numbers)}"
    raw = request("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", [("Content-Type", media_type)], body)
    answer = await target.edge(raw)
    assert answer.status in expected, answer
    await unharmed(target, tag, body, answer.status)


Headers = list[tuple[str, str]]
TYPED = ("Content-Type", OCI_MANIFEST)
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"

HEADERS: dict[str, tuple[Headers, set[int]]] = {
    "no-type": ([], TYPE),
    "type-empty": ([("Content-Type", "")], TYPE),
    "type-of-anything": ([("Content-Type", "*/*")], TYPE),
    "type-json": ([("Content-Type", "application/json")], TYPE),
    "type-text": ([("Content-Type", "text/plain")], TYPE),
    "type-schema-1": ([("Content-Type", SCHEMA_1)], TYPE),
    "type-form": ([("Content-Type", "application/x-www-form-urlencoded")], TYPE),
    "type-parts": ([("Content-Type", "multipart/mixed; boundary=x")], TYPE),
    "type-of-a-config": ([("Content-Type", "application/vnd.oci.image.config.v1+json")], TYPE),
    "type-of-an-artifact": ([("Content-Type", "application/vnd.oci.artifact.manifest.v1+json")], TYPE),
    "type-with-a-comma": ([("Content-Type", f"{OCI_MANIFEST}, {OCI_INDEX}")], TYPE),
    "type-twice": ([TYPED, ("Content-Type", OCI_INDEX)], {400, 415}),
    "type-twice-other-spelling": ([("content-type", OCI_INDEX), TYPED], {400, 415}),
    "type-very-long": ([("Content-Type", "application/" + "x" * 8000)], TYPE),
    "type-of-markup": ([("Content-Type", "<script>alert(1)</script>")], TYPE),
    "type-in-capitals": ([("Content-Type", OCI_MANIFEST.upper())], {201, 400, 415}),
    "type-with-charset": ([("Content-Type", f"{OCI_MANIFEST}; charset=utf-8")], OK),
    "type-with-blanks": ([("Content-Type", f"  {OCI_MANIFEST}  ")], OK),
    "encoding-identity": ([TYPED, ("Content-Encoding", "identity")], OK),
    "encoding-gzip": ([TYPED, ("Content-Encoding", "gzip")], TYPE),
    "encoding-empty": ([TYPED, ("Content-Encoding", "")], {201, 415}),
    "encoding-brotli": ([TYPED, ("Content-Encoding", "br")], TYPE),
    "encoding-twice": ([TYPED, ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")], TYPE),
    "encoding-list": ([TYPED, ("Content-Encoding", "identity, gzip")], TYPE),
    "range": ([TYPED, ("Content-Range", "bytes 0-9/100")], {201, 400}),
    "digest-of-something-else": ([TYPED, ("Docker-Content-Digest", sha256(b"x"))], OK),
    "md5-of-something-else": ([TYPED, ("Content-MD5", "eA==")], OK),
    "if-match-anything": ([TYPED, ("If-Match", "*")], OK),
    "if-none-match-anything": ([TYPED, ("If-None-Match", "*")], OK),
    "tag-header": ([TYPED, ("OCI-Tag", "v1")], OK),
    "subject-header": ([TYPED, ("OCI-Subject", sha256(b"x"))], OK),
}


@pytest.mark.parametrize("name", HEADERS)
async def test_a_header_makes_no_other_content_of_a_body(target: Arena, name: str) -> None:
    headers, expected = HEADERS[name]
    tag = f"content-{next(_numbers)}"
    body = EVIL.body + b" " * next(_numbers)  # a digest of its own
    answer = await target.edge(request("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", headers, body))
    assert answer.status in expected, answer
    await unharmed(target, tag, body, answer.status)


async def test_a_compressed_body_is_not_unpacked_into_another_push(target: Arena) -> None:
    body = gzip.compress(EVIL.body)
    tag = f"content-{next(_numbers)}"
    answer = await target.edge(request("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", [TYPED], body))
    assert answer.status == 400
    await unharmed(target, tag, body, 400)


ACCEPTS = {
    "nothing": "",
    "anything": "*/*",
    "json": "application/json",
    "only-the-other-kind": OCI_INDEX,
    "only-docker": DOCKER_MANIFEST,
    "schema-1": SCHEMA_1,
    "refused-by-weight": f"{OCI_MANIFEST};q=0",
    "nonsense": ";;;,,,\t",
    "very-long": ", ".join(f"application/x{n}" for n in range(1000)),
}


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("tag", ["v1", "multi"])
async def test_no_accept_gets_other_bytes_under_a_protected_tag(target: Arena, accept: str, tag: str) -> None:
    raw = request("GET", f"/v2/{REPOSITORY}/manifests/{tag}", [("Accept", ACCEPTS[accept])])
    answer = await target.edge(raw)
    assert answer.status in {200, 404}
    if answer.status == 200:
        assert answer.body == target.held[tag].body
    target.log_is_clean()


CONDITIONS: dict[str, tuple[Headers, set[int]]] = {
    "etag-of-another": ([("If-None-Match", f'"{EVIL.digest}"')], {200}),
    "etag-of-anything": ([("If-None-Match", "*")], {200, 304}),
    "if-match-another": ([("If-Match", f'"{EVIL.digest}"')], {200, 412}),
    "newer-than-tomorrow": ([("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT")], {200}),
    "not-newer-than-then": ([("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")], {200, 412}),
    "first-byte": ([("Range", "bytes=0-0")], {200}),
    "many-ranges": ([("Range", "bytes=" + ",".join(f"{n}-{n}" for n in range(500)))], {200}),
    "bad-range": ([("Range", "bytes=9-1")], {200}),
    "want-digest": ([("Want-Digest", "md5")], {200}),
    "compressed": ([("Accept-Encoding", "gzip, br")], {200}),
}


@pytest.mark.parametrize("name", CONDITIONS)
async def test_no_condition_hides_or_cuts_a_protected_tag(target: Arena, name: str) -> None:
    headers, expected = CONDITIONS[name]
    sent = [("Accept", OCI_MANIFEST), *headers]
    answer = await target.edge(request("GET", f"/v2/{REPOSITORY}/manifests/v1", sent))
    assert answer.status in expected, answer
    assert answer.status != 200 or answer.body == target.held["v1"].body
    target.log_is_clean()
