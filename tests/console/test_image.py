from __future__ import annotations

import json
from typing import Any

import pytest

from immuproxy.console.manifests.image import ImageConfig, image_dict, moment_of, origin, read_config, web_address

CONFIG: dict[str, Any] = {
    "created": "2026-01-31T12:00:00.123456789Z",
    "os": "linux",
    "architecture": "arm64",
    "variant": "v8",
    "config": {
        "Labels": {"org.opencontainers.image.revision": "4be1c0d", "maintainer": "mira"},
        "Env": ["PATH=/bin", "TOKEN=hunter2", "EMPTY"],
        "Entrypoint": ["/app", "--name", "a b"],
        "Cmd": None,
        "User": "65532:65532",
        "ExposedPorts": {"8080/tcp": {}, "443/tcp": {}},
    },
    "history": [{}, {}, {}],
}


def config(document: Any = CONFIG) -> ImageConfig:
    found = read_config(json.dumps(document).encode())
    assert found is not None
    return found


def test_a_config_says_how_the_image_is_run() -> None:
    found = image_dict(config())
    assert found["platform"] == "linux/arm64/v8"
    assert found["fields"] == {
        "entrypoint": '["/app", "--name", "a b"]',
        "user": "65532:65532",
        "exposed ports": "443/tcp, 8080/tcp",
    }
    assert found["steps"] == 3
    assert found["labels"]["maintainer"] == "mira"


def test_the_values_of_the_environment_are_not_shown() -> None:
    found = image_dict(config())
    assert found["environment"] == ["PATH", "TOKEN", "EMPTY"]
    assert "hunter2" not in json.dumps(found)
    assert "hunter2" not in repr(config())


def test_annotations_count_before_labels() -> None:
    said = origin({"org.opencontainers.image.revision": "newer"}, config())
    assert said["revision"] == "newer"
    assert origin({}, config())["revision"] == "4be1c0d"
    assert said["created"] == 1_769_860_800_123


@pytest.mark.parametrize("document", [{}, {"config": 3, "history": {}}, {"config": {"Env": 1, "Labels": []}}])
def test_a_config_that_says_nothing_is_one(document: Any) -> None:
    assert image_dict(config(document))["fields"] == {}
    assert origin({}, config(document))["created"] is None


@pytest.mark.parametrize("body", [b"", b"[]", b"\x00", b"null", b"[" * 5000])
def test_what_is_no_config_is_none(body: bytes) -> None:
    assert read_config(body) is None


@pytest.mark.parametrize("text", ["", "yesterday", "0001-01-01T00:00:00Z", "9999-99-99", "1969-12-31T23:59:59Z"])
def test_what_is_no_time_is_none(text: str) -> None:
    assert moment_of(text) is None


@pytest.mark.parametrize("text", ["https://github.com/team/app", "http://git.example:8443/x?y=1#z", "https://[::1]/a"])
def test_an_address_of_the_web_may_be_led_to(text: str) -> None:
    assert web_address(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "github.com/team/app", "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "//evil.example",
        "https://", "https:///path", "https://user:pass@host/", "https://good.example@evil.example/", "ftp://host/x",
        "https://host/\n", " https://host", "https://h\u00f6st/", "https://host/\u202egpj", "https://[::1",
        "git@host:x", "https://host/" + "a" * 3000, "vbscript:x", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_anything_else_is_only_text(text: str) -> None:
    assert web_address(text) == ""
