"""The section ``console`` of the configuration file."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from immuproxy.values.listen import Listen
from immuproxy.values.sections import FilePath, ListenAddress, Networks, Seconds, Settings, TlsSettings

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_FROM_CLIENTS = frozenset(
    [
        *("accept", "authorization", "connection", "content-length", "content-type", "cookie", "forwarded", "host"),
        *("origin", "referer", "user-agent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"),
    ]
)
"""Headers that say something else, and that clients send themselves."""


def _header_name(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header; write one such as X-Forwarded-User")
    if name.lower() in _FROM_CLIENTS:
        raise ValueError(f"every client sends {name} itself; name a header that only the proxy in front sets")
    return name


HeaderName = Annotated[str, AfterValidator(_header_name)]


class SessionSettings(Settings):
    """How long a log-in lasts, in seconds: since it was last used, and at most."""

    idle: Seconds = 8 * 3600.0
    longest: Seconds = 7 * 86_400.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.idle > self.longest:
            raise ValueError("idle is longer than longest, so it would never count")
        return self


class ConsoleAuth(Settings):
    """Who may look, and who may change something.

    Either ``users_file`` (names and bcrypt hashes), or ``identity_header``: the header in which one of the
    ``trusted_proxies`` names the user, and ``groups_header`` their groups.  ``administrators`` and the members of
    ``administrator_groups`` may change things; without any, nobody may.  With ``users_file``, ``trusted_proxies`` are
    those whose word on the client's address and on TLS is believed.  ``metrics`` says whether ``/metrics`` is open to
    those who have not logged in.
    """

    users_file: FilePath | None = None
    identity_header: HeaderName | None = None
    groups_header: HeaderName | None = None
    trusted_proxies: Networks = ()
    administrators: tuple[str, ...] = ()
    administrator_groups: tuple[str, ...] = ()
    sessions: SessionSettings = SessionSettings()
    metrics: Literal["open", "closed"] = "open"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.users_file is None) == (self.identity_header is None):
            raise ValueError("give exactly one of users_file and identity_header")
        if self.identity_header is not None and not self.trusted_proxies:
            raise ValueError("identity_header needs trusted_proxies; without them anybody could take any name")
        if self.groups_header is not None and self.identity_header is None:
            raise ValueError("groups_header belongs to identity_header, not to users_file")
        if self.administrator_groups and self.groups_header is None:
            raise ValueError("administrator_groups needs groups_header; nothing else tells who is in a group")
        return self


class NotificationSettings(Settings):
    """The endpoint for the registry's notifications; ``token_file`` holds a secret that they must carry."""

    token_file: FilePath | None = None


class ConsoleSettings(Settings):
    """The listener with the web page and the JSON API; open to all who reach it unless ``auth`` is given."""

    listen: ListenAddress = Listen("127.0.0.1", 8080)
    tls: TlsSettings | None = None
    auth: ConsoleAuth | None = None
    notifications: NotificationSettings = NotificationSettings()
