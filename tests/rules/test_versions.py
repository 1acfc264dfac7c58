from __future__ import annotations

import pytest
import semver
from hypothesis import given, settings
from hypothesis import strategies as st

from immuproxy.rules.versions import parse_range, version_of

BELOW_1 = ["0.0.3", "0.0.4", "0.1.0", "0.2.3", "0.2.9", "0.3.0"]
ALL = [*BELOW_1, "1.0.0", "v1.2.3", "1.2.9", "1.3.0-rc.1", "1.3.0", "2.0.0-beta", "2.0.0", "3.0.0"]


def taken(text: str) -> list[str]:
    versions = parse_range(text)
    return [tag for tag in ALL if (version := version_of(tag)) and versions.includes(version)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">=1.0.0", "1.0.0 v1.2.3 1.2.9 1.3.0 2.0.0 3.0.0"),
        ("^1.2", "v1.2.3 1.2.9 1.3.0"),
        ("~1.2", "v1.2.3 1.2.9"),
        ("1.x", "1.0.0 v1.2.3 1.2.9 1.3.0"),
        ("1", "1.0.0 v1.2.3 1.2.9 1.3.0"),
        ("1.2.*", "v1.2.3 1.2.9"),
        (">=1 <2", "1.0.0 v1.2.3 1.2.9 1.3.0"),
        (">=1, <2", "1.0.0 v1.2.3 1.2.9 1.3.0"),
        (">= 1 < 2", "1.0.0 v1.2.3 1.2.9 1.3.0"),
        ("^0.2.3", "0.2.3 0.2.9"),
        ("^0.0.3", "0.0.3"),
        ("^0.0", "0.0.3 0.0.4"),
        ("^0", "0.0.3 0.0.4 0.1.0 0.2.3 0.2.9 0.3.0"),
        ("~0.2.3", "0.2.3 0.2.9"),
        ("1.2.3 - 2", "v1.2.3 1.2.9 1.3.0 2.0.0"),
        ("1.2.3 - 1.3.0", "v1.2.3 1.2.9 1.3.0"),
        ("<0.1 || >=2", "0.0.3 0.0.4 2.0.0 3.0.0"),
        (">1.2", "1.3.0 2.0.0 3.0.0"),
        (">1", "2.0.0 3.0.0"),
        ("<=1.2", "0.0.3 0.0.4 0.1.0 0.2.3 0.2.9 0.3.0 1.0.0 v1.2.3 1.2.9"),
        ("<1.2", "0.0.3 0.0.4 0.1.0 0.2.3 0.2.9 0.3.0 1.0.0"),
        ("=1.2.3", "v1.2.3"),
        ("v1.2.3", "v1.2.3"),
        ("*", "0.0.3 0.0.4 0.1.0 0.2.3 0.2.9 0.3.0 1.0.0 v1.2.3 1.2.9 1.3.0 2.0.0 3.0.0"),
        (">=1.3.0-alpha", "1.3.0-rc.1 1.3.0 2.0.0 3.0.0"),
        (">=1.3.0-0 <1.4", "1.3.0-rc.1 1.3.0"),
        ("<2.0.0", "0.0.3 0.0.4 0.1.0 0.2.3 0.2.9 0.3.0 1.0.0 v1.2.3 1.2.9 1.3.0"),
    ],
)
def test_ranges_take_in_what_npm_takes_in(text: str, expected: str) -> None:
    assert taken(text) == expected.split()


@pytest.mark.parametrize(
    "text",
    ["", "  ", ">*", "<*", "1.2.3.4", ">=01.2", "latest", ">=1 ||", "|| 1", ">2 <1", "<0.0.0-0", ">=1.0.0.x", "^"],
)
def test_a_range_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"range|satisfy|empty|takes in"):
        parse_range(text)


@pytest.mark.parametrize(
    "tag", ["1.2", "1", "01.2.3", "vv1.2.3", "1.2.3-rc_1", "latest", "", "1.2.3-", "٣.1.1", "V1.2.3"]
)
def test_other_tags_are_no_versions(tag: str) -> None:
    assert version_of(tag) is None


def test_prereleases_order_by_the_specification() -> None:
    chain = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
    ]
    keys = [version.key for tag in chain if (version := version_of(tag))]
    assert len(keys) == len(chain)
    assert keys == sorted(keys)


numbers = st.integers(0, 4)
identifiers = st.sampled_from(["0", "1", "2", "a", "rc", "rc1"])
versions = st.builds(
    lambda core, pre: ".".join(map(str, core)) + (f"-{'.'.join(pre)}" if pre else ""),
    st.tuples(numbers, numbers, numbers),
    st.lists(identifiers, max_size=2),
)


@settings(deadline=None, max_examples=30)
@given(versions, versions)
def test_versions_order_as_the_semver_library_orders_them(one: str, other: str) -> None:
    left, right = version_of(one), version_of(other)
    assert left is not None
    assert right is not None
    expected = semver.Version.parse(one).compare(semver.Version.parse(other))
    assert (left.key > right.key) - (left.key < right.key) == expected


@settings(deadline=None, max_examples=30)
@given(versions, versions)
def test_a_release_is_on_exactly_one_side_of_a_bound(bound: str, tag: str) -> None:
    version = version_of(tag.partition("-")[0])
    assert version is not None
    at_least = parse_range(f">={bound}").includes(version)
    below = bound != "0.0.0-0" and parse_range(f"<{bound}").includes(version)
    assert at_least != below
