"""A run folder may come from a stranger: what must hold before anything in it is read or written."""

from __future__ import annotations

import os
from pathlib import Path

from transformer_jax.errors import InputError

MAX_JSON_BYTES = 2**26
"""Bytes of a config or tokenizer; reading it takes several times as much memory. A vocabulary of 32,000 has 3 MB."""


def require_contained(folder: Path) -> None:
    """Raise InputError if a link in the folder leads out of it, if there is anything but files and folders, or if a
    JSON file is larger than any real one.

    The folder itself may be a link.
    """
    root = os.path.realpath(folder)
    for place, folders, files in os.walk(root):
        for path in (Path(place, name) for name in (*folders, *files)):
            if not Path(os.path.realpath(path)).is_relative_to(root):
                raise InputError(f"{path} leads out of the run folder. If you trust it, put what it leads to there.")
            if not path.is_dir() and not path.is_file() and os.path.lexists(path):  # A run under way removes files.
                raise InputError(f"{path} is neither a file nor a folder. Delete it or copy the run again.")
            if path.suffix == ".json" and path.is_file() and path.stat().st_size > MAX_JSON_BYTES:
                raise InputError(f"{path} has over {MAX_JSON_BYTES // 2**20} MiB. Restore the file or train again.")
