"""Reading manifests: what they need, and what is refused because two readers would read it differently."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.oci import names
from immuproxy.oci.errors import OciError
from immuproxy.oci.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EMPTY_BLOB,
    MAX_DEPTH,
    MAX_MANIFEST_BYTES,
    MAX_PARTS,
    MAX_SIZE,
    MEDIA_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
    config_labels,
    config_platform,
    could_be,
    describe,
    read,
    required_blobs,
)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


CONFIG, LAYER, CHILD, SUBJECT = map(digest, (1, 2, 3, 4))


def described(name: str, size: int = 10, **more: Any) -> dict[str, Any]:
    return {"mediaType": "application/x", "digest": name, "size": size, **more}


def image(**more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": described(CONFIG), "layers": [described(LAYER)], **more}


def raw(document: Any) -> bytes:
    return json.dumps(document).encode()


def refusal(body: bytes, media_type: str = OCI_MANIFEST) -> tuple[int, str, str]:
    with pytest.raises(OciError) as caught:
        read(body, media_type)
    return caught.value.status, caught.value.code, caught.value.message


# --- what is read


def test_an_image_tells_what_it_needs() -> None:
    body = raw(image(annotations={"a": "b", "n": 1}, subject=described(SUBJECT)))
    found = read(body, OCI_MANIFEST)
    assert found.body == body
    assert found.digest == names.digest_of(body)
    assert found.needs == {CONFIG, LAYER}
    assert found.entries == (LAYER,)
    assert found.children == ()
    assert found.config == CONFIG
    assert found.subject == SUBJECT
    assert found.annotations == {"a": "b"}
    assert found.size == len(body) + 20
    assert not found.is_index


def test_an_index_tells_its_children_and_platforms() -> None:
    arm = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    body = raw(
        {"schemaVersion": 2, "manifests": [described(CHILD, platform=arm), described(digest(9)), described(CHILD)]}
    )
    for media_type in (OCI_INDEX, DOCKER_LIST):
        found = read(body, media_type)
        assert found.is_index
        assert found.children == found.entries == (CHILD, digest(9))
        assert found.platforms == ("linux/arm64/v8",)
        assert found.size == len(body) + 30


def test_a_subject_that_is_also_listed_is_needed() -> None:
    body = raw({"schemaVersion": 2, "manifests": [described(SUBJECT)], "subject": described(SUBJECT)})
    assert read(body, OCI_INDEX).needs == {SUBJECT}


def test_a_subject_may_not_be_there_yet() -> None:
    assert read(raw(image(subject=described(SUBJECT))), OCI_MANIFEST).needs == {CONFIG, LAYER}


@pytest.mark.parametrize("junk", [None, 1, "x", [], [1], {}, {"digest": 1}, [{"digest": "x"}], [[{}]]])
def test_members_of_the_wrong_kind_are_passed_over(junk: Any) -> None:
    document = {"manifests": junk, "layers": junk, "config": junk, "subject": junk, "annotations": junk}
    for media_type in MEDIA_TYPES:
        found = read(raw(document), media_type)
        assert (found.children, found.entries, found.config, found.subject) == ((), (), "", "")


@pytest.mark.parametrize("size", [-1, True, "10", None, 1.5, MAX_SIZE + 1])
def test_a_size_that_is_none_counts_nothing(size: Any) -> None:
    body = raw(image(layers=[described(LAYER, size)]))
    assert read(body, OCI_MANIFEST).size == len(body) + 10


def test_sizes_never_sum_to_more_than_every_reader_can_hold() -> None:
    body = raw(image(layers=[described(digest(n), MAX_SIZE) for n in range(3)]))
    assert read(body, OCI_MANIFEST).size == MAX_SIZE


def test_what_is_kept_for_people_is_bounded() -> None:
    many = [described(digest(n), platform={"os": f"{n}", "architecture": "x" * 1000}) for n in range(500)]
    found = read(raw({"manifests": many}), OCI_INDEX)
    assert len(found.platforms) == 100
    assert max(map(len, found.platforms)) == 64
    assert len(found.children) == 500


@pytest.mark.parametrize(
    "content_type", [OCI_MANIFEST, OCI_MANIFEST.upper(), f"{OCI_MANIFEST}; charset=utf-8", f" {OCI_MANIFEST} ;x"]
)
def test_h17_a_media_type_may_have_parameters_and_upper_case(content_type: str) -> None:
    assert read(raw(image()), content_type).media_type == OCI_MANIFEST


# --- what is refused


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "application/x-www-form-urlencoded",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v1+json",
        f"x, {OCI_MANIFEST}",
        "x" * 60_000,
    ],
)
def test_h12_h17_only_the_four_types_have_the_digest_of_their_bytes(content_type: str) -> None:
    status, code, message = refusal(raw(image()), content_type)
    assert (status, code) == (415, "UNSUPPORTED")
    assert len(message) < 1000


def test_h18_four_mebibytes_are_read_and_one_byte_more_is_not() -> None:
    body = raw(image()).ljust(MAX_MANIFEST_BYTES)
    assert read(body, OCI_MANIFEST).needs == {CONFIG, LAYER}
    assert refusal(body + b" ")[:2] == (413, "SIZE_INVALID")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'"x"',
        b"null",
        b'{"a":1}x',
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b'{"size":NaN}',
        b'{"size":Infinity}',
        b'{"size":-Infinity}',
        b'{"size":' + b"9" * 5000 + b"}",
        b"{'a':1}",
        b'{"a":1,}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"annotations":{"a":"\\ud800x"}}',
    ],
)
def test_h75_what_readers_of_json_disagree_on_is_refused(body: bytes) -> None:
    assert refusal(body)[:2] == (400, "UNSUPPORTED")


@pytest.mark.parametrize(
    "body",
    [
        b'{"layers":[],"layers":[]}',
        b'{"config":{"digest":"a","digest":"b"}}',
        b'{"annotations":{"a":"1","a":"2"}}',
        b'{"layers":[],"\\u006cayers":[]}',
    ],
)
def test_h75_a_key_may_stand_once_only(body: bytes) -> None:
    assert "same key twice" in refusal(body)[2]


@pytest.mark.parametrize(
    "key",
    [
        "Layers",
        "LAYERS",
        "layer\u017f",  # a long s, which Go takes for an s
        "Config",
        "Manifests",
        "Digest",
        "mediatype",
        "MediaType",
        "schemaversion",
        "artifacttype",
        "Annotations",
        "Subject",
        "\u017fize",
    ],
)
def test_h75_a_key_in_another_spelling_is_refused(key: str) -> None:
    documents: list[dict[str, Any]] = [{key: []}, {"layers": [{key: 1}]}, {"config": {"platform": {key: 1}}}]
    for document in documents:
        assert "must be" in refusal(raw(document))[2]


def test_h75_annotations_have_any_keys() -> None:
    annotations = {"Size": "1", "Digest": "x", "MediaType": "y"}
    assert read(raw(image(annotations=annotations)), OCI_MANIFEST).annotations == annotations
    assert "must be" in refusal(raw({"annotations": {"x": {"Layers": 1}}}))[2]


@pytest.mark.parametrize("key", ["annotations", "x"])
def test_h75_nesting_has_a_limit_everywhere(key: str) -> None:
    def nested(depth: int) -> bytes:
        return b'{"%s":%s1%s}' % (key.encode(), b"[" * depth, b"]" * depth)

    assert read(nested(MAX_DEPTH), OCI_MANIFEST).needs == frozenset()
    for depth in (MAX_DEPTH + 1, 500, 900, 1500):
        assert refusal(nested(depth))[:2] == (400, "UNSUPPORTED")
        assert describe(nested(depth), OCI_MANIFEST).needs == frozenset()


_PIECES = [b"{}", b"[]", b'""', b"1", b'{"layers":{}}', b'"\\u0073"', b'"sha256:' + b"a" * 64 + b'"', b"\\u0041"]


@pytest.mark.parametrize("piece", _PIECES, ids=lambda piece: piece.decode()[:12])
@pytest.mark.parametrize("most", [MAX_PARTS // 4, MAX_PARTS // 2 - 2, 99_000, MAX_MANIFEST_BYTES])
def test_h90_whatever_is_sent_others_wait_for_it_only_a_moment(piece: bytes, most: int) -> None:
    """All of it is read on the loop, so that everybody waits."""
    count = min(most, (MAX_MANIFEST_BYTES - 100) // (len(piece) + 1))
    body = b'{"x":[' + b",".join([piece] * count) + b"]}"
    for reader in (describe, read):
        assert min(_seconds(reader, body) for _ in range(3)) < 0.15


def test_h90_neither_do_its_keys_cost_much() -> None:
    for key in ("%x", "K" * 150 + "%x"):
        body = ("{" + ",".join(f'"{key % number}":1' for number in range(MAX_PARTS - 100)) + "}").encode()
        assert min(_seconds(read, body) for _ in range(3)) < 0.15


def _seconds(reader: Callable[[bytes, str], Manifest], body: bytes) -> float:
    started = time.process_time()
    with contextlib.suppress(OciError):
        reader(body, OCI_INDEX)
    return time.process_time() - started


def test_h90_a_manifest_has_a_bounded_number_of_parts() -> None:
    for count in (MAX_PARTS - 2, MAX_PARTS):
        body = b'{"x":[' + b",".join([b"1"] * count) + b"]}"
        if count < MAX_PARTS:
            assert read(body, OCI_MANIFEST).needs == frozenset()
        else:
            assert refusal(body)[:2] == (400, "UNSUPPORTED")


def test_h90_an_image_with_the_most_layers_and_many_annotations_is_none_of_them() -> None:
    notes = {f"org.example.note.{number}": "text" for number in range(10)}
    layers = [described(digest(number), annotations=notes) for number in range(127)]
    body = json.dumps({"schemaVersion": 2, "config": layers[0], "layers": layers}).encode()
    assert read(body, OCI_MANIFEST).fault == ""
    assert 10 * (body.count(b",") + body.count(b"{") + body.count(b"[")) <= MAX_PARTS


# --- needs: a superset is safe, a miss is not


def test_h75_a_digest_counts_wherever_it_stands_and_however_it_is_spelt() -> None:
    escaped = digest(7).replace("s", "\\u0073", 1)
    parts = ['{"layers":[],"urls":["', digest(5), '"],"annotations":{"a":"', digest(6), '","', digest(8), '":""},']
    body = "".join([*parts, '"x":{"y":[[{"z":"', escaped, '"}]]}}']).encode()
    assert read(body, OCI_MANIFEST).needs == {digest(5), digest(6), digest(7), digest(8)}


def test_h75_other_algorithms_are_needed_too() -> None:
    strange = f"sha512:{'ab' * 64}"
    assert strange in read(raw(image(layers=[described(strange)])), OCI_MANIFEST).needs


@pytest.mark.parametrize(
    "body",
    [
        raw({"Layers": [described(LAYER)]}),
        b'{"layers":[{"digest":"%s"}],"layers":[]}' % LAYER.encode(),
        b'{"Layers":[{"digest":"%s"}]}' % LAYER.replace("s", "\\u0073", 1).encode(),
        b'{"layers":[{"digest":"%s"}],"layers":[]}' % LAYER.replace("s", "\\u0073", 1).encode(),
        b"no json, but " + LAYER.encode(),
        b'\xff{"layers":"%s"}' % LAYER.encode(),
    ],
)
def test_h75_what_is_only_described_hides_no_digest(body: bytes) -> None:
    found = describe(body, OCI_MANIFEST)
    assert found.needs == {LAYER}
    assert found.digest == names.digest_of(body)
    assert describe(body, OCI_INDEX).children == (LAYER,)
    assert describe(body, "application/x").children == ()


def test_a_good_manifest_is_described_as_it_is_read() -> None:
    body = raw(image())
    assert describe(body, OCI_MANIFEST) == read(body, OCI_MANIFEST)


def test_a_described_media_type_can_be_shown() -> None:
    assert describe(b"{}", "text/\x1b\udcff" + "x" * 1000).media_type == "text/" + "x" * 251


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([CONFIG, LAYER, CHILD]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["layers", "config", "manifests", "digest", "annotations", "x", LAYER, "platform", "size"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(_json, st.sampled_from(MEDIA_TYPES), st.booleans())
def test_whatever_is_read_needs_every_digest_of_its_text(document: Any, media_type: str, ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    found = describe(body, media_type)
    assert found.needs >= set(names.DIGEST_IN_TEXT.findall(body.decode("latin-1"))) - {found.subject}
    assert set(found.children) | set(found.entries) <= found.needs


@given(st.binary(max_size=200), st.text(max_size=20))
def test_anything_can_be_described(body: bytes, content_type: str) -> None:
    found = describe(body, content_type)
    assert found.body == body
    assert found.media_type.encode().decode() == found.media_type


# --- blobs that must be there


def test_h25_an_image_cannot_be_pulled_without_its_config_and_layers() -> None:
    layers = [described(LAYER), described(digest(9)), described(LAYER), described(EMPTY_BLOB)]
    assert required_blobs(read(raw(image(layers=layers)), OCI_MANIFEST)) == (CONFIG, LAYER, digest(9))
    assert required_blobs(read(raw({"manifests": [described(CHILD)]}), OCI_INDEX)) == ()


@pytest.mark.parametrize(
    "kind",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ],
)
def test_h25_layers_that_are_stored_elsewhere_are_not_looked_for(kind: str) -> None:
    foreign = {"mediaType": kind, "digest": LAYER, "size": 1}
    layers = [foreign, described(digest(9)), {"mediaType": kind, "digest": 1}, {"mediaType": 1}]
    assert required_blobs(read(raw(image(layers=layers)), OCI_MANIFEST)) == (CONFIG, digest(9))


def test_h25_a_body_that_is_no_json_has_no_foreign_layers() -> None:
    for body in (b".foreign. " + LAYER.encode(), b'[".foreign."]', b'{"layers":".foreign."}'):
        assert required_blobs(describe(body, OCI_MANIFEST)) == ()


# --- labels


def test_labels_come_from_the_config() -> None:
    assert config_labels(raw({"config": {"Labels": {"a": "b", "n": 1}}})) == {"a": "b"}


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        raw({"config": []}),
        raw({"config": {"Labels": [1]}}),
        raw({"config": None}),
    ],
)
def test_a_config_that_is_none_has_no_labels(config: bytes) -> None:
    assert config_labels(config) == {}


def test_the_docker_types_are_read_too() -> None:
    assert read(raw(image()), DOCKER_MANIFEST).config == CONFIG


@pytest.mark.parametrize(
    ("content", "could"),
    [
        (b'{"schemaVersion": 2}', True),
        (b'\xef\xbb\xbf {"SCHEMAVERSION": 2}', True),
        (b'{"\\u0073chemaVersion": 2}', True),
        (b'{"x": [' + b"1," * MAX_PARTS + b"1]}", True),
        (b'{"architecture": "amd64", "schema": 2}', False),
        (b"[2]", False),
        (b"{" * 100_000, True),
        (b'{"schemaVersion": 2', False),
        (b"\x1f\x8b" + b"," * 100_000, False),
        (b"", False),
    ],
)
def test_what_could_be_a_manifest(content: bytes, could: bool) -> None:
    assert could_be(content) is could


def test_children_that_are_listed_as_no_manifests() -> None:
    one, two, three = (f"sha256:{number:064x}" for number in range(3))
    listed = [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": one},
        {"mediaType": OCI_MANIFEST.upper(), "digest": two},
        {"mediaType": "application/octet-stream", "digest": two},
        {"digest": three},
    ]
    body = json.dumps({"schemaVersion": 2, "manifests": listed}).encode()
    found = read(body, OCI_INDEX)
    assert (found.children, found.otherwise) == ((one, two, three), frozenset({one}))


@pytest.mark.parametrize(
    ("config", "platform"),
    [
        ({"os": "linux", "architecture": "amd64"}, "linux/amd64"),
        ({"os": "linux", "architecture": "arm64", "variant": "v8"}, "linux/arm64/v8"),
        ({"os": "linux", "architecture": "arm", "variant": ""}, "linux/arm"),
        ({"os": "windows", "architecture": "amd64", "os.version": "10.0.17763"}, "windows/amd64"),
        ({"os": "linux"}, ""),
        ({"os": "linux", "architecture": 1}, ""),
        ({"os": "unknown", "architecture": "unknown"}, ""),
        ({"os": "linux", "architecture": "<b> x"}, ""),
        (["linux"], ""),
    ],
)
def test_the_platform_of_a_config(config: object, platform: str) -> None:
    assert config_platform(json.dumps(config).encode()) == platform


def test_h90_a_config_that_is_built_to_cost_time_tells_nothing() -> None:
    costly = json.dumps({"os": "linux", "architecture": "amd64", "x": [[]] * MAX_PARTS}).encode()
    assert config_platform(costly) == ""
    assert config_platform(b"{") == ""
