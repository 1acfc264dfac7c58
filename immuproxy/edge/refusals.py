"""Saying no: the event first, then 409 with a message that a person can act on (H78)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from immuproxy.edge import answers, record
from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.push.model import Push
from immuproxy.ledger.model import Committed, Event, Outcome, TagRecord
from immuproxy.ledger.register import Register
from immuproxy.oci.errors import OciError
from immuproxy.rules.decide import CHANGES
from immuproxy.rules.model import Verdict

PHRASE = "cannot be overwritten because the tag is immutable"
"""What scripts look for in the message; never changed."""


class Refusals:
    """Writes the event of a refusal, then makes its answer."""

    def __init__(self, register: Register) -> None:
        """Events go through ``register``."""
        self._register = register

    async def push(self, push: Push, verdict: Verdict, found: TagRecord) -> Answer | None:
        """Refuse a push because of ``found``, what the tag holds; None where it holds something else by now, and the
        push has to be judged again (H117).
        """
        event = replace(
            push.draft,
            outcome=Outcome.REFUSED,
            previous_digest=found.committed.digest if found.committed else "",
            reason=verdict.reason,
            rule=verdict.rule,
            rule_line=verdict.line,
        )
        if not await self._register.record_judged(record.timed(event, push.caller), found):
            return None
        return answers.error(_problem(push, verdict, found, event))

    async def unfit(self, draft: Event, caller: Caller, problem: OciError) -> None:
        """Tell of a push that cannot even be judged, before ``problem`` is answered (I10)."""
        event = replace(draft, outcome=Outcome.FAILED, reason=problem.message)
        await self._register.record(record.timed(event, caller))


def _problem(push: Push, verdict: Verdict, found: TagRecord, event: Event) -> OciError:
    detail = {
        "repository": push.repository,
        "tag": push.tag,
        "current_digest": None,
        "pushed_digest": push.manifest.digest,
        "first_pushed": None,
        "first_pushed_by": None,
        "adopted": False,
        "rule": verdict.rule,
        "event": event.id,
    }
    name = f"{push.repository}:{push.tag}"
    if found.committed is None:
        return OciError(409, "DENIED", f"tag {name} cannot be pushed: {verdict.reason}", detail=detail)
    held = found.committed
    detail |= {
        "current_digest": held.digest,
        "first_pushed": iso(held.first),
        "first_pushed_by": held.first_by or None,
        "adopted": held.first_adopted,
    }
    change = CHANGES[push.rule.policy]
    told = f"it holds {held.digest} since {_since(held)}; {verdict.reason}"
    message = f"tag {name} {PHRASE}{change.scope}: {told}. {change.advice}"
    return OciError(409, "DENIED", message, detail=detail)


def _since(held: Committed) -> str:
    """Since when, and by whom; of a tag that predates the proxy nobody knows (H71)."""
    if held.first_adopted and held.since == held.first:
        return f"{iso(held.since)}, when the proxy adopted it (it is older than that)"
    return f"{iso(held.since)}, pushed by {held.by}" if held.by else iso(held.since)


def iso(milliseconds: int) -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def first_message(answer: Answer) -> str:
    """What an upstream's error says, for the audit: at most 200 characters."""
    try:
        message = json.loads(answer.body)["errors"][0]["message"]
    except (ValueError, LookupError, TypeError):
        message = answer.body[:200].decode("utf-8", "replace")
    return " ".join(str(message).split())[:200]
