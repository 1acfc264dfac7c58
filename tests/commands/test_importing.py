from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from immuproxy.drift.importing import CHUNK
from tests.commands.conftest import HOSTILE, Site, is_harmless
from tests.support.answering import Asked, Said, answering
from tests.support.conversation import Client, RunningEdge, image, index
from tests.support.servers import RedisServer, RegistryServer
from tests.support.tokens import TokenIssuer, running_token_server

REPOSITORIES = "docker/registry/v2/repositories"


async def old_tags(edge: RunningEdge) -> None:
    """What stood in the registry before the proxy came."""
    await edge.direct.push("team/app", "1.0", image("one"))
    await edge.direct.push("team/app", "1.1", index(image("one"), image("two")))
    await edge.direct.push("team/app", "latest", image("two"))
    await edge.direct.push("team/web", "2.0", image("three"))


def outcomes(found: list[dict[str, str]]) -> dict[str, str]:
    return {f"{each['repository']}:{each['tag']}": each["result"] for each in found}


def test_h71_protected_tags_are_adopted_and_held_from_then_on(site: Site) -> None:
    site.talk(old_tags)
    assert outcomes(site.lines("import")) == {
        "team/app:1.0": "adopted",
        "team/app:1.1": "adopted",
        "team/app:latest": "mutable",
        "team/web:2.0": "adopted",
    }
    assert [event["outcome"] for event in site.lines("history", "team/web")] == ["adopted"]

    async def overwrite(edge: RunningEdge) -> list[int]:
        await edge.direct.push("team/web", "2.0", image("moved behind our back"))
        pulled = await edge.client.pull("team/web", "2.0")
        assert pulled.digest == image("three").digest
        return [(await edge.client.push("team/app", tag, image("new"))).status for tag in ("1.0", "1.1", "latest")]

    assert site.talk(overwrite) == [409, 409, 201]


def test_what_is_known_costs_no_question_to_the_upstream(site: Site, registry: RegistryServer) -> None:
    site.talk(old_tags)
    site.run("import", "team/web")
    before = len(registry.log)
    assert outcomes(site.lines("import", "team/web")) == {"team/web:2.0": "known"}
    assert "/manifests/" not in registry.log[before:]


def test_only_the_named_repositories(site: Site) -> None:
    site.talk(old_tags)
    assert outcomes(site.lines("import", "team/web")) == {"team/web:2.0": "adopted"}


def test_a_named_repository_that_is_not_there_is_said(site: Site) -> None:
    site.talk(old_tags)
    result = site.run("import", "team/web", "team/none")
    assert result.exit_code == 1
    assert result.stderr == "the upstream lists no tags of team/none; is the name right?\n"
    assert result.stdout.splitlines()[1].split() == ["team/web", "1", "0", "0", "0", "0", "0"]
    alone = site.run("import", "team/none")
    assert (alone.exit_code, alone.stderr) == (1, result.stderr)


def test_lists_and_children_keep_to_the_rate_too(site: Site) -> None:
    """Repositories whose tags are all known cost a list each, and an index a look at each child."""
    site.talk(old_tags)
    site.run("import", "--rate", "10000")
    began = time.monotonic()
    site.run("import", "--rate", "4")
    assert time.monotonic() - began >= (4 - 1) / 4  # GET /v2/, the catalog, two lists


def test_in_shadow_mode_nothing_is_taken_over_and_that_is_said(site: Site) -> None:
    site.write(rules="rules: [{name: trial, policy: immutable, mode: shadow}]\n")

    async def one_old_tag(edge: RunningEdge) -> None:
        await edge.direct.push("team/app", "1.0", image("one"))

    site.talk(one_old_tag)
    result = site.run("import")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split() == ["team/app", "0", "0", "0", "1", "0", "0"]
    assert result.stderr == "shadow: 1 tag not protected yet, by rules on trial; import again when those end\n"
    site.write(rules="rules: [{name: trial, policy: immutable}]\n")
    assert [row["result"] for row in site.lines("import")] == ["adopted"]


def test_h27_a_ghost_is_told_and_is_no_failure(site: Site, registry: RegistryServer) -> None:
    site.talk(old_tags)
    (registry.storage / REPOSITORIES / "team/app/_manifests/tags/ghost/index").mkdir(parents=True)
    result = site.run("import")
    assert result.exit_code == 0
    assert result.stderr == "ghost: team/app:ghost: the upstream lists it and does not give it out\n"
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows == [
        ["repository", "adopted", "known", "mutable", "shadow", "ghost", "unreadable"],
        ["team/app", "2", "0", "1", "0", "1", "0"],
        ["team/web", "1", "0", "0", "0", "0", "0"],
        ["all", "3", "0", "1", "0", "1", "0"],
    ]


def test_what_cannot_be_read_is_status_1(site: Site, registry: RegistryServer) -> None:
    site.talk(old_tags)
    damaged = image("one").digest[7:]
    (registry.storage / f"docker/registry/v2/blobs/sha256/{damaged[:2]}/{damaged}/data").write_bytes(b"")
    found = site.lines("import", "team/app", status=1)
    assert outcomes(found)["team/app:1.0"] == "unreadable"
    assert "500" in next(each["reason"] for each in found if each["tag"] == "1.0")


async def push_with_token(url: str, issuer: TokenIssuer, repository: str, tag: str) -> None:
    async with aiohttp.ClientSession() as session:
        token = issuer.issue("alice", {repository: ["pull", "push"]})
        client = Client(url, session, {"Authorization": f"Bearer {token}"})
        assert (await client.push(repository, tag, image(repository))).status == 201


def test_a_registry_that_hands_out_tokens_is_walked_with_one_for_the_catalog_and_one_for_each_repository(
    site: Site, start_registry: Callable[..., RegistryServer]
) -> None:
    with running_token_server("immuproxy", "secret") as tokens:
        closed = start_registry(token=tokens.issuer)
        for repository in ("team/app", "team/web"):
            asyncio.run(push_with_token(closed.url, tokens.issuer, repository, "1.0"))
        site.write(upstream=f"{{url: {closed.url}, username: immuproxy, password: secret}}")
        assert outcomes(site.lines("import")) == {"team/app:1.0": "adopted", "team/web:1.0": "adopted"}
        wanted = {"registry:catalog:*", "repository:team/app:pull", "repository:team/web:pull"}
        assert wanted <= set(tokens.scopes) <= {"", *wanted}
        assert len(tokens.scopes) == len(set(tokens.scopes)), "a token serves until it ends"
        assert site.run("verify").exit_code == 0


def test_an_account_without_the_catalog_can_import_what_is_named(
    site: Site, start_registry: Callable[..., RegistryServer]
) -> None:
    with running_token_server("immuproxy", "secret") as tokens:
        tokens.withheld.append("registry:catalog:*")
        closed = start_registry(token=tokens.issuer)
        asyncio.run(push_with_token(closed.url, tokens.issuer, "team/app", "1.0"))
        site.write(upstream=f"{{url: {closed.url}, username: immuproxy, password: secret}}")
        refused = site.run("import")
        assert refused.exit_code == 1
        assert "(it answered 401): name them" in refused.stderr
        assert outcomes(site.lines("import", "team/app")) == {"team/app:1.0": "adopted"}


def test_an_empty_registry(site: Site) -> None:
    result = site.run("import")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "the upstream lists no tags\n")


def test_an_upstream_that_is_down(site: Site, registry: RegistryServer) -> None:
    registry.stop()
    result = site.run("import")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"error: the upstream {registry.url} does not answer: " in result.stderr
    assert "is upstream.url in immuproxy.yml right?" in result.stderr


def test_an_upstream_that_goes_away_ends_the_walk(site: Site, registry: RegistryServer) -> None:
    site.talk(old_tags)

    def answer(asked: Asked) -> Said:
        if asked.target == "/v2/" and not any("manifests" in each.target for each in server.asked):
            return Said()
        if asked.target.startswith("/v2/team/app/tags/list"):
            return Said(body=json.dumps({"tags": [f"v{number}" for number in range(20)]}).encode())
        return Said(502)

    with answering(answer) as server:
        site.write(upstream=f"{{url: {server.url}}}")
        result = site.run("import", "team/app")
        assert result.exit_code == 1
        assert "does not answer: it answers 502" in result.stderr
        assert len({each.target for each in server.asked if "manifests" in each.target}) == 5


def test_a_repository_whose_name_nobody_can_push_to(site: Site) -> None:
    def answer(asked: Asked) -> Said:
        listed = {"repositories": ["Team/App", HOSTILE]} if "_catalog" in asked.target else {}
        return Said(body=json.dumps(listed).encode())

    with answering(answer) as server:
        site.write(upstream=f"{{url: {server.url}}}")
        result = site.run("import")
    assert result.exit_code == 1
    assert "unreadable: Team/App: this is no repository name" in result.stderr
    assert is_harmless(result.output)


def test_tags_that_cannot_be_tags(site: Site) -> None:
    def answer(asked: Asked) -> Said:
        return Said(body=json.dumps({"tags": [HOSTILE, "../up"]}).encode())

    with answering(answer) as server:
        site.write(upstream=f"{{url: {server.url}}}")
        result = site.run("import", "team/app")
        assert not any("/manifests/" in asked.target for asked in server.asked)
    assert result.exit_code == 1
    assert result.stderr.count("this is no tag of the specification") == 2
    assert is_harmless(result.output)


def test_an_upstream_that_is_no_registry(site: Site) -> None:
    with answering(lambda _: Said(404)) as server:
        site.write(upstream=f"{{url: {server.url}}}")
        result = site.run("import")
    assert result.exit_code == 1
    assert "does not answer: it answers 404 to GET /v2/" in result.stderr


def test_a_catalog_that_nobody_may_read(site: Site) -> None:
    with answering(lambda asked: Said(401 if "_catalog" in asked.target else 200)) as server:
        site.write(upstream=f"{{url: {server.url}}}")
        result = site.run("import")
    assert result.exit_code == 1
    assert "does not list its repositories (it answered 401): name them" in result.stderr


@pytest.mark.parametrize("arguments", [("Team/App",), ("team/app:1.0",), ("--rate", "0")])
def test_wrong_usage(site: Site, arguments: tuple[str, ...]) -> None:
    assert site.run("import", *arguments).exit_code == 2


def test_with_the_accounts_credentials(
    site: Site, start_registry: Callable[..., RegistryServer], redis_server: RedisServer
) -> None:
    closed = start_registry(htpasswd={"alice": "secret", "immuproxy": "secret"})

    async def push(edge: RunningEdge) -> None:
        await edge.direct.as_user("alice").push("team/app", "1.0", image("one"))

    site.upstream_url = closed.url
    site.talk(push)
    site.write()
    assert "does not list its repositories (it answered 401)" in site.run("import").stderr
    (denied,) = site.lines("import", "team/app", status=1)
    assert denied["result"] == "unreadable"
    (site.folder / "password").write_text("secret\n")
    site.write(upstream=f"{{url: {closed.url}, username: immuproxy, password_file: password}}")
    assert outcomes(site.lines("import")) == {"team/app:1.0": "adopted"}
    (site.folder / "password").write_text("wrong\n")
    refused = site.run("import")
    assert refused.exit_code == 1
    assert refused.stderr.splitlines() == [
        f"error: the upstream {closed.url} does not let in 'immuproxy'",
        "are upstream.username and its password in immuproxy.yml right?",
    ]


def test_a_missing_password_file_is_said(site: Site, registry: RegistryServer) -> None:
    site.write(upstream=f"{{url: {registry.url}, username: immuproxy, password_file: nowhere}}")
    result = site.run("import")
    assert result.exit_code == 1
    assert "error: upstream.password_file: cannot read " in result.stderr
    assert "nowhere: No such file or directory" in result.stderr


def test_a_password_file_that_is_no_text_is_said(site: Site, registry: RegistryServer, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    site.write(upstream=f"{{url: {registry.url}, username: immuproxy, password_file: {tmp_path / 'binary'}}}")
    result = site.run("import")
    assert result.exit_code == 1
    assert f"error: upstream.password_file: {tmp_path / 'binary'} is no text" in result.stderr


def test_more_tags_than_one_round_trip_holds(site: Site, registry: RegistryServer) -> None:
    site.talk(old_tags)
    tags = registry.storage / REPOSITORIES / "team/web/_manifests/tags"
    for number in range(CHUNK + 10):
        shutil.copytree(tags / "2.0", tags / f"c{number}")
    rules = "default: mutable\nrules: [{name: held, tags: ['c50*'], policy: immutable}]\n"
    site.write(rules=rules)
    found = outcomes(site.lines("import", "team/web", "--rate", "10000"))
    assert len(found) == CHUNK + 11
    assert sum(result == "adopted" for result in found.values()) == 11


def test_the_bar_goes_to_the_terminal_and_nothing_else_to_the_result(site: Site, tmp_path: Path) -> None:
    site.talk(old_tags)
    ours, theirs = pty.openpty()
    with (tmp_path / "result").open("w") as result:
        process = site.start("import", "--json", "--rate", "2", stdout=result, stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:
            pass  # the other end is closed
        assert process.wait(20) == 0
    os.close(ours)
    assert b"importing" in shown
    assert b"2/2" in shown
    assert b"3 of 3 tags" in shown
    found = [json.loads(line) for line in (tmp_path / "result").read_text().splitlines()]
    assert len(found) == 4
