"""Nodes -> rules, all errors of a file at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from typing import TypeVar

from immuproxy.rules.model import DEFAULT, REFERRERS, Mode, OverwriteCondition, Policy, Rule, RuleSet
from immuproxy.rules.patterns import Axis, Pattern, PatternError, PatternList, parse
from immuproxy.rules.problems import Findings
from immuproxy.rules.reach import warn_unreachable
from immuproxy.rules.reading import Fields, text
from immuproxy.rules.source import Mapping, Node, Scalar, Sequence, compose, describe
from immuproxy.values.durations import parse_duration
from immuproxy.values.networks import Network, parse_network

MAX_RULES = 10_000
MAX_PATTERNS = 100_000
"""Patterns of one file, each use of an alias counted."""

MAX_EXPRESSIONS = 4_000_000
"""Sum of the sizes of all different patterns of one file; ten thousand common rules have some 600,000."""

MAX_NAME = 100
"""Characters of a rule's name; it appears in messages and metrics."""

RULE_KEYS = ("name", "repositories", "tags", "policy", "mode", "overwrite", "delete", "reuse")
CONDITION_KEYS = ("users", "networks", "within", "same")
RULES_SECTIONS = (DEFAULT, REFERRERS, "rules")
"""The keys at the top of the file that this module reads."""

SERVER_SECTIONS = ("upstream", "edge", "console", "redis", "audit", "log")
"""The keys at the top of the file that are read elsewhere."""

REFERRERS_RULE = Rule(
    name=REFERRERS,
    policy=Policy.APPEND_ONLY,
    tags=PatternList((parse(r"re:sha(256|384|512)-[a-f0-9]{64}(\.(sig|att|sbom))?", Axis.TAG),)),
)
"""Signing and SBOM tools must rewrite these tags, because the upstream has no referrers API (H21).

Of every digest the first 64 digits stand in the tag (distribution specification, "Referrers Tag Schema").
"""

_AXES = {"repositories": Axis.REPOSITORY, "tags": Axis.TAG, "users": Axis.USER}
_T = TypeVar("_T")


class Delete(StrEnum):
    DENY = "deny"
    ALLOW = "allow"


class Reuse(StrEnum):
    NEVER = "never"
    ALLOW = "allow"


def load_rules(data: bytes | str, source: str) -> RuleSet:
    """Read the rules of a file; raises `DocumentErrors` with all that is wrong.

    The file may be a whole configuration: its other sections are left alone.  ``source`` is what messages call the
    file.
    """
    findings = Findings()
    top = compose(data, source, findings)
    check_sections(top, findings)
    rules = read_rules(top, findings, source, digest_of(data))
    findings.raise_errors(source)
    return rules


def digest_of(data: bytes | str) -> str:
    """The digest by which a version of the file is known."""
    return f"sha256:{hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()}"


def check_sections(top: Mapping, findings: Findings) -> None:
    """Report unknown keys at the top; ``x-`` begins a place for anchors that is otherwise ignored."""
    known = (*SERVER_SECTIONS, *RULES_SECTIONS)
    named = {key: entry for key, entry in top.entries.items() if not key.startswith("x-")}
    Fields(Mapping(named, top.line, top.column), "", findings).only(known)


def has_server_sections(data: bytes | str, source: str) -> bool:
    """Whether a file says more than rules; raises `DocumentErrors` where it cannot be read at all."""
    top = compose(data, source, Findings())
    return any(section in top.entries for section in SERVER_SECTIONS)


def read_rules(top: Mapping, findings: Findings, source: str, digest: str) -> RuleSet:
    """The rules of a composed document.  Where ``findings`` has errors afterwards, the result is not to be used."""
    reader = _Reader(findings)
    fields = Fields(top, "", findings)
    default_node = top.entries.get(DEFAULT)
    policy = fields.word(DEFAULT, Policy) or Policy.IMMUTABLE
    default = Rule(
        name=DEFAULT, policy=policy, line=default_node[0].line if default_node else 0, delete_allowed=_moves(policy)
    )
    rules = list(reader.rules(top.get("rules")))
    _warn_shadows(rules, default, findings)
    warn_unreachable(rules, findings)
    if fields.boolean(REFERRERS, default=True):
        rules.insert(0, REFERRERS_RULE)
    if findings.errors:
        rules = []
    return RuleSet(tuple(rules), default, source, digest, tuple(sorted(findings.warnings)))


def _moves(policy: Policy) -> bool:
    return policy is Policy.MUTABLE


def _warn_shadows(rules: list[Rule], default: Rule, findings: Findings) -> None:
    """A rule in shadow mode still decides, so what a later rule would protect is open meanwhile."""
    if default.policy is Policy.MUTABLE and not any(rule.protects for rule in rules):
        return
    for rule in rules:
        if rule.mode is Mode.SHADOW:
            findings.warn(
                _Line(rule.line), f"rule {rule.name} is in shadow mode: the tags it matches are not protected meanwhile"
            )


class _Line:
    """A place of which only the line is known."""

    column = 1

    def __init__(self, line: int) -> None:
        self.line = line


class _Reader:
    """Reads the rules of one document."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._names: dict[str, int] = {}
        self._lists: dict[tuple[Node, Axis], PatternList] = {}
        self._patterns: dict[tuple[str, Axis], Pattern] = {}
        self._used = 0
        self._expressions = 0

    def rules(self, node: Node | None) -> Iterator[Rule]:
        """The rules that could be read."""
        if node is None or (isinstance(node, Scalar) and node.kind == "empty"):
            return
        if not isinstance(node, Sequence):
            self._findings.error(
                node, f"rules is a list, not {describe(node)}", 'begin each rule with "- name:"', "rules"
            )
            return
        if len(node.items) > MAX_RULES:
            self._findings.error(node, f"there are {len(node.items)} rules; the limit is {MAX_RULES}", path="rules")
            return
        for number, item in enumerate(node.items):
            rule = self._rule(item, f"rules[{number}]")
            if rule is not None:
                yield rule

    def _rule(self, node: Node, path: str) -> Rule | None:
        if not isinstance(node, Mapping):
            self._findings.error(node, f"a rule is a mapping with name and policy, not {describe(node)}", path=path)
            return None
        fields = Fields(node, path, self._findings)
        fields.only(RULE_KEYS)
        self._require(fields)
        name, policy = self._name(fields), fields.word("policy", Policy)
        repositories, tags = self._list(fields, "repositories"), self._list(fields, "tags")
        overwrite = tuple(self._overwrite(fields))
        mode, delete, reuse = fields.word("mode", Mode), fields.word("delete", Delete), fields.word("reuse", Reuse)
        if policy is None:
            return None
        rule = Rule(
            name=name or "",
            policy=policy,
            line=node.line,
            mode=mode or Mode.ENFORCE,
            repositories=repositories,
            tags=tags,
            overwrite=overwrite,
            delete_allowed=_moves(policy) if delete is None else delete is Delete.ALLOW,
            reuse_allowed=reuse is Reuse.ALLOW,
        )
        _check_sense(rule, fields, reuse)
        return rule

    def _require(self, fields: Fields) -> None:
        for key in ("name", "policy"):
            if fields.mapping.get(key) is None:
                self._findings.error(fields.mapping, f'the rule has no "{key}"', path=fields.path)

    def _name(self, fields: Fields) -> str | None:
        name, node = fields.text("name"), fields.mapping.get("name")
        if name is None or node is None:
            return None
        complain = partial(self._findings.error, node, path=fields.place("name"))
        if name in {DEFAULT, REFERRERS}:
            complain(f'the name "{name}" is taken by a built-in rule', "choose another name")
        elif name in self._names:
            complain(f'the name "{name}" is already taken by the rule on line {self._names[name]}', "names are unique")
        elif not name.isprintable() or len(name) > MAX_NAME:
            complain(f"a name is at most {MAX_NAME} printable characters")
        self._names.setdefault(name, fields.mapping.line)
        return name

    def _list(self, fields: Fields, key: str) -> PatternList:
        """A list of patterns.  One that is shared by an alias is read once."""
        axis, node = _AXES[key], fields.mapping.get(key)
        if node is None:
            return PatternList()
        if (node, axis) not in self._lists:
            everything = f"leave the key out to match all {key}"
            items = fields.items(key, "patterns", everything)
            found = tuple(pattern for path, item in items for pattern in self._pattern(item, path, axis))
            self._lists[node, axis] = PatternList(found)
        self._count(node, len(self._lists[node, axis].patterns))
        return self._lists[node, axis]

    def _count(self, node: Node, patterns: int) -> None:
        before, self._used = self._used, self._used + patterns
        if before <= MAX_PATTERNS < self._used:
            self._findings.error(node, f"the rules use more than {MAX_PATTERNS} patterns")

    def _pattern(self, node: Node, path: str, axis: Axis) -> Iterator[Pattern]:
        """One pattern, or nothing where it is wrong or the limit is passed already."""
        written = text(node, path, self._findings)
        if written is None or self._expressions > MAX_EXPRESSIONS:
            return
        try:
            yield self._parsed(written, node, axis)
        except PatternError as error:
            self._findings.error(node, str(error), error.suggestion, path)

    def _parsed(self, written: str, node: Node, axis: Axis) -> Pattern:
        key = (written, axis)
        if key not in self._patterns:
            self._patterns[key] = parse(written, axis)
            self._expressions += self._patterns[key].size
            if self._expressions > MAX_EXPRESSIONS:
                self._findings.error(
                    node, "the patterns of this file are too large together", "use fewer repetitions {n}"
                )
        return self._patterns[key]

    def _overwrite(self, fields: Fields) -> Iterator[OverwriteCondition]:
        node = fields.mapping.get("overwrite")
        if node is None:
            return
        if not isinstance(node, Sequence):
            hint = 'begin each entry with "-"' if isinstance(node, Mapping) else ""
            self._findings.error(
                node, f"overwrite is a list of conditions, not {describe(node)}", hint, fields.place("overwrite")
            )
            return
        for number, item in enumerate(node.items):
            path = f"{fields.place('overwrite')}[{number}]"
            if isinstance(item, Mapping) and item.entries:
                yield self._condition(Fields(item, path, self._findings))
            else:
                hint = "an entry without any would let everybody overwrite; use policy: mutable for that"
                self._findings.error(item, f"an entry of overwrite names {', '.join(CONDITION_KEYS)}", hint, path)

    def _condition(self, fields: Fields) -> OverwriteCondition:
        fields.only(CONDITION_KEYS)
        never = "leave the key out if it does not matter"
        networks = (
            self._converted(item, path, parse_network) for path, item in fields.items("networks", "networks", never)
        )
        same = (text(item, path, self._findings) for path, item in fields.items("same", "keys", never))
        return OverwriteCondition(
            users=self._list(fields, "users") if fields.mapping.get("users") else None,
            networks=tuple[Network, ...](network for network in networks if network),
            within_ms=self._within(fields),
            same=tuple(key for key in same if key),
            line=fields.mapping.line,
        )

    def _within(self, fields: Fields) -> int | None:
        node = fields.mapping.get("within")
        if node is None:
            return None
        duration = self._converted(node, fields.place("within"), parse_duration, bare_numbers=True)
        if duration == 0:
            self._findings.error(node, "within: 0s never holds", path=fields.place("within"))
        return duration

    def _converted(
        self, node: Node, path: str, convert: Callable[[str], _T], *, bare_numbers: bool = False
    ) -> _T | None:
        """A value that has a spelling of its own.  ``bare_numbers``: a number without quotes gets the converter's
        message.
        """
        if bare_numbers and isinstance(node, Scalar) and node.kind == "a number":
            written: str | None = node.text
        else:
            written = text(node, path, self._findings)
        if written is None:
            return None
        try:
            return convert(written)
        except ValueError as error:
            message, _, suggestion = str(error).partition("; ")
            self._findings.error(node, message, suggestion, path)
            return None


def _check_sense(rule: Rule, fields: Fields, reuse: Reuse | None) -> None:
    """Report what a policy cannot keep, and what has no effect."""
    error = partial(_complain, fields, fields.findings.error)
    warn = partial(_complain, fields, fields.findings.warn)
    match rule.policy:
        case Policy.MUTABLE:
            if rule.overwrite:
                error("overwrite", "a mutable tag can always be overwritten", "drop it, or use policy: immutable")
            if not rule.delete_allowed:
                error("delete", "a mutable tag is not protected from deletes", "use another policy")
            if reuse is Reuse.NEVER:
                error("reuse", "nothing is remembered of a deleted mutable tag", "use another policy")
            if rule.mode is Mode.SHADOW:
                warn("mode", "a mutable rule refuses nothing, shadow mode changes nothing")
        case Policy.FROZEN:
            if rule.overwrite:
                error("overwrite", "a frozen tag cannot be overwritten", "use policy: immutable")
            if rule.delete_allowed:
                error("delete", "a frozen tag cannot be deleted", "use policy: immutable")
    if rule.policy is not Policy.MUTABLE and rule.reuse_allowed and not rule.delete_allowed:
        warn("reuse", "reuse: allow has no effect without delete: allow")


def _complain(fields: Fields, report: Callable[..., None], key: str, message: str, suggestion: str = "") -> None:
    node = fields.mapping.get(key)
    report(node or fields.mapping, message, suggestion, fields.place(key))
