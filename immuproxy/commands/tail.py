"""``immuproxy tail``: events as they happen."""

from __future__ import annotations

from pathlib import Path

import click

from immuproxy.audit.search import Search, SearchError, parse
from immuproxy.commands import events
from immuproxy.commands.command_line import SETTINGS, config_option, examples, json_option
from immuproxy.commands.running import GOOD, carry_out, now_ms, visit
from immuproxy.commands.screen import json_line, plain, say
from immuproxy.service.config import Config


@click.command(context_settings=SETTINGS, epilog=examples("immuproxy tail 'repo:team/** outcome:refused'"))
@click.argument("words", metavar="[SEARCH]", nargs=-1)
@config_option
@click.option("--count", type=click.IntRange(min=1), help="End after that many events.")
@json_option("Print the events as JSON Lines.")
def tail(words: tuple[str, ...], *, path: Path, count: int | None, as_json: bool) -> None:
    """Follow events as they happen, until Ctrl-C.

    SEARCH is written as in the console's audit log; quote it where it has blanks or quotes, and put -- in front where
    it begins with a minus sign.
    """
    search = _search(" ".join(words))

    async def work(config: Config) -> int:
        async with visit(config, as_json=True) as (visitor, _):
            seen = 0
            async for event in visitor.tail(search):
                if as_json:
                    json_line(event.to_dict())
                else:
                    click.echo(events.line(event))
                seen += 1
                if seen == count:
                    break
        return GOOD

    carry_out(path, work, interrupted=GOOD)


def _search(text: str) -> Search:
    try:
        return parse(text, now_ms())
    except SearchError as error:
        say(text)
        say(f"{' ' * error.offset}{'^' * max(1, error.length)}")
        raise click.BadParameter(plain(error.message), param_hint="SEARCH") from None
