"""A push as a conversation: images made of a few bytes, and a client that speaks the distribution specification.

async with edge_over(registry, redis) as edge:
    image = await edge.client.image("team/app", "one")
    answer = await edge.client.push("team/app", "1.0", image)
    assert answer.status == 201
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from immuproxy.edge.server import EdgeServer
from immuproxy.edge.settings import Timeouts
from immuproxy.edge.upstream import opened
from immuproxy.ledger import keys
from immuproxy.ledger.model import Event, event_from_dict
from immuproxy.oci.manifests import ACCEPT_ALL, OCI_INDEX, OCI_MANIFEST
from immuproxy.rules.document import load_rules
from immuproxy.rules.model import RuleSet
from immuproxy.service.assembly import Choices, Parts
from immuproxy.store.redis import Durability, Store, connect
from immuproxy.store.turns import Turns
from immuproxy.telemetry.metrics import Metrics

RULES = """
default: immutable
rules:
  - name: moving-tags
    tags: [latest, main, "dev-*"]
    policy: mutable
"""


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Image:
    """A manifest and the blobs it needs."""

    body: bytes
    media_type: str
    blobs: tuple[bytes, ...] = ()
    children: tuple[Image, ...] = ()

    @property
    def digest(self) -> str:
        return sha256(self.body)


def image(seed: str, *, labels: Mapping[str, str] | None = None, layers: Sequence[bytes] = ()) -> Image:
    """A small OCI image; another seed makes another digest."""
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "seed": seed, "config": {"Labels": dict(labels or {})}}
    ).encode()
    blobs = (config, *(layers or (f"layer of {seed}".encode(),)))
    described = [{"mediaType": "application/octet-stream", "digest": sha256(blob), "size": len(blob)} for blob in blobs]
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described[0], "layers": described[1:]}
    manifest["config"] = described[0] | {"mediaType": "application/vnd.oci.image.config.v1+json"}
    return Image(json.dumps(manifest).encode(), OCI_MANIFEST, blobs)


def index(*children: Image, annotations: Mapping[str, str] | None = None) -> Image:
    """An index over images, one platform each."""
    listed = [
        {
            "mediaType": child.media_type,
            "digest": child.digest,
            "size": len(child.body),
            "platform": {"os": "linux", "architecture": f"arch{number}"},
        }
        for number, child in enumerate(children)
    ]
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    if annotations:
        document["annotations"] = dict(annotations)
    return Image(json.dumps(document).encode(), OCI_INDEX, children=tuple(children))


@dataclass
class Answer:
    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.json["errors"][0])

    @property
    def digest(self) -> str:
        return self.headers.get("Docker-Content-Digest", "")


@dataclass
class Client:
    """Speaks to an edge or straight to a registry."""

    url: str
    session: aiohttp.ClientSession
    headers: dict[str, str] = field(default_factory=dict)

    def as_user(self, user: str, password: str = "secret") -> Client:
        return replace(self, headers=self.headers | {"Authorization": aiohttp.encode_basic_auth(user, password)})

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(
            method, URL(self.url + path, encoded=True), data=body, headers=sent, allow_redirects=False
        ) as response:
            return Answer(response.status, CIMultiDict(response.headers), await response.read())

    async def upload(self, repository: str, blob: bytes) -> Answer:
        start = await self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert start.status == 202, (start.status, start.body)
        location = URL(start.headers["Location"], encoded=True)
        path = str(location.relative()) if location.is_absolute() else str(location)
        mark = "&" if "?" in path else "?"
        return await self.ask(
            "PUT", f"{path}{mark}digest={sha256(blob)}", blob, Content_Type="application/octet-stream"
        )

    async def put(self, repository: str, reference: str, pushed: Image) -> Answer:
        """The manifest alone."""
        return await self.ask(
            "PUT", f"/v2/{repository}/manifests/{reference}", pushed.body, Content_Type=pushed.media_type
        )

    async def blobs(self, repository: str, pushed: Image) -> None:
        """All that the manifest needs."""
        for child in pushed.children:
            await self.blobs(repository, child)
            answer = await self.put(repository, child.digest, child)
            assert answer.status == 201, answer.body
        for blob in pushed.blobs:
            answer = await self.upload(repository, blob)
            assert answer.status == 201, answer.body

    async def push(self, repository: str, reference: str, pushed: Image) -> Answer:
        """As a client pushes: blobs, children, then the manifest."""
        await self.blobs(repository, pushed)
        return await self.put(repository, reference, pushed)

    async def pull(self, repository: str, reference: str, accept: str = ACCEPT_ALL, method: str = "GET") -> Answer:
        return await self.ask(method, f"/v2/{repository}/manifests/{reference}", Accept=accept)


@dataclass
class RunningEdge:
    """An edge in this process, with a client of its own and one that goes round it."""

    client: Client
    direct: Client
    store: Store
    parts: Parts
    port: int
    rules: list[RuleSet]
    metrics: Metrics

    def use_rules(self, text: str) -> None:
        self.rules[0] = load_rules(text, "test.yml")

    async def events(self, repository: str) -> list[Event]:
        """What stands in the repository's outbox, oldest first."""
        entries: Any = await self.store.do(self.store.client.xrange(keys.outbox(repository)))
        return [event_from_dict(json.loads(values[b"event"])) for _, values in entries]


@contextlib.asynccontextmanager
async def edge_over(
    upstream_url: str,
    redis_url: str,
    *,
    rules: str = RULES,
    choices: Choices | None = None,
    durability: Durability | None = None,
    redis_timeout: float = 5.0,
) -> AsyncIterator[RunningEdge]:
    """One edge on a free port; several over one registry and Redis are replicas."""
    chosen = choices or Choices(manifest_timeout=5.0)
    in_force = [load_rules(rules, "test.yml")]
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics()
        turns = Turns(answered=metrics.redis_seconds.observe)
        opening = connect(redis_url, timeout=redis_timeout, durability=durability, turns=turns)
        store = await stack.enter_async_context(opening)
        timeouts = Timeouts.model_construct(manifest=chosen.manifest_timeout)
        upstream = await stack.enter_async_context(opened(upstream_url, timeouts=timeouts))
        parts = Parts(lambda: in_force[0], store, upstream, metrics, chosen)
        runner = web.ServerRunner(EdgeServer(parts.edge.handle))
        await runner.setup()
        stack.push_async_callback(parts.reads.ended)
        stack.push_async_callback(parts.manifest_puts.finished)
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = int(runner.addresses[0][1])
        session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        yield RunningEdge(
            client=Client(f"http://127.0.0.1:{port}", session),
            direct=Client(upstream_url, session),
            store=store,
            parts=parts,
            port=port,
            rules=in_force,
            metrics=metrics,
        )
