"""Lock files that the operating system releases when their process dies."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

NO_LOCKS_ERRNOS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Error numbers of file systems without locks, such as some network file systems."""


@contextmanager
def locked(path: Path, blocking: bool = True) -> Iterator[None]:
    """Hold a lock on the file ``path``. The file is not deleted afterwards.

    On a file system without locks, log a warning and continue without a lock.
    blocking: whether to wait for another process that holds the lock.
    Raises filelock.Timeout if another process holds the lock and ``blocking`` is False.
    Raises OSError if the file cannot be written.
    """
    lock = FileLock(path, fallback_to_soft=False)  # A soft lock outlives a killed process.
    try:
        lock.acquire(blocking=blocking)
    except OSError as error:
        if error.errno not in NO_LOCKS_ERRNOS:  # Timeout is an OSError without such a number.
            raise
        logging.warning(
            f"{path.parent} is on a file system without locks. Make sure that no other run uses it at the same time."
        )
    try:
        yield
    finally:
        lock.release()
