"""Startup and failure handling of a distributed run, in which no process waits for a failed process.

A process that fails writes its error message to JAX's coordination service, which all processes poll. Without this, the
other processes would block in a collective, and the failed process would block on exit, until JAX's heartbeat or a
barrier times out.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jax
from jax._src import distributed  # JAX has no public API for its coordination service.

from transformer_jax.errors import InputError, RunError
from transformer_jax.runtime.roll_call import JOIN_SECONDS, call_roll, identify_process, report_failure
from transformer_jax.terminal import show

FAILURE_KEY = "transformer_jax/failed/"
"""Key prefix for the error message of a failed process, followed by its process ID."""
POLL_SECONDS = 1.0
"""Interval at which a process checks for failed processes."""
GRACE_SECONDS = 2.0
"""Time in which a process can exit by itself after another process fails. Both often fail with the same error."""


@contextmanager
def distributed_run() -> Iterator[None]:
    """Join the other processes, and end this process if another process fails.

    Raises InputError and RunError like ``join_processes``.
    """
    join_processes()
    finished = threading.Event()
    watcher = threading.Thread(target=_watch_for_failures, args=(finished,), daemon=True)
    watcher.start()
    try:
        yield
        jax.distributed.shutdown()  # Also watched, since it waits for the other processes.
    finally:
        finished.set()
        watcher.join()


def join_processes() -> None:
    """Connect to the other processes of this run. Call it before any other use of the devices.

    JAX detects the processes on TPU pods and under Slurm. Elsewhere it needs the environment variables
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    Raises InputError if the variables are invalid, or if the processes disagree on them.
    Raises RunError if a process is missing or the processes cannot connect.
    """
    member = identify_process()
    call_roll(member)
    try:
        jax.distributed.initialize(*member, initialization_timeout=int(JOIN_SECONDS))
    except (ValueError, RuntimeError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise RunError(f"--distributed: {reason}. Start all processes again.") from error


@contextmanager
def failed_start_is_reported() -> Iterator[None]:
    """Tell the other processes, which may wait for this one, if the block fails before this process has joined them."""
    try:
        yield
    except Exception as error:
        with suppress(InputError):
            report_failure(identify_process(), str(error).partition("\n")[0])
        raise


def exit_after_failure(status: int, reason: str) -> None:
    """Report the failure of this process to the others, then exit. Return normally if the run is not distributed.

    status: exit status of the process.
    reason: error message, which the other processes print.
    """
    client = distributed.global_state.client
    if client is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # A second Ctrl-C exits immediately.
    with suppress(jax.errors.JaxRuntimeError):
        client.key_value_set(f"{FAILURE_KEY}{distributed.global_state.process_id}", reason)
        time.sleep(POLL_SECONDS + GRACE_SECONDS)
    _exit_without_waiting(status)


def _watch_for_failures(finished: threading.Event) -> None:
    client: Any = distributed.global_state.client
    while not finished.wait(POLL_SECONDS):
        try:
            failures = client.key_value_dir_get(FAILURE_KEY)
        except jax.errors.JaxRuntimeError:
            continue  # If the service does not come back, JAX ends this process.
        if failures and not finished.wait(GRACE_SECONDS):
            key, reason = failures[0]
            show(f"\nerror: process {key.removeprefix(FAILURE_KEY)} of the run failed: {reason}", sys.stderr)
            _exit_without_waiting(1)


def _exit_without_waiting(status: int) -> None:
    """Exit without Python's shutdown, which would join threads that wait for other processes."""
    if distributed.global_state.process_id == 0:
        # Process 0 hosts the coordination service. It exits last, since JAX aborts processes that lose the service.
        time.sleep(2 * POLL_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
