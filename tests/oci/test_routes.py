"""The grammar of request targets: hazards H1 to H12, form by form, and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.oci import names
from immuproxy.oci.errors import OciError
from immuproxy.oci.routes import METHODS, Operation, RouteKind, build_path, parse

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


def refusal(method: str, target: str) -> tuple[int, str]:
    with pytest.raises(OciError) as caught:
        parse(method, target)
    return caught.value.status, caught.value.code


def manifest(repository: str, reference: str, method: str = "PUT") -> Operation:
    return Operation(method, RouteKind.MANIFEST, repository, reference)


# --- what is accepted

# Words of the grammars, put together: generating from the patterns themselves takes seconds.
_words = st.sampled_from(["a", "0", "team", "app9", "v2", "manifests", "blobs", "uploads", "tags", "list", "referrers"])
_joints = st.sampled_from([".", "_", "__", "-", "---", "/", "/"])
_repositories = st.lists(st.tuples(_joints, _words), max_size=4).flatmap(
    lambda more: _words.map(lambda first: first + "".join(joint + word for joint, word in more))
)
_tags = st.text("abzAZ019_.-", min_size=1, max_size=20).filter(names.is_tag)
_hex = st.integers(0, 16**64 - 1).map(lambda number: f"{number:064x}")
_sha256 = _hex.map("sha256:{}".format)
_digests = _sha256 | _hex.map(lambda digits: f"sha512:{digits}{digits}")
_uploads = st.text("abAZ019._=-", min_size=1, max_size=20).filter(lambda upload: upload not in {".", ".."})
_queries = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#\\"), max_size=20)

_PARTS = {
    RouteKind.BASE: (st.just(""), st.just("")),
    RouteKind.CATALOG: (st.just(""), st.just("")),
    RouteKind.TAGS: (_repositories, st.just("")),
    RouteKind.MANIFEST: (_repositories, _tags | _digests),
    RouteKind.BLOB: (_repositories, _digests),
    RouteKind.UPLOADS: (_repositories, st.just("")),
    RouteKind.UPLOAD: (_repositories, _uploads),
    RouteKind.REFERRERS: (_repositories, _digests),
}


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    kind = draw(st.sampled_from(RouteKind))
    repository, reference = (draw(part) for part in _PARTS[kind])
    query = "" if kind is RouteKind.MANIFEST else draw(_queries)
    return Operation(draw(st.sampled_from(METHODS[kind])), kind, repository, reference, query)


@given(operations())
def test_an_operation_survives_its_own_target(operation: Operation) -> None:
    assert parse(operation.method, operation.target) == operation


def escape(text: str, which: list[bool]) -> str:
    """Percent-encode some characters."""
    return (
        "".join(f"%{ord(c):02x}" if encode else c for c, encode in zip(text, which, strict=False)) + text[len(which) :]
    )


@given(operations(), st.lists(st.booleans(), max_size=100))
def test_h1_an_escaped_spelling_means_the_same_and_travels_unescaped(operation: Operation, which: list[bool]) -> None:
    path = build_path(operation.kind, operation.repository, operation.reference)
    spelt = "/" + escape(path[1:], which)
    parsed = parse(operation.method, f"{spelt}?{operation.query}" if operation.query else spelt)
    assert parsed == operation
    assert parsed.target == operation.target


@given(st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]), st.text(max_size=60))
def test_whatever_is_accepted_re_encodes_to_itself(method: str, rest: str) -> None:
    for target in (rest, f"/v2/{rest}", f"/v2/a/manifests/{rest}", f"/v2/{rest}/manifests/v1"):
        try:
            operation = parse(method, target)
        except OciError as problem:
            assert 400 <= problem.status < 500  # noqa: PT017  # either is right; which one is not known here
        else:
            assert parse(method, operation.target) == operation


@pytest.mark.parametrize(
    ("target", "kind", "repository", "reference", "query"),
    [
        ("/v2/", RouteKind.BASE, "", "", ""),
        ("/v2", RouteKind.BASE, "", "", ""),
        ("/v2/_catalog?n=10&last=a%2Fb", RouteKind.CATALOG, "", "", "n=10&last=a%2Fb"),
        ("/v2/a/tags/list?n=1&last=x", RouteKind.TAGS, "a", "", "n=1&last=x"),
        ("/v2/a/manifests/v1", RouteKind.MANIFEST, "a", "v1", ""),
        ("/v2/a/manifests/v1?", RouteKind.MANIFEST, "a", "v1", ""),
        (f"/v2/a/manifests/{DIGEST}", RouteKind.MANIFEST, "a", DIGEST, ""),
        (f"/v2/a/blobs/{DIGEST}", RouteKind.BLOB, "a", DIGEST, ""),
        (f"/v2/a/referrers/{DIGEST}?artifactType=x", RouteKind.REFERRERS, "a", DIGEST, "artifactType=x"),
        ("/v2/a/blobs/uploads/3f-4._=?_state=x%3D%3D", RouteKind.UPLOAD, "a", "3f-4._=", "_state=x%3D%3D"),
    ],
)
def test_every_endpoint_is_read(target: str, kind: RouteKind, repository: str, reference: str, query: str) -> None:
    assert parse("GET", target) == Operation("GET", kind, repository, reference, query)


def test_h12_the_parameters_of_an_upload_travel_on_byte_for_byte() -> None:
    for query in (f"mount={DIGEST}&from=other/app", "digest-algorithm=sha512", f"digest={DIGEST}", "a=%zz;b", "?"):
        assert parse("POST", f"/v2/a/blobs/uploads/?{query}").target == f"/v2/a/blobs/uploads/?{query}"


# --- hazards, form by form


@pytest.mark.parametrize(
    "target",
    [
        "/v2/r/manifests/%74%31",
        "/v2/r/%6danifests/t1",
        "/%76%32/r/manifests/t1",
        "/v2%2fr%2fmanifests%2Ft1",
        "/v2/%72/manifests/t1",
        "/v2/r/manifests/t1?x=y",
        "/v2/r/manifests/t1?digest=sha256:0",
    ],
)
def test_h1_what_the_registry_would_decode_is_decoded_here(target: str) -> None:
    assert parse("PUT", target) == manifest("r", "t1")
    assert parse("PUT", target).target == "/v2/r/manifests/t1"


@pytest.mark.parametrize("target", ["/v2/r/manifests/%zz", "/v2/r/manifests/t1%", "/v2/r/manifests/t1%3", "/%v2/"])
def test_h1_an_incomplete_escape_is_refused(target: str) -> None:
    assert refusal("PUT", target) == (400, "UNSUPPORTED")


def test_h1_an_escape_is_undone_once_only() -> None:
    assert refusal("PUT", "/v2/r/manifests/%2574") == (400, "UNSUPPORTED")
    assert refusal("PUT", "/v2/r/manifests/t1+") == (400, "UNSUPPORTED")


@pytest.mark.parametrize(
    "target",
    [
        "//v2/r/manifests/t1",
        "/v2//r/manifests/t1",
        "/v2/r//manifests/t1",
        "/v2/r/manifests//t1",
        "/v2/x/../r/manifests/t1",
        "/v2/x/%2e%2e/r/manifests/t1",
        "/v2/./r/manifests/t1",
        "/./v2/r/manifests/t1",
        "/v2/r/manifests/x/../t1",
        "/v2/r/manifests/t1/",
        "/v2/r/manifests/t1%2f",
        "/v2/r/manifests/.",
        "/v2/r/manifests/..",
        "/v2/r/blobs/uploads/..",
        "/v2/r/blobs/uploads/%2e",
        "/v2/r/tags/list/",
        "/v2/_catalog/",
        "/v2/r/blobs/uploads/x/",
        "/v2//",
        "/foo/v2/r/manifests/t1",
        "/",
        "/V2/r/manifests/t1",
        "/v2/manifests/t1",
        "/v2/blobs/uploads/",
        "/v2/tags/list",
        "/v2/r",
        "/v1/_ping",
    ],
)
def test_h2_h3_what_the_registry_would_clean_or_redirect_is_refused(target: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        status, _ = refusal(method, target)
        assert status in {400, 404}


@pytest.mark.parametrize(
    "target",
    ["http://x/v2/r/manifests/t1", "https://x/v2/r/manifests/t1", "*", "x:443", "", "v2/", "?/v2/", "HTTP://x/v2/"],
)
def test_h4_only_the_origin_form_is_a_target(target: str) -> None:
    assert refusal("PUT", target) == (400, "UNSUPPORTED")


@pytest.mark.parametrize(
    "target",
    [
        "/v2/r/manifests/v1%0a",
        "/v2/r/manifests/v1%00",
        "/v2/r/manifests/v1%20",
        "/v2/r/manifests/v1#x",
        "/v2/r/manifests/v%EF%BC%91",
        "/v2/r/manifests/v1\t",
        "/v2/r/manifests/v1\n",
        "/v2/r/manifests/vé",
        "/v2/r/manifests/v\udcff",
        "/v2/r/manifests\\v1",
        "/v2/r/tags/list?last=é",
        "/v2/r/tags/list?n=1#x",
        "/v2/r/manifests/%c0%af",
        "/v2/r/manifests/t1;x",
        "/v2/r/manifests/t1%3fx",
        "/v2/r/manifests/t1%23",
        "/v2/r/manifests/t1%5c",
        "/v2/r/manifests/t1%7f",
    ],
)
def test_h5_bytes_on_which_parsers_differ_are_refused(target: str) -> None:
    status, _ = refusal("PUT", target)
    assert status in {400, 404, 405}


@pytest.mark.parametrize("target", ["/v2/r/tags/list?n=1#x", "/v2/_catalog?n=1\\", "/v2/r/tags/list?last=é", "/v2/#"])
def test_h5_a_query_holds_none_of_them_either(target: str) -> None:
    assert refusal("GET", target) == (400, "UNSUPPORTED")


@pytest.mark.parametrize("escape", ["%0a", "%00", "%20", "%7f", "%c3%a9", "%EF%BC%91", "%ff"])
def test_h5_an_escape_for_no_visible_character_is_refused_wherever_it_stands(escape: str) -> None:
    for target in (
        f"/v2/r{escape}/manifests/v1",
        f"/v2/r/manifests/v1{escape}",
        f"/v2{escape}/",
        f"/v2/r{escape}/tags/list",
    ):
        assert refusal("GET", target) == (400, "UNSUPPORTED")


@pytest.mark.parametrize(
    ("target", "repository"),
    [
        ("/v2/prod/manifests/manifests/v1", "prod/manifests"),
        ("/v2/a/blobs/uploads/manifests/v1", "a/blobs/uploads"),
        ("/v2/a/tags/list/manifests/v1", "a/tags/list"),
        ("/v2/manifests/manifests/v1", "manifests"),
        ("/v2/a/blobs/manifests/v1", "a/blobs"),
        ("/v2/a/referrers/manifests/v1", "a/referrers"),
        ("/v2/v2/manifests/v1", "v2"),
        ("/v2/a/tags/manifests/v1", "a/tags"),
    ],
)
def test_h6_the_last_two_segments_decide(target: str, repository: str) -> None:
    assert parse("PUT", target) == manifest(repository, "v1")


def test_h6_the_same_holds_for_the_other_endpoints() -> None:
    assert parse("GET", "/v2/a/manifests/tags/list") == Operation("GET", RouteKind.TAGS, "a/manifests")
    assert parse("POST", "/v2/a/manifests/blobs/uploads/") == Operation("POST", RouteKind.UPLOADS, "a/manifests")
    assert parse("PUT", "/v2/a/manifests/blobs/uploads/x") == Operation("PUT", RouteKind.UPLOAD, "a/manifests", "x")
    assert parse("GET", f"/v2/a/blobs/uploads/blobs/{DIGEST}") == Operation(
        "GET", RouteKind.BLOB, "a/blobs/uploads", DIGEST
    )


@pytest.mark.parametrize(
    "name", ["Example.COM/e1/r", "localhost:5000/r", "[::1]/r", "a..b", "_a", "x" * 256, "a/" * 128 + "a", "-"]
)
def test_h7_a_name_outside_the_specification_is_refused(name: str) -> None:
    for target in (f"/v2/{name}/manifests/v1", f"/v2/{name}/blobs/{DIGEST}"):
        assert refusal("GET", target) == (400, "NAME_INVALID")


@pytest.mark.parametrize(
    "reference",
    [
        f"sha256:{HEX.upper()}",
        f"md5:{HEX[:32]}",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        "x:1111",
        ":",
        "sha256:",
        f"sha512:{HEX}",
        f"sha384:{HEX}",
        f"sha512:{HEX}{HEX.upper()}",
        f"sha256%3a{HEX.upper()}",
        "v1:",
    ],
)
def test_h8_a_colon_never_makes_a_tag(reference: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert refusal(method, f"/v2/r/manifests/{reference}") == (400, "DIGEST_INVALID")


def test_h81_a_manifest_may_be_named_by_any_algorithm_but_not_where_it_sets_tags() -> None:
    for digest in (f"sha512:{HEX}{HEX}", f"sha384:{HEX}{HEX[:32]}"):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            assert parse(method, f"/v2/r/manifests/{digest}") == manifest("r", digest, method)
        assert refusal("PUT", f"/v2/r/manifests/{digest}?tag=1.0") == (400, "DIGEST_INVALID")


def test_h8_a_digest_may_be_escaped() -> None:
    assert parse("DELETE", f"/v2/r/manifests/%73ha256%3a{HEX}") == manifest("r", DIGEST, "DELETE")


@pytest.mark.parametrize("reference", ["x", f"md5:{HEX[:32]}", f"sha256:{HEX.upper()}", "uploads", "", "%2e%2e"])
def test_a_blob_and_a_subject_are_named_by_digest(reference: str) -> None:
    for kind in ("blobs", "referrers"):
        assert refusal("GET", f"/v2/r/{kind}/{reference}") == (400, "DIGEST_INVALID")


def test_a_blob_may_have_another_algorithm_than_a_manifest() -> None:
    assert parse("GET", f"/v2/r/blobs/sha512:{HEX}{HEX}").reference == f"sha512:{HEX}{HEX}"


@pytest.mark.parametrize("upload", ["a:b", "a%20b", "a@b", "x" * 257, "a+b"])
def test_an_upload_id_has_the_registrys_letters(upload: str) -> None:
    status, _ = refusal("PATCH", f"/v2/r/blobs/uploads/{upload}")
    assert status in {400, 404}


_TARGETS = {
    RouteKind.BASE: "/v2/",
    RouteKind.CATALOG: "/v2/_catalog",
    RouteKind.TAGS: "/v2/r/tags/list",
    RouteKind.MANIFEST: "/v2/r/manifests/v1",
    RouteKind.BLOB: f"/v2/r/blobs/{DIGEST}",
    RouteKind.UPLOADS: "/v2/r/blobs/uploads/",
    RouteKind.UPLOAD: "/v2/r/blobs/uploads/x",
    RouteKind.REFERRERS: f"/v2/r/referrers/{DIGEST}",
}
_METHODS = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "put",
    "get",
    "PROPFIND",
    "",
]


def test_h10_the_table_of_methods_is_that_of_the_specification() -> None:
    """Word for word: what is not here must be added on purpose, in two places."""
    assert {kind.value: " ".join(methods) for kind, methods in METHODS.items()} == {
        "base": "GET HEAD",
        "catalog": "GET HEAD",
        "tags": "GET HEAD",
        "referrers": "GET HEAD",
        "manifest": "GET HEAD PUT DELETE",
        "blob": "GET HEAD DELETE",
        "uploads": "POST",
        "upload": "GET HEAD PATCH PUT DELETE",
    }


@pytest.mark.parametrize("kind", RouteKind)
def test_h10_an_endpoint_has_its_methods_and_no_others(kind: RouteKind) -> None:
    for method in _METHODS:
        if method in METHODS[kind]:
            assert parse(method, _TARGETS[kind]).kind is kind
        else:
            with pytest.raises(OciError) as caught:
                parse(method, _TARGETS[kind])
            assert (caught.value.status, caught.value.code) == (405, "UNSUPPORTED")
            assert caught.value.headers["Allow"] == ", ".join(METHODS[kind])


def test_h11_tags_in_the_query_of_a_push_are_read_and_never_forwarded() -> None:
    operation = parse("PUT", f"/v2/r/manifests/{DIGEST}?tag=v1&%74ag=v%32&tag=v1&Tag=no&x=y&tag2=no&&=")
    assert operation.tags == ("v1", "v2")
    assert operation.target == f"/v2/r/manifests/{DIGEST}"
    assert parse("GET", "/v2/r/manifests/v1?tag=%zz").tags == ()


@pytest.mark.parametrize(
    "query", ["tag=", "tag", "tag=a%0a", "tag=a+b", "tag=a/b", "tag=%zz", "%zz=a", "tag=.a", "tag=a%"]
)
def test_h11_a_bad_tag_in_the_query_is_refused(query: str) -> None:
    assert refusal("PUT", f"/v2/r/manifests/{DIGEST}?{query}") == (400, "UNSUPPORTED")


def test_h11_one_push_sets_at_most_ten_tags() -> None:
    query = "&".join(f"tag=v{number}" for number in range(10))
    assert len(parse("PUT", f"/v2/r/manifests/{DIGEST}?{query}&tag=v1").tags) == 10
    assert refusal("PUT", f"/v2/r/manifests/{DIGEST}?{query}&tag=v10") == (400, "UNSUPPORTED")


def test_an_operation_knows_what_it_is() -> None:
    assert parse("PUT", "/v2/r/manifests/v1").is_tag
    assert not parse("PUT", f"/v2/r/manifests/{DIGEST}").is_tag
    assert not parse("PUT", "/v2/r/blobs/uploads/x").is_tag
    assert parse("DELETE", "/v2/r/manifests/v1").is_write
    assert not parse("HEAD", "/v2/r/manifests/v1").is_write
