"""Selection of the run for commands without --workdir."""

from __future__ import annotations

import logging
from pathlib import Path

from transformer_jax.commands.cli import command_prefix
from transformer_jax.errors import InputError


def newest_run(runs: Path = Path("runs"), activity: str = "translating") -> Path:
    """Return the directory of the run that finished most recently, and log its name.

    runs: the directory that contains the run directories.
    activity: the verb that starts the log line, such as "translating".
    Raises InputError if no run has finished.
    """
    finished = sorted(runs.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise InputError(
            f"no finished run in {runs}/. Run: {command_prefix('train')}, or set --workdir to a run directory."
        )
    logging.info(f"{activity} with {finished[-1].parent}")
    return finished[-1].parent
