from __future__ import annotations

import pytest

from immuproxy.rules.model import Policy
from immuproxy.rules.problems import Findings
from immuproxy.rules.reading import Fields, text
from immuproxy.rules.source import compose


def fields(written: str) -> Fields:
    findings = Findings()
    return Fields(compose(written, "f", findings), "rules[0]", findings)


def test_absent_keys_are_no_errors() -> None:
    read = fields("a: b")
    assert read.text("policy") is None
    assert read.word("policy", Policy) is None
    assert read.boolean("on", default=True) is True
    assert list(read.items("tags", "patterns", "")) == []
    assert read.findings.errors == []


def test_words_and_flags_are_read() -> None:
    read = fields("{policy: append-only, yes: true, no: False}")
    assert read.word("policy", Policy) is Policy.APPEND_ONLY
    assert read.boolean("yes", default=False) is True
    assert read.boolean("no", default=True) is False


@pytest.mark.parametrize("written", ["a: [x, y]", "a: x"])
def test_a_single_value_counts_as_a_list_of_one(written: str) -> None:
    read = fields(written)
    paths = [path for path, _ in read.items("a", "names", "")]
    assert paths in (["rules[0].a[0]", "rules[0].a[1]"], ["rules[0].a"])


def test_errors_carry_the_path_inside_the_document() -> None:
    read = fields("a: 1")
    node = read.mapping.get("a")
    assert node is not None
    assert text(node, read.place("a"), read.findings) is None
    assert read.findings.errors[0].path == "rules[0].a"
