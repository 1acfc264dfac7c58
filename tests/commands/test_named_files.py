"""`immuproxy check` opens the files that a configuration names, as serving would."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result

from immuproxy.commands.check import check
from tests.console.logging_in import users_text
from tests.support.servers import program

FILE = """\
upstream: {url: "https://registry:5000", username: proxy, password_file: secrets/password, ca_file: ca.pem}
edge:
  tls: {cert: edge.pem, key: edge.key}
console:
  tls: {cert: edge.pem, key: edge.key}
  auth: {users_file: users}
redis: {embedded: data}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with all that it names; paths start at the file's folder, not at the current one."""
    monkeypatch.chdir("/")
    (tmp_path / "immuproxy.yml").write_text(FILE)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/password").write_text("secret\n")
    (tmp_path / "users").write_text(users_text())
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("edge", "other"):
        leaf = authority.issue_cert("registry.example.org")
        leaf.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        leaf.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(check, [*arguments, str(folder / "immuproxy.yml")])


def wrong(folder: Path) -> list[tuple[str, int, str]]:
    """Place in the document, line and message of each error."""
    report: dict[str, Any] = json.loads(run(folder, "--json").stdout)
    return [(error["path"], error["line"], error["message"]) for error in report["errors"]]


def test_all_files_are_there_and_are_what_they_are_taken_for(folder: Path) -> None:
    result = run(folder)
    assert (result.exit_code, result.stderr) == (0, "")


class TestTheFolderOfTheIndex:
    """It is no error: the proxy serves without it."""

    def said(self, folder: Path, index: str) -> list[tuple[str, int, str]]:
        (folder / "immuproxy.yml").write_text(f"{FILE}audit:\n  index: {index}\n")
        result = run(folder, "--json")
        assert result.exit_code == 0
        return [(one["path"], one["line"], one["message"]) for one in json.loads(result.stdout)["warnings"]]

    def test_that_is_there_or_can_be_made(self, folder: Path) -> None:
        assert not self.said(folder, "state/audit")
        assert not self.said(folder, ".")

    def test_that_is_a_file(self, folder: Path) -> None:
        message = (
            f"{folder / 'users'} is no folder, so the audit's index would be kept in memory, the newest events only"
        )
        assert self.said(folder, "users") == [("audit.index", 9, message)]
        assert self.said(folder, "users/audit") == [("audit.index", 9, message)]

    @pytest.mark.parametrize("index", ["/proc/audit"])
    def test_that_nobody_can_write_to(self, folder: Path, index: str) -> None:
        if os.access("/proc", os.W_OK):
            pytest.skip("root may write anywhere")
        assert "cannot be written to" in self.said(folder, index)[0][2]


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("secrets/password", [("upstream.password_file", 1)]),
        ("ca.pem", [("upstream.ca_file", 1)]),
        ("edge.pem", [("edge.tls.cert", 3), ("console.tls.cert", 5)]),
        ("edge.key", [("edge.tls.key", 3), ("console.tls.key", 5)]),
        ("users", [("console.auth.users_file", 6)]),
    ],
)
class TestEachFile:
    def test_that_is_missing_has_its_line(self, folder: Path, name: str, places: list[tuple[str, int]]) -> None:
        (folder / name).unlink()
        result = run(folder)
        assert result.exit_code == 1
        assert f"{folder / name} cannot be read: No such file or directory" in result.stderr
        assert [error[:2] for error in wrong(folder)] == places

    def test_that_is_no_file(self, folder: Path, name: str, places: list[tuple[str, int]]) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert [error[:2] for error in wrong(folder)] == places
        assert "is no file" in wrong(folder)[0][2]

    def test_that_holds_something_else(self, folder: Path, name: str, places: list[tuple[str, int]]) -> None:
        (folder / name).write_bytes(b"\xff\x00 s3cret")
        assert [error[:2] for error in wrong(folder)] == [
            (path.replace("tls.key", "tls.cert"), line) for path, line in places
        ]
        assert "s3cret" not in run(folder).stderr

    def test_that_is_not_looked_at(self, folder: Path, name: str, places: list[tuple[str, int]]) -> None:
        (folder / name).unlink()
        assert run(folder, "--no-files").exit_code == 0


def test_certificate_and_key_must_belong_together(folder: Path) -> None:
    (folder / "edge.key").write_bytes((folder / "other.key").read_bytes())
    assert [error[:2] for error in wrong(folder)] == [("edge.tls.cert", 3), ("console.tls.cert", 5)]
    assert "cannot be used together" in run(folder).stderr


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(folder: Path) -> None:
    """Serving could not ask anybody."""
    plain, locked = folder / "edge.key", folder / "locked.key"
    command = [program("openssl"), "pkey", "-in", str(plain), "-aes256", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    locked.rename(plain)
    assert [error[:2] for error in wrong(folder)] == [("edge.tls.cert", 3), ("console.tls.cert", 5)]


@pytest.mark.parametrize(("content", "words"), [("\n", "is empty"), ("x" * 2_000_000, "larger than")])
def test_a_password_that_is_none(folder: Path, content: str, words: str) -> None:
    (folder / "secrets/password").write_text(content)
    ((path, _, message),) = wrong(folder)
    assert path == "upstream.password_file"
    assert words in message


def test_each_wrong_line_of_the_users_file_is_named(folder: Path) -> None:
    (folder / "users").write_text("anna:$apr1$abcdefgh$1234567890123456789012\nbert\n")
    message = wrong(folder)[0][2]
    assert f"{folder / 'users'}:1: the password of anna is an MD5 hash" in message
    assert ":2: this is no line of the form" in message


def test_what_is_wrong_with_the_text_comes_first(folder: Path) -> None:
    (folder / "ca.pem").unlink()
    with (folder / "immuproxy.yml").open("a") as file:
        file.write("defualt: mutable\n")
    assert [path for path, _, _ in wrong(folder)] == ["defualt"]
