"""Deletes whose proxy is gone: each is told as what is known of it, once (H35, H77, H114)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from immuproxy.audit.testimony import UnheardError
from immuproxy.edge.caller import Caller
from immuproxy.edge.cases import Cases
from immuproxy.edge.proof import Case, began, changes
from immuproxy.edge.push.attempt import Limits
from immuproxy.edge.refusals import iso
from immuproxy.edge.taken import Taken
from immuproxy.ledger.going import GoneTag
from immuproxy.ledger.model import Action, Event, Outcome
from immuproxy.ledger.register import Register
from immuproxy.ledger.watch import Ages
from immuproxy.rules.decide import BY_EXCEPTION
from immuproxy.rules.model import RuleSet

_SETS = frozenset({Action.PUSH, Action.REPAIR, Action.ADOPT})


class InterruptedDeletes:
    """Takes away their marks, and the records of the tags that went."""

    def __init__(
        self,
        rules: Callable[[], RuleSet],
        register: Register,
        cases: Cases,
        taken: Taken,
        *,
        limits: Limits,
        caller: Caller,
        seen: Callable[[Event, str], Awaitable[str]],
    ) -> None:
        """``seen``: the digest that the upstream shows for a reference, empty for none; ``caller`` asks it."""
        self._rules = rules
        self._register = register
        self._cases = cases
        self._taken = taken
        self._limits = limits
        self._caller = caller
        self._seen = seen

    async def finish(self, intent: Event, ages: Ages) -> None:
        """Close an intent whose delete has gone through, or is sure not to go through any more."""
        seen = await self._seen(intent, intent.tag or intent.digest)
        if seen and self._limits.may_still_land(ages.of(intent.time)):
            return
        mark = f"tag:{intent.tag}" if intent.tag else " ".join(_digests(intent))
        case = await self._case(intent)
        if seen:
            at = await self._register.now_ms()
            await self._register.end_delete(intent.repository, mark, _left(intent, at, back=_may_be_back(case)))
            return
        tags = await self._gone(intent)
        was_there = bool(not intent.tag or tags or await self._register.moved(intent.repository, intent.tag))
        ended = _went(intent, was_there=was_there, by_others=_may_be_taken(case))
        if intent.tag and ended.outcome is Outcome.UNKNOWN:  # whoever else has taken the tag tells that it went
            await self._register.end_delete(intent.repository, mark, ended)
            return
        await self._taken.end(mark, ended, self._caller, tags)

    async def _case(self, intent: Event) -> Case:
        """A mark keeps pushes away, so it does not wait until somebody can say what is recorded (H133)."""
        try:
            return await self._cases.of_delete(intent)
        except UnheardError:
            return await self._cases.unheard(intent)

    async def _gone(self, intent: Event) -> list[GoneTag]:
        register, repository = self._register, intent.repository
        tags = [intent.tag] if intent.tag else await self._holders(intent)
        records = await register.records(repository, tags)
        held = [(found, found.committed.digest) for found in records if found.committed]
        went = [(found, digest) for found, digest in held if digest in _digests(intent)]
        rules = [self._rules().match(found.repository, found.tag) for found, _ in went]
        return [
            GoneTag(found.tag, digest, rule.protects and not rule.reuse_allowed)
            for (found, digest), rule in zip(went, rules, strict=True)
        ]

    async def _holders(self, intent: Event) -> list[str]:
        found = [await self._register.holders.of(intent.repository, digest) for digest in _digests(intent)]
        return [tag for tags in found for tag in tags]


def _left(intent: Event, at: int, *, back: bool) -> Event:
    """The event of a delete after which the upstream shows something."""
    if back:
        shown = f"at {iso(at)} the upstream held it, which may have been pushed again since"
        return replace(intent, outcome=Outcome.UNKNOWN, reason=f"the delete was interrupted; {shown}")
    return replace(intent, reason="the delete was interrupted, and the upstream still holds the content")


def _went(intent: Event, *, was_there: bool, by_others: bool) -> Event:
    """The event of a delete after which the upstream shows nothing, with the exception that let it go."""
    permitted = f"; {intent.reason}" if BY_EXCEPTION in intent.reason else ""
    if by_others or not was_there:
        why = "another delete may have taken it" if by_others else "nothing proves that it was there before"
        reason = f"the delete was interrupted; it is not there, but {why}{permitted}"
        return replace(intent, outcome=Outcome.UNKNOWN, reason=reason)
    return replace(intent, outcome=Outcome.DELETED, reason=f"recorded after the delete was interrupted{permitted}")


def _digests(intent: Event) -> tuple[str, ...]:
    """Of a delete: the digest that was asked for, and the one by which the upstream keeps the content (H81)."""
    return tuple(filter(None, (intent.digest, intent.previous_digest)))


def _may_be_back(case: Case) -> bool:
    """Whether, by what is recorded, the delete may have gone through and somebody brought the content back (H114).

    Uploads of blobs are recorded by nobody.
    """
    intent = case.intent
    if intent.action is Action.DELETE_BLOB or not case.whole:
        return True
    return any(
        event.action in _SETS and (event.tag == intent.tag if intent.tag else event.digest in _digests(intent))
        for event in changes(case, began(case.intent))
    )


def _may_be_taken(case: Case) -> bool:
    """Whether another delete may have taken the content in the time of this one, or the tag, which the ledger knows
    still: a delete that has ended has taken it from there.
    """
    intent, held = case.intent, _digests(case.intent)
    if intent.tag:
        return any(
            open_.action is Action.DELETE_MANIFEST and (not held or open_.digest in held) for open_ in case.others
        )
    return not case.whole or any(
        event.action is intent.action and event.digest in held for event in changes(case, began(case.intent))
    )
