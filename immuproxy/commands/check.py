"""``immuproxy check``: everything that is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from immuproxy.commands.command_line import DEFAULT_FILE, SETTINGS, examples, json_option
from immuproxy.commands.rules_file import print_errors, print_problems, read, report
from immuproxy.rules.document import REFERRERS_RULE, has_server_sections, load_rules
from immuproxy.rules.model import RuleSet
from immuproxy.rules.problems import DocumentErrors, FileProblem, Findings


@click.command(
    context_settings=SETTINGS,
    short_help="List everything that is wrong with a file.",
    epilog=examples("immuproxy check immuproxy.yml"),
)
@click.argument("file", type=click.Path(path_type=Path), default=Path(DEFAULT_FILE), envvar="IMMUPROXY_CONFIG")
@click.option("--no-files", is_flag=True, help="Do not open the certificates, keys and password files that it names.")
@json_option("Print the errors and warnings as JSON.")
def check(file: Path, *, no_files: bool, as_json: bool) -> None:
    """Check FILE (default $IMMUPROXY_CONFIG, else immuproxy.yml) and list everything that is wrong with it.

    The certificates, keys and password files that it names are opened, too.  A file with nothing but default, referrers
    and rules is checked as such.
    """
    data = read(file, "name the file: immuproxy check FILE")
    try:
        rules, warnings = _checked(data, str(file), with_files=not no_files)
    except DocumentErrors as errors:
        print_errors(errors, as_json=as_json)
        raise SystemExit(1) from None
    if as_json:
        click.echo(json.dumps(report(str(file), (), warnings)))
        return
    print_problems(str(file), warnings, "warning")
    click.echo(f"{file}: good; {_summary(rules)}")


def _checked(data: bytes, source: str, *, with_files: bool) -> tuple[RuleSet, tuple[FileProblem, ...]]:
    if not has_server_sections(data, source):
        rules = load_rules(data, source)
        return rules, rules.warnings
    from immuproxy.commands.named_files import look_at_files  # noqa: PLC0415
    from immuproxy.service.config import parse_config  # noqa: PLC0415  # pydantic takes longer to import than all the rest

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
