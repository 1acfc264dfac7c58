"""The values that rules are made of, and those that they judge.  Times are milliseconds since 1970-01-01 UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from immuproxy.oci.manifests import INDEX_TYPES
from immuproxy.rules.index import RuleIndex
from immuproxy.rules.patterns import EVERYTHING, PatternList
from immuproxy.rules.problems import FileProblem
from immuproxy.values.durations import format_duration
from immuproxy.values.networks import Network

DEFAULT = "default"
"""The name of the rule that decides where no other matches."""

REFERRERS = "referrers"
"""The name of the built-in first rule."""

BUILT_IN_LINE = 0
"""The line of a rule that no line of the file has made."""


class Policy(StrEnum):
    """What may become of a tag."""

    IMMUTABLE = "immutable"
    MUTABLE = "mutable"
    APPEND_ONLY = "append-only"
    FROZEN = "frozen"


class Mode(StrEnum):
    """Whether a rule refuses, or only records what it would have refused."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Decision(StrEnum):
    """What is to be done with a push or a delete."""

    CREATE = "create"
    UNCHANGED = "unchanged"
    OVERWRITE = "overwrite"
    DELETE = "delete"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class OverwriteCondition:
    """One entry of ``overwrite``: it holds when all that it names holds.  ``within_ms`` counts from the first push.

    ``users`` is None where it does not matter who pushes.
    """

    users: PatternList | None = None
    networks: tuple[Network, ...] = ()
    within_ms: int | None = None
    same: tuple[str, ...] = ()
    line: int = BUILT_IN_LINE

    def describe(self) -> str:
        """``user release-bot, within 15m of the first push``."""
        parts = []
        if self.users:
            parts.append(f"user {self.users.described()}")
        if self.networks:
            parts.append(f"client in {' or '.join(map(str, self.networks))}")
        if self.within_ms is not None:
            parts.append(f"within {format_duration(self.within_ms)} of the first push")
        parts += [f"both images carry the same {key}" for key in self.same]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule.  ``line`` is where it begins in its file, `BUILT_IN_LINE` where the file does not say."""

    name: str
    policy: Policy
    line: int = BUILT_IN_LINE
    mode: Mode = Mode.ENFORCE
    repositories: PatternList = EVERYTHING
    tags: PatternList = EVERYTHING
    overwrite: tuple[OverwriteCondition, ...] = ()
    delete_allowed: bool = False
    reuse_allowed: bool = False

    @property
    def protects(self) -> bool:
        """Whether its tags are held by the ledger: not by a mutable rule, nor by one in shadow mode."""
        return self.policy is not Policy.MUTABLE and self.mode is Mode.ENFORCE

    @property
    def needs_labels(self) -> bool:
        """Whether a verdict on an overwrite needs the labels of both images."""
        return any(condition.same for condition in self.overwrite)

    @property
    def needs_entries(self) -> bool:
        """Whether a verdict on an overwrite needs what both manifests list."""
        return self.policy is Policy.APPEND_ONLY

    def __str__(self) -> str:
        """``rule releases (line 12)``, ``the default``: for sentences."""
        if self.name == DEFAULT:
            return f"the default (line {self.line})" if self.line else "the default"
        return f"rule {self.name} (line {self.line})" if self.line else f"the built-in rule {self.name}"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of one file, in order, the built-in one first.

    ``default`` decides where none of ``rules`` matches.  ``source`` names the file; ``digest`` is ``sha256:`` of its
    bytes.
    """

    rules: tuple[Rule, ...]
    default: Rule
    source: str = ""
    digest: str = ""
    warnings: tuple[FileProblem, ...] = ()
    _index: RuleIndex = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = RuleIndex([(rule.repositories, rule.tags) for rule in self.rules])
        object.__setattr__(self, "_index", index)

    def match(self, repository: str, tag: str) -> Rule:
        """The first rule that takes in both, or the default."""
        number = self._index.first(repository, tag)
        return self.default if number is None else self.rules[number]

    def protects(self, repository: str, tag: str) -> bool:
        """Whether the tag is held by the ledger."""
        return self.match(repository, tag).protects

    def may_protect(self, repository: str) -> bool:
        """Whether a tag of the repository could be held by the ledger, apart from those of the built-in rule.

        May be wrong in saying yes.  Takes as long as there are rules.
        """
        own = (rule for rule in self.rules if rule.line != BUILT_IN_LINE)
        return self.default.protects or any(rule.protects and rule.repositories.matches(repository) for rule in own)


_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest, as far as rules look at it.

    ``entries``: the digests an index lists, or the layers of an image.  ``descriptors``: the same with all that must
    stay of each, as lines that begin with the digest; ``platforms``: platform -> the digest that a client on it gets.
    Both only where the rule asks for them (`Rule.needs_entries`).  ``labels``: labels of the config and annotations of
    the manifest, merged.
    """

    digest: str
    media_type: str
    entries: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=lambda: _NOTHING, hash=False)
    descriptors: frozenset[str] = frozenset()
    platforms: Mapping[str, str] = field(default_factory=lambda: _NOTHING, hash=False)

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests rather than layers."""
        return self.media_type in INDEX_TYPES

    @property
    def kind(self) -> str:
        """The word for it in a sentence."""
        return "index" if self.is_index else "image"


@dataclass(frozen=True, slots=True)
class Held:
    """What a tag means now, or meant when it was deleted.

    ``since_ms`` is when the tag was first pushed; None where nobody knows, as for a tag that predates the proxy:
    ``within`` never holds for it.  ``by`` is who pushed it, empty where nobody knows.
    """

    image: Image
    since_ms: int | None
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushFacts:
    """Somebody's wish to set a tag.

    ``user_confirmed``: the upstream accepted the credential that names the user; an unconfirmed name counts for
    nothing. ``address`` is the client's, with trusted proxies already resolved.
    """

    repository: str
    tag: str
    image: Image
    user: str | None = None
    user_confirmed: bool = False
    address: str | None = None
    now_ms: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to happen, why, and which rule on which line says so.

    ``shadow``: the rule would have refused if it were enforced; ``outcome`` is then what happens all the same.
    """

    outcome: Decision
    reason: str
    rule: str
    line: int
    shadow: bool = False

    @property
    def allowed(self) -> bool:
        """Whether the request goes on."""
        return self.outcome is not Decision.REFUSE
