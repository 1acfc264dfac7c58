"""What the upstream shows under a name, where only a digest or nothing counts as an answer."""

from __future__ import annotations

from immuproxy.edge.caller import Caller
from immuproxy.edge.upstream import Found, Upstream, UpstreamUnavailableError

_NOT_FOUND = 404


async def shown(upstream: Upstream, repository: str, reference: str, caller: Caller) -> str:
    """The digest under a tag or digest, empty for none; raises `UpstreamUnavailableError` where it tells neither.

    ``caller`` is who the proxy is at the upstream.
    """
    seen = await upstream.probe(repository, reference, caller)
    if isinstance(seen, Found):
        return seen.digest
    if seen.status != _NOT_FOUND:
        raise UpstreamUnavailableError(f"it answered {seen.status}: give immuproxy credentials of its own for this")
    return ""
