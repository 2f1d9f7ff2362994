"""The run that a command uses if none is named."""

from __future__ import annotations

import logging
from pathlib import Path

from transformer_jax.errors import InputError


def newest_run(runs: Path = Path("runs"), doing: str = "translating") -> Path:
    """The run that was finished last, and say which. Raises InputError if there is none."""
    finished = sorted(runs.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise InputError(f"there is no finished run under {runs}/. Train one with python train.py, or give --workdir.")
    logging.info(f"{doing} with {finished[-1].parent}")
    return finished[-1].parent
