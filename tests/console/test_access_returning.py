from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from immuproxy.console.access.returning import is_local, local_or_home, log_in_url

HERE = "https://console.example"


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/audit",
        "/audit?q=repo:team/**%20outcome:refused&limit=50",
        "/repositories/team%2Fapp/tags/1.4",
        "/repositories/team/app/manifests/sha256:abc",
        "/rules?tag=a:b&user=",
        "/repositories/",
        "/log-in?out",
    ],
)
def test_pages_of_the_console_are_local(target: str) -> None:
    assert is_local(target)
    assert local_or_home(target) == target


ELSEWHERE = [
    "",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/%0a/evil\n",
    " /audit",
    "https://evil.example/",
    "https:evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "evil.example",
    "audit",
    "/a//evil.example",
    "/..//evil.example",
    "/.//evil.example",
    "/audit#//evil",
    "/audit\r\nSet-Cookie: a=b",
    "/é",
    "/" + "a" * 3_000,
    "http:///evil.example",
    "/audit?q=\\",
    "/\u2028/evil",
]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_whatever_could_lead_elsewhere_leads_home(target: str) -> None:
    assert local_or_home(target) == "/"
    assert log_in_url(target) == "/log-in"


@given(st.text(alphabet="/\\.%0a2eEfF?#:@ \t\rhtpsxé", max_size=25).map(lambda rest: "/" + rest))
@example("/%2e%2e//x")
@example("/%2f/x")
def test_a_local_target_stays_on_this_host_however_it_is_resolved(target: str) -> None:
    if is_local(target):
        for read in (target, target.replace("\\", "/"), "".join(target.split())):
            assert urlsplit(urljoin(HERE + "/log-in", read))[:2] == ("https", "console.example")
            assert not read.startswith("//")


def test_it_is_quick_for_hostile_text() -> None:
    assert not is_local("/" + "a" * 1_990 + "\\")
    assert not is_local("/" + "a/" * 900 + "\\")


def test_the_log_in_page_leads_back() -> None:
    assert log_in_url("/") == "/log-in"
    assert log_in_url("/audit?q=a&limit=1") == "/log-in?next=/audit%3Fq%3Da%26limit%3D1"
