"""``immuproxy verify``: whether every tag can still be pulled as the ledger holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from immuproxy.commands.command_line import SETTINGS, config_option, examples, json_option, rate_option
from immuproxy.commands.options import read_repository
from immuproxy.commands.running import GOOD, WRONG, carry_out
from immuproxy.commands.screen import counted, json_line, plain, progress_bar, say, short
from immuproxy.commands.walks import opened_walk
from immuproxy.drift.verifying import Checked, Verifier
from immuproxy.service.config import Config

RATE = 100


@dataclass(slots=True)
class _Tally:
    checked: int = 0
    wrong: int = 0
    healed: int = 0

    def told(self, *, healing: bool) -> str:
        repaired = f", {self.healed:,} repaired" if healing else ""
        return f"{counted(self.checked, 'tag')} verified, {self.wrong:,} not as recorded{repaired}"


@click.command(
    context_settings=SETTINGS, epilog=examples("immuproxy verify", "immuproxy verify team/app --heal --rate 20")
)
@click.argument("repositories", metavar="[REPO]...", nargs=-1)
@config_option
@click.option("--heal", is_flag=True, help="Set tags right, and put missing manifests back, from the stored bytes.")
@rate_option(RATE)
@json_option("Print the result for each tag as JSON Lines.")
def verify(repositories: tuple[str, ...], *, path: Path, heal: bool, rate: float, as_json: bool) -> None:
    """Compare every tag that the ledger holds with the upstream: of the named repositories, or of all.

    Looked at are the tag, its manifests by their digests, and a first byte of each blob.  Nothing is written, unless
    --heal is given.  Ends with status 1 where something does not hold, also after a healing that could not mend all.
    """
    wanted = [read_repository(repository) for repository in repositories]

    async def work(config: Config) -> int:
        tally = _Tally()
        async with opened_walk(config, rate) as walk:
            known = frozenset(await walk.register.repositories())
            unknown = [name for name in wanted if name not in known]
            chosen = sorted(known.intersection(wanted) if wanted else known)
            try:
                await _walk(
                    Verifier(walk.register, walk.healer, walk.questions), chosen, tally, heal=heal, as_json=as_json
                )
            except asyncio.CancelledError:
                say(f"interrupted; {tally.told(healing=heal)}")
                raise
        for name in unknown:
            say(f"the ledger knows no repository {name}; `immuproxy import {name}` takes it in")
        if not known and not wanted:
            say("the ledger knows no repository yet; `immuproxy import` takes in what the upstream holds")
        if not as_json:
            click.echo(tally.told(healing=heal))
        return WRONG if tally.wrong or unknown else GOOD

    carry_out(path, work)


async def _walk(verifier: Verifier, chosen: Sequence[str], tally: _Tally, *, heal: bool, as_json: bool) -> None:
    with progress_bar("verifying", "tags", as_json=as_json) as bar:
        bar.total(await verifier.count(chosen))
        async for tag in verifier.run(chosen, heal=heal):
            bar.at(f"{tag.repository}:{tag.tag}")
            bar.advance()
            tally.checked += 1
            tally.wrong += bool(tag.faults)
            tally.healed += tag.healed
            _show(tag, as_json=as_json)


def _show(tag: Checked, *, as_json: bool) -> None:
    name = f"{tag.repository}:{tag.tag}"
    if as_json:
        json_line(tag.to_dict())
    elif tag.healed and not tag.faults:
        click.echo(plain(f"{name}  {short(tag.digest)}  repaired"))
    for fault in () if as_json else tag.faults:
        click.echo(plain(f"{name}  {fault.problem.value} {fault.part.value} {fault.digest}: {fault.reason}"))
