"""The section ``console`` of the configuration file."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from immuproxy.settings import FilePath, ListenAddress, Networks, Settings
from immuproxy.values import Listen


class ConsoleAuth(Settings):
    """Who may look, and who may change something.

    Either ``users_file`` (names and bcrypt hashes), or ``identity_header``: the header in which one of the
    ``trusted_proxies`` names the user.  ``administrators`` may change things; without any, nobody may.
    """

    users_file: FilePath | None = None
    identity_header: str | None = None
    trusted_proxies: Networks = ()
    administrators: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.users_file is None) == (self.identity_header is None):
            raise ValueError("give exactly one of users_file and identity_header")
        if self.identity_header is not None and not self.trusted_proxies:
            raise ValueError("identity_header needs trusted_proxies; without them anybody could name himself")
        if self.users_file is not None and self.trusted_proxies:
            raise ValueError("trusted_proxies belong to identity_header, not to users_file")
        return self


class ConsoleSettings(Settings):
    """The listener with the web page and the JSON API; open to all who reach it unless ``auth`` is given."""

    listen: ListenAddress = Listen("127.0.0.1", 8080)
    auth: ConsoleAuth | None = None
