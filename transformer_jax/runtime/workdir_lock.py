"""The folder of a run, as long as it is trained in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import jax
import numpy as np
from filelock import Timeout
from jax.experimental.multihost_utils import broadcast_one_to_all

from transformer_jax.data.tokenizers import remove_tokenizers
from transformer_jax.errors import InputError
from transformer_jax.storage.lock import locked

LOCK = ".lock"


@contextmanager
def exclusive_workdir(workdir: Path) -> Iterator[None]:
    """Make the folder, and let nobody else train there meanwhile.

    Nothing is left of a start that ended before there was a config.json. Raises InputError, on every process of this
    run, if another run has the folder or if it cannot be written.
    """
    with ExitStack() as held:
        problem, is_ours = "", False
        if jax.process_index() == 0:
            try:
                workdir.mkdir(parents=True, exist_ok=True)
                is_ours = {path.name for path in workdir.iterdir()} <= {LOCK}
                held.enter_context(locked(workdir / LOCK, blocking=False))
            except Timeout:
                problem = "is in use by another training. Wait for its end"
            except OSError as error:
                problem = f"cannot be made or written: {error.strerror}. Mend that"
        if jax.process_count() > 1 and broadcast_one_to_all(np.array(bool(problem))):
            problem = problem or "was refused by process 0, which says why. Mend that"
        if problem:
            raise InputError(f"{workdir} {problem}, or name another --workdir.")
        try:
            yield
        finally:
            if is_ours and not (workdir / "config.json").exists():
                _clear(workdir)


def _clear(workdir: Path) -> None:
    """Remove what a start writes before its run begins, and the folder, unless somebody has put something there."""
    with suppress(OSError):
        checkpoints = workdir / "checkpoints"
        if checkpoints.exists():
            checkpoints.rmdir()
        remove_tokenizers(workdir)
        if [path.name for path in workdir.iterdir()] == [LOCK]:
            (workdir / LOCK).unlink()
            workdir.rmdir()
