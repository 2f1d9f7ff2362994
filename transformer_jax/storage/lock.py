"""A lock file, which the system frees when the process that holds it dies."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What file systems that have no locks answer, such as some network ones."""


@contextmanager
def locked(path: Path, blocking: bool = True) -> Iterator[None]:
    """Hold the lock file ``path``, which stays. A file system without locks is said, and nothing is held.

    Raises filelock.Timeout if another process holds it and is not to be waited for, OSError if it cannot be written.
    """
    lock = FileLock(path, fallback_to_soft=False)  # A soft lock outlives a killed process.
    try:
        lock.acquire(blocking=blocking)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:  # Timeout is among them.
            raise
        logging.warning(f"{path.parent} lies on a file system without locks: see to it that no other run uses it.")
    try:
        yield
    finally:
        lock.release()
