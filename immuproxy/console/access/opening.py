"""The door that a configuration asks for, opened over the ledger."""

from __future__ import annotations

from collections.abc import Callable

from immuproxy.console.access.authenticators import (
    Authenticator,
    HeaderAuthenticator,
    NoAuthenticator,
    PasswordAuthenticator,
)
from immuproxy.console.access.log_ins import LogIns, Record
from immuproxy.console.access.passwords import Passwords
from immuproxy.console.settings import ConsoleAuth
from immuproxy.store.rate_limits import Budgets, Places, Untold
from immuproxy.store.redis import Store
from immuproxy.store.sessions import Sessions


async def open_door(auth: ConsoleAuth | None, store: Store, record: Record, clock: Callable[[], int]) -> Authenticator:
    """Read what there is to read; raises `UsersFileError`.

    ``record`` puts an event into the audit; ``clock`` gives milliseconds.
    """
    if auth is None:
        return NoAuthenticator()
    if auth.users_file is None:
        return HeaderAuthenticator(auth)
    passwords = await Passwords.read(auth.users_file)
    log_ins = LogIns(
        passwords,
        budgets=Budgets(store),
        places=Places(store),
        untold=Untold(store),
        record=record,
        clock=clock,
    )
    lasts = auth.sessions
    sessions = Sessions(store, idle_ms=round(lasts.idle * 1_000), longest_ms=round(lasts.longest * 1_000))
    return PasswordAuthenticator(auth, passwords=passwords, log_ins=log_ins, sessions=sessions, clock=clock)
