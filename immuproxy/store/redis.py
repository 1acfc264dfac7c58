"""The connection to Redis, the Lua scripts, and the seam where Redis errors become `LedgerUnavailableError`.

Nothing is retried silently: a repeated EVAL is the protocol's decision, not the library's (H65).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import (
    AuthenticationError,
    MaxConnectionsError,
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from immuproxy import __version__
from immuproxy.store import rights, steady
from immuproxy.store.cluster import in_cluster, key_for_each_node
from immuproxy.store.keys import tried
from immuproxy.store.masters import watching
from immuproxy.store.scripts import SCRIPTS
from immuproxy.store.sentinel import following
from immuproxy.store.shared import Shared
from immuproxy.store.steady import Sample
from immuproxy.store.tls import share_context
from immuproxy.store.turns import AT_ONCE, OverloadedError, SilenceError, Turns
from immuproxy.store.urls import ClusterAddress, SentinelAddress, SingleAddress, parse_url

log = structlog.get_logger("immuproxy.ledger")

Argument = str | bytes | int
Client = Redis | RedisCluster


class LedgerUnavailableError(Exception):
    """Redis did not do what was asked; whether it took effect is unknown."""


class ProxyOverloadedError(LedgerUnavailableError):
    """The proxy itself is short of something: of turns, files, ports, time to hear the reply, or room at Redis (H82).

    It says nothing of Redis, so nothing may be done that only the absence of the ledger allows.
    """


class UnconfirmedError(LedgerUnavailableError):
    """What was asked was done, and is not known to outlive this Redis in time (`Durability`)."""


class LedgerRefusedError(LedgerUnavailableError):
    """Redis answers, and must not or may not be written (H69, H98); the reason names no address, so clients read it."""


class PasswordRefusedError(LedgerUnavailableError):
    """Redis asks for a user or password, and has not been given the right one."""


_NO_ROOM = "max number of clients reached"
_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


@contextmanager
def _translated() -> Iterator[None]:
    """Turn every error of Redis, of the way to it, and of its client into `LedgerUnavailableError`."""
    try:
        yield
    except LedgerUnavailableError:
        raise
    except AuthenticationError as error:
        raise PasswordRefusedError("it wants another user or password than redis.url gives") from error
    except NoPermissionError as error:
        raise LedgerRefusedError(rights.lacking(str(error))) from error
    except (OverloadedError, MaxConnectionsError) as error:
        raise ProxyOverloadedError(str(error) or type(error).__name__) from error
    except (RedisError, RedisClusterException, OSError, TimeoutError, SilenceError) as error:
        kind = ProxyOverloadedError if _is_shortage(error) else LedgerUnavailableError
        raise kind(str(error) or type(error).__name__) from error
    except Exception as error:
        # Of a connection that is dropped under it, redis-py reads attributes that are gone (H97).
        log.warning("the Redis client failed in itself", error=repr(error))
        raise LedgerUnavailableError(f"its client failed: {type(error).__name__}") from error


def _is_shortage(error: BaseException | None) -> bool:
    """Whether the system gave no socket, or Redis takes no more clients; redis-py hides the former behind its own."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in _SHORTAGE) or _NO_ROOM in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


@dataclass(frozen=True, slots=True)
class Durability:
    """What a step that decides something waits for (H67, H68).

    ``replicas``: copies on that many replicas (WAIT).  ``aof``: the append-only file of the master, and of those
    replicas, on disk (WAITAOF, Redis 7.2 or Valkey).  ``timeout``: seconds.
    """

    replicas: int = 0
    aof: bool = False
    timeout: float = 1.0

    @property
    def command(self) -> tuple[str | int, ...]:
        """The command that waits; empty where nothing is waited for."""
        milliseconds = max(1, round(self.timeout * 1000))
        if self.aof:
            return ("WAITAOF", 1, self.replicas, milliseconds)
        return ("WAIT", self.replicas, milliseconds) if self.replicas else ()

    def fault(self, reply: int | Sequence[int]) -> str:
        """What is missing in the reply of that command; empty when nothing is."""
        files, copies = reply if isinstance(reply, Sequence) else (1, reply)
        if self.aof and files < 1:
            return "the append-only file was not written to disk in time"
        if copies < self.replicas:
            return f"{copies} of {self.replicas} replicas confirmed in time"
        return ""


@dataclass(frozen=True, slots=True)
class Call:
    """A step that is still to be taken: a script by its name.  ``durable``: it waits for what `Durability` asks."""

    name: str
    keys: Sequence[str]
    args: Sequence[Argument]
    durable: bool = False

    def command(self, *, whole: bool) -> Sequence[Argument]:
        """As it is sent: by its digest, or the ``whole`` text where Redis does not know that."""
        script = SCRIPTS[self.name]
        by = ("EVAL", script.text) if whole else ("EVALSHA", script.sha)
        return (*by, len(self.keys), *self.keys, *self.args)


class Store:
    """One Redis, however it is reached.  Replies are bytes (``decode_responses`` is off)."""

    def __init__(
        self,
        client: Client,
        durability: Durability | None = None,
        turns: Turns | None = None,
        *,
        confirming: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Wrap a connected client; use `connect` to make one.  ``confirming`` fails where it may not be the master's.

        Nothing is awaited of ``client`` but through the methods here, which give each command its turn.
        """
        self.client = client
        self._confirming = confirming
        self._turns = turns or Turns()
        self._durable_turns = self._turns.beside()
        self.refusal = ""
        """The gate: why nothing may be written for now; empty where it may (`immuproxy.ledger.safety` sets it)."""
        self._durability = durability or Durability()
        self._tried = False
        self._trying = Shared(self._try_in_turn)

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:
        """Run a room's ``scripts/<name>.lua`` as one atomic step.

        Raises `LedgerUnavailableError`; the script may or may not have run then, so every script can be repeated.
        """
        await self._check_gate(name)
        script = SCRIPTS[name]
        async with self._asking(self._turns):
            try:
                return await _awaited(self.client.evalsha(script.sha, len(keys), *keys, *args))
            except NoScriptError:
                return await _awaited(self.client.eval(script.text, len(keys), *keys, *args))

    async def durable_script(self, name: str, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:
        """As `script`, and wait for what `Durability` asks.

        Raises `UnconfirmedError`, which is a `LedgerUnavailableError` too, when that did not come in time.
        """
        if not self._durability.command:
            return await self.script(name, keys, args)
        await self._check_gate(name)
        return await self._waited_for(keys[0], ("EVAL", SCRIPTS[name].text, len(keys), *keys, *args))

    async def _waited_for(self, key: str, call: Sequence[Argument]) -> Any:
        async with self._asking(self._durable_turns):
            reply, confirmed = await self._together(key, call)
        self._check_confirmed(confirmed)
        return reply

    def _check_confirmed(self, confirmed: int | Sequence[int]) -> None:
        fault = self._durability.fault(confirmed)
        if fault:
            raise UnconfirmedError(f"the ledger is written, but {fault}")

    async def in_one_trip(self, first: Call, then: Call) -> tuple[Any, Any]:
        """Two steps, the second right behind the first and only that one durable; their replies.

        On a cluster they may lie on different nodes, and are taken one after the other.  Raises as `durable_script`;
        either step may or may not have been taken then.
        """
        if isinstance(self.client, RedisCluster):
            run = self.durable_script if then.durable else self.script
            return await self.script(first.name, first.keys, first.args), await run(then.name, then.keys, then.args)
        await self._check_gate(then.name)
        wait = self._durability.command if then.durable else ()
        async with self._asking(self._durable_turns if wait else self._turns):
            replies = await self._piped((first, then), wait)
        if wait:
            self._check_confirmed(replies[-1])
        return replies[0], replies[1]

    async def _piped(self, calls: Sequence[Call], wait: Sequence[Argument]) -> Sequence[Any]:
        replies = await self._sent([call.command(whole=False) for call in calls], wait)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            replies = await self._sent([call.command(whole=True) for call in calls], wait)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _sent(self, commands: Sequence[Sequence[Argument]], wait: Sequence[Argument]) -> Sequence[Any]:
        async with self.client.pipeline(transaction=False) as pipeline:
            for command in (*commands, wait) if wait else commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)

    async def _together(self, key: str, call: Sequence[Argument]) -> list[Any]:
        """The replies of a command and of the one that waits for it.

        WAIT speaks of the writes of its own connection, so both travel on one.
        """
        wait = self._durability.command
        if isinstance(self.client, RedisCluster):
            return await in_cluster(self.client, key, (call, wait))
        async with self.client.pipeline(transaction=False) as pipeline:
            pipeline.execute_command(*call)
            pipeline.execute_command(*wait)
            return list(await pipeline.execute())

    async def _check_gate(self, name: str) -> None:
        """Raises `LedgerRefusedError`; after each failure of the client, rights are tried again before a step.

        The audit's scripts decide nothing, and its searches go on where nothing may be written.
        All who come meanwhile wait for one attempt, and not each for one of their own.
        """
        if self.refusal:
            raise LedgerRefusedError(self.refusal)
        if self._tried or not SCRIPTS[name].decides:
            return
        await self._trying.ask()

    async def _try_in_turn(self) -> None:
        async with self._asking(self._turns):
            await self._try()

    async def try_rights(self) -> str:
        """Try all that steps do, on keys of the proxy's own; what cannot be waited for now, or nothing.

        Raises `LedgerRefusedError` that says which right is missing, and `LedgerUnavailableError`.  Waits for no turn.
        """
        try:
            with _translated():
                return await self._try()
        except LedgerUnavailableError:
            self._tried = False
            raise

    async def _try(self) -> str:
        fault = ""
        for key in await self._own_keys():
            missing, confirmed = await self._tried_on(key)
            if missing:
                raise LedgerRefusedError(rights.missing([name.decode() for name in missing]))
            fault = fault or self._durability.fault(confirmed)
        self._tried = True
        return fault

    async def close(self) -> None:
        """Close all connections; one that hangs keeps nobody from leaving."""
        for task in self._trying.tasks:
            task.cancel()
        with suppress(RedisError):
            await self.client.aclose()

    async def _own_keys(self) -> Sequence[str]:
        if isinstance(self.client, RedisCluster):
            return await key_for_each_node(self.client, tried)
        return (tried(),)

    async def _tried_on(self, key: str) -> list[Any]:
        wait = self._durability.command
        if not wait:
            return [await _awaited(self.client.eval(SCRIPTS["rights"].text, 1, key)), (1, 0)]
        try:
            return await self._together(key, ("EVAL", SCRIPTS["rights"].text, 1, key))
        except ResponseError as error:
            if str(wait[0]) in str(error).upper():  # of a command that it does not know, Redis repeats the name
                raise LedgerRefusedError(rights.missing([str(wait[0])])) from error
            raise

    @asynccontextmanager
    async def _asking(self, turns: Turns) -> AsyncIterator[None]:
        """The body asks Redis once, when its turn comes."""
        try:
            with _translated():
                async with turns.turn():
                    yield
        except ProxyOverloadedError:
            raise
        except LedgerUnavailableError:
            self._tried = False
            raise

    async def confirm(self) -> None:
        """Find out anew that what was read came from the master; raises `LedgerUnavailableError` (H99)."""
        if self._confirming is not None:
            with _translated():
                await self._confirming()

    async def do(self, command: Awaitable[Any] | Any) -> Any:
        """Await one plain command or pipeline of `client`, when its turn comes, with errors translated."""
        try:
            async with self._asking(self._turns):
                return await _awaited(command)
        finally:
            if asyncio.iscoroutine(command):
                command.close()  # of one whose turn never came nothing has run

    async def now_ms(self) -> int:
        """The clock of Redis, by which all records are dated (H73)."""
        return _milliseconds(await self.do(self.client.time()))

    async def time_at(self, key: str) -> int:
        """The same clock where a key is: on a cluster each master has its own."""
        return _milliseconds(await self.do(self._time_of(self._master_of(key))))

    def node(self, key: str) -> str:
        """Whose clock dates what happens at a key: a name for the master of a cluster, else nothing."""
        master = self._master_of(key)
        return str(master.name) if master else ""

    async def scan(self, pattern: str, *, at: str, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """One step through all keys of the server that has the key ``at``: the next cursor, 0 at the end, and names."""
        if not isinstance(self.client, RedisCluster):
            found: Any = await self.do(self.client.scan(cursor, match=pattern, count=count))
            return int(found[0]), found[1]
        with _translated():
            await self.client.initialize()
        node = self._master_of(at)
        cursors, names_ = await self.do(self.client.scan(cursor, match=pattern, count=count, target_nodes=node))
        return next(iter(cursors.values())), names_

    async def times(self) -> dict[str, Sample]:
        """What the clocks say that there are, by `node`; one that does not answer is left out.

        Waits for no turn, so that the time on the way tells how much the answer is worth.
        """
        if isinstance(self.client, RedisCluster):
            with _translated():
                await self.client.initialize()
            masters = self.client.get_primaries()
            found = await asyncio.gather(*map(self._sample, masters), return_exceptions=True)
            return {
                str(master.name): sample
                for master, sample in zip(masters, found, strict=True)
                if isinstance(sample, Sample)
            }
        return {"": await self._sample(None)}

    async def _sample(self, master: Any) -> Sample:
        asked = steady.now()
        with _translated():
            told = await _awaited(self._time_of(master))
        return Sample(_milliseconds(told), asked, steady.now())

    def _time_of(self, master: Any) -> Awaitable[Any]:
        if isinstance(self.client, RedisCluster):
            return cast("Awaitable[Any]", self.client.execute_command("TIME", target_nodes=master))
        return cast("Awaitable[Any]", self.client.time())

    def _master_of(self, key: str) -> Any:
        if not isinstance(self.client, RedisCluster):
            return None
        with _translated():
            return self.client.get_node_from_key(key)

    async def information(self) -> Mapping[str, Any]:
        """INFO of the server; of a cluster, what its nodes say, the unsafe word last.

        Waits for no turn: whether Redis answers is not to be judged by the length of the queue.
        """
        with _translated():
            found: Mapping[str, Any] = await _awaited(self.client.info())
        if not any(isinstance(value, dict) and "redis_version" in value for value in found.values()):
            return found
        nodes = sorted(
            found.values(), key=lambda node: (node["maxmemory_policy"] != "noeviction", not node["aof_enabled"])
        )
        return dict(nodes[-1])


def _milliseconds(told: Sequence[Any]) -> int:
    """Since 1970, of a reply to TIME: seconds, and microseconds beside them."""
    return int(told[0]) * 1000 + int(told[1]) // 1000


async def _awaited(command: Awaitable[Any] | Any) -> Any:
    # redis-py types the commands of its sync and async clients together.
    return await cast("Awaitable[Any]", command)


def _options(timeout: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        # Never reached by those who wait for a turn of either kind: what asks without one finds room, too.
        "max_connections": 3 * AT_ONCE,
        # Given, because the library would look its own version up on disk for each connection.
        "driver_info": DriverInfo(name="immuproxy", lib_version=__version__),
    }


async def _opened(
    stack: AsyncExitStack,
    address: SingleAddress | SentinelAddress | ClusterAddress,
    options: dict[str, Any],
    durability: Durability,
    turns: Turns | None,
) -> Store:
    client: Client
    match address:
        case SingleAddress(url=single):
            client = Redis.from_url(single, **options)
        case ClusterAddress(url=cluster):
            client = RedisCluster.from_url(cluster, **options)
        case SentinelAddress():
            client, sentinels = await stack.enter_async_context(following(address, options))
            return Store(client, durability, turns, confirming=sentinels.confirm)
    share_context(client)
    if isinstance(client, RedisCluster):
        await stack.enter_async_context(watching(client))
    return Store(client, durability, turns)


@asynccontextmanager
async def connect(
    url: str,
    *,
    timeout: float,  # noqa: ASYNC109  # a limit for each command, not for this call
    durability: Durability | None = None,
    turns: Turns | None = None,
) -> AsyncIterator[Store]:
    """Open the ledger's connection; nothing is sent until the first command, but to Sentinels.

    ``url``: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``, ``redis+cluster://`` (see
    `immuproxy.store.urls`).  ``timeout``: seconds for connecting and for each reply, once it is a command's turn.
    """
    wanted = durability or Durability()
    options = _options(timeout + (wanted.timeout if wanted.command else 0.0))
    async with AsyncExitStack() as stack:
        store = await _opened(stack, parse_url(url), options, wanted, turns)
        stack.push_async_callback(store.close)
        yield store
