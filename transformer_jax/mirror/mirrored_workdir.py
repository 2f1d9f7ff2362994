"""A run directory with a mirror, from the start of a training to its end."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all

from transformer_jax.errors import InputError, RunError, StoppedBySignal
from transformer_jax.mirror.filling import fill_or_compare, read_run_id
from transformer_jax.mirror.lease import Lease
from transformer_jax.mirror.opening import open_mirror, require_separate
from transformer_jax.mirror.uploader import Uploader
from transformer_jax.storage.remote import remote_errors

SIGNAL_SECONDS = 20.0
"""Time that a run waits for its last upload after a signal or an error. GCE gives 30 s after a preemption notice."""
END_SECONDS = 240.0
"""Time that a finished run waits for its last upload. The other processes of a run would wait for at most 300 s."""


@contextmanager
def mirrored_workdir(workdir: Path, url: str, check: Callable[[Path], None]) -> Iterator[Uploader | None]:
    """Fill a run directory from its mirror if it has no checkpoint, and upload what is new until the end of the block.

    Only process 0 uses the mirror. Without a URL, and on other processes, the uploader is None.

    url: location of the mirror; empty for a run without one.
    check: called with a directory that contains the config.json of the mirror; may raise InputError.
    Raises InputError or RunError, on every process of the run, if the mirror cannot be used.
    Raises RunError at the end if the run is complete but its mirror is not.
    """
    if not url:
        yield None
        return
    with ExitStack() as stack:
        uploader, failure = None, None
        if jax.process_index() == 0:
            try:
                uploader = stack.enter_context(_uploading(workdir, url, check))
            except (InputError, RunError) as error:
                failure = error
        if jax.process_count() > 1 and broadcast_one_to_all(np.array(failure is not None)) and failure is None:
            failure = InputError(f"process 0 cannot use the mirror {url}. See its error message.")
        if failure:
            raise failure
        yield uploader


@contextmanager
def _uploading(workdir: Path, url: str, check: Callable[[Path], None]) -> Iterator[Uploader]:
    require_separate(url, workdir)
    with remote_errors(url):
        objects = open_mirror(url)
        lease = Lease(objects)
    try:
        with remote_errors(url):
            run_id = fill_or_compare(workdir, objects, check)
            uploader = Uploader(workdir, objects, lease, run_id or read_run_id(workdir) or uuid.uuid4().hex)
        try:
            yield uploader
        except BaseException as error:
            # After another error, the processes of a distributed run exit at once.
            waits = jax.process_count() == 1 or isinstance(error, StoppedBySignal)
            if not uploader.finish(SIGNAL_SECONDS if waits else 0.0):
                logging.warning(f"{url} is not complete: it holds step {uploader.newest_step} ({uploader.reason()}).")
            raise
        if not uploader.finish(END_SECONDS):
            raise RunError(
                f"{workdir} is complete, but {url} is not ({uploader.reason()}). Run the same command again to upload "
                "the rest."
            )
    finally:
        lease.release()
