"""Certificate and key are read again when their files change; a bad pair is told and the old one stays."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
import ssl
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from structlog.testing import capture_logs

from immuproxy.edge.answers import Response
from immuproxy.edge.server import EdgeServer
from immuproxy.listening.certificates import CertificateError, Certificates
from immuproxy.listening.validity import not_after
from immuproxy.values.sections import TlsSettings
from tests.support.listening import listening
from tests.support.odd_files import release, replace

AUTHORITY = trustme.CA()


def write_pair(directory: Path, issued: trustme.LeafCert) -> None:
    directory.mkdir(exist_ok=True)
    issued.private_key_pem.write_to_path(directory / "key.pem")
    (directory / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))


def issue(ends: dt.datetime | None = None) -> trustme.LeafCert:
    return AUTHORITY.issue_cert("127.0.0.1", not_after=ends)


def files(directory: Path) -> TlsSettings:
    return TlsSettings(cert=directory / "cert.pem", key=directory / "key.pem")


async def look_twice(held: Certificates) -> list[str]:
    """What is logged while the files are looked at, and again a second later."""
    with capture_logs() as logs:
        await held.look()
        await held.look()
        await held.look()
    return [entry["event"] for entry in logs]


async def test_a_new_pair_is_for_the_next_connection(tmp_path: Path) -> None:
    write_pair(tmp_path, issue())
    held = await Certificates.read("edge", files(tmp_path))
    before = await shown(held)
    write_pair(tmp_path, issue())
    assert await shown(held) == before
    assert await look_twice(held) == ["certificate read"]
    assert await shown(held) != before


async def test_a_symbolic_link_is_followed_as_kubernetes_moves_it(tmp_path: Path) -> None:
    """`cert.pem` -> `..data/cert.pem`, and `..data` is replaced by a rename; sizes and times may well be the same."""
    for name in ("..one", "..two"):
        write_pair(tmp_path / name, issue())
    (tmp_path / "..data").symlink_to("..one")
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    held = await Certificates.read("edge", files(tmp_path))
    before = await shown(held)
    (tmp_path / "..new").symlink_to("..two")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert await look_twice(held) == ["certificate read"]
    assert await shown(held) != before


@pytest.mark.parametrize("fault", ["another key", "no certificate", "gone", "encrypted"])
async def test_a_bad_pair_is_told_once_and_the_old_one_stays(tmp_path: Path, fault: str) -> None:
    write_pair(tmp_path, issue())
    shutil.copytree(tmp_path, tmp_path / "good")
    held = await Certificates.read("edge", files(tmp_path))
    before = await shown(held)
    match fault:
        case "another key":
            issue().private_key_pem.write_to_path(tmp_path / "key.pem")
        case "no certificate":
            (tmp_path / "cert.pem").write_text("none")
        case "gone":
            (tmp_path / "key.pem").unlink()
        case _:
            (tmp_path / "key.pem").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n")
    assert await look_twice(held) == ["the new certificate is not in force"]
    assert await shown(held) == before
    write_pair(tmp_path, issue())
    assert await look_twice(held) == ["certificate read"]


async def test_half_of_a_pair_is_waited_for(tmp_path: Path) -> None:
    """Whoever replaces two files one after the other is not told of an error in between."""
    write_pair(tmp_path, issue())
    held = await Certificates.read("edge", files(tmp_path))
    issued = issue()
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    with capture_logs() as logs:
        await held.look()
        write_pair(tmp_path, issued)
        await held.look()
    assert [entry["event"] for entry in logs] == ["certificate read"]


async def test_other_files_may_be_named(tmp_path: Path) -> None:
    write_pair(tmp_path / "one", issue())
    write_pair(tmp_path / "two", issue())
    held = await Certificates.read("edge", files(tmp_path / "one"))
    before = await shown(held)
    held.files = files(tmp_path / "two")
    assert await look_twice(held) == ["certificate read"]
    assert await shown(held) != before


async def test_a_bad_pair_at_the_start_is_an_error(tmp_path: Path) -> None:
    write_pair(tmp_path, issue())
    issue().private_key_pem.write_to_path(tmp_path / "key.pem")
    with pytest.raises(CertificateError, match=r"console\.tls: .*cert\.pem and .*key\.pem cannot be used"):
        await Certificates.read("console", files(tmp_path))


@pytest.mark.parametrize("missing", ["cert.pem", "key.pem"])
async def test_a_file_that_is_not_there_is_named(tmp_path: Path, missing: str) -> None:
    write_pair(tmp_path, issue())
    (tmp_path / missing).unlink()
    with pytest.raises(CertificateError, match=rf"^edge\.tls: cannot read \S*/{missing}: No such file or directory$"):
        await Certificates.read("edge", files(tmp_path))


async def test_the_end_is_told_at_the_start_and_with_each_pair(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    said: list[str] = []
    ends = [dt.datetime(year, 1, 31, 12, 30, 15, tzinfo=dt.UTC) for year in (2031, 2061, 2020)]
    write_pair(tmp_path, issue(ends[0]))
    held = await Certificates.read("edge", files(tmp_path), lambda *what: told.append(what))
    for end in ends[1:]:
        write_pair(tmp_path, issue(end))
        said = await look_twice(held)
    assert told == [("edge", end.timestamp()) for end in ends]
    assert said == ["certificate read", "the certificate has expired"]


@pytest.mark.parametrize("pem", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "text"])
def test_what_is_no_certificate_has_no_end(pem: str) -> None:
    with pytest.raises(ValueError, match="certificate"):
        not_after(pem)


async def shown(held: Certificates) -> bytes:
    """The certificate that a client of a listener sees now."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return Response()

    trusted = ssl.create_default_context()
    AUTHORITY.configure_trust(trusted)
    trusted.check_hostname, trusted.verify_mode = False, ssl.CERT_NONE
    runner = web.ServerRunner(EdgeServer(answer), shutdown_timeout=0.1)
    async with listening(runner, tls=held, handshakes=3) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return found


@pytest.mark.parametrize("name", ["cert.pem", "key.pem"])
@pytest.mark.parametrize("kind", ["fifo", "directory", "huge"])
async def test_what_is_no_plain_file_stops_nothing(tmp_path: Path, name: str, kind: str) -> None:
    write_pair(tmp_path, issue())
    held = await Certificates.read("edge", files(tmp_path))
    before = await shown(held)
    replace(tmp_path / name, kind)
    try:
        async with asyncio.timeout(3):
            assert await look_twice(held) == ["the new certificate is not in force"]
        assert await shown(held) == before
    finally:
        release(tmp_path / name)
