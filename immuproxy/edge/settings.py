"""The sections ``upstream`` and ``edge`` of the configuration file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, SecretStr, model_validator

from immuproxy.values.listen import Listen
from immuproxy.values.sections import (
    FilePath,
    ListenAddress,
    Networks,
    Origin,
    Seconds,
    SecondsOrNone,
    Settings,
    TlsSettings,
    UpstreamUrl,
)

MOST_WORKERS = 256


class Timeouts(Settings):
    """Seconds.  ``manifest`` bounds one manifest request as a whole; it is shorter than the lease of a claim.  ``idle``
    bounds the silence of a blob stream.
    """

    connect: Seconds = 10.0
    manifest: Seconds = 30.0
    idle: Seconds = 300.0


class UpstreamSettings(Settings):
    """The registry behind the proxy.

    ``username`` with ``password`` or ``password_file`` are the proxy's own credentials, for what no client asked for.
    ``authorize``: ``always`` asks the upstream about each push, ``auto`` only where it was seen to ask for credentials.
    ``trust``: for how long a read that it accepted says who may pull, so that manifests come from memory; 0 asks each
    time.  ``exclusive``: nobody but the proxies of this ledger writes to the registry.
    """

    url: UpstreamUrl
    username: str | None = None
    password: SecretStr | None = None
    password_file: FilePath | None = None
    ca_file: FilePath | None = None
    timeouts: Timeouts = Timeouts()
    authorize: Literal["auto", "always"] = "auto"
    trust: SecondsOrNone = 60.0
    exclusive: bool = False

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("give password or password_file, not both")
        has_password = self.password is not None or self.password_file is not None
        if has_password != (self.username is not None):
            raise ValueError("username and password (or password_file) belong together")
        if self.ca_file is not None and not self.url.startswith("https:"):
            scheme = self.url.partition(":")[0]
            raise ValueError(f"ca_file is of no use with {scheme}; write https:// in url")
        return self


def _workers(value: Any) -> int:
    if value == "auto":
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_WORKERS:
        return value
    raise ValueError(f"workers is a number of processes from 1 to {MOST_WORKERS}, or auto; auto is one for each core")


Workers = Annotated[int, BeforeValidator(_workers)]
"""A number of processes, or ``auto``."""


class EdgeSettings(Settings):
    """The listener that clients push to.

    ``workers``: how many processes serve it; 0 means as many as there are cores.
    ``trusted_proxies``: networks whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.  ``external_url``:
    the address that clients use, where it is not the one of their ``Host`` header.
    """

    listen: ListenAddress = Listen("0.0.0.0", 5000)  # noqa: S104  # clients are on other machines
    tls: TlsSettings | None = None
    trusted_proxies: Networks = ()
    external_url: Origin | None = None
    workers: Workers = 1
