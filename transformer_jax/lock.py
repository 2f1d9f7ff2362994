"""One run in a folder at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
import numpy as np
from filelock import FileLock, Timeout
from jax.experimental.multihost_utils import broadcast_one_to_all

from transformer_jax.errors import InputError

NAME = ".lock"


@contextmanager
def only_run_in(workdir: Path) -> Iterator[None]:
    """Make the folder, and let nobody else train there meanwhile. The system frees the lock of a process that dies.

    A folder in which nothing else was written is removed again. Raises InputError, on every process of this run, if
    another run has the folder or if it cannot be written.
    """
    lock, problem = FileLock(workdir / NAME), ""
    if jax.process_index() == 0:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except Timeout:
            problem = "is in use by another training. Wait for its end"
        except NotImplementedError:
            logging.warning(f"{workdir} lies on a file system without locks: see to it that no other run uses it.")
        except OSError as error:
            problem = f"cannot be made or written: {error.strerror}. Mend that"
    if jax.process_count() > 1 and broadcast_one_to_all(np.array(bool(problem))):
        problem = problem or "was refused by process 0, which says why. Mend that"
    if problem:
        raise InputError(f"{workdir} {problem}, or name another --workdir.")
    try:
        yield
    finally:
        if jax.process_index() == 0 and [path.name for path in workdir.iterdir()] == [NAME]:
            (workdir / NAME).unlink()
            with suppress(OSError):  # Somebody has put something there meanwhile.
                workdir.rmdir()
        lock.release()
