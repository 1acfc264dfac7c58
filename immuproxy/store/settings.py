"""The section ``redis`` of the configuration file."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr, model_validator

from immuproxy.store.urls import parse_url
from immuproxy.values.sections import Count, FilePath, Flag, Seconds, Settings


def _checked(url: SecretStr) -> SecretStr:
    """The URL itself is never repeated in a message: it may hold a password."""
    try:
        parse_url(url.get_secret_value())
    except ValueError as error:
        ours = str(error).startswith("redis.url")
        raise ValueError(error if ours else "redis.url is no address; write redis://HOST:6379/0") from None
    return url


class WaitSettings(Settings):
    """What a commit waits for before the client gets its 201: copies on replicas, and the master's file on disk."""

    replicas: Count = 0
    aof: Flag = False
    timeout: Seconds = 1.0


class RedisSettings(Settings):
    """Where the ledger is: a server at ``url``, or a private one whose files are in the folder ``embedded``.

    ``timeout``: seconds for connecting and for each reply.  ``reads_when_down``: what becomes of reads of tags that
    this process knows nothing of.  ``allow_unsafe_settings``: start on a server that may forget (eviction, no
    append-only file).
    """

    url: Annotated[SecretStr, AfterValidator(_checked)] | None = None
    embedded: FilePath | None = None
    timeout: Seconds = 1.0
    wait: WaitSettings = WaitSettings()
    reads_when_down: Literal["pass-through", "refuse"] = "pass-through"
    allow_unsafe_settings: Flag = False

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.embedded is None):
            raise ValueError("give exactly one of url and embedded; write redis: {url: redis://HOST:6379/0}")
        return self

    @property
    def shown(self) -> str:
        """Where the ledger is, for logs: without password."""
        if self.url is None:
            return f"embedded in {self.embedded}"
        parts = urlsplit(self.url.get_secret_value())
        credentials, _, hosts = parts.netloc.rpartition("@")
        user = credentials.partition(":")[0]
        return f"{parts.scheme}://{user}{'@' if user else ''}{hosts}{parts.path}"
