"""Conversion of library and operating-system errors to one line with a remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from transformer_jax.errors import RunError

LOST_PROCESS_MESSAGES = ("Gloo", "remote process exited", "heartbeat", "UNAVAILABLE:", "DEADLINE_EXCEEDED:")
"""Substrings of the errors that Gloo (CPU), NCCL and JAX's coordination service raise when another process is lost."""


@contextmanager
def as_run_errors(workdir: Path) -> Iterator[None]:
    """Convert out-of-memory errors, lost processes and failed file operations to a RunError.

    workdir: the run directory, which the messages name.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # The first call of a jitted function raises ValueError.
        if "RESOURCE_EXHAUSTED" in str(error):
            raise RunError(
                "a device is out of memory. Lower --data.batch-tokens, or raise --training.accumulate or --mesh.fsdp."
            ) from error
        if jax.process_count() > 1 and any(part in str(error) for part in LOST_PROCESS_MESSAGES):
            reason = str(error).partition("\n")[0]
            raise RunError(
                f"lost another process of the run ({reason}). Start all processes again. "
                f"The run in {workdir} resumes from its last checkpoint."
            ) from error
        raise
    except BrokenPipeError:  # The reader of the output has exited. See ``run_command``.
        raise
    except OSError as error:
        path = os.fsdecode(error.filename) if error.filename else workdir
        raise RunError(
            f"{path}: {error.strerror or error}. Fix this error and run the same command again. "
            f"The run in {workdir} resumes from its last checkpoint."
        ) from error
