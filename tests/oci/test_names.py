"""The grammars of names, tags and digests."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.oci import names

HEX = "a1" * 32


@pytest.mark.parametrize(
    "name",
    ["a", "0", "team/app", "a.b", "a_b", "a__b", "a-b", "a---b", "a/b/c/d/e", "x" * 255, "manifests", "a/tags/list"],
)
def test_names_of_the_specification_are_repositories(name: str) -> None:
    assert names.is_repository(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "A",
        "Example.COM/e1/r",
        "localhost:5000/a",
        "[::1]/a",
        "a..b",
        "a.-b",
        "a___b",
        "-a",
        "a-",
        "_a",
        "a/_b",
        ".",
        "..",
        "a/../b",
        "a\n",
        "a b",
        "é",
        "\u0661",  # an Arabic digit
        "x" * 256,
    ],
)
def test_h7_what_only_the_registry_would_take_is_no_repository(name: str) -> None:
    assert not names.is_repository(name)


@pytest.mark.parametrize("tag", ["a", "_", "1.0", "V1", "v1.0-rc.1_x", "a" * 128, "manifests", "latest."])
def test_tags_of_the_specification_are_tags(tag: str) -> None:
    assert names.is_tag(tag)


@pytest.mark.parametrize(
    "tag", ["", ".a", "-a", "a" * 129, "a:b", "a/b", "a b", "v1\n", "v\uff11", "v\u0661", "é", "a+b", "a@b", "a%31"]
)
def test_h5_what_looks_like_a_tag_in_unicode_is_none(tag: str) -> None:
    assert not names.is_tag(tag)


@pytest.mark.parametrize(
    "text",
    [
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX}\n",
        f"md5:{HEX[:32]}",
        "x:1111",
        "sha256:",
        f"sha512:{HEX}{HEX}",
        f"sha384:{HEX}{HEX[:32]}",
        f"sha256-{HEX}",
    ],
)
def test_h8_only_a_canonical_sha256_is_a_digest_of_a_manifest(text: str) -> None:
    assert not names.is_digest(text)


def test_a_blob_may_have_any_digest_of_the_registry() -> None:
    for text in (f"sha256:{HEX}", f"sha384:{HEX}{HEX[:32]}", f"sha512:{HEX}{HEX}"):
        assert names.ANY_DIGEST.fullmatch(text)
        assert names.DIGEST_IN_TEXT.findall(f'{{"digest":"{text}"}}') == [text]


def test_a_digest_in_text_ends_where_its_digits_end() -> None:
    assert names.DIGEST_IN_TEXT.findall(f"sha256:{HEX}0 sha256:{HEX}") == [f"sha256:{HEX}"]


@given(st.binary())
def test_h17_the_digest_is_that_of_the_raw_bytes(content: bytes) -> None:
    digest = names.digest_of(content)
    assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert names.is_digest(digest)


@given(st.text(max_size=40))
def test_no_text_is_both_a_tag_and_a_digest(text: str) -> None:
    assert not (names.is_tag(text) and names.ANY_DIGEST.fullmatch(text))


@given(st.text("ab9._-/A:%", max_size=12))
def test_repositories_hold_nothing_that_a_path_would_have_to_escape(name: str) -> None:
    if names.is_repository(name):
        assert set(name) <= set("ab9._-/")
        assert not {"", ".", ".."} & set(name.split("/"))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("team/app", ("team/app", "", "")),
        ("team/app:1.4", ("team/app", "1.4", "")),
        (f"team/app@sha256:{HEX}", ("team/app", "", f"sha256:{HEX}")),
        (f"team/app:1.4@sha256:{HEX}", ("team/app", "1.4", f"sha256:{HEX}")),
    ],
)
def test_an_image_is_read_as_its_parts(text: str, parts: tuple[str, str, str]) -> None:
    assert names.parse_image(text) == parts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("team/app", "write it as REPOSITORY:TAG, such as team/app:1.4"),
        (f"team/app:1.4@sha256:{HEX}", "write it as REPOSITORY:TAG, such as team/app:1.4"),
        ("", "write it as REPOSITORY:TAG, such as team/app:1.4"),
        (":1.4", "'' is no repository"),
        ("Team:1.4", "'Team' is no repository"),
        ("team/app:", "'' is no tag"),
        ("team/app:-1", "'-1' is no tag"),
        ("team/app:1:2", "'team/app:1' is no repository"),
        ("registry.example:5000/app:1", "'registry.example:5000/app' is no repository; leave out the host"),
        ("localhost/App:1", "'localhost/App' is no repository; leave out the host"),
        ("[::1]:5000/app:1", "'[::1]:5000/app' is no repository; leave out the host"),
    ],
)
def test_what_is_no_tag_of_a_repository_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        names.parse_tag(text)


@pytest.mark.parametrize("text", ["team/app@", "team/app:@sha256:" + HEX, "team/app@sha256:12", "a@b@c"])
def test_half_an_image_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no "):
        names.parse_image(text)
