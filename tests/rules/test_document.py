from __future__ import annotations

import hashlib
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immuproxy.rules import document
from immuproxy.rules.document import MAX_PATTERNS, load_rules
from immuproxy.rules.model import Mode, Policy
from immuproxy.rules.problems import DocumentErrors
from tests.rules.files import problems_of, rules_of, the_problem, users

PRODUCT = r"""
default:  immutable
rules:
  - name: moving-tags
    tags: [latest, main, "dev-*"]
    policy: mutable
  - name: releases
    repositories: ["team/**", "!team/sandbox/**"]
    tags: ["semver:>=1.0.0", "re:v\\d+(\\.\\d+)*"]
    policy: immutable
    overwrite:
      - {users: [release-bot], within: 15m}
      - {networks: [10.1.0.0/16]}
      - {same: org.opencontainers.image.revision}
    delete: deny
    reuse: never
  - name: archive
    repositories: ["archive/**"]
    policy: frozen
"""


def test_the_documented_example_is_read_whole() -> None:
    rules = rules_of(PRODUCT)
    referrers, moving, releases, archive = rules.rules
    assert (referrers.name, referrers.line, referrers.policy) == ("referrers", 0, Policy.APPEND_ONLY)
    assert (moving.name, moving.line, moving.policy, moving.delete_allowed) == ("moving-tags", 4, Policy.MUTABLE, True)
    assert (releases.line, releases.delete_allowed, releases.reuse_allowed) == (7, False, False)
    assert releases.repositories.texts == ("team/**", "!team/sandbox/**")
    assert releases.tags.texts == ("semver:>=1.0.0", r"re:v\d+(\.\d+)*")
    by_user, by_network, by_label = releases.overwrite
    assert (by_user.users, by_user.within_ms, by_user.line) == (users("release-bot"), 900_000, 12)
    assert [str(network) for network in by_network.networks] == ["10.1.0.0/16"]
    assert by_label.same == ("org.opencontainers.image.revision",)
    assert archive.tags.texts == ()
    assert (rules.default.policy, rules.default.line) == (Policy.IMMUTABLE, 2)
    assert rules.warnings == ()


def test_the_digest_is_that_of_the_bytes() -> None:
    rules = load_rules(PRODUCT.encode(), "dir/rules.yml")
    assert rules.digest == f"sha256:{hashlib.sha256(PRODUCT.encode()).hexdigest()}"
    assert rules.source == "dir/rules.yml"


def test_a_file_that_says_little_protects_everything() -> None:
    rules = rules_of("rules:\n")
    assert rules.match("any/repo", "tag").policy is Policy.IMMUTABLE
    assert rules.default.line == 0


def test_mode_delete_and_reuse_are_read() -> None:
    rules = rules_of("rules: [{name: a, policy: immutable, mode: shadow, delete: allow, reuse: allow, tags: v1}]")
    rule = rules.rules[1]
    assert (rule.mode, rule.delete_allowed, rule.reuse_allowed, rule.tags.texts) == (Mode.SHADOW, True, True, ("v1",))


def test_the_referrers_rule_comes_first_and_can_be_switched_off() -> None:
    tag = f"sha256-{'a' * 64}"
    text = "default: mutable\nrules: [{name: all, policy: mutable}]\n"
    for digest in ("sha256", "sha384", "sha512"):  # each cut to 64 digits (H81)
        for ending in ("", ".sig", ".att", ".sbom"):
            assert rules_of(text).match("x", f"{digest}-{'a' * 64}{ending}").name == "referrers"
    assert rules_of(text).match("x", f"sha512-{'a' * 63}").name == "all"
    for suffix in ("", ".sig", ".att", ".sbom"):
        assert rules_of(text).match("x", tag + suffix).name == "referrers"
        assert rules_of(f"referrers: false\n{text}").match("x", tag + suffix).name == "all"
    assert rules_of(text).match("x", f"{tag}.txt").name == "all"
    assert rules_of(text).match("x", f"sha256-{'A' * 64}").name == "all"


def test_a_whole_configuration_is_accepted_and_its_other_sections_left_alone() -> None:
    assert (
        rules_of("upstream: {nonsense: 1}\nredis: 7\nx-anything: [1]\ndefault: frozen\n").default.policy
        is Policy.FROZEN
    )


def test_anchors_and_merge_keys_are_shared() -> None:
    rules = rules_of("""
        x-base: &base {policy: immutable, tags: &stable [v1, v2]}
        rules:
          - {<<: *base, name: a, repositories: team/a}
          - {name: b, policy: frozen, repositories: team/b, tags: *stable}
    """)
    assert [rule.tags.texts for rule in rules.rules[1:]] == [("v1", "v2")] * 2


def rule(line: str) -> str:
    """A file whose only rule lacks nothing; ``line`` is its line 4."""
    return f"rules:\n  - name: a\n    policy: immutable\n    {line}\n"


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ("tags: [1.10]", 12, '1.10 is a number to YAML, not text; quote it: "1.10"'),
        ("tags: [10]", 12, 'quote it: "10"'),
        ("tags: [v1, true]", 16, 'true is a boolean to YAML, not text; quote it: "true"'),
        ("tags: [null]", 12, 'null is empty to YAML, not text; quote it: "null"'),
        ("tags: [2024-01-31]", 12, 'quote it: "2024-01-31"'),
        ("tags: [v1, ]", 0, ""),
        ("tags: [!x/**, v1]", 12, 'must be quoted: "!x/**"'),
        ("tags: [! x]", 12, 'must be quoted: "! x"'),
        ("tags: !!int 7", 11, "is a YAML tag"),
        ("tags: ['']", 12, "an empty one"),
        ("tags: []", 11, "leave the key out to match all tags"),
        ("tags:", 10, "not nothing"),
        ("tags: {a: b}", 11, "not a mapping"),
        ("tags: [[a]]", 12, "found a list"),
        ("tags: [semver: 1.x]", 12, "quote it, without the blank: 'semver:1.x'"),
        ("tags: ['Foo!']", 12, "can never match"),
        ("repositories: [v1, Team]", 24, 'write "team"'),
        ("polcy: x", 5, 'unknown key "polcy"; did you mean "policy"?'),
        ("zzz: x", 5, "known keys are name, repositories, tags, policy, mode, overwrite, delete, reuse"),
        ("mode: shadwo", 11, 'did you mean "shadow"?'),
        ("delete: no", 13, "delete is deny or allow"),
        ("reuse: [never]", 12, "found a list"),
        ("overwrite: {users: [x]}", 16, 'begin each entry with "-"'),
        ("overwrite: [{}]", 17, "use policy: mutable"),
        ("overwrite: [x]", 17, "an entry of overwrite names users"),
        ("overwrite: [{usrs: [x]}]", 18, 'did you mean "users"?'),
        ("overwrite: [{users: []}]", 25, "leave the key out"),
        ("overwrite: [{users: ['bot[bot]']}]", 26, "a name with brackets"),
        ("overwrite: [{users: ['re:(']}]", 26, "the regular expression is not valid"),
        ("overwrite: [{users: [7]}]", 26, 'quote it: "7"'),
        ("overwrite: [{within: 15}]", 26, "add a unit"),
        ("overwrite: [{within: 0s}]", 26, "never holds"),
        ("overwrite: [{networks: [10.1.2.3/16]}]", 29, "did you mean 10.1.0.0/16?"),
        ("overwrite: [{same: true}]", 24, 'quote it: "true"'),
    ],
)
def test_one_mistake_is_one_error_at_its_place(line: str, column: int, words: str) -> None:
    if not column:
        assert rules_of(rule(line)).rules[1].name == "a"
        return
    problem = the_problem(rule(line))
    assert (problem.line, problem.column) == (4, column), problem
    assert words in str(problem)
    assert problem.path.startswith("rules[0]")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("defualt: frozen\n", 1, 'did you mean "default"?'),
        ("default: imutable\n", 1, 'did you mean "immutable"?'),
        ("default: [immutable]\n", 1, "found a list"),
        ("referrers: no\n", 1, "write false"),
        ("rules: {name: a}\n", 1, 'begin each rule with "- name:"'),
        ("rules:\n  - a\n", 2, "a rule is a mapping"),
        ("rules:\n  - {policy: frozen}\n", 2, 'no "name"'),
        ("rules:\n  - {name: a}\n", 2, 'no "policy"'),
        ("rules:\n  - {name: default, policy: frozen}\n", 2, "taken by a built-in rule"),
        ("rules:\n  - {name: referrers, policy: frozen}\n", 2, "taken by a built-in rule"),
        ('rules:\n  - {name: "", policy: frozen}\n', 2, "empty"),
        ('rules:\n  - {name: "a\\nb", policy: frozen}\n', 2, "printable"),
        (
            "rules:\n  - {name: a, policy: frozen}\n  - {name: a, policy: frozen, tags: x}\n",
            3,
            "already taken by the rule on line 2",
        ),
    ],
)
def test_mistakes_around_rules(text: str, line: int, words: str) -> None:
    problem = the_problem(text)
    assert problem.line == line
    assert words in str(problem)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("policy: mutable, overwrite: [{users: [x]}]", "can always be overwritten"),
        ("policy: mutable, delete: deny", "not protected from deletes"),
        ("policy: mutable, reuse: never", "nothing is remembered"),
        ("policy: frozen, overwrite: [{users: [x]}]", "cannot be overwritten"),
        ("policy: frozen, delete: allow", "cannot be deleted"),
    ],
)
def test_what_a_policy_cannot_keep_is_an_error(line: str, words: str) -> None:
    assert words in str(the_problem(f"rules:\n  - {{name: a, {line}}}\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rules: [{name: a, policy: immutable, reuse: allow}]", "no effect without delete: allow"),
        ("rules: [{name: a, policy: mutable, mode: shadow}]", "a mutable rule refuses nothing"),
        ("rules: [{name: a, policy: frozen, mode: shadow}]", "not protected meanwhile"),
    ],
)
def test_what_has_no_effect_is_a_warning(text: str, words: str) -> None:
    assert any(words in str(warning) and warning.line == 1 for warning in rules_of(text).warnings)


def test_a_shadow_rule_where_nothing_else_protects_needs_no_warning() -> None:
    assert rules_of("default: mutable\nrules: [{name: a, policy: frozen, mode: shadow}]").warnings == ()


def test_all_errors_come_at_once_in_the_order_of_the_file() -> None:
    problems = problems_of("""\
        default: imutable
        rules:
          - name: a
            tags: [1.10, "v 1"]
            policy: mutabel
            tags: [x]
          - policy: frozen
            delete: allow
    """)
    assert [problem.line for problem in problems] == [1, 4, 4, 5, 6, 7, 8]


def test_limits_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PATTERNS == 100_000
    monkeypatch.setattr(document, "MAX_RULES", 2)
    monkeypatch.setattr(document, "MAX_PATTERNS", 4)
    monkeypatch.setattr(document, "MAX_EXPRESSIONS", 500)
    three = "rules:\n" + "".join(f"  - {{name: r{n}, policy: frozen, tags: v{n}}}\n" for n in range(3))
    assert "the limit is 2" in str(the_problem(three))
    aliased = """
        rules:
          - {name: a, policy: frozen, tags: &t [a, b, c]}
          - {name: b, policy: frozen, repositories: x, tags: *t}
    """
    assert "more than 4 patterns" in str(the_problem(aliased))
    large = "rules: [{name: a, policy: frozen, tags: ['re:x{300}', 're:y{300}', 're:(']}]"
    assert "too large together" in str(the_problem(large))


def test_many_uses_of_one_long_list_are_read_once() -> None:
    patterns = ", ".join(f"v{n}" for n in range(40))
    text = f"rules:\n  - {{name: r, policy: frozen, tags: &t [{patterns}]}}\n" + "".join(
        f"  - {{name: r{n}, policy: frozen, repositories: a{n}, tags: *t}}\n" for n in range(200)
    )
    rules = rules_of(text)
    assert all(rule.tags is rules.rules[1].tags for rule in rules.rules[2:])


keys = st.sampled_from(["name", "policy", "tags", "mode", "overwrite", "delete", "reuse", "polcy", "x"])
values = st.sampled_from(["a", "frozen", "[x, 1]", "{users: [u]}", "[{within: 5m}]", "deny", "shadow", "", "'!y'", "1"])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.tuples(keys, values), min_size=1, max_size=4), min_size=1, max_size=3))
def test_any_rules_are_read_or_refused_with_places_inside_the_file(written: list[list[tuple[str, str]]]) -> None:
    text = "rules:\n" + "".join(
        "  - " + "\n    ".join(f"{key}: {value}" for key, value in rule) + "\n" for rule in written
    )
    lines = text.splitlines()
    try:
        rules = load_rules(text, "f")
    except DocumentErrors as errors:
        for problem in errors.problems:
            assert 1 <= problem.line <= len(lines)
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
    else:
        assert [lines[rule.line - 1][:4] for rule in rules.rules[1:]] == ["  - "] * len(written)


def test_text_and_bytes_read_the_same() -> None:
    text = dedent(PRODUCT)
    assert load_rules(text, "f") == load_rules(text.encode(), "f")
    assert load_rules(b"\xef\xbb\xbf" + text.encode(), "f").rules == load_rules(text, "f").rules
