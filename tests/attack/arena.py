"""An installation to be attacked, and an oracle that does not trust the proxy.

The proxy is a real `immuproxy serve` over a real registry and Redis.  After each attack `Arena.unharmed` looks at the
registry's own storage, at what readers get, and at what the proxy has logged since; `Arena.aftermath` looks, when a
file has done its worst, at the audit, at the keys in Redis, and whether people can still work.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import redis as redis_client

from immuproxy.audit.record.keys import EVENTS
from immuproxy.oci.manifests import ACCEPT_ALL
from tests.support.conversation import Client, Image, image, index
from tests.support.proxies import ProxyServer, running_proxy
from tests.support.servers import RedisServer, RegistryServer, running_redis, running_registry
from tests.support.wire import WireAnswer, ask, request

REPOSITORY = "prod/app"
RULES = """
default: immutable
rules:
  - {name: moving-tags, tags: [latest, "dev-*"], policy: mutable}
  - {name: growing, tags: ["grow-*"], policy: append-only}
  - {name: removable, tags: ["gone-*"], policy: immutable, delete: allow}
"""

SHORT: dict[str, dict[str, Any]] = {"upstream": {"timeouts": {"connect": "1s", "manifest": "1s", "idle": "2s"}}}
"""Limits under which a fault is noticed soon."""

SECRET = "tr0ub4dor-in-no-log"
"""Stands in every credential that an attack sends; nobody may ever read it."""

COMPLAINTS = ("Traceback", "was never retrieved", "was never awaited", "Error handling request", "Unclosed")
"""What a log never holds where every error was foreseen."""


OF_THE_BACKGROUND = (":compared", ":compared-to", ":comparisons", ":replicas", ":outbox")
"""What comes and goes by work that goes on by itself: the sweep, and the way of events into the audit."""


def held() -> dict[str, Image]:
    """What the protected tags hold: tag -> image."""
    first, second = image("the first"), image("the second")
    return {"v1": image("the protected one"), "multi": index(first, second)}


EVIL = image("another one")
"""Everything that it needs is in the repository, so whoever gets its manifest through moves the tag."""


def with_secret(user: str = "mallory") -> str:
    """A Basic credential."""
    return "Basic " + base64.b64encode(f"{user}:{SECRET}".encode()).decode()


def _is_told(text: str) -> bool:
    spellings = (SECRET, base64.b64encode(SECRET.encode()).decode()[4:-4], SECRET.encode().hex())
    return any(spelling in text for spelling in spellings)


@dataclass
class Storage:
    """The registry's files, read as its own."""

    root: Path

    @property
    def _repositories(self) -> Path:
        return self.root / "docker/registry/v2/repositories"

    def tag(self, repository: str, tag: str) -> str:
        """The digest that a tag is linked to, or nothing."""
        link = self._repositories / repository / "_manifests/tags" / tag / "current/link"
        return link.read_text() if link.exists() else ""

    def tags(self, repository: str) -> set[str]:
        folder = self._repositories / repository / "_manifests/tags"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    def repositories(self) -> set[str]:
        return {str(path.parent.relative_to(self._repositories)) for path in self._repositories.glob("**/_manifests")}

    def is_linked(self, repository: str, digest: str, kind: str = "_layers") -> bool:
        """Whether a blob (or a manifest: ``_manifests/revisions``) belongs to a repository, and its bytes are there."""
        algorithm, _, hexadecimal = digest.partition(":")
        link = self._repositories / repository / kind / algorithm / hexadecimal / "link"
        return link.exists() and self._is_whole(link.read_text())

    def _is_whole(self, digest: str) -> bool:
        algorithm, _, hexadecimal = digest.partition(":")
        data = self.root / "docker/registry/v2/blobs" / algorithm / hexadecimal[:2] / hexadecimal / "data"
        return data.exists() and hashlib.new(algorithm, data.read_bytes()).hexdigest() == hexadecimal

    def holds(self, repository: str, pushed: Image) -> bool:
        """Whether a manifest and all that it needs can be pulled."""
        blobs = all(self.is_linked(repository, _digest(blob)) for blob in pushed.blobs)
        manifest = self.is_linked(repository, pushed.digest, "_manifests/revisions")
        return blobs and manifest and all(self.holds(repository, child) for child in pushed.children)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Arena:
    """The three servers.  ``credentials`` are those of somebody who may push."""

    registry: RegistryServer
    redis: RedisServer
    proxy: ProxyServer
    credentials: Mapping[str, str] = field(default_factory=dict)
    console_credentials: Mapping[str, str] = field(default_factory=dict)
    read_log: int = 0
    held: dict[str, Image] = field(default_factory=held)

    @property
    def storage(self) -> Storage:
        return Storage(self.registry.storage)

    async def edge(self, raw: bytes, *, seconds: float = 15.0) -> WireAnswer:
        """One answer of the edge to raw bytes."""
        return await ask(self.proxy.edge_port, raw, seconds=seconds)

    async def console(self, raw: bytes, *, seconds: float = 15.0) -> WireAnswer:
        """One answer of the console to raw bytes."""
        return await ask(self.proxy.console_port, raw, seconds=seconds)

    @contextlib.asynccontextmanager
    async def client(self, *, anonymous: bool = False) -> AsyncIterator[Client]:
        """Somebody who pushes and pulls through the proxy as people do."""
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield Client(self.proxy.url, session, {} if anonymous else dict(self.credentials))

    async def api(self, path: str) -> Any:
        """JSON of the console, which shows all events that were recorded by now."""
        if path.startswith("events"):
            await self._shown()
        return await self._asked(path)

    async def _shown(self) -> None:
        """Wait until all is in the record, and the newest of it in the index; not where either does not come."""
        with contextlib.suppress(TimeoutError, redis_client.RedisError):
            async with asyncio.timeout(10):
                while self._is_waiting() or await self._shown_newest() != self._newest():
                    await asyncio.sleep(0.05)

    def _is_waiting(self) -> bool:
        return any(key.endswith(":outbox") for key in self._all_keys())

    async def _shown_newest(self) -> list[str]:
        return [event["id"] for event in (await self._asked("events?limit=1"))["events"]]

    def _newest(self) -> list[str]:
        """The id of the newest event that is recorded, which stands before all else in its entry."""
        with redis_client.Redis.from_url(self.redis.url) as client:
            found: Any = client.xrevrange(EVENTS, count=1)
        return [next(iter(fields.values())).split(b"\x1f")[0].decode() for _, fields in found]

    async def _asked(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session:
            client = Client(self.proxy.console_url, session, dict(self.console_credentials))
            answer = await client.ask("GET", f"/api/v1/{path}")
        assert answer.status == 200, (path, answer.status, answer.body[:300])
        return answer.json

    def keys(self) -> set[str]:
        """All keys in Redis but the audit's and those of `OF_THE_BACKGROUND`."""
        return {key for key in self._all_keys() if not key.endswith(OF_THE_BACKGROUND) and "{audit}" not in key}

    def _all_keys(self) -> set[str]:
        with redis_client.Redis.from_url(self.redis.url) as client:
            found: Any = client.keys("*")
            return {key.decode() for key in found}

    def fresh_log(self) -> str:
        """What the proxy has logged since the last look."""
        with self.proxy.log_path.open("rb") as log:
            log.seek(self.read_log)
            text = log.read()
        self.read_log += len(text)
        return text.decode(errors="replace")

    async def prepare(self) -> None:
        """Push what is to be protected, and what is to take its place."""
        async with self.client() as client:
            for tag, pushed in self.held.items():
                assert (await client.push(REPOSITORY, tag, pushed)).status == 201
            assert (await client.push(REPOSITORY, "latest", EVIL)).status == 201

    # --- the oracle

    async def unharmed(self) -> None:
        """No protected tag has moved or lost a part, readers get it, and the log tells no secret and no surprise."""
        self.storage_is_whole()
        await self.reads_are_right()
        self.log_is_clean()

    def storage_is_whole(self) -> None:
        for tag, pushed in self.held.items():
            assert self.storage.tag(REPOSITORY, tag) == pushed.digest, f"{tag} was moved in the registry"
            assert self.storage.holds(REPOSITORY, pushed), f"a part of {tag} is gone"

    async def reads_are_right(self) -> None:
        sent = [("Accept", ACCEPT_ALL), *self.credentials.items()]
        for tag, pushed in self.held.items():
            answer = await self.edge(request("GET", f"/v2/{REPOSITORY}/manifests/{tag}", sent))
            assert (answer.status, answer.body) == (200, pushed.body), answer
            assert answer.header("Docker-Content-Digest") == pushed.digest

    def log_is_clean(self) -> None:
        text = self.fresh_log()
        assert not _is_told(text), "a credential stands in the log"
        found = [word for word in COMPLAINTS if word in text]
        assert not found, text[-3000:]

    async def aftermath(self) -> None:
        """People can work, the audit tells nothing that did not happen, and Redis holds only what belongs there."""
        await self.unharmed()
        await self._people_can_work()
        await self._audit_is_true()
        assert {key.split(":")[0] for key in self._all_keys()} == {"immuproxy"}
        assert not any(_is_told(key) for key in self._all_keys())

    async def _people_can_work(self) -> None:
        pushed = image("after all that")
        async with self.client() as client:
            tag = f"after-{hashlib.sha256(str(self.read_log).encode()).hexdigest()[:8]}"
            assert (await client.push("prod/after", tag, pushed)).status == 201
            assert (await client.pull("prod/after", tag)).body == pushed.body
            health = replace(client, url=self.proxy.console_url)
            assert (await health.ask("GET", "/healthz")).status == 200
            assert (await health.ask("GET", "/readyz")).status == 200

    async def _audit_is_true(self) -> None:
        """Each protected tag was set once, by its own digest; whatever else was tried was not let through."""
        for tag, pushed in self.held.items():
            changes = []
            for outcome in ("created", "overwritten", "deleted"):
                told = await self.api(f"events?repository={REPOSITORY}&tag={tag}&outcome={outcome}")
                changes += told["events"]
            assert [event["digest"] for event in changes] == [pushed.digest], changes
            assert not _is_told(json.dumps(await self.api(f"events?limit=1000&repository={REPOSITORY}&tag={tag}")))


@contextlib.contextmanager
def arena(
    *,
    rules: str = RULES,
    registry: Mapping[str, Any] | None = None,
    redis: Mapping[str, Any] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Arena]:
    """Three fresh servers, nothing pushed yet; see `Arena.prepare`."""
    with (
        running_registry(**(registry or {})) as upstream,
        running_redis(**(redis or {})) as ledger,
        running_proxy(upstream.url, {"url": ledger.url}, rules=rules, more=more, environment=environment) as proxy,
    ):
        yield Arena(upstream, ledger, proxy)


@contextlib.contextmanager
def prepared(standing: Arena) -> Iterator[Arena]:
    """Push what is to be protected; at the end, judge what has become of it."""
    asyncio.run(standing.prepare())
    yield standing
    asyncio.run(standing.aftermath())
