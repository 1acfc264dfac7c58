"""``immuproxy history``: the life of a tag or repository."""

from __future__ import annotations

from pathlib import Path

import click

from immuproxy.audit.search import Search
from immuproxy.commands import events
from immuproxy.commands.command_line import SETTINGS, config_option, examples, json_option
from immuproxy.commands.options import split_reference
from immuproxy.commands.running import GOOD, WRONG, carry_out, visit
from immuproxy.commands.screen import counted, json_line, say, table
from immuproxy.ledger.model import Event
from immuproxy.service.config import Config

LIMIT = 50


@click.command(context_settings=SETTINGS, epilog=examples("immuproxy history team/app:1.4"))
@click.argument("reference", metavar="REPO[:TAG]")
@config_option
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=LIMIT, show_default=True, help="Events to show, at most."
)
@json_option("Print the events as JSON Lines.")
def history(reference: str, *, path: Path, limit: int, as_json: bool) -> None:
    """Show the life of a tag, or of a whole repository, newest first.

    Ends with status 1 where nothing is recorded of it.
    """
    repository, tag = split_reference(reference, tag_needed=False)
    search = Search().with_term("repo", repository)
    search = search.with_term("tag", tag) if tag else search

    async def work(config: Config) -> int:
        found, more = await _read(config, search, limit, as_json=as_json)
        _show(found, as_json=as_json)
        if not found:
            say(f"nothing is recorded of {reference}")
            return WRONG
        if more and not as_json:
            say(f"the latest {counted(len(found), 'event')}; --limit shows more")
        return GOOD

    carry_out(path, work)


async def _read(config: Config, search: Search, limit: int, *, as_json: bool) -> tuple[list[Event], bool]:
    """At most ``limit`` events, and whether there are more."""
    found: list[Event] = []
    async with visit(config, as_json=as_json) as (visitor, _):
        async for event in visitor.export(search):
            if len(found) == limit:
                return found, True
            found.append(event)
    return found, False


def _show(found: list[Event], *, as_json: bool) -> None:
    if as_json:
        for event in found:
            json_line(event.to_dict())
    elif found:
        table(events.HEADINGS, map(events.cells, found))
