"""``immuproxy import``: the tags that the upstream holds come under protection at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from immuproxy.commands.command_line import SETTINGS, config_option, examples, json_option, rate_option
from immuproxy.commands.options import read_repository
from immuproxy.commands.running import GOOD, WRONG, carry_out
from immuproxy.commands.screen import ProgressBar, counted, json_line, progress_bar, say, table
from immuproxy.commands.walks import SHOWN, WalkParts, opened_walk
from immuproxy.drift.importing import Imported, Importer, ImportResult, ListedRepository
from immuproxy.edge.listing import ListingRefusedError
from immuproxy.service.config import Config
from immuproxy.service.connections import CannotOpenError

RATE = 50


@dataclass(slots=True)
class _Report:
    """What was found, by repository, and what a person should look at."""

    counts: dict[str, Counter[ImportResult]] = field(default_factory=dict)
    remarkable: dict[ImportResult, list[Imported]] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        return sum(counts.total() for counts in self.counts.values())

    def add(self, imported: Imported) -> None:
        self.counts.setdefault(imported.repository, Counter())[imported.result] += 1
        if imported.result in {ImportResult.GHOST, ImportResult.UNREADABLE}:
            self.remarkable.setdefault(imported.result, []).append(imported)


@click.command(
    "import", context_settings=SETTINGS, epilog=examples("immuproxy import", "immuproxy import team/app team/web")
)
@click.argument("repositories", metavar="[REPO]...", nargs=-1)
@config_option
@rate_option(RATE)
@json_option("Print what became of each tag as JSON Lines.")
def import_(repositories: tuple[str, ...], *, path: Path, rate: float, as_json: bool) -> None:
    """Take the tags that the upstream holds into the ledger: of the named repositories, or of all.

    Each protected tag is held to the digest that it has now.  May be interrupted and run again: what is known already
    is passed over.  Ends with status 1 where something could not be read.
    """
    wanted = [read_repository(repository) for repository in repositories]

    async def work(config: Config) -> int:
        report = _Report()
        try:
            async with opened_walk(config, rate) as walk:
                importer = Importer(config.rules, walk.register, walk.recovery, walk.questions)
                with progress_bar("importing", "repositories", as_json=as_json) as bar:
                    await _follow(importer, await _chosen(walk, importer, wanted, bar), report, bar, as_json=as_json)
        except asyncio.CancelledError:
            say(f"interrupted after {counted(report.seen, 'tag')}; run it again to go on from there")
            raise
        missing = [name for name in wanted if name not in report.counts]
        _tell(report, missing, as_json=as_json)
        return WRONG if missing or ImportResult.UNREADABLE in report.remarkable else GOOD

    carry_out(path, work)


async def _chosen(walk: WalkParts, importer: Importer, wanted: Sequence[str], bar: ProgressBar) -> Sequence[str]:
    bar.at("the list of repositories")
    await walk.questions.alive()
    try:
        return wanted or await importer.repositories()
    except ListingRefusedError as error:
        raise CannotOpenError(
            f"the upstream does not list its repositories (it answered {error.status}): "
            "name them, as in `immuproxy import team/app`, or set upstream.username"
        ) from error


async def _follow(
    importer: Importer, repositories: Sequence[str], report: _Report, bar: ProgressBar, *, as_json: bool
) -> None:
    """Each repository is one step of the bar, each of its tags a part of that."""
    bar.total(len(repositories))
    tags = seen = 0
    places = {repository: place for place, repository in enumerate(repositories)}
    async for step in importer.run(repositories):
        if isinstance(step, ListedRepository):
            tags, seen = step.tags, 0
        else:
            seen += 1
            report.add(step)
            if as_json:
                json_line(step.to_dict())
        bar.done(places[step.repository] + (seen / tags if tags else 1))
        bar.at(f"{step.repository}: {seen:,} of {counted(tags, 'tag')}")


def _tell(report: _Report, missing: Sequence[str], *, as_json: bool) -> None:
    for name in missing:
        say(f"the upstream lists no tags of {name}; is the name right?")
    if as_json:
        return
    if not report.counts:
        if not missing:
            say("the upstream lists no tags")
        return
    rows = [(name, *(str(counts[result]) for result in ImportResult)) for name, counts in report.counts.items()]
    if len(rows) > 1:
        rows.append(
            ("all", *(str(sum(counts[result] for counts in report.counts.values())) for result in ImportResult))
        )
    table(("repository", *ImportResult), rows)
    trial = sum(counts[ImportResult.SHADOW] for counts in report.counts.values())
    if trial:
        say(f"shadow: {counted(trial, 'tag')} not protected yet, by rules on trial; import again when those end")
    for result, found in report.remarkable.items():
        for imported in found[:SHOWN]:
            name = f"{imported.repository}:{imported.tag}" if imported.tag else imported.repository
            say(f"{result.value}: {name}: {imported.reason}")
        if len(found) > SHOWN:
            say(f"{result.value}: {len(found) - SHOWN:,} more; --json lists them all")
