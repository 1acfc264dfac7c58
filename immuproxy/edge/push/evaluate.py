"""Asks the rules, with what they need to know about the push and about what the tag holds."""

from __future__ import annotations

from collections.abc import Callable

from immuproxy.allow.exceptions import Allows, Exceptions
from immuproxy.edge.push.model import ManifestStore, Push, RuleChangedError
from immuproxy.ledger.model import TagRecord
from immuproxy.rules import model as rules
from immuproxy.rules.decide import decide_push
from immuproxy.rules.model import RuleSet


class Evaluator:
    """Collects the facts; the verdict is the rules' alone."""

    def __init__(self, rules: Callable[[], RuleSet], manifest_store: ManifestStore, exceptions: Exceptions) -> None:
        """``rules`` gives the rule set in force; manifests and labels come from ``manifest_store``."""
        self._rules = rules
        self._manifest_store = manifest_store
        self._exceptions = exceptions

    def require_in_force(self, push: Push) -> None:
        """Raises `RuleChangedError` where the push came under another rule than the one in force now (H103)."""
        if self._rules().match(push.repository, push.tag) != push.rule:
            raise RuleChangedError

    async def push(self, push: Push, found: TagRecord, *, now_ms: int, excepted: bool = True) -> rules.Verdict:
        """The verdict on ``push`` when the tag's record is ``found``; ``now_ms`` is the ledger's own time (H113), and
        no exception is looked for where nobody has ``excepted`` the tag.

        By the rule and the exceptions that are in force now; raises `RuleChangedError` (H103).
        """
        image = await self._manifest_store.image(push.repository, push.manifest, push.caller, push.rule)
        asked = rules.PushFacts(
            repository=push.repository,
            tag=push.tag,
            image=image,
            user=push.caller.actor or None,
            user_confirmed=push.draft.actor_confirmed,
            address=push.caller.address or None,
            now_ms=now_ms,
        )
        held = await self._held(push, found)
        permitted = await self._permitted(push, now_ms) if excepted else None
        self.require_in_force(push)
        return decide_push(push.rule, asked, held, deleted=_deleted(found), permitted=permitted)

    async def _permitted(self, push: Push, now_ms: int) -> str | None:
        """The words of a temporary exception that covers the push."""
        found = await self._exceptions.of(push.repository, push.tag)
        return found.words if found and found.covers(Allows.OVERWRITE, push.manifest.digest, now_ms) else None

    async def _held(self, push: Push, found: TagRecord) -> rules.Held | None:
        if found.committed is None:
            return None
        image = await self._manifest_store.held(found, push.caller, push.rule)
        since = None if found.committed.first_adopted else found.committed.aged_from
        return rules.Held(image=image, since_ms=since, by=found.committed.first_by)


def _deleted(found: TagRecord) -> rules.Held | None:
    """A tombstone, as the rules see it."""
    if found.tombstone is None or found.committed is not None:
        return None
    gone = rules.Image(digest=found.tombstone.digest, media_type="", entries=frozenset(), labels={})
    return rules.Held(image=gone, since_ms=found.tombstone.deleted, by=found.tombstone.by)
