"""A closed console as part of the whole service: what stops the start, what stays open, TLS, and the warnings."""

from __future__ import annotations

import base64
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.console.logging_in import ADMINISTRATOR, PASSWORDS, users_text
from tests.service.test_config import MINIMAL, config_of
from tests.service.test_serve import Served, file_for
from tests.support.servers import RedisServer, RegistryServer, wait_until

USERS_FILE = "auth: {users_file: users, administrators: [anna]}"


class Closed(Served):
    console_rest = USERS_FILE

    def write(self, text: str) -> None:
        self.file.write_text(
            f"{text}\nedge: {{listen: '127.0.0.1:{self.edge}'}}\n"
            f"console: {{listen: '127.0.0.1:{self.console}', {self.console_rest}}}\n"
        )


class ByTls(Closed):
    console_rest = f"tls: {{cert: cert.pem, key: key.pem}}, {USERS_FILE}"


@pytest.fixture
def serve(tmp_path: Path, registry: RegistryServer, redis_server: RedisServer) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(kind: type[Served] = Closed) -> Served:
        started.append(kind(tmp_path, file_for(registry, redis_server)))
        return started[-1]

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.kill()
        served.process.wait()


def test_a_users_file_that_cannot_be_used_stops_the_start_with_its_line(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    (tmp_path / "users").write_text(users_text() + "old:$apr1$abcdefgh$1234567890123456789012\n")
    served = serve()
    assert served.process.wait(20) == 1
    said = served.log.read_text()
    assert f"{tmp_path / 'users'}:3: the password of old is an MD5 hash" in said
    assert "htpasswd -B" in said
    assert "1234567890" not in said


def test_a_users_file_that_is_not_there_stops_the_start(serve: Callable[..., Served]) -> None:
    served = serve()
    assert served.process.wait(20) == 1
    assert "console.auth.users_file: cannot read" in served.log.read_text()


def test_the_service_is_closed_but_for_machines(serve: Callable[..., Served], tmp_path: Path) -> None:
    (tmp_path / "users").write_text(users_text())
    served = serve()
    served.until_ready()
    assert served.get("/api/v1/events")[0] == 401
    assert served.get("/healthz")[0] == 200
    notified = urllib.request.Request(
        f"http://127.0.0.1:{served.console}/notifications", data=b'{"events": []}', method="POST"
    )
    with urllib.request.urlopen(notified, timeout=5) as answer:
        assert answer.status == 202
    credential = base64.b64encode(f"{ADMINISTRATOR}:{PASSWORDS[ADMINISTRATOR]}".encode()).decode()
    asked = urllib.request.Request(
        f"http://127.0.0.1:{served.console}/api/v1/viewer", headers={"Authorization": f"Basic {credential}"}
    )
    with urllib.request.urlopen(asked, timeout=5) as answer:
        assert answer.read() == b'{"name":"anna","role":"administrator"}'
    with urllib.request.urlopen(f"http://127.0.0.1:{served.console}/metrics", timeout=5) as answer:
        assert b'immuproxy_events_total{action="log-in",outcome="granted"} 1.0' in answer.read()


def test_by_tls_the_console_gives_secure_cookies(serve: Callable[..., Served], tmp_path: Path) -> None:
    (tmp_path / "users").write_text(users_text())
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    served = serve(ByTls)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trusted), _Stay())
    here = f"https://127.0.0.1:{served.console}"

    def answers() -> bool:
        try:
            return bool(opener.open(f"{here}/healthz", timeout=5).status == 200)
        except OSError:
            return served.process.poll() is not None

    wait_until(answers, "immuproxy to answer by TLS")
    form = f"name={ADMINISTRATOR}&password=anna%27s+password".encode()
    with pytest.raises(urllib.error.HTTPError) as raised:
        opener.open(urllib.request.Request(f"{here}/log-in", form, {"Origin": here}), timeout=10)
    with raised.value as answer:
        assert answer.code == 303
        cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-immuproxy=")
    assert cookie.endswith("; Secure")


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""


def test_passwords_on_a_plain_listener_are_warned_about() -> None:
    console = "console: {{listen: '{listen}', auth: {{users_file: users{more}}}}}\n"
    (warning,) = config_of(MINIMAL + console.format(listen="0.0.0.0:8080", more="")).warnings
    assert "without TLS" in warning.message
    assert "console.tls" in warning.suggestion
    for listen, more in (("127.0.0.1:8080", ""), ("0.0.0.0:8080", ", trusted_proxies: [10.0.0.1]")):
        assert config_of(MINIMAL + console.format(listen=listen, more=more)).warnings == ()


def test_sessions_last_as_the_documentation_says() -> None:
    auth = config_of(MINIMAL + "console: {auth: {users_file: users}}\n").console.auth
    assert auth
    assert (auth.sessions.idle, auth.sessions.longest) == (8 * 3600, 7 * 86_400)
