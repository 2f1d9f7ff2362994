"""The run that a command uses without --workdir."""

from __future__ import annotations

import logging
from pathlib import Path

from transformer_jax.errors import InputError


def newest_run(runs: Path = Path("runs"), activity: str = "translating") -> Path:
    """Return the directory of the run that finished last, and log its name.

    runs: the directory that contains the run directories.
    activity: what the command does with the run, for the log line.
    Raises InputError without a finished run.
    """
    finished = sorted(runs.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise InputError(f"there is no finished run under {runs}/. Train one with python train.py, or give --workdir.")
    logging.info(f"{activity} with {finished[-1].parent}")
    return finished[-1].parent
