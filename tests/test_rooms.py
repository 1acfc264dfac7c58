"""The arrows between the rooms, as pyproject.toml draws them, hold; and a broken one would be seen."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint_imports(where: Path) -> tuple[int, str]:
    """Status and output for the package and the contracts in `where`."""
    done = subprocess.run(
        [LINT_IMPORTS, "--no-cache"],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(where)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_rooms_import_only_what_they_may() -> None:
    status, output = lint_imports(ROOT)
    assert status == 0, output


@pytest.mark.parametrize(
    ("path", "line", "contract"),
    [
        ("oci/names.py", "import asyncio", "Names, routes and manifests"),
        ("oci/names.py", "import immuproxy.rules", "Arrows between the rooms"),
        ("rules/__init__.py", "import time", "Rules judge without"),
        ("rules/__init__.py", "import immuproxy.ledger", "Arrows between the rooms"),
        ("ledger/keys.py", "import aiohttp", "Store, ledger and audit speak"),
        ("console/__init__.py", "import immuproxy.edge", "Arrows between the rooms"),
        ("edge/__init__.py", "import redis.asyncio", "Only the store speaks Redis"),
        ("ledger/__init__.py", "import redis", "Only the store speaks Redis"),
        ("ledger/__init__.py", "import immuproxy.audit", "Arrows between the rooms"),
        ("store/__init__.py", "import immuproxy.ledger", "Arrows between the rooms"),
        ("values/__init__.py", "import asyncio", "Values know"),
        ("audit/tags.py", "import immuproxy.ledger.register", "The audit knows"),
        ("edge/headers.py", "import asyncio", "The pure files"),
        ("newroom.py", "", "Arrows between the rooms"),
    ],
)
def test_an_arrow_the_wrong_way_is_seen(tmp_path: Path, path: str, line: str, contract: str) -> None:
    shutil.copytree(ROOT / "immuproxy", tmp_path / "immuproxy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "immuproxy" / path).open("a") as source:
        source.write(f"\n{line}\n")
    status, output = lint_imports(tmp_path)
    assert status == 1
    told = " ".join(output.split())
    assert f"{contract}" in told.split("Broken contracts")[-1]


def test_one_class_name_means_one_thing() -> None:
    sources = (path.read_text() for path in (ROOT / "immuproxy").rglob("*.py"))
    classes = (node.name for text in sources for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    assert [name for name, times in Counter(classes).items() if times > 1 and not name.startswith("_")] == []
