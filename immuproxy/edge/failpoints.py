"""Named places in the path of a push at which a test may stop the process dead (F1 to F8).

``IMMUPROXY_FAILPOINT=F5`` in the environment makes the process kill itself with SIGKILL when it first comes to F5.
Without the variable a failpoint is one comparison.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum


class Failpoint(StrEnum):
    """After which step the process stops."""

    PRE_CLAIM = "F1"
    POST_CLAIM = "F2"
    POST_PROBE = "F3"
    POST_ARM = "F4"
    PUT_SENT = "F5"
    PUT_APPLIED = "F6"
    PRE_COMMIT = "F7"
    POST_COMMIT = "F8"


_CHOSEN = os.environ.get("IMMUPROXY_FAILPOINT")


def reach(point: Failpoint) -> None:
    """Die here when this failpoint was chosen."""
    if point == _CHOSEN:
        os.kill(os.getpid(), signal.SIGKILL)
