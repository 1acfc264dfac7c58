"""``immuproxy simulate``: what another rules file would have said to the pushes of the past."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from immuproxy.commands.command_line import SETTINGS, config_option, examples, json_option
from immuproxy.commands.options import read_moment
from immuproxy.commands.running import GOOD, WRONG, carry_out, misused, now_ms, visit
from immuproxy.commands.screen import counted, json_line, moment, plain, say, short
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.model import Event
from immuproxy.ledger.register import Register
from immuproxy.rehearsal.past import first_pushes, judged_requests, needs_first_pushes
from immuproxy.rehearsal.replay import FirstPushes, replayed
from immuproxy.rules.document import load_rules
from immuproxy.rules.model import Decision, RuleSet
from immuproxy.rules.problems import DocumentErrors
from immuproxy.rules.simulate import Difference
from immuproxy.rules.simulate import simulate as judge_anew
from immuproxy.rules.source import MAX_BYTES
from immuproxy.service.config import Config
from immuproxy.store.redis import Store

LAST = 1_000
MOST = 1_000_000

_WORDS = {
    Decision.CREATE: "accepted",
    Decision.OVERWRITE: "accepted as an overwrite",
    Decision.UNCHANGED: "accepted, unchanged",
    Decision.DELETE: "deleted",
    Decision.REFUSE: "refused",
}


@click.command(context_settings=SETTINGS, epilog=examples("immuproxy simulate new.yml --since 30d"))
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@click.option(
    "--last", type=click.IntRange(1, MOST), help=f"Replay the last N pushes and deletes; {LAST} without --since."
)
@click.option("--since", metavar="30d|DATE", help="Replay the last 30d, or all since 2026-01-31 (UTC).")
@click.option("--fail-on-change", is_flag=True, help="End with status 1 where a verdict would change.")
@json_option("Print the changed verdicts as JSON Lines.")
def simulate(
    file: Path, *, path: Path, last: int | None, since: str | None, fail_on_change: bool, as_json: bool
) -> None:
    """Replay recorded pushes and deletes under the rules of FILE, and list those that would end differently.

    FILE is a whole configuration, or only rules.  Nothing is changed by it.
    """
    rules = _rules(file)
    at = read_moment(since, now_ms(), "--since") if since is not None else 0
    most = last or (MOST if since is not None else LAST)

    async def work(config: Config) -> int:
        async with visit(config, as_json=as_json) as (visitor, store):
            past = [event async for event in judged_requests(visitor, most=most, since=at)][::-1]
            first = await _first_pushes(store, rules, past)
        changed = 0
        for difference in judge_anew(rules, replayed(past, first)):
            changed += 1
            _show(difference, as_json=as_json)
        say(f"{changed:,} of {counted(len(past), 'recorded verdict')} would change")
        return WRONG if changed and fail_on_change else GOOD

    carry_out(path, work)


def _rules(file: Path) -> RuleSet:
    try:
        with file.open("rb") as opened:
            return load_rules(opened.read(MAX_BYTES + 1), str(file))
    except OSError as error:
        misused(f"cannot read {file}: {error.strerror}")
    except DocumentErrors as errors:
        for line in str(errors).splitlines():
            say(line)
        misused(f"{file} is wrong; `immuproxy check {file}` lists its errors")


async def _first_pushes(store: Store, rules: RuleSet, past: Iterable[Event]) -> FirstPushes:
    """When the tags were first pushed, for rules with ``within``."""
    register = Register(store, Epoch(store, quarantine=0.0))
    tags = ((event.repository, event.tag) for event in past) if needs_first_pushes(rules) else ()
    return {tag: at async for tag, at in first_pushes(register, tags)}


def _show(difference: Difference, *, as_json: bool) -> None:
    if as_json:
        json_line(difference.to_dict())
        return
    recorded, now = difference.recorded, difference.now
    push, was = recorded.push, recorded.was
    who = f" by {push.user}" if push.user else ""
    click.echo(plain(f"{moment(push.now_ms)}  {push.repository}:{push.tag}  {short(push.image.digest)}{who}"))
    click.echo(plain(f"  was: {_WORDS[was.outcome]} (rule {was.rule}): {was.reason}"))
    click.echo(plain(f"  now: {_WORDS[now.outcome]} (rule {now.rule}): {now.reason}"))
    if difference.uncertain:
        click.echo(plain(f"  not certain: {difference.uncertain}"))
