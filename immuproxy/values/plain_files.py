"""Files that people give, read so that no kind of file can stop the process: each is read again while it runs."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read(path: Path, most: int) -> bytes:
    """The content of a regular file, of a larger one ``most`` bytes and one, which shows that it is too large.

    Raises `OSError`, also for what is no regular file: opening a pipe waits for whoever writes to it, for ever if need
    be, and a device may have no end.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return file.read(most + 1)
