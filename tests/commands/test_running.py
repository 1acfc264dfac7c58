"""What all commands share: where the file is looked for, how failures are put into words, how the ledger is reached."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from immuproxy.cli import COMMANDS, main
from immuproxy.commands.screen import plain
from tests.commands.conftest import HOSTILE, ROOT, Site, is_harmless
from tests.support.conversation import RunningEdge, image
from tests.support.proxies import running_proxy
from tests.support.servers import RedisServer, RegistryServer

EVERY = {
    "history": ("team/app",),
    "tail": (),
    "allow": ("--list",),
    "import": (),
    "verify": (),
    "simulate": ("immuproxy.yml",),
    "prune": ("--before", "90d"),
}


def test_in_the_container_every_command_finds_the_file_that_is_served() -> None:
    recipe = (ROOT / "Dockerfile").read_text()
    (path,) = re.findall(r"^ *(?:ENV )?IMMUPROXY_CONFIG=(\S+)", recipe, re.MULTILINE)
    assert f"- .:{Path(path).parent}:ro" in (ROOT / "deploy/docker-compose.yml").read_text()
    assert (ROOT / "deploy" / Path(path).name).exists()
    assert 'CMD ["serve"]' in recipe


@pytest.mark.parametrize("name", EVERY)
class TestEveryCommand:
    def test_its_help_has_an_example_that_it_understands(self, name: str, site: Site) -> None:
        shown = site.run(name, "--help")
        assert shown.exit_code == 0
        assert f"  immuproxy {name}" in shown.stdout.partition("Example")[2]

    def test_a_missing_file(self, name: str, site: Site) -> None:
        result = site.run(name, *EVERY[name], "--config", "nowhere.yml")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "cannot read nowhere.yml: No such file or directory; name the file with --config\n"

    def test_every_error_of_a_wrong_file(self, name: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        site.write(name="bad.yml", redis="{embeded: x}", rules="rules: [{name: a, polcy: frozen}]\n")
        monkeypatch.setenv("IMMUPROXY_CONFIG", "bad.yml")
        result = site.run(name, *EVERY[name])
        assert (result.exit_code, result.stdout) == (2, "")
        assert 'unknown key "embeded"; did you mean "embedded"?' in result.stderr
        assert 'unknown key "polcy"' in result.stderr

    def test_redis_that_is_down(self, name: str, site: Site) -> None:
        site.redis.stop()
        result = site.run(name, *EVERY[name])
        assert (result.exit_code, result.stdout) == (1, "")
        error, remedy = result.stderr.splitlines()
        assert error.startswith(f"error: Redis at {site.redis.url} does not do what it was asked: ")
        assert remedy == "is it running, and is redis.url in immuproxy.yml right?"


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:right@"])
def test_a_password_that_redis_does_not_accept(site: Site, start_redis: Callable[..., RedisServer], login: str) -> None:
    locked = start_redis(password="right")
    address = f"redis://{{}}127.0.0.1:{locked.port}/0"
    site.write(redis=f"{{url: '{address.format(login)}'}}")
    result = site.run("history", "team/app")
    assert (result.exit_code, result.stdout) == (1, "")
    error, remedy = result.stderr.splitlines()
    assert error.endswith("does not do what it was asked: it wants another user or password than redis.url gives")
    assert remedy == "redis.url in immuproxy.yml takes user and password as redis://USER:PASSWORD@HOST:6379/0"


def test_a_password_in_redis_url_is_not_shown(site: Site) -> None:
    site.write(redis="{url: 'redis://me:very-secret@127.0.0.1:1/0'}")
    result = site.run("history", "team/app")
    assert result.exit_code == 1
    assert "redis://me@127.0.0.1:1/0" in result.stderr
    assert "very-secret" not in result.output


UNKNOWN = "warning: nobody has pushed or imported team/app:1.0 yet; is the name right?\n"


class TestEmbedded:
    @pytest.fixture
    def embedded(self, site: Site) -> Site:
        site.write(redis="{embedded: data, timeout: 10s}")
        return site

    def test_without_a_proxy_it_runs_for_the_command(self, embedded: Site) -> None:
        granted = embedded.run("allow", "team/app:1.0", "--for", "1h", "--reason", "x")
        assert (granted.exit_code, granted.stderr) == (0, UNKNOWN)
        assert "granted" in embedded.run("history", "team/app").stdout
        assert not _answers(embedded.folder / "data/redis.sock")

    def test_what_is_printed_is_the_result_alone(self, embedded: Site) -> None:
        process = embedded.start("allow", "team/app:1.0", "--for", "1h", "--reason", "x", "--json")
        result, errors = process.communicate(timeout=30)
        assert (json.loads(result)["tag"], errors) == ("1.0", UNKNOWN)

    def test_a_running_proxys_server_is_used_and_left_running(
        self, site: Site, registry: RegistryServer, tmp_path: Path
    ) -> None:
        with running_proxy(registry.url, {"embedded": "data"}, tmp_path / "p") as proxy:
            config = ("--config", str(proxy.config_path))
            result = site.run("allow", "team/app:1.0", "--for", "1h", "--reason", "x", *config)
            assert (result.exit_code, result.stderr) == (0, UNKNOWN)
            assert "granted" in site.run("history", "team/app", *config).stdout
            assert proxy.is_ready

    def test_where_none_can_be_started_that_is_said(self, embedded: Site) -> None:
        (embedded.folder / "data").write_text("a file in the way")
        result = embedded.run("history", "team/app")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "error: redis.embedded: data cannot be used: File exists\n"


def test_ctrl_c_ends_a_long_command_in_order(site: Site) -> None:
    async def push(edge: RunningEdge) -> None:
        for number in range(20):
            await edge.direct.push("team/app", f"{number}.0", image("one"))

    site.talk(push)
    with site.start("import", "--json", "--rate", "2") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert re.fullmatch(r"interrupted after \d+ tags?; run it again to go on from there\n", errors)
    known = [each for each in site.lines("import") if each["result"] == "known"]
    assert 1 <= len(known) < 20


def test_a_reader_that_goes_away_is_no_failure(site: Site) -> None:
    async def push(edge: RunningEdge) -> None:
        await edge.client.push("team/app", "1.0", image("one"))

    site.talk(push)
    with site.start("history", "team/app", "--json") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
    assert "Traceback" not in errors


def test_the_commands_are_those_that_are_listed() -> None:
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        assert command.name == name
    assert main.get_command(context, "serv") is None


def test_plain_text_keeps_words_and_loses_powers() -> None:
    assert plain("ünïcode, 漢字 and emoji \N{WHALE}") == "ünïcode, 漢字 and emoji \N{WHALE}"
    assert is_harmless(plain(HOSTILE))
    assert plain("two\nlines") == "two\N{REPLACEMENT CHARACTER}lines"


def test_a_command_that_fails_leaves_no_server_behind(site: Site) -> None:
    site.write(redis="{embedded: data}", upstream="{url: http://127.0.0.1:1}")
    assert site.run("verify").exit_code == 1
    assert not _answers(site.folder / "data/redis.sock")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0
