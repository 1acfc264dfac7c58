"""How much of the record can be searched at this moment."""

from __future__ import annotations

from typing import Any

from immuproxy.audit import IndexDamagedError
from immuproxy.web.problems import Problem, index_being_built
from immuproxy.web.sources import Sources


async def reach_of(sources: Sources) -> dict[str, Any]:
    """What pages and API say beside what they show.

    ``complete``: all that is recorded can be searched; else what is younger than ``since`` (ms, null for nothing yet).
    ``failure`` says why new events do not arrive, and is empty where they do.
    """
    try:
        reach = await sources.audit.reach()
    except IndexDamagedError as error:
        return {"complete": False, "since": None, "failure": str(error)}
    return {"complete": reach.complete, "since": reach.since, "failure": reach.failure}


async def must_be_whole(sources: Sources) -> None:
    """Before it is said that nothing is recorded of something; raises `Problem` where nobody knows yet."""
    reach = await reach_of(sources)
    if not reach["complete"]:
        raise unknown_yet()


def unknown_yet() -> Problem:
    """It may be in a part of the record that was not looked at."""
    return index_being_built("The part of the audit that was searched does not hold it.")
