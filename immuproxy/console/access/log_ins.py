"""Attempts to log in: how many there may be, and what the audit is told of them.

An attempt costs one of two kinds of budget.  From a network that the user has logged in from during the last thirty
days it is that of the user at that network, which nobody elsewhere can use up: no stranger can lock a user out.  From
anywhere else it is that of the network, and also that of the name, so that many machines together do not get more
guesses at one name either.  A good password gives back what its attempt took, and no more: an account of one's own does
not buy guesses at others.

No fewer would do.  By network alone, who has many (an IPv6 /48 holds 65,536 of them) guesses at one name as often as
they like; by name alone, anybody locks a user out from elsewhere; by the pair of both, one machine tries a common
password on every name.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from immuproxy.console.access.passwords import BusyError, Passwords
from immuproxy.console.access.reached import Reached
from immuproxy.console.problems import RequestProblem
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from immuproxy.store.rate_limits import Budget, Budgets, Places, Untold

PLACE = (10, 30_000)
NETWORK = (10, 30_000)
NAME = (20, 60_000)
"""Attempts at once, and milliseconds until one more."""

TOLD = (60, 60_000)
"""Failed attempts that become events: what somebody tries thousands of times must not bury the rest of the audit."""

TOLD_HELD = (1, 600_000)
"""The same for those that were not even checked, of one network."""

STRANGERS = 1_024
"""Names that nobody has share this many budgets, so that making names up fills no memory."""

Record = Callable[[Event], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class LogInAttempt:
    """A name and a password from somewhere."""

    name: str
    password: str
    reached: Reached


class LogIns:
    """Checks attempts.  Every method may raise `LedgerUnavailableError`: without Redis nobody gets in."""

    def __init__(
        self,
        passwords: Passwords,
        *,
        budgets: Budgets,
        places: Places,
        untold: Untold,
        record: Record,
        clock: Callable[[], int],
    ) -> None:
        """``record`` puts an event into the audit; ``clock`` gives milliseconds."""
        self._passwords = passwords
        self._budgets = budgets
        self._places = places
        self._untold = untold
        self._record = record
        self._clock = clock

    async def check(self, attempt: LogInAttempt) -> str:
        """Let a good password in: its event is recorded, and the hash of the user's line returned.

        Raises `RequestProblem`: 401 for a wrong one, 429 for too many, 503 while too many others are being checked.
        """
        now, network = self._clock(), attempt.reached.network
        wanted = await self._wanted(attempt, now)
        wait = await self._budgets.take(wanted)
        if wait:
            await self._tell(attempt, "too many attempts", Budget(f"held:{network}", *TOLD_HELD, stand_in="held"))
            raise too_many(wait)
        try:
            line = await self._passwords.check(attempt.name, attempt.password)
        except BusyError:
            raise too_busy() from None
        if not line:
            known = attempt.name in self._passwords.users
            await self._tell(attempt, "wrong password" if known else "unknown name")
            raise wrong_password()
        await self._budgets.give_back(wanted)
        await self._places.remember(attempt.name, network, now)
        await self._record(log_in_event(Outcome.GRANTED, attempt.name, attempt.reached))
        return line

    async def ended(self, name: str, reached: Reached) -> None:
        """Record that somebody logged out."""
        await self._record(log_in_event(Outcome.ENDED, name, reached, "logged out"))

    async def _wanted(self, attempt: LogInAttempt, now: int) -> list[Budget]:
        network = attempt.reached.network
        name = hashlib.sha256(attempt.name.encode(errors="surrogateescape")).hexdigest()[:32]
        if await self._places.knows(attempt.name, network, now):
            return [Budget(f"place:{name}:{network}", *PLACE)]
        if attempt.name not in self._passwords.users:
            name = f"nobody:{int(name, 16) % STRANGERS}"
        return [Budget(f"network:{network}", *NETWORK, stand_in="networks"), Budget(f"name:{name}", *NAME)]

    async def _tell(self, attempt: LogInAttempt, reason: str, *more: Budget) -> None:
        """Record a failure, or only count it where there are too many.

        A name that nobody has is not repeated: people type passwords into the wrong field.
        """
        if await self._budgets.take([Budget("told", *TOLD), *more]):
            await self._untold.add()
            return
        left_out = await self._untold.collect()
        if left_out:
            reason += f"; {left_out:,} failed attempts before this one were only counted"
        name = attempt.name if attempt.name in self._passwords.users else ""
        await self._record(log_in_event(Outcome.REJECTED, name, attempt.reached, reason))


def log_in_event(outcome: Outcome, name: str, reached: Reached, reason: str = "") -> Event:
    """An event of the log-in."""
    return Event(
        id=new_event_id(),
        action=Action.LOG_IN,
        outcome=outcome,
        time=time.time_ns() // 1_000_000,
        reason=reason,
        actor=name,
        actor_source=ActorSource.CONSOLE if name else ActorSource.ANONYMOUS,
        actor_confirmed=outcome is not Outcome.REJECTED,
        client_address=reached.address,
        user_agent=reached.user_agent,
        request_id=secrets.token_hex(8),
    )


def wrong_password() -> RequestProblem:
    """The same for a wrong name, so that nobody learns names here."""
    message = "This name and this password do not belong together."
    return RequestProblem(401, "wrong_password", "Not logged in", message, headers=(challenge("Session"),))


def challenge(scheme: str) -> tuple[str, str]:
    """The header that belongs to every 401.

    A browser that is told ``Basic`` opens a window of its own for a password, so it is told a scheme that it does not
    know.
    """
    return ("WWW-Authenticate", f'{scheme} realm="immuproxy"')


def too_many(wait_ms: int) -> RequestProblem:
    """Come again later."""
    seconds = math.ceil(wait_ms / 1_000)
    message = f"There were too many attempts to log in. Try again in {seconds} seconds."
    return RequestProblem(
        429, "too_many_attempts", "Too many attempts", message, headers=(("Retry-After", str(seconds)),)
    )


def too_busy() -> RequestProblem:
    """Come again soon."""
    message = "Too many people are logging in at this moment. Try again in a few seconds."
    return RequestProblem(503, "too_busy", "Too many log-ins at once", message, headers=(("Retry-After", "5"),))
