"""How much of the record can be searched at this moment.

It is asked for before what it speaks of: an index that was completed in between had not all of it at the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from immuproxy.audit import IndexDamagedError, Reach
from immuproxy.console.problems import index_being_built, index_too_small
from immuproxy.console.sources import Sources


async def reach_of(sources: Sources) -> dict[str, Any]:
    """What pages and API say beside what they show (``index``).

    ``complete``: there is nothing older than what can be searched; else that is what is younger than ``since`` (ms,
    null for nothing yet), and ``bounded`` that no more will be.  ``until`` (ms) is the newest event while newer ones
    are being read, else null.  ``failure`` says why new events do not arrive, and is empty where they do.
    """
    try:
        reach = await sources.audit.reach()
    except IndexDamagedError as error:
        reach = Reach(None, complete=False, failure=str(error))
    return asdict(reach)


def is_whole(reach: Mapping[str, Any]) -> bool:
    """Whether what is not found was not recorded."""
    return bool(reach["complete"]) and reach["until"] is None and not reach["failure"]


def must_be_whole(reach: Mapping[str, Any]) -> None:
    """Before it is said that nothing is recorded of something; raises `RequestProblem` where nobody knows yet."""
    if is_whole(reach):
        return
    if reach["bounded"]:
        raise index_too_small()
    raise index_being_built("The part of the audit that can be searched now does not hold it.")
