"""What the upstream lists: repositories, and the tags of one.  A list is no inventory (H27): it names tags that are not
there and leaves out some that are, so whoever walks one probes each entry, and concludes nothing from a missing one.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

from multidict import CIMultiDict

from immuproxy.edge import headers
from immuproxy.edge.answers import Answer
from immuproxy.edge.caller import Caller
from immuproxy.edge.upstream import Upstream, UpstreamUnavailableError
from immuproxy.oci.routes import RouteKind, build_path

PAGE = 1000
"""Entries asked for at a time; registries may give fewer."""

_NEXT = re.compile(r'<(?:[^<>?]*)\?(?P<query>[!-~]+?)>\s*;[^,]*\brel="?next"?', re.ASCII)


class ListingRefusedError(Exception):
    """The upstream does not let this caller list, or has no such list; ``status`` is what it answered, and
    ``is_unknown`` whether the registry itself says that it knows no such repository.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the upstream answered {answer.status} to the question for its list")
        self.status = answer.status
        self.is_unknown = answer.status == 404 and "NAME_UNKNOWN" in answer.codes


async def tags(upstream: Upstream, repository: str, caller: Caller) -> list[str]:
    """All tags that the upstream lists, each once; none where the registry says that it knows no such repository (H83).

    They are as the upstream wrote them: check them before use.  Raises `ListingRefusedError` and
    `UpstreamUnavailableError`.
    """
    try:
        pages = [page async for page in _pages(upstream, RouteKind.TAGS, repository, caller)]
    except ListingRefusedError as refused:
        if refused.is_unknown:
            return []
        raise
    return list(dict.fromkeys(name for page in pages for name in page))


async def repositories(upstream: Upstream, caller: Caller) -> list[str]:
    """All repositories of the upstream's catalog, each once, as the upstream wrote them; raises as `tags`."""
    pages = [page async for page in _pages(upstream, RouteKind.CATALOG, "", caller)]
    return list(dict.fromkeys(name for page in pages for name in page))


async def _pages(upstream: Upstream, kind: RouteKind, repository: str, caller: Caller) -> AsyncIterator[list[str]]:
    """Page by page, as the ``Link`` headers lead (specification, "Listing Tags")."""
    sent = headers.without(caller.headers, headers.CONDITIONAL | {"content-length", "content-type"})
    query, asked = f"n={PAGE}", set[str]()
    while query not in asked:
        asked.add(query)
        answer = await upstream.exchange("GET", f"{build_path(kind, repository)}?{query}", sent)
        if 300 <= answer.status < 500 and answer.status not in {408, 429}:
            raise ListingRefusedError(answer)
        if answer.status != 200:
            raise UpstreamUnavailableError(f"the upstream answered {answer.status} to the question for its list")
        yield _names(answer.body, "repositories" if kind is RouteKind.CATALOG else "tags")
        query = next_query(answer.headers)
        if not query:
            return
    raise UpstreamUnavailableError("the upstream's list leads back to a page that it has given already")


def next_query(received: CIMultiDict[str]) -> str:
    """The query of the next page (RFC 8288); empty on the last one.

    Only the query is taken: where a list goes on is the proxy's own question, not the upstream's choice.
    """
    found = _NEXT.search(", ".join(received.getall("Link", [])))
    return found["query"] if found else ""


def _names(body: bytes, key: str) -> list[str]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UpstreamUnavailableError("the upstream's list is no JSON, or longer than 4 MiB a page") from error
    listed = document.get(key) if isinstance(document, dict) else None
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
