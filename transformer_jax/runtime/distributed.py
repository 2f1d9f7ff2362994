"""The processes of a distributed run: they find each other, and none of them waits for one that has failed.

A process that fails leaves a word with JAX's coordination service, where all others look for one. Without it they would
wait in a sum over all devices, and the failed one at its end for them, until JAX's heartbeat or a barrier gives up.
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
from jax._src import distributed  # No public name of jax leads to the coordination service.

from transformer_jax.errors import RunError

FAILED = "transformer_jax/failed/"
"""Below it stands, under the number of each process that has failed, why."""

LOOK = 1.0
"""Seconds between two looks for a failed process."""
GRACE = 2.0
"""Seconds for a process to end by itself, and say why, once another has failed: often they meet the same error."""


@contextmanager
def distributed_run() -> Iterator[None]:
    """Join the other processes, and end this one, whatever it waits for, soon after another has failed.

    Raises RunError if they do not come together.
    """
    join_processes()
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(over,), daemon=True)
    watch.start()
    try:
        yield
        jax.distributed.shutdown()  # Waits for the others to end: watched, too.
    finally:
        over.set()
        watch.join()


def join_processes() -> None:
    """Find the other processes of this run; before anything else touches the devices.

    On TPU pods and Slurm JAX finds them by itself; elsewhere JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID say where they are. Raises RunError if they do not come together.
    """
    processes, number = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        jax.distributed.initialize(
            num_processes=None if processes is None else int(processes),
            process_id=None if number is None else int(number),
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise RunError(
            f"--distributed: {reason} Set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID."
        ) from error


def exit_after_failure(status: int, reason: str) -> None:
    """End this process, which has failed and said why, as soon as the others know."""
    client = distributed.global_state.client
    if client is None:
        return  # It has joined no one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # A second Ctrl-C does not wait.
    with suppress(jax.errors.JaxRuntimeError):
        client.key_value_set(f"{FAILED}{distributed.global_state.process_id}", reason)
        time.sleep(LOOK + GRACE)
    _end(status)


def _watch(over: threading.Event) -> None:
    client: Any = distributed.global_state.client
    while not over.wait(LOOK):
        try:
            failed = client.key_value_dir_get(FAILED)
        except jax.errors.JaxRuntimeError:
            continue  # If the service is gone for good, JAX ends this process.
        if failed and not over.wait(GRACE):
            name, reason = failed[0]
            number = name.removeprefix(FAILED)
            print(f"\nerror: process {number} of the run has failed: {reason}", file=sys.stderr)
            _end(1)


def _end(status: int) -> None:
    """Python's own end would wait for threads that wait for other processes."""
    if distributed.global_state.process_id == 0:
        time.sleep(2 * LOOK)  # The last to go: with it goes the service, without which JAX aborts the others.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
