from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.console import links
from immuproxy.console.links import Place, PlaceKind
from immuproxy.oci import names

PREFIX = "/repositories/"
DIGEST = "sha256:" + "a" * 64

words = st.text("abc019", min_size=1, max_size=4)
components = st.lists(words, min_size=1, max_size=2).flatmap(
    lambda parts: st.sampled_from([".", "_", "__", "-", "---"]).map(lambda mark: mark.join(parts))
)
repositories = st.lists(components, min_size=1, max_size=4).map("/".join)
awkward = st.lists(st.sampled_from(["a", "tags", "manifests", "v1"]), min_size=1, max_size=5).map("/".join)
tags = st.text("aZ09_.-", min_size=1, max_size=12).filter(names.is_tag)


def read(url: str) -> Place | None:
    return links.parse_place(url.removeprefix(PREFIX))


@given(repositories | awkward)
def test_the_link_of_a_repository_leads_to_it(name: str) -> None:
    assert read(links.repository_url(name)) == Place(PlaceKind.REPOSITORY, name)


@given(repositories | awkward, tags)
def test_the_link_of_a_tag_leads_to_it(name: str, tag: str) -> None:
    assert read(links.tag_url(name, tag)) == Place(PlaceKind.TAG, name, tag)


@given(repositories | awkward)
def test_the_link_of_a_manifest_leads_to_it(name: str) -> None:
    assert read(links.manifest_url(name, DIGEST)) == Place(PlaceKind.MANIFEST, name, DIGEST)


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ("team/app/tags/1.0", Place(PlaceKind.TAG, "team/app", "1.0")),
        ("team%2Fapp/tags/1.0", Place(PlaceKind.TAG, "team/app", "1.0")),
        ("team%2Ftags%2Fv1", Place(PlaceKind.REPOSITORY, "team/tags/v1")),
        ("tags/v1", Place(PlaceKind.REPOSITORY, "tags/v1")),
        (f"team/app/manifests/{DIGEST.replace(':', '%3A')}", Place(PlaceKind.MANIFEST, "team/app", DIGEST)),
    ],
)
def test_slashes_of_a_name_may_be_written_either_way(raw: str, place: Place) -> None:
    assert links.parse_place(raw) == place


@pytest.mark.parametrize(
    "raw", ["", "/", "Team", "a//b", "a/..", "%2e%2e", "a/tags/%0a", "a/manifests/latest", "a/tags/", "a%00", "é"]
)
def test_what_names_nothing_is_nothing(raw: str) -> None:
    assert links.parse_place(raw) is None


@given(st.text(max_size=60))
def test_any_search_survives_its_link(search: str) -> None:
    query = parse_qs(urlsplit(links.search_url(search)).query, keep_blank_values=True, errors="surrogatepass")
    assert query.get("q", [""]) == [search]


def test_parameters_that_say_nothing_stay_out() -> None:
    assert links.with_query("/audit", q="", cursor=None, limit=5) == "/audit?limit=5"


D = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "repository", "reference"),
    [
        ("team/app:1.4", "team/app", "1.4"),
        (f"team/app@{D}", "team/app", D),
        (f"team/app:1.4@{D}", "team/app", D),
        ("registry.example:5000/team/app:1.4", "team/app", "1.4"),
        (" team/app:latest ", "team/app", "latest"),
        ("1.4", "here/app", "1.4"),
        (D, "here/app", D),
    ],
)
def test_an_image_is_read_as_people_write_it(text: str, repository: str, reference: str) -> None:
    found = links.parse_image(text, edge="registry.example:5000", repository="here/app")
    assert found == links.ImageName(repository, reference)
    assert links.parse_image(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "team/app", "Team/app:1", "team/app:", "team/app:-x", "team/app@sha256:abc", "a:b:c", "1.4"],
)
def test_what_is_no_image_is_refused(text: str) -> None:
    assert links.parse_image(text) is None
