"""``immuproxy explain``: which rule decides about a tag, and why."""

from __future__ import annotations

import json
from pathlib import Path

import click

from immuproxy.commands.command_line import SETTINGS, config_option, examples, json_option
from immuproxy.commands.rules_file import print_errors, read
from immuproxy.oci import names
from immuproxy.rules.document import load_rules
from immuproxy.rules.explain import explain as explain_tag
from immuproxy.rules.problems import DocumentErrors
from immuproxy.values.networks import parse_address


@click.command(
    context_settings=SETTINGS,
    short_help="Say which rule decides about a tag, and why.",
    epilog=examples("immuproxy explain team/app:1.4 --user ci"),
)
@click.argument("reference", metavar="REPO:TAG")
@config_option
@click.option("--user", help="Explain for a push by this user, confirmed by the upstream.")
@click.option("--address", help="Explain for a push from this client address.")
@json_option("Print the explanation as JSON.")
def explain(reference: str, *, path: Path, user: str | None, address: str | None, as_json: bool) -> None:
    """Say which rule decides about REPO:TAG, why no earlier one does, and what pushes and deletes would get."""
    try:
        repository, tag = names.parse_tag(reference)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="REPO:TAG") from None
    if address is not None and parse_address(address) is None:
        raise click.BadParameter(f"{address!r} is no IP address", param_hint="--address")
    data = read(path, "name the file with --config")
    try:
        rules = load_rules(data, str(path))
    except DocumentErrors as errors:
        print_errors(errors, as_json=as_json)
        raise SystemExit(1) from None
    explanation = explain_tag(rules, repository, tag, user=user, address=address)
    if as_json:
        click.echo(json.dumps(explanation.to_dict()))
    else:
        click.echo("\n".join(explanation.lines()))
