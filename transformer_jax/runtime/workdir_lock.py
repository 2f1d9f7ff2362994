"""Exclusive use of a run directory during training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import jax
import numpy as np
from filelock import Timeout
from jax.experimental.multihost_utils import broadcast_one_to_all

from transformer_jax.data.run_data import RunData
from transformer_jax.data.run_tokenizers import remove_tokenizers
from transformer_jax.data.text_statistics import TextStatistics
from transformer_jax.errors import InputError
from transformer_jax.storage.lock import locked

LOCK_FILE = ".lock"


@contextmanager
def exclusive_workdir(workdir: Path) -> Iterator[None]:
    """Create and lock a run directory, so that no other run trains in it at the same time.

    If the start fails before config.json exists, remove the files that it wrote.
    Raises InputError, on every process of the run, if another run has locked the directory or if writing to it fails.
    """
    with ExitStack() as stack:
        problem, was_empty = "", False
        if jax.process_index() == 0:
            try:
                workdir.mkdir(parents=True, exist_ok=True)
                was_empty = {path.name for path in workdir.iterdir()} <= {LOCK_FILE}
                stack.enter_context(locked(workdir / LOCK_FILE, blocking=False))
            except Timeout:
                problem = f"{workdir} is in use by another training run. Wait until that run ends"
            except OSError as error:
                problem = f"cannot write to {workdir}: {error.strerror}. Fix this error"
        if jax.process_count() > 1 and broadcast_one_to_all(np.array(bool(problem))):
            problem = problem or f"process 0 cannot use {workdir}. See its error message"
        if problem:
            raise InputError(f"{problem}, or choose another --workdir.")
        try:
            yield
        finally:
            if was_empty and not (workdir / "config.json").exists():
                _remove_failed_start(workdir)


def _remove_failed_start(workdir: Path) -> None:
    """Remove the files that a start writes before config.json, and the directory if it is then empty."""
    with suppress(OSError):
        checkpoints = workdir / "checkpoints"
        if checkpoints.exists():
            checkpoints.rmdir()
        remove_tokenizers(workdir)
        TextStatistics.remove(workdir)
        RunData.remove(workdir)
        if [path.name for path in workdir.iterdir()] == [LOCK_FILE]:
            (workdir / LOCK_FILE).unlink()
            workdir.rmdir()
