"""``immuproxy allow``: exceptions, which are temporary and recorded permissions to overwrite or delete one tag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from immuproxy import __version__
from immuproxy.allow import permission
from immuproxy.allow.exceptions import Allows, Exceptions, Exemption
from immuproxy.commands.command_line import SETTINGS, config_option, examples, json_option
from immuproxy.commands.operator import as_option, operator
from immuproxy.commands.options import fitting, read_digest, read_duration, split_reference
from immuproxy.commands.running import GOOD, WRONG, carry_out, ledger_of, now_ms
from immuproxy.commands.screen import json_line, moment, say, short, table, warn
from immuproxy.ledger.epoch import Epoch
from immuproxy.ledger.ids import new_event_id
from immuproxy.ledger.model import Action, ActorSource, Event, Outcome
from immuproxy.ledger.register import Register
from immuproxy.service.config import Config
from immuproxy.store.redis import Store

_HEADINGS = ("tag", "allows", "until", "digest", "granted by", "reason")


@click.command(
    context_settings=SETTINGS,
    epilog=examples(
        'immuproxy allow team/app:1.4 --for 30m --reason "rebuild without the debug key"',
        'immuproxy allow team/app:1.4 --delete --for 30m --reason "the key leaked"',
        "immuproxy allow team/app:1.4 --end",
        "immuproxy allow --list",
    ),
)
@click.argument("reference", metavar="[REPO:TAG]", required=False)
@config_option
@click.option("--for", "lasts", metavar="DURATION", type=read_duration, help="How long, such as 30m; at most 30d.")
@click.option("--reason", metavar="TEXT", help="Why; it stands in the audit.")
@click.option("--digest", metavar="DIGEST", type=read_digest, help="Allow this digest only.")
@click.option("--delete", is_flag=True, help="Allow the tag to be deleted, and not to be overwritten.")
@click.option("--end", is_flag=True, help="End the tag's exception now.")
@as_option
@click.option("--list", "listing", is_flag=True, help="List the exceptions in force.")
@json_option("Print the exception, or the list as JSON Lines.")
def allow(
    reference: str | None,
    *,
    path: Path,
    lasts: int | None,
    reason: str | None,
    digest: str | None,
    delete: bool,
    end: bool,
    name: str | None,
    listing: bool,
    as_json: bool,
) -> None:
    """Allow one tag to be overwritten, or deleted, for a while, whatever its rule says.

    It is recorded who allowed it and why, and each push or delete that made use of it.  A later exception of the same
    tag takes the place of the earlier one.
    """
    grants = {"--for": lasts, "--digest": digest, "--delete": delete or None}
    if listing:
        others = {"REPO:TAG": reference, **grants, "--end": end or None, "--as": name}
        _refuse_with("--list", others)
        carry_out(path, lambda config: _list(config, as_json=as_json))
    if reference is None:
        raise click.UsageError("name the tag as REPO:TAG, or give --list")
    repository, tag = split_reference(reference, tag_needed=True)
    _check_reason(reason)
    if end:
        _refuse_with("--end", grants)
        event = _event(repository, tag, reason or "", actor=operator(name))
        carry_out(path, lambda config: _end(config, event, as_json=as_json))
    if lasts is None or not reason:
        raise click.UsageError("an exception needs --for and --reason")
    event = _event(repository, tag, reason, actor=operator(name), digest=digest or "")
    allows = Allows.DELETE if delete else Allows.OVERWRITE
    carry_out(path, lambda config: _grant(config, event, lasts, allows, as_json=as_json))


def _refuse_with(option: str, others: dict[str, Any]) -> None:
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise click.UsageError(f"{option} does not go with {given[0]}")


def _check_reason(reason: str | None) -> None:
    if reason is not None:
        with fitting("--reason"):
            permission.read_reason(reason)


def _event(repository: str, tag: str, reason: str, *, actor: str, digest: str = "") -> Event:
    return Event(
        id=new_event_id(),
        action=Action.EXCEPTION,
        outcome=Outcome.GRANTED,
        repository=repository,
        tag=tag,
        digest=digest,
        reason=reason,
        actor=actor,
        actor_source=ActorSource.OPERATOR,
        user_agent=f"immuproxy/{__version__}",
    )


async def _grant(config: Config, event: Event, lasts: int, allows: Allows, *, as_json: bool) -> int:
    rule = config.rules.match(event.repository, event.tag)
    event = permission.granting(event, rule)
    async with ledger_of(config) as store:
        ends = await _exceptions(store).grant(event, lasts_ms=lasts, allows=allows)
        granted = await _exceptions(store).of(event.repository, event.tag)
        known = await Register(store, Epoch(store, quarantine=0.0)).read(event.repository, event.tag)
    needless = permission.needless(rule, event.repository, event.tag, allows)
    for doubt in filter(None, (permission.unknown(rule, known), needless)):
        warn(doubt)
    if as_json and granted:
        json_line(granted.to_dict())
    else:
        click.echo(f"{event.repository}:{event.tag} may be {_what(allows, event.digest)} until {moment(ends)}")
    return GOOD


def _what(allows: Allows, digest: str) -> str:
    if allows is Allows.DELETE:
        return f"deleted, {f'as long as it holds {digest}' if digest else 'whatever it holds'},"
    return f"overwritten with {digest or 'any image'}"


async def _end(config: Config, event: Event, *, as_json: bool) -> int:
    async with ledger_of(config) as store:
        exemption = await _exceptions(store).of(event.repository, event.tag)
        ended = exemption is not None and await _exceptions(store).end(exemption, permission.ending(event, exemption))
    if exemption is None or not ended:
        say(f"there is no exception for {event.repository}:{event.tag}")
        return WRONG
    if as_json:
        json_line(exemption.to_dict())
    else:
        click.echo(f"the exception for {event.repository}:{event.tag} has ended")
    return GOOD


async def _list(config: Config, *, as_json: bool) -> int:
    async with ledger_of(config) as store:
        register = Register(store, Epoch(store, quarantine=0.0))
        every = [found for name in await register.repositories() for found in await _exceptions(store).all(name)]
    in_force = [exemption for exemption in every if exemption.ends > now_ms()]
    if as_json:
        for exemption in in_force:
            json_line(exemption.to_dict())
    elif in_force:
        table(_HEADINGS, map(_row, in_force))
    else:
        say("no exception is in force")
    return GOOD


def _row(exemption: Exemption) -> tuple[str, ...]:
    name = f"{exemption.repository}:{exemption.tag}"
    digest = short(exemption.digest) or "any"
    return name, exemption.allows, moment(exemption.ends), digest, exemption.by, exemption.reason


def _exceptions(store: Store) -> Exceptions:
    return Exceptions(store, lambda _repository: None)
