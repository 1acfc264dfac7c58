"""Real servers and real proxies for a soak, and the faults that befall them.

A relay stands between the proxies and the registry.  It delays requests, so that some arrive long after the proxy gave
up, and drops answers, so that the proxy cannot know what became of a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.invariants.topologies import TOPOLOGIES, Topology
from tests.support.between import Between, Request, between
from tests.support.conversation import Answer, sha256
from tests.support.proxies import ProxyServer, make_proxy
from tests.support.servers import RedisServer, RegistryServer, Server, make_registry

MANIFEST_SECONDS = 0.5
LEASE = 4 * MANIFEST_SECONDS + 1
QUARANTINE = 10 * MANIFEST_SECONDS
LONGEST_DELAY = 4 * MANIFEST_SECONDS
"""Of a request in the relay: far longer than its sender waits, and shorter than the quarantine."""

CONFIGURATION: dict[str, dict[str, Any]] = {
    "upstream": {"timeouts": {"manifest": f"{round(MANIFEST_SECONDS * 1000)}ms"}},
    "log": {"level": "warning"},
}

RULES = """
default: immutable
rules:
  - {name: overwritten, tags: ["o*"], policy: immutable, overwrite: [{networks: [127.0.0.0/8]}]}
  - {name: excepted, tags: ["x*"], policy: immutable, overwrite: [{users: [nobody]}]}
  - {name: mortal, tags: ["d*"], policy: immutable, delete: allow, reuse: never}
  - {name: moving, tags: ["m*"], policy: mutable}
"""

FAULTS = (
    "kill_proxy",
    "kill_proxy",
    "stop_proxy",
    "freeze_proxy",
    "freeze_proxy",
    "kill_registry",
    "flush_scripts",
)
LONGEST_FAILOVER = 40.0
"""Seconds for a new master with a replica of its own."""

LONGEST_PLANNED = 10.0
"""Seconds for one that is asked for; it may be declined."""

FAULTS_WITH_LOSS = ("kill_proxy", "stop_proxy", "kill_registry", "lose_ledger")


@dataclass(frozen=True, slots=True)
class Write:
    """A manifest's PUT or a DELETE that went on to the registry, and when.  `digest`: what it is about.

    `status` and `ended`: the registry's answer, and when it came; 0 and infinity where none came.
    """

    time: float
    method: str
    sender: str
    repository: str
    reference: str
    digest: str
    status: int = 0
    ended: float = inf

    @property
    def tag(self) -> str:
        """As a history names it; of a push by digest that digest."""
        return f"{self.repository}:{self.reference}"


@dataclass
class World:
    """What runs; `happened` counts the faults, `writes` is what the proxies sent to the registry, `stored` what it
    answered 201 to.
    """

    random: random.Random
    registry: RegistryServer
    ledger: Topology
    relay: Between
    proxies: list[ProxyServer]
    starter: ThreadPoolExecutor
    unruly: bool = False
    happened: Counter[str] = field(default_factory=Counter)
    writes: list[Write] = field(default_factory=list)
    stored: list[Write] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)

    async def act(self, request: Request) -> Answer | None:
        """What the relay makes of one request on its way to the registry."""
        self.relay.asked.clear()
        if request.is_manifest_put or request.method == "DELETE":
            request = replace(request, forward=partial(self._forward, request))
        with contextlib.suppress(aiohttp.ClientError, OSError):
            return await self._unruly(request) if self.unruly else await request.forward()
        return None

    async def _forward(self, request: Request) -> Answer:
        place = len(self.writes)
        self.writes.append(_write(request))
        answer = await request.forward()
        self.writes[place] = replace(self.writes[place], status=answer.status, ended=time.monotonic())
        if answer.status == 201:
            self.stored.append(self.writes[place])
        return answer

    async def _unruly(self, request: Request) -> Answer | None:
        chance = self.random.random()
        if chance > 0.06:
            return await request.forward()
        if chance < 0.02:
            self.happened["request dropped"] += 1
            return None
        if chance < 0.04:
            self.happened["answer dropped"] += 1
            await request.forward()
            return None
        self.happened["request delayed"] += 1
        await asyncio.sleep(self.random.uniform(0, LONGEST_DELAY))
        return await request.forward()

    async def run_in_order(self, work: Callable[[], object]) -> None:
        """Start a server from the one thread that outlives them all; waiting for it does not hold up the clients."""
        await asyncio.get_running_loop().run_in_executor(self.starter, work)

    # --- faults

    async def misbehave(self, faults: Sequence[str]) -> None:
        """All faults in random order, again and again until cancelled; each is over before the next begins."""
        while True:
            for fault in self.random.sample(faults, len(faults)):
                await asyncio.sleep(self.random.uniform(0.2, 1.5))
                await self.suffer(fault)

    async def suffer(self, fault: str) -> None:
        """One of the faults below, by its name."""
        work: Callable[[], Coroutine[Any, Any, None]] = getattr(self, fault)
        await work()

    async def lose_ledger(self) -> None:
        """FLUSHALL."""
        self._note("ledger emptied")
        for server in self.ledger.servers:
            async with Redis(port=server.port) as client:
                await client.flushall()

    async def kill_everything(self) -> None:
        """As when the machine's power is cut, but for what the kernel has written already."""
        self._note("everything killed")
        everything: list[Server] = [*self.proxies, self.registry, *self.ledger.servers]
        for server in everything:
            await self.run_in_order(server.kill)
        for server in reversed(everything):
            await self.run_in_order(server.start)

    async def kill_proxy(self) -> None:
        await self._again("proxy killed", self.random.choice(self.proxies), Server.kill)

    async def stop_proxy(self) -> None:
        await self._again("proxy stopped", self.random.choice(self.proxies), Server.stop)

    async def kill_registry(self) -> None:
        await self._again("registry killed", self.registry, Server.kill)

    async def kill_redis(self) -> None:
        await self._again("Redis killed", self.random.choice(self.ledger.servers), Server.kill)

    async def fail_over(self) -> None:
        """A replica becomes the master while all run."""
        before = await asyncio.to_thread(self.ledger.masters)
        self._note("failover asked for")
        await asyncio.to_thread(self.ledger.fail_over, self.random)

        def has_happened() -> bool:
            masters = self.ledger.masters()
            return bool(masters) and masters != before

        await self._until(has_happened, LONGEST_PLANNED)
        await self._heal()

    async def kill_master(self) -> None:
        """For so long that another takes over."""
        if master := await self._some_master():
            self._note("master killed", master.directory.name)
            await self.run_in_order(master.kill)
            await self._until(partial(self.ledger.has_replaced, master))
            await self.run_in_order(master.start)
            await self._heal()

    async def freeze_master(self) -> None:
        """For so long that another takes over; then the old one goes on where it was."""
        if master := await self._some_master():
            self._note("master frozen", master.directory.name)
            master.pause()
            try:
                await self._until(partial(self.ledger.has_replaced, master))
                await asyncio.sleep(self.random.choice([0.0, 0.5, 2.0]))
            finally:
                master.resume()
            self.faults.append((time.monotonic(), f"{master.directory.name} goes on"))
            await self._heal()

    async def _some_master(self) -> RedisServer | None:
        masters = await asyncio.to_thread(self.ledger.masters)
        return self.random.choice(masters) if masters else None

    async def _until(self, condition: Callable[[], bool], seconds: float = LONGEST_FAILOVER) -> None:
        """Or until it has taken too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not await asyncio.to_thread(condition):
                    await asyncio.sleep(0.1)
                return
        self._note("failover that took too long")

    async def _heal(self) -> None:
        await self._until(self.ledger.is_whole)
        self.faults.append((time.monotonic(), f"over: {await asyncio.to_thread(self.ledger.order)}"))

    async def freeze_proxy(self) -> None:
        """Sometimes for longer than a lease and the quarantine after it."""
        proxy = self.random.choice(self.proxies)
        seconds = self.random.choices([0.3, LEASE + 0.5, QUARANTINE + 1], [6, 2, 1])[0]
        self._note("proxy frozen", f"{self.proxies.index(proxy)} for {seconds} s")
        proxy.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            proxy.resume()

    async def flush_scripts(self) -> None:
        self._note("scripts flushed")
        for server in await asyncio.to_thread(self.ledger.masters):
            async with Redis(port=server.port, socket_timeout=1.0) as client:
                flush: Any = client.script_flush
                with contextlib.suppress(RedisError):
                    await flush()

    async def _again(self, what: str, server: Server, end: Callable[[Server], None]) -> None:
        pause = self.random.choice([0.0, 0.3, 1.0])
        self._note(what, f"{server.directory.name} for {pause} s")

        def work() -> None:
            end(server)

        await self.run_in_order(work)
        await asyncio.sleep(pause)
        await self.run_in_order(server.start)
        self.faults.append((time.monotonic(), f"{server.directory.name} is back"))

    def _note(self, fault: str, more: str = "") -> None:
        self.happened[fault] += 1
        self.faults.append((time.monotonic(), f"{fault}: {more}" if more else fault))

    def complaints(self) -> Iterator[str]:
        """What the proxies logged that nobody expects, whatever happens around them: exceptions."""
        for number, proxy in enumerate(self.proxies):
            for line in proxy.log.splitlines():
                if "Traceback" in line or '"exception":' in line:
                    yield f"logged by proxy {number}: {line[:2000]}"

    async def calm(self) -> None:
        """All faults are over, and everything runs."""
        self.unruly = False
        servers: list[Server] = [self.registry, *self.ledger.servers, *self.proxies]
        for server in servers:
            if not server.is_running:
                await self.run_in_order(server.start)
        await self._until(self.ledger.is_whole)


def _write(request: Request) -> Write:
    repository, _, reference = request.target.removeprefix("/v2/").partition("?")[0].rpartition("/")
    digest = sha256(request.body) if request.method == "PUT" else reference
    sender = request.headers.get("User-Agent", "")
    return Write(time.monotonic(), request.method, sender, repository.rpartition("/")[0], reference, digest)


class QuietRegistry(RegistryServer):
    """Logs nothing, which over an hour would be much; it is ready when it takes connections."""

    @property
    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


def _quiet_registry(directory: Path, users: Mapping[str, str]) -> QuietRegistry:
    quiet = {"log": {"level": "error", "accesslog": {"disabled": True}}}
    made = make_registry(directory, htpasswd=users, more=quiet)
    return QuietRegistry(**{field.name: getattr(made, field.name) for field in fields(made) if field.init})


@contextlib.asynccontextmanager
async def running_world(
    seed: int,
    *,
    topology: str = "single",
    proxies: int = 2,
    appendfsync: str = "always",
    rules: str = RULES,
    configuration: Mapping[str, Mapping[str, Any]] = CONFIGURATION,
    exclusive: bool = False,
    users: Mapping[str, str] | None = None,
) -> AsyncIterator[World]:
    """Everything, started; without faults so far.  ``topology``: see `TOPOLOGIES`; ``users``: with their passwords,
    where the registry asks for them.
    """
    with contextlib.ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ip-")))
        starter = stack.enter_context(ThreadPoolExecutor(1))

        def folder(name: str) -> Path:
            (where / name).mkdir()
            return where / name

        registry = _quiet_registry(folder("registry"), users or {})
        ledger: Topology = TOPOLOGIES[topology](where, {"appendfsync": appendfsync})
        redis = {"url": ledger.url, "wait": ledger.wait, "reads_when_down": "refuse"}
        async with between(registry.url) as relay:
            made = [
                # Ready without the ledger: it may be without a master just now.
                make_proxy(
                    folder(f"proxy{number}"),
                    relay.url,
                    redis,
                    rules=rules,
                    more=_differing(configuration, number, exclusive=exclusive),
                    ready_path="/readyz",
                )
                for number in range(proxies)
            ]
            world = World(random.Random(seed), registry, ledger, relay, made, starter)
            relay.act = world.act
            servers: list[Server] = [registry, *ledger.servers, *ledger.watchers]
            try:
                for server in servers:
                    await world.run_in_order(server.start)
                await world.run_in_order(ledger.form)
                for proxy in made:
                    await world.run_in_order(proxy.start)
                yield world
            finally:
                for server in (*made, *servers):
                    await world.run_in_order(server.kill)


def _differing(
    configuration: Mapping[str, Mapping[str, Any]], number: int, *, exclusive: bool
) -> Mapping[str, Mapping[str, Any]]:
    """The second of the proxies reads nothing from memory."""
    upstream = {
        "trust": "0s" if number == 1 else "60s",
        "exclusive": exclusive,
        **configuration.get("upstream", {}),
    }
    return {**configuration, "upstream": upstream}
