"""A root file system made of Debian packages that are installed here: a base image without a download."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_CERTIFICATES_NAME = str(CERTIFICATES).lstrip("/")
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
_FILES = {
    "etc/passwd": _PASSWD,
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": b"hosts: files dns\n",
}
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_DIRECTORIES = {
    "usr": 0o755,
    "usr/lib64": 0o755,
    "tmp": 0o1777,
    "root": 0o700,
    "data": 0o755,
    "var/lib/registry": 0o755,
}
_DOCUMENTATION = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/")


def missing_packages(names: Iterable[str]) -> list[str]:
    """Those of `names` that are not installed; all of them where there is no dpkg."""
    try:
        installed = _installed()
    except FileNotFoundError:
        return list(names)
    return [name for name in names if name not in installed]


def rootfs(packages: Sequence[str]) -> bytes:
    """A tar archive of all files of `packages` and of what they depend on."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, target in _LINKS.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        for name, mode in _DIRECTORIES.items():
            _add_directory(tar, name, mode)
        ours = {*_LINKS, *_FILES, *_DIRECTORIES, _CERTIFICATES_NAME}
        for path in _files(_closure(packages)):
            if path.lstrip("/") not in ours:  # an engine takes no path twice
                tar.add(path, path.lstrip("/"), recursive=False)
        tar.add(CERTIFICATES, _CERTIFICATES_NAME)
        for name, content in _FILES.items():
            _add(tar, name, content)
    return out.getvalue()


def _installed() -> dict[str, list[list[str]]]:
    """Each installed package, and what it provides, with its dependencies: each a list of alternatives."""
    form = "${db:Status-Status}\t${Package}\t${Provides}\t${Pre-Depends}, ${Depends}\n"
    listing = subprocess.run(["dpkg-query", "-W", f"-f={form}"], capture_output=True, text=True, check=True).stdout
    found: dict[str, list[list[str]]] = {}
    for line in listing.splitlines():
        status, name, provides, depends = line.split("\t")
        if status == "installed":
            needs = [[_bare(n) for n in group.split("|")] for group in depends.split(",") if group.strip()]
            found[name] = needs
            for virtual in filter(None, map(_bare, provides.split(","))):
                found.setdefault(virtual, [[name]])
    return found


def _bare(dependency: str) -> str:
    return re.sub(r"\(.*?\)|:\w+", "", dependency).strip()


def _closure(packages: Sequence[str]) -> list[str]:
    installed = _installed()
    wanted, seen = deque(packages), set[str]()
    while wanted:
        name = wanted.popleft()
        if name not in seen:
            seen.add(name)
            wanted.extend(_first_installed(group, installed) for group in installed[name])
    return sorted(seen)


def _first_installed(alternatives: Sequence[str], installed: dict[str, list[list[str]]]) -> str:
    return next(name for name in alternatives if name in installed)


def _files(packages: Sequence[str]) -> Iterator[str]:
    """Where the files of those packages really are: /lib is a link to /usr/lib."""
    listing = subprocess.run(["dpkg-query", "-L", *packages], capture_output=True, text=True, check=False).stdout
    real = {_real(line) for line in listing.splitlines() if line.startswith("/") and line != "/."}
    for path in sorted(real):
        if os.path.lexists(path) and not path.startswith(_DOCUMENTATION):
            yield path


def _real(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)  # noqa: PTH118  # Path would resolve a final link too


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))


def _add_directory(tar: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)
