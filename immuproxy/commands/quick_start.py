"""What a proxy imports, without what only costs time: imports are most of its start."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LEFT_OUT = {
    "rich": "structlog would draw traces with it that show the values of variables, which are never drawn (H84)",
    "cryptography": "PyJWT would check signatures with it; the registry checks them",
}
"""Packages that libraries import wherever they are installed, and do without where they are not; and why we do."""


@contextmanager
def imports() -> Iterator[None]:
    """Around the imports of a process that serves from then on.

    What they make stays until the end: it is neither looked through for garbage meanwhile, nor ever after.
    """
    left_out = [name for name in LEFT_OUT if name not in sys.modules]
    sys.modules.update(dict.fromkeys(left_out))  # type: ignore[arg-type]  # None: as if it were not installed
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        for name in left_out:
            del sys.modules[name]
