"""``immuproxy prune``: old events are removed for good; what tags hold stays."""

from __future__ import annotations

from pathlib import Path

import click

from immuproxy import __version__
from immuproxy.audit import pruning
from immuproxy.audit.record import Record
from immuproxy.commands.command_line import SETTINGS, config_option, examples, json_option
from immuproxy.commands.operator import as_option, operator
from immuproxy.commands.options import read_moment
from immuproxy.commands.running import GOOD, MISUSED, carry_out, now_ms, visit
from immuproxy.commands.screen import counted, json_line, moment, progress_bar, say
from immuproxy.edge import record
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from immuproxy.service.config import Config
from immuproxy.store.redis import Store


@click.command(context_settings=SETTINGS, epilog=examples("immuproxy prune --before 365d --dry-run"))
@config_option
@click.option(
    "--before",
    metavar="90d|DATE",
    required=True,
    help="Remove what is older than 90d, or than 2026-01-31 (UTC).",
)
@click.option("--dry-run", is_flag=True, help="Say how many events would go, and remove nothing.")
@click.option("--yes", is_flag=True, help="Remove them; there is no way back.")
@as_option
@json_option("Print the result as JSON.")
def prune(*, path: Path, before: str, dry_run: bool, yes: bool, name: str | None, as_json: bool) -> None:
    """Remove old events from the audit, for good.

    What tags hold is not touched, only the record of how that came to be.  The removal is an event itself.
    """
    at = read_moment(before, now_ms(), "--before")
    removing = yes and not dry_run
    actor = operator(name) if removing else ""

    async def work(config: Config) -> int:
        async with visit(config, as_json=as_json) as (visitor, store):
            going = await visitor.count(at)
            if going and removing:
                going = await _remove(store, _event(at, going, actor), at, going, as_json=as_json)
        return _tell(at, going, removed=removing, asked=bool(going) and not (yes or dry_run), as_json=as_json)

    carry_out(path, work)


async def _remove(store: Store, event: Event, before: int, going: int, *, as_json: bool) -> int:
    """Record it, then remove; an interrupted removal was recorded, and can be run again."""
    await Record(store).append(event)
    removed = 0
    with progress_bar("removing", "events", as_json=as_json) as bar:
        bar.total(going)
        async for removed in pruning.prune(store, before):
            bar.done(removed)
    return removed


def _event(before: int, going: int, actor: str) -> Event:
    return Event(
        id=new_event_id(),
        time=record.now_ms(),
        action=Action.RULES,
        outcome=Outcome.DELETED,
        reason=f"{counted(going, 'event')} from before {moment(before)} removed from the audit",
        actor=actor,
        actor_source=ActorSource.OPERATOR,
        user_agent=f"immuproxy/{__version__}",
    )


def _tell(before: int, events: int, *, removed: bool, asked: bool, as_json: bool) -> int:
    if as_json:
        json_line({"before": before, "events": events, "removed": removed})
    else:
        verb = "removed" if removed else "would go"
        click.echo(f"{counted(events, 'event')} from before {moment(before)} {verb}")
    if asked:
        say("nothing was removed: give --yes to remove them for good, or --dry-run to look only")
        return MISUSED
    return GOOD
