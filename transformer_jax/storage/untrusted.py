"""Checks for an untrusted run directory, before anything in it is read or written."""

from __future__ import annotations

import os
from pathlib import Path

from transformer_jax.errors import InputError

MAX_JSON_BYTES = 2**26
"""Maximum size of a config or tokenizer file. Parsing takes several times as much memory.

The tokenizer file of a vocabulary of 32,000 takes 3 MB.
"""


def require_contained(workdir: Path) -> None:
    """Raise InputError if a run directory contains a file that is unsafe to read.

    Links to paths outside, anything other than files and directories, and JSON files that are too large are unsafe. The
    run directory itself may be a link.
    """
    root = os.path.realpath(workdir)
    for parent, directories, files in os.walk(root):
        for path in (Path(parent, name) for name in (*directories, *files)):
            if not Path(os.path.realpath(path)).is_relative_to(root):
                raise InputError(
                    f"{path} is a link to a path outside the run directory. If you trust that path, replace the link "
                    "with a copy."
                )
            if not path.is_dir() and not path.is_file() and os.path.lexists(path):  # A running training removes files.
                raise InputError(f"{path} is neither a file nor a directory. Delete it or restore the run from a copy.")
            if path.suffix == ".json" and path.is_file() and path.stat().st_size > MAX_JSON_BYTES:
                raise InputError(
                    f"{path} is larger than {MAX_JSON_BYTES // 2**20} MiB. Restore the file or train again."
                )
