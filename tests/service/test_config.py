from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from immuproxy.rules.document import CONDITION_KEYS, RULE_KEYS, RULES_SECTIONS
from immuproxy.rules.model import Policy
from immuproxy.rules.problems import DocumentErrors, FileProblem
from immuproxy.service.config import MASK, STATE, Config, _models, _Sections, load_config, parse_config
from immuproxy.values.listen import Listen
from immuproxy.values.sections import Settings

MINIMAL = "upstream: {url: http://registry:5000}\nredis: {url: redis://redis:6379/0}\n"
REST = "\nredis: {embedded: data}\n"


def config_of(text: str) -> Config:
    return parse_config(dedent(text).encode(), "/etc/immuproxy/immuproxy.yml")


def problems_of(text: str) -> tuple[FileProblem, ...]:
    with pytest.raises(DocumentErrors) as raised:
        config_of(text)
    return raised.value.problems


def the_problem(text: str) -> FileProblem:
    (problem,) = problems_of(text)
    return problem


def test_a_minimal_file_is_enough() -> None:
    config = config_of(MINIMAL)
    assert config.upstream.url == "http://registry:5000"
    assert config.upstream.timeouts.connect == 10.0
    assert config.upstream.timeouts.manifest == 30.0
    assert config.upstream.timeouts.idle == 300.0
    assert config.upstream.authorize == "auto"
    assert config.upstream.trust == 60.0
    assert config.edge.listen == Listen("0.0.0.0", 5000)
    assert config.console.listen == Listen("127.0.0.1", 8080)
    assert config.redis.timeout == 1.0
    assert (config.redis.wait.replicas, config.redis.wait.aof, config.redis.wait.timeout) == (0, False, 1.0)
    assert config.redis.reads_when_down == "pass-through"
    assert config.redis.allow_unsafe_settings is False
    assert (config.log.level, config.log.format) == ("info", "json")
    assert config.rules.default.policy is Policy.IMMUTABLE
    assert config.warnings == ()


def test_every_key_is_read() -> None:
    config = config_of("""
        upstream:
          url: https://registry:5000/
          username: svc
          password_file: secrets/upstream
          ca_file: /ca.pem
          timeouts: {connect: 5s, manifest: 1m, idle: 500ms}
          authorize: always
          trust: 0s
        edge:
          listen: "[::1]:5000"
          tls: {cert: tls/cert.pem, key: tls/key.pem}
          trusted_proxies: [10.0.0.0/8, 2001:db8::/32]
          external_url: https://registry.example
        console:
          listen: 127.0.0.1:9090
          auth: {identity_header: X-User, trusted_proxies: [127.0.0.1/32], administrators: [root]}
        redis:
          embedded: data
          timeout: 2s
          wait: {replicas: 1, aof: true, timeout: 250ms}
          reads_when_down: refuse
          allow_unsafe_settings: true
        audit: {index: index}
        log: {level: debug, format: console}
        default: frozen
        referrers: false
        rules: [{name: a, tags: x, policy: mutable}]
    """)
    assert config.upstream.url == "https://registry:5000"
    assert config.upstream.password_file == Path("/etc/immuproxy/secrets/upstream")
    assert config.upstream.ca_file == Path("/ca.pem")
    assert config.upstream.timeouts.idle == 0.5
    assert config.upstream.trust == 0.0
    assert config.edge.tls is not None
    assert config.edge.tls.cert == Path("/etc/immuproxy/tls/cert.pem")
    assert config.edge.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"))
    assert config.edge.external_url == "https://registry.example"
    assert config.console.auth is not None
    assert config.console.auth.administrators == ("root",)
    assert config.redis.embedded == Path("/etc/immuproxy/data")
    assert (config.redis.wait.replicas, config.redis.wait.aof, config.redis.wait.timeout) == (1, True, 0.25)
    assert config.audit.index == Path("/etc/immuproxy/index")
    assert config.log.level == "debug"
    assert [rule.name for rule in config.rules.rules] == ["a"]
    assert config.rules.digest == config.digest


@pytest.mark.parametrize(
    ("text", "state", "folder"),
    [
        (MINIMAL, None, None),
        (MINIMAL, "", None),
        (MINIMAL, "/var/lib/immuproxy", "/var/lib/immuproxy/audit"),
        (MINIMAL, "/var/lib/one:/var/lib/two", "/var/lib/one/audit"),
        (MINIMAL + "audit: {index: /index}\n", "/var/lib/immuproxy", "/index"),
        ("upstream: {url: http://r}" + REST, "/var/lib/immuproxy", "/etc/immuproxy/data/audit"),
        ("upstream: {url: http://r}" + REST + "audit: {index: index}\n", None, "/etc/immuproxy/index"),
    ],
)
def test_the_index_is_kept_with_the_other_files_unless_a_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, text: str, state: str | None, folder: str | None
) -> None:
    monkeypatch.delenv(STATE, raising=False)
    if state is not None:
        monkeypatch.setenv(STATE, state)
    assert config_of(text).audit.index == (Path(folder) if folder else None)


def test_a_file_is_loaded_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "immuproxy.yml"
    path.write_text("upstream: {url: http://r:5000}" + REST)
    config = load_config(path)
    assert config.source == str(path)
    assert config.redis.embedded == tmp_path / "data"
    with pytest.raises(OSError, match="No such file"):
        load_config(tmp_path / "missing.yml")
    path.write_bytes(b"#" * 2_000_000)
    with pytest.raises(DocumentErrors, match="1 MiB"):
        load_config(path)


def upstream(inner: str) -> str:
    return f"upstream: {{{inner}}}" + REST


def test_an_upstream_may_be_a_socket() -> None:
    assert config_of(upstream("url: 'unix:///run/registry.sock'")).upstream.url == "unix:///run/registry.sock"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("registry:5000", "begin with http:// or https://"),
        ("ftp://r", "begin with http:// or https://"),
        ("http://", "name a host"),
        ("http://u:p@r", "use the keys username and password"),
        ("http://r/v2", "write http://r"),
        ("http://r/?x=1", "write http://r"),
        ("'http://r/#'", "write http://r"),
        ("http://r:99999", "no URL"),
        ("http://r:0", "no URL"),
        ("'http://[::1'", "no URL"),
        ("'http://r x'", "no URL"),
        ("unix://registry.sock", "unix:///PATH"),
        ("unix:/run/registry.sock", "unix:///PATH"),
        ("unix:///", "unix:///PATH"),
        ("unix:///run/registry.sock?x=1", "unix:///PATH"),
    ],
)
def test_an_upstream_must_be_scheme_host_and_port_or_a_socket(url: str, words: str) -> None:
    problem = the_problem(upstream(f"url: {url}"))
    assert words in str(problem)
    assert (problem.line, problem.column, problem.path) == (1, 17, "upstream.url")


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("default: immutable\n", 1, 1, ""),
        (upstream("url: http://r, urll: x"), 1, 27, 'unknown key "urll"; did you mean "url"?'),
        (upstream("url: http://r, zzz: x"), 1, 27, "known keys are url, username"),
        (upstream("url: http://r, timeouts: {conect: 1s}"), 1, 38, 'did you mean "connect"?'),
        (upstream("url: http://r, timeouts: {idle: 5}"), 1, 44, "add a unit, as in 5s or 5m"),
        (upstream("url: http://r, timeouts: {idle: 0s}"), 1, 44, "nothing is of no use"),
        (upstream("url: http://r, authorize: allways"), 1, 38, 'did you mean "always"?'),
        (upstream("url: http://r, username: x"), 1, 11, "belong together"),
        (upstream("url: http://r, password: x"), 1, 11, "belong together"),
        (upstream("url: http://r, username: u, password: x, password_file: y"), 1, 11, "not both"),
        (upstream("url: http://r, ca_file: x"), 1, 11, "no use with http"),
        (upstream("url: 'unix:///r.sock', ca_file: x"), 1, 11, "no use with unix"),
        ("upstream: http://r" + REST, 1, 11, "upstream is a mapping"),
        (upstream("url: http://r") + "edge: {listen: 5000}", 3, 16, "127.0.0.1:5000"),
        (upstream("url: http://r") + "edge: {trusted_proxies: [10.0.0.1/8]}", 3, 26, "did you mean 10.0.0.0/8?"),
        (upstream("url: http://r") + "edge: {trusted_proxies: 10.0.0.0/8}", 3, 25, "is a list"),
        (upstream("url: http://r") + "edge: {tls: {cert: x}}", 3, 13, '"key" is missing'),
        (upstream("url: http://r") + "edge: {tls: {crt: x, cert: x, key: y}}", 3, 14, 'did you mean "cert"?'),
        (upstream("url: http://r") + "console: {auth: {}}", 3, 17, "exactly one of users_file and identity_header"),
        (upstream("url: http://r") + "console: {auth: {identity_header: X}}", 3, 17, "needs trusted_proxies"),
        (upstream("url: http://r") + "log: {level: loud}", 3, 14, "debug, info, warning or error"),
        (upstream("url: http://r") + "log: {format: yaml}", 3, 15, "json or console"),
        (upstream("url: http://r") + "audit: {index: 7}", 3, 16, "index is text, but this is a number"),
        (upstream("url: http://r") + "audit: {index: [a]}", 3, 16, "index is text, not a list"),
        (upstream("url: http://r") + "audit: {folder: a}", 3, 9, 'unknown key "folder"'),
        (upstream("url: http://r") + "audit: {index: data}", 3, 16, "one folder"),
        ("upstream: {url: http://r}\nredis: {}\n", 2, 8, "exactly one of url and embedded"),
        ("upstream: {url: http://r}\nredis: {url: redis://r, embedded: x}\n", 2, 8, "exactly one"),
        ("upstream: {url: http://r}\nredis: {url: http://r}\n", 2, 14, "redis+sentinel://"),
        ("upstream: {url: http://r}\nredis: {url: redis+sentinel://r:1}\n", 2, 14, "names no master"),
        ("upstream: {url: http://r}\nredis: {embedded: x, wait: {replicas: -1}}\n", 2, 39, "at least 0"),
        ("upstream: {url: http://r}\nredis: {embedded: x, wait: {replicas: 1.5}}\n", 2, 39, "whole number"),
        ("upstream: {url: http://r}\nredis: {embedded: x, wait: {aof: yes}}\n", 2, 34, "true or false"),
        ("upstream: {url: http://r}\nredis: {embedded: x, timeout: [1s]}\n", 2, 31, "a duration such as 10s"),
        ("upstream: {url: http://r}\n", 1, 1, '"redis" is missing; write redis:'),
        ("redis: {embedded: x}\n", 1, 1, '"upstream" is missing; write upstream:'),
        ("upstream:\nredis: {embedded: x}\n", 1, 10, '"upstream" is missing'),
        (MINIMAL + "rediss: {}", 3, 1, 'did you mean "redis"?'),
        (MINIMAL + "edge: {listen: 127.0.0.1:1}\nconsole: {listen: 127.0.0.1:1}", 4, 19, "both listen on 127.0.0.1:1"),
        (MINIMAL + "edge: {listen: 'registry:5000'}", 1, 17, "the edge itself"),
    ],
)
def test_one_mistake_is_one_error_at_its_place(text: str, line: int, column: int, words: str) -> None:
    problems = problems_of(text)
    assert words in " ".join(map(str, problems))
    if words:
        (problem,) = problems
        assert (problem.line, problem.column) == (line, column)


def test_errors_of_settings_and_rules_come_together_in_order() -> None:
    problems = problems_of("""\
        upstream: {url: nowhere}
        edge: {listn: x}
        redis: {}
        default: never
        rules: [{name: a, policy: frozen, tags: [1.10]}]
        consle: {}
    """)
    assert [problem.line for problem in problems] == [1, 2, 3, 4, 5, 6]


def test_sections_that_say_nothing_are_left_at_their_defaults() -> None:
    assert config_of(MINIMAL + "edge:\nlog: ~\n").edge.listen.port == 5000


def test_anchors_and_merge_keys_work_across_sections() -> None:
    text = "x-hosts: &proxies [10.0.0.0/8]\nx-base: &base {trusted_proxies: *proxies}\n" + MINIMAL
    config = config_of(text + "edge: {<<: *base, listen: '127.0.0.1:5000'}\n")
    assert [str(network) for network in config.edge.trusted_proxies] == ["10.0.0.0/8"]


@pytest.mark.parametrize("wrong", ["0", "-1", "257", "1.5", "many", "true", "[1]", "'2'"])
def test_a_number_of_workers_that_is_none(wrong: str) -> None:
    (problem,) = problems_of(
        f"upstream: {{url: 'http://a'}}\nredis: {{url: 'redis://b'}}\nedge: {{workers: {wrong}}}\n"
    )
    assert (problem.line, problem.path) == (3, "edge.workers")
    assert problem.message == "workers is a number of processes from 1 to 256, or auto"
    assert problem.suggestion == "auto is one for each core"


def test_an_open_console_that_others_can_reach_is_warned_about() -> None:
    (warning,) = config_of(MINIMAL + "console: {listen: 0.0.0.0:8080}\n").warnings
    assert "has no auth" in warning.message
    assert (warning.line, warning.column) == (3, 19)


def test_warnings_of_the_rules_are_warnings_of_the_file() -> None:
    (warning,) = config_of(MINIMAL + "rules: [{name: a, policy: frozen}, {name: b, policy: frozen}]\n").warnings
    assert "never decides" in warning.message


SECRETS = """\
x-secret: &secret {password: geheim1}
upstream: {url: http://r, username: svc, <<: *secret}  # kept
redis: {url: "redis://user:geh@eim2@redis:6379/0"}
default: mutable
"""


def test_secrets_are_shown_nowhere() -> None:
    config = config_of(SECRETS)
    assert config.upstream.password is not None
    assert config.upstream.password.get_secret_value() == "geheim1"
    for text in (repr(config), config.shown, config.redis.shown):
        assert "geheim1" not in text
        assert "eim2" not in text
    assert config.shown == SECRETS.replace("geheim1", MASK).replace("geh@eim2", MASK)
    assert config.redis.shown == "redis://user@redis:6379/0"


@pytest.mark.parametrize(
    "text",
    [
        "upstream: {url: http://u:geheim@r}\nredis: {embedded: x}",
        "upstream: {url: http://r, password: [geheim]}\nredis: {embedded: x}",
        "upstream: {url: http://r, username: u, password: 4711}\nredis: {embedded: x}",
        "upstream: {url: http://r}\nredis: {url: 'redis+sentinel://u:geheim@r:x/m/y'}",
        "upstream: {url: http://r}\nredis: {url: 'redis://u:geheim@[r'}",
        "upstream: {url: http://r}\nredis: {url: 'rdis://u:geheim@r'}",
        "upstream: {url: http://r}\nredis: {url: @redis://u:geheim@r}",
    ],
)
def test_no_error_repeats_a_secret(text: str) -> None:
    message = " ".join(problem.describe("f") for problem in problems_of(text))
    assert "geheim" not in message
    assert "4711" not in message


def test_where_the_ledger_is_in_words() -> None:
    assert config_of(MINIMAL).redis.shown == "redis://redis:6379/0"
    assert config_of("upstream: {url: http://r}\nredis: {embedded: /data}").redis.shown == "embedded in /data"
    unix = config_of("upstream: {url: http://r}\nredis: {url: unix:///run/redis.sock?db=1}")
    assert unix.redis.shown == "unix:///run/redis.sock"


def test_settings_do_not_change() -> None:
    config = config_of(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.edge.listen = Listen("x", 1)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        config.source = "x"  # type: ignore[misc]


def test_an_alias_bomb_in_a_section_is_refused_quickly() -> None:
    bomb = "x-a0: &a0 {url: [x]}\n" + "".join(
        f"x-a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 25)
    )
    assert "not a list" in str(the_problem(bomb + "upstream: *a24\nredis: {embedded: x}\n"))


def _settings(model: type[Settings]) -> Iterator[str]:
    """The settings below a model, each with the sections above it; sections themselves are left out."""
    for name, field in model.model_fields.items():
        inner = list(_models(field.annotation))
        yield from (f"{name}.{key}" for section in inner for key in _settings(section))
        if not inner:
            yield name


DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("key", list(_settings(_Sections)))
def test_every_setting_is_documented_in_its_section(key: str) -> None:
    section, _, name = key.partition(".")
    text = (DOCS / "configuration.md").read_text()
    assert f"`{name}`" in text.partition(f"## `{section}`")[2].partition("\n## ")[0]


@pytest.mark.parametrize("key", [*RULE_KEYS, *CONDITION_KEYS, *RULES_SECTIONS, *Policy])
def test_every_key_and_policy_of_the_rules_is_documented(key: str) -> None:
    assert f"`{key}`" in (DOCS / "rules.md").read_text()


@pytest.mark.parametrize("page", ["rules.md", "configuration.md"])
def test_the_first_whole_example_of_a_page_is_good(page: str) -> None:
    blocks = (DOCS / page).read_text().split("\n\n")
    examples = [dedent(block) for block in blocks if block.startswith("    ") and "default: immutable" in block]
    example = examples[0] if "upstream" in examples[0] else MINIMAL + examples[0]
    assert config_of(example).warnings == ()
