"""Targets: a protected tag under every spelling of its path, by every method, and beside it in every query."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.attack.arena import EVIL, REPOSITORY, Arena, held
from tests.support.conversation import sha256
from tests.support.wire import request

TAG = f"/v2/{REPOSITORY}/manifests/v1"
BY_DIGEST = f"/v2/{REPOSITORY}/manifests/{EVIL.digest}"
V1, MULTI = held()["v1"], held()["multi"]

REFUSED, WRONG, UNKNOWN, NO_METHOD = {409}, {400}, {404}, {405}


def put(target: str, *headers: tuple[str, str], method: str = "PUT") -> bytes:
    return request(method, target, [("Content-Type", EVIL.media_type), *headers], EVIL.body)


OVERWRITES: dict[str, tuple[str, set[int]]] = {
    # decoded once, it is the tag itself
    "plain": (TAG, REFUSED),
    "slash-escaped": ("/v2/prod%2Fapp/manifests/v1", REFUSED),
    "all-escaped": ("/" + "".join(f"%{ord(c):02x}" for c in TAG[1:]), REFUSED),
    "mixed-case-escapes": ("/v2/prod%2fapp%2Fmanifests%2fv1", REFUSED),
    "digit-escaped": (f"/v2/{REPOSITORY}/manifests/v%31", REFUSED),
    "question-mark-alone": (f"{TAG}?", REFUSED),
    "query-of-another-tag": (f"{TAG}?tag=v1", REFUSED),
    "query-same-twice": (f"{TAG}?tag=v1&tag=v1", REFUSED),
    "query-escaped-key": (f"{TAG}?%74ag=v1", REFUSED),
    "query-unrelated": (f"{TAG}?digest={EVIL.digest}&mount=x&from=y", REFUSED),
    "query-with-second-mark": (f"{TAG}?tag=v1?tag=latest", WRONG),
    "query-of-a-moving-tag": (f"{TAG}?tag=latest", REFUSED),
    # decoded twice, or cleaned, or cut, it would be
    "escaped-twice": (f"/v2/{REPOSITORY}/manifests/%2576%2531", WRONG | UNKNOWN),
    "dot-after-slash": (f"/v2/{REPOSITORY}/./manifests/v1", WRONG | UNKNOWN),
    "dot-escaped": (f"/v2/{REPOSITORY}/%2e/manifests/v1", WRONG | UNKNOWN),
    "dots-of-tomcat": (f"/v2/x/..;/{REPOSITORY}/manifests/v1", WRONG | UNKNOWN),
    "dots-to-the-root": (f"/v2/../v2/{REPOSITORY}/manifests/v1", WRONG | UNKNOWN),
    "dots-behind-the-tag": (f"{TAG}/..", WRONG | UNKNOWN),
    "dots-over-a-tag": (f"/v2/{REPOSITORY}/manifests/latest/../v1", WRONG | UNKNOWN),
    "escaped-dots-over-a-tag": (f"/v2/{REPOSITORY}/manifests/latest%2f..%2fv1", WRONG | UNKNOWN),
    "matrix-parameter": (f"/v2/{REPOSITORY};a=b/manifests/v1", WRONG | UNKNOWN),
    "matrix-behind-the-tag": (f"{TAG};tag=latest", WRONG),
    "backslashes": ("/v2/prod\\app\\manifests\\v1", WRONG),
    "backslash-escaped": (f"/v2/{REPOSITORY}%5cmanifests%5cv1", WRONG | UNKNOWN),
    "null-behind": (f"{TAG}%00", WRONG),
    "null-and-suffix": (f"{TAG}%00.png", WRONG),
    "newline-behind": (f"{TAG}%0a", WRONG),
    "header-in-path": (f"{TAG}%0d%0aX-Injected:%20yes", WRONG),
    "tab-behind": (f"{TAG}%09", WRONG),
    "blank-behind": (f"{TAG}%20", WRONG),
    "nbsp-behind": (f"{TAG}%a0", WRONG),
    "soft-hyphen-inside": (f"/v2/{REPOSITORY}/manifests/v%c2%ad1", WRONG),
    "zero-width-inside": (f"/v2/{REPOSITORY}/manifests/v%e2%80%8b1", WRONG),
    "overlong-slash": ("/v2/prod%c0%afapp/manifests/v1", WRONG),
    "fullwidth-letter": (f"/v2/{REPOSITORY}/manifests/%ef%bd%961", WRONG),
    "circled-digit": (f"/v2/{REPOSITORY}/manifests/v%e2%91%a0", WRONG),
    "iis-escape": (f"/v2/{REPOSITORY}/manifests/v%u0031", WRONG),
    "half-escape": (f"{TAG}%", WRONG),
    "half-escape-digit": (f"{TAG}%3", WRONG),
    "raw-high-byte": (f"{TAG}\xe9", WRONG),
    "fragment-escaped": (f"{TAG}%23x", WRONG),
    "question-escaped": (f"{TAG}%3ftag=latest", WRONG),
    "plus-behind": (f"{TAG}+", WRONG),
    "at-digest": (f"{TAG}@{EVIL.digest}", WRONG),
    "slash-behind": (f"{TAG}/", WRONG | UNKNOWN),
    "double-slash-before": (f"/{TAG}", WRONG | UNKNOWN),
    "double-slash-inside": ("/v2/prod//app/manifests/v1", WRONG | UNKNOWN),
    "prefix-of-a-host": (f"/edge:5000/v2/{REPOSITORY}/manifests/v1", WRONG | UNKNOWN),
    "version-in-capitals": (f"/V2/{REPOSITORY}/manifests/v1", WRONG | UNKNOWN),
    "version-one": (f"/v1/{REPOSITORY}/manifests/v1", WRONG | UNKNOWN),
    "old-api": (f"/v1/repositories/{REPOSITORY}/tags/v1", WRONG | UNKNOWN),
    "endpoint-in-capitals": (f"/v2/{REPOSITORY}/Manifests/v1", WRONG | UNKNOWN),
    "name-in-capitals": ("/v2/Prod/app/manifests/v1", WRONG),
    "name-with-a-host": (f"/v2/localhost:5000/{REPOSITORY}/manifests/v1", WRONG),
    "name-with-a-brace": (f"/v2/{REPOSITORY}%7d:tag:v1%7b/manifests/x", WRONG),
    "name-of-the-audit": ("/v2/%7Baudit%7D/manifests/v1", WRONG),
    "name-with-stars": ("/v2/prod%2f*/manifests/v1", WRONG),
    "name-too-long": (f"/v2/{'a' * 256}/manifests/v1", WRONG),
    "tag-too-long": (f"/v2/{REPOSITORY}/manifests/{'v' * 129}", WRONG),
    "tag-with-a-dot-first": (f"/v2/{REPOSITORY}/manifests/.v1", WRONG),
    "tag-with-a-dash-first": (f"/v2/{REPOSITORY}/manifests/-v1", WRONG),
    "tag-of-dots": (f"/v2/{REPOSITORY}/manifests/..", WRONG),
    "tag-empty": (f"/v2/{REPOSITORY}/manifests/", WRONG),
    "tag-like-a-digest": (f"/v2/{REPOSITORY}/manifests/sha256:{'A' * 64}", WRONG),
    "tag-like-a-short-digest": (f"/v2/{REPOSITORY}/manifests/sha256:{'a' * 63}", WRONG),
    "tag-like-md5": (f"/v2/{REPOSITORY}/manifests/md5:{'a' * 32}", WRONG),
    "digest-of-something-else": (f"/v2/{REPOSITORY}/manifests/{V1.digest}", WRONG),
    "referrers": (f"/v2/{REPOSITORY}/referrers/{EVIL.digest}", NO_METHOD),
    "blob": (f"/v2/{REPOSITORY}/blobs/{EVIL.digest}", NO_METHOD),
    "list": (f"/v2/{REPOSITORY}/tags/list", NO_METHOD),
    "catalogue": ("/v2/_catalog", NO_METHOD),
    "base": ("/v2/", NO_METHOD),
    "upload-of-an-unknown-id": (f"/v2/{REPOSITORY}/blobs/uploads/x?digest={EVIL.digest}", {404, 400}),
    # by digest, with tags beside it (H11)
    "by-digest-with-tag": (f"{BY_DIGEST}?tag=v1", REFUSED),
    "by-digest-with-moving-tag-too": (f"{BY_DIGEST}?tag=dev-1&tag=v1", REFUSED),
    "by-digest-with-free-tag-too": (f"{BY_DIGEST}?tag=a-free&tag=v1", REFUSED),
    "by-digest-escaped-tag": (f"{BY_DIGEST}?tag=%76%31", REFUSED),
    "by-digest-escaped-key": (f"{BY_DIGEST}?%74%61%67=v1", REFUSED),
    "by-digest-both-protected": (f"{BY_DIGEST}?tag=multi&tag=v1", REFUSED),
    "by-digest-bad-tag-too": (f"{BY_DIGEST}?tag=v1&tag=../v1", WRONG),
    "by-digest-empty-tag": (f"{BY_DIGEST}?tag=", WRONG),
    "by-digest-tag-without-value": (f"{BY_DIGEST}?tag", WRONG),
    "by-digest-plus-is-blank": (f"{BY_DIGEST}?tag=+v1", WRONG),
    "by-digest-list-of-tags": (f"{BY_DIGEST}?tag=v1,latest", WRONG),
    "by-digest-eleven-tags": (f"{BY_DIGEST}?" + "&".join(f"tag=t{n}" for n in range(11)), WRONG),
    "by-digest-semicolon": (f"{BY_DIGEST}?tag=v1;tag=latest", WRONG),
    "by-digest-null": (f"{BY_DIGEST}?tag=v1%00", WRONG),
    "by-digest-escape-broken": (f"{BY_DIGEST}?tag=v%3", WRONG),
}


@pytest.mark.parametrize("name", OVERWRITES)
async def test_no_spelling_of_its_path_overwrites_a_tag(target: Arena, name: str) -> None:
    path, expected = OVERWRITES[name]
    before = target.storage.tags(REPOSITORY)
    answer = await target.edge(put(path))
    assert answer.status in expected, answer
    assert answer.error["message"]
    assert target.storage.tags(REPOSITORY) == before, "a refused push has set a tag"
    await target.unharmed()


NEIGHBOURS = {
    "capital": f"/v2/{REPOSITORY}/manifests/V1",
    "suffix": f"/v2/{REPOSITORY}/manifests/v1.",
    "underscore": f"/v2/{REPOSITORY}/manifests/_v1",
    "longest-tag": f"/v2/{REPOSITORY}/manifests/{'v' * 128}",
    "brackets-are-another-key": f"{BY_DIGEST}?tag[]=v1",
    "capital-key": f"{BY_DIGEST}?TAG=v1",
    "key-with-a-blank": f"{BY_DIGEST}?%74ag%2e=v1",
}


@pytest.mark.parametrize("name", NEIGHBOURS)
async def test_what_only_looks_like_a_protected_tag_is_something_of_its_own(target: Arena, name: str) -> None:
    assert (await target.edge(put(NEIGHBOURS[name]))).status == 201
    await target.unharmed()


METHODS = [
    *("POST", "PATCH", "put", "Put", "DELETE", "MOVE", "COPY", "LINK", "PURGE", "TRACE", "OPTIONS", "PROPPATCH"),
    *("SEARCH", "QUERY", "X-PUT", "PUTS", "UNLOCK", "REPORT"),
]


@pytest.mark.parametrize("method", METHODS)
async def test_no_method_moves_or_removes_a_tag(target: Arena, method: str) -> None:
    sent = [("Destination", f"http://edge:5000{TAG}"), ("Overwrite", "T")]
    answer = await target.edge(put(TAG, *sent, method=method))
    assert answer.status in {400, 405}, answer
    await target.unharmed()


STEERING = [
    *("X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Forwarded-URI", "X-Forwarded-Path", "X-Forwarded-Prefix"),
    *("Forwarded", "X-Accel-Redirect", "X-HTTP-Destinationurl", "Content-Location", "Location", "Referer"),
]


@pytest.mark.parametrize("header", STEERING)
async def test_no_header_steers_a_push_to_another_tag(target: Arena, header: str) -> None:
    tag = f"dev-{header.lower()}"
    answer = await target.edge(put(f"/v2/{REPOSITORY}/manifests/{tag}", (header, TAG)))
    assert answer.status == 201
    assert target.storage.tag(REPOSITORY, tag) == EVIL.digest
    await target.unharmed()


OVERRIDES = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method", "X-Verb"]


@pytest.mark.parametrize("header", OVERRIDES)
@pytest.mark.parametrize("override", ["PUT", "DELETE"])
async def test_a_read_stays_a_read_whatever_its_headers_say(target: Arena, header: str, override: str) -> None:
    raw = request("GET", TAG, [(header, override), ("Accept", V1.media_type), ("Content-Type", EVIL.media_type)])
    answer = await target.edge(raw)
    assert (answer.status, answer.body) == (200, V1.body)
    await target.unharmed()


FORMS = {
    "absolute": f"http://edge:5000{TAG}",
    "absolute-elsewhere": f"http://evil.example{TAG}",
    "absolute-with-user": f"http://user@edge:5000{TAG}",
    "https": f"https://edge:5000{TAG}",
    "file": f"file://{TAG}",
    "scheme-relative": f"//edge:5000{TAG}",
    "no-slash": TAG[1:],
    "star": "*",
    "query-only": f"?{TAG}",
    "authority": "edge:5000",
}


@pytest.mark.parametrize("form", FORMS)
async def test_only_a_path_is_a_target(target: Arena, form: str) -> None:
    answer = await target.edge(put(FORMS[form]))
    assert answer.status in {400, 404}, answer
    await target.unharmed()


def _parts() -> dict[str, str]:
    first, second = MULTI.children
    return {
        "manifest": V1.digest,
        "index": MULTI.digest,
        "first-child": first.digest,
        "second-child": second.digest,
        "config": sha256(V1.blobs[0]),
        "layer": sha256(V1.blobs[1]),
        "config-of-a-child": sha256(first.blobs[0]),
        "layer-of-a-child": sha256(second.blobs[1]),
    }


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda digest: digest,
    "colon-escaped": lambda digest: digest.replace(":", "%3a"),
    "letter-escaped": lambda digest: digest.replace("sha", "s%68a"),
    "capitals": lambda digest: digest.upper().replace("SHA", "sha"),
    "capital-algorithm": lambda digest: digest.replace("sha", "SHA"),
    "blank-behind": lambda digest: f"{digest}%20",
    "query-behind": lambda digest: f"{digest}?force=true&tag=v1",
}


@pytest.mark.parametrize("route", ["manifests", "blobs"])
@pytest.mark.parametrize("part", _parts())
@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_deletes_a_part_of_a_protected_tag(
    target: Arena, route: str, part: str, spelling: str
) -> None:
    path = f"/v2/{REPOSITORY}/{route}/{SPELLINGS[spelling](_parts()[part])}"
    answer = await target.edge(request("DELETE", path))
    assert answer.status in ({400} if spelling in {"capitals", "capital-algorithm", "blank-behind"} else {405}), answer
    target.storage_is_whole()
    target.log_is_clean()
