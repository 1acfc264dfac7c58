"""The commands that only read the file: ``check`` and ``explain``.  They import neither aiohttp nor redis.

Exit status: 0 good, 1 the file has errors, 2 wrong usage or a file that cannot be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import click

from immuproxy.oci import names
from immuproxy.rules.document import REFERRERS_RULE, has_server_sections, load_rules
from immuproxy.rules.explain import explain as explain_tag
from immuproxy.rules.model import RuleSet
from immuproxy.rules.problems import DocumentErrors, Findings, Problem
from immuproxy.rules.source import MAX_BYTES
from immuproxy.values import parse_address

DEFAULT_FILE = "immuproxy.yml"
_SETTINGS = {"help_option_names": ["-h", "--help"]}


@click.command(
    context_settings=_SETTINGS,
    short_help="List everything that is wrong with a file.",
    epilog="\b\nExample:\n  immuproxy check immuproxy.yml",
)
@click.argument("file", type=click.Path(path_type=Path), default=Path(DEFAULT_FILE), envvar="IMMUPROXY_CONFIG")
@click.option("--no-files", is_flag=True, help="Do not open the certificates, keys and password files that it names.")
@click.option("--json", "as_json", is_flag=True, help="Print the errors and warnings as JSON.")
def check(file: Path, *, no_files: bool, as_json: bool) -> None:
    """Check FILE (default $IMMUPROXY_CONFIG, else immuproxy.yml) and list everything that is wrong with it.

    The certificates, keys and password files that it names are opened, too.  A file with nothing but default, referrers
    and rules is checked as such.
    """
    data = _read(file, "name the file: immuproxy check FILE")
    try:
        rules, warnings = _checked(data, str(file), with_files=not no_files)
    except DocumentErrors as errors:
        _print_errors(errors, as_json=as_json)
        raise SystemExit(1) from None
    if as_json:
        click.echo(json.dumps(_report(str(file), (), warnings)))
        return
    _print_problems(str(file), warnings, "warning")
    click.echo(f"{file}: good; {_summary(rules)}")


def _checked(data: bytes, source: str, *, with_files: bool) -> tuple[RuleSet, tuple[Problem, ...]]:
    if not has_server_sections(data, source):
        rules = load_rules(data, source)
        return rules, rules.warnings
    from immuproxy.commands.named_files import look_at_files  # noqa: PLC0415
    from immuproxy.config import parse_config  # noqa: PLC0415  # pydantic takes longer to import than all the rest

    config = parse_config(data, source)
    if with_files:
        findings = Findings(warnings=list(config.warnings))
        look_at_files(config, data, findings)
        findings.raise_errors(source)
        return config.rules, tuple(sorted(findings.warnings))
    return config.rules, config.warnings


def _summary(rules: RuleSet) -> str:
    written = sum(rule is not REFERRERS_RULE for rule in rules.rules)
    count = "1 rule" if written == 1 else f"{written} rules"
    referrers = "on" if len(rules.rules) > written else "off"
    return f"{count}, default {rules.default.policy}, built-in referrers rule {referrers}"


@click.command(
    context_settings=_SETTINGS,
    short_help="Say which rule decides about a tag, and why.",
    epilog="\b\nExample:\n  immuproxy explain team/app:1.4 --user ci",
)
@click.argument("reference", metavar="REPO:TAG")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=Path(DEFAULT_FILE),
    envvar="IMMUPROXY_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The configuration file.",
)
@click.option("--user", help="Explain for a push by this user, confirmed by the upstream.")
@click.option("--address", help="Explain for a push from this client address.")
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
def explain(reference: str, *, file: Path, user: str | None, address: str | None, as_json: bool) -> None:
    """Say which rule decides about REPO:TAG, why no earlier one does, and what pushes and deletes would get."""
    repository, tag = _split(reference)
    if address is not None and parse_address(address) is None:
        raise click.BadParameter(f"{address!r} is no IP address", param_hint="--address")
    data = _read(file, "name the file with --config")
    try:
        rules = load_rules(data, str(file))
    except DocumentErrors as errors:
        _print_errors(errors, as_json=as_json)
        raise SystemExit(1) from None
    explanation = explain_tag(rules, repository, tag, user=user, address=address)
    if as_json:
        click.echo(json.dumps(explanation.to_dict()))
    else:
        click.echo("\n".join(explanation.lines()))


def _split(reference: str) -> tuple[str, str]:
    """``repo:tag``; a wrong one ends the command with status 2."""
    repository, colon, tag = reference.rpartition(":")
    if not colon or "@" in reference:
        raise click.BadParameter("write it as REPOSITORY:TAG, such as team/app:1.4", param_hint="REPO:TAG")
    if not names.is_repository(repository):
        hint = "; leave out the host" if re.match(r"[^/]*[.:][^/]*/|localhost/", repository) else ""
        raise click.BadParameter(f"{repository!r} is no repository{hint}", param_hint="REPO:TAG")
    if not names.is_tag(tag):
        raise click.BadParameter(f"{tag!r} is no tag", param_hint="REPO:TAG")
    return repository, tag


def _read(file: Path, remedy: str) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        _fail(f"cannot read {file}: {error.strerror}; {remedy}")


def _fail(message: str) -> NoReturn:
    click.echo(message, err=True)
    raise SystemExit(2)


def _print_errors(errors: DocumentErrors, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_report(errors.source, errors.problems, errors.warnings)))
        return
    _print_problems(errors.source, errors.problems, "error")
    _print_problems(errors.source, errors.warnings, "warning")
    count = len(errors.problems)
    click.echo(f"{errors.source}: {count} error{'s' if count > 1 else ''}", err=True)


def _print_problems(source: str, problems: Iterable[Problem], kind: str) -> None:
    for problem in problems:
        where = problem.place(source)
        click.echo(f"{where}: {click.style(kind, fg='red' if kind == 'error' else 'yellow')}: {problem}", err=True)


def _report(source: str, errors: Iterable[Problem], warnings: Iterable[Problem]) -> dict[str, Any]:
    wrong = [problem.to_dict() for problem in errors]
    return {"file": source, "ok": not wrong, "errors": wrong, "warnings": [item.to_dict() for item in warnings]}
