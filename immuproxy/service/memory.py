"""Memory that is used for a moment goes back to the system.

The C library gives a large block back as soon as it is free, but takes the largest one that it has seen, up to 32 MiB,
for small from then on (mallopt(3), M_MMAP_THRESHOLD).  After a few large manifests it would keep the room of all that
were on their way at once (H85).
"""

from __future__ import annotations

import ctypes

LARGE = 2 * 1024 * 1024
"""Bytes of a block that is given back at once: half of the largest manifest, more than a stream ever reads ahead."""

_MMAP_THRESHOLD = -3


def give_back_large_blocks() -> None:
    """For the whole process; does nothing where the C library is another one."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, LARGE)
