"""What libraries and the system raise while a run is under way, as one line with the remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from transformer_jax.errors import RunError

LOST = ("Gloo", "remote process exited", "heartbeat", "UNAVAILABLE:", "DEADLINE_EXCEEDED:")
"""What errors say when another process does not answer: those of Gloo (CPU), of NCCL, and of JAX's coordination
service.
"""


@contextmanager
def as_run_errors(workdir: Path) -> Iterator[None]:
    """Turn what goes wrong in ``workdir``, on the devices, between the processes or on the disk into a RunError."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # The second from a program's first call.
        if "RESOURCE_EXHAUSTED" in str(error):
            raise RunError(
                "a device's memory is used up. Lower --data.batch-tokens, or raise --training.accumulate or "
                "--mesh.fsdp."
            ) from error
        if jax.process_count() > 1 and any(sign in str(error) for sign in LOST):
            reason = str(error).partition("\n")[0]
            raise RunError(
                f"another process of the run is gone ({reason}). Start all of them again: "
                f"{workdir} goes on from its last checkpoint."
            ) from error
        raise
    except OSError as error:
        place = os.fsdecode(error.filename) if error.filename else workdir
        raise RunError(
            f"{place}: {error.strerror or error}. Mend that and give the same command again: {workdir} goes on from "
            "its last checkpoint."
        ) from error
