from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from immuproxy.commands.check import check
from immuproxy.commands.explain import explain

GOOD = """\
upstream: {url: http://registry:5000}
redis: {embedded: data}
rules:
  - {name: moving, tags: [latest], policy: mutable}
  - {name: releases, tags: "v*", policy: immutable, overwrite: [{users: [bot]}]}
"""
RULES_ONLY = (
    "default: mutable\nreferrers: false\nrules: [{name: a, policy: frozen, mode: shadow}, {name: b, policy: frozen}]\n"
)
BAD = "upstream: {url: http://registry:5000}\nredis: {embeded: data}\nrules: [{name: a, polcy: frozen}]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMMUPROXY_CONFIG", raising=False)
    (tmp_path / "immuproxy.yml").write_text(GOOD)
    (tmp_path / "bad.yml").write_text(BAD)
    (tmp_path / "rules.yml").write_text(RULES_ONLY)
    return tmp_path


def run(command: object, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)  # type: ignore[arg-type]


class TestCheck:
    def test_a_good_file(self, folder: Path) -> None:
        for arguments in ((), ("immuproxy.yml",)):
            result = run(check, *arguments)
            assert (result.exit_code, result.stderr) == (0, "")
            assert result.stdout == "immuproxy.yml: good; 2 rules, default immutable, built-in referrers rule on\n"

    def test_a_bad_file_lists_every_error_with_its_place(self, folder: Path) -> None:
        result = run(check, "bad.yml")
        assert result.exit_code == 1
        assert result.stdout == ""
        places = [line.partition(": ")[0] for line in result.stderr.splitlines()]
        assert places == ["bad.yml:2:9", "bad.yml:3:9", "bad.yml:3:19", "bad.yml"]
        assert 'error: unknown key "embeded"; did you mean "embedded"?' in result.stderr
        assert result.stderr.endswith("bad.yml: 3 errors\n")

    def test_a_file_that_is_not_there_is_told_with_what_to_do(self, folder: Path) -> None:
        (folder / "immuproxy.yml").unlink()
        why = "cannot read immuproxy.yml: No such file or directory; "
        for command, arguments, remedy in (
            (check, (), "name the file: immuproxy check FILE"),
            (explain, ("team/app:1",), "name the file with --config"),
        ):
            result = run(command, *arguments)
            assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"{why}{remedy}\n")

    def test_a_file_of_rules_alone_is_checked_as_such(self, folder: Path) -> None:
        result = run(check, "rules.yml")
        assert result.exit_code == 0
        assert "rules.yml:3:1: warning: rule a is in shadow mode" in result.stderr
        assert result.stdout == "rules.yml: good; 2 rules, default mutable, built-in referrers rule off\n"

    def test_json(self, folder: Path) -> None:
        good, bad = run(check, "--json"), run(check, "--json", "bad.yml")
        assert (good.exit_code, bad.exit_code) == (0, 1)
        assert json.loads(good.stdout) == {"file": "immuproxy.yml", "ok": True, "errors": [], "warnings": []}
        errors = json.loads(bad.stdout)["errors"]
        assert [error["path"] for error in errors] == ["redis.embeded", "rules[0]", "rules[0].polcy"]

    @pytest.mark.parametrize("name", ["missing.yml", "."])
    def test_a_file_that_cannot_be_read(self, folder: Path, name: str) -> None:
        result = run(check, name)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"cannot read {name}: ")

    def test_the_file_is_looked_for_where_all_commands_look(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("IMMUPROXY_CONFIG", "rules.yml")
        assert run(check).stdout.startswith("rules.yml: good")
        assert run(check, "immuproxy.yml").stdout.startswith("immuproxy.yml: good")

    def test_wrong_usage(self, folder: Path) -> None:
        assert run(check, "--nonsense").exit_code == 2


class TestExplain:
    def test_the_deciding_rule_and_the_answers(self, folder: Path) -> None:
        result = run(explain, "team/app:v1")
        assert result.exit_code == 0
        assert "team/app:v1 is decided by rule releases (line 5) of immuproxy.yml: immutable" in result.stdout
        assert "push of another digest: depends" in result.stdout

    def test_a_user_and_another_file(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        result = run(explain, "--user", "bot", "--config", "immuproxy.yml", "team/app:v1")
        assert "push of another digest: accepted" in result.stdout
        monkeypatch.setenv("IMMUPROXY_CONFIG", "rules.yml")
        assert "decided by rule a (line 3) of rules.yml" in run(explain, "x:y").stdout

    def test_json_is_one_object_on_one_line(self, folder: Path) -> None:
        result = run(explain, "--json", "--address", "10.0.0.1", "a:latest")
        assert result.stdout.count("\n") == 1
        values = json.loads(result.stdout)
        assert (values["rule"], values["line"], values["protected"]) == ("moving", 4, False)

    @pytest.mark.parametrize(
        ("reference", "words"),
        [
            ("team/app", "REPOSITORY:TAG"),
            ("team/app@sha256:abc", "REPOSITORY:TAG"),
            ("registry.example:5000/team/app:v1", "leave out the host"),
            ("Team/app:v1", "is no repository"),
            ("team/app:-v1", "is no tag"),
        ],
    )
    def test_a_wrong_reference_is_wrong_usage(self, folder: Path, reference: str, words: str) -> None:
        result = run(explain, reference)
        assert result.exit_code == 2
        assert words in result.stderr

    def test_an_address_that_is_none_is_wrong_usage(self, folder: Path) -> None:
        result = run(explain, "team/app:v1", "--address", "10.0.0.0/8")
        assert result.exit_code == 2
        assert "Invalid value for --address: '10.0.0.0/8' is no IP address" in result.stderr

    def test_a_bad_or_missing_file(self, folder: Path) -> None:
        bad = run(explain, "--config", "bad.yml", "a:b")
        assert (bad.exit_code, "did you mean" in bad.stderr) == (1, True)
        as_json = run(explain, "--json", "--config", "bad.yml", "a:b")
        assert (as_json.exit_code, json.loads(as_json.stdout)["ok"]) == (1, False)
        assert run(explain, "--config", "missing.yml", "a:b").exit_code == 2


def test_the_commands_need_neither_server_nor_redis() -> None:
    program = (
        "import sys, immuproxy.commands.check, immuproxy.service.config;"
        "print([name for name in ('aiohttp', 'redis', 'asyncio') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_explain_does_not_wait_for_the_settings_models() -> None:
    program = "import sys, immuproxy.commands.check, immuproxy.commands.explain; print('pydantic' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
