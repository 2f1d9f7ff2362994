"""Directories for files that can be computed or downloaded again, and what replaces those that are not writable."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import shutil
import tempfile
from pathlib import Path

from transformer_jax.errors import InputError
from transformer_jax.storage.home import expand_home

WRITE_ERRNOS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.ENOTDIR)
"""Error numbers of a failure to create a directory or to write in it."""


def cache_directory(name: str, variable: str) -> Path | None:
    """Return the directory of a cache, which may not exist. None if no directory is set and the home is unknown.

    name: the path below the directory of the user's caches: ``$XDG_CACHE_HOME`` or ``~/.cache``.
    variable: the environment variable that overrides the directory.
    """
    if chosen := os.environ.get(variable):
        return expand_home(Path(chosen))
    try:
        caches = expand_home(Path(os.environ.get("XDG_CACHE_HOME", "")))
        if not caches.is_absolute():  # The specification of this variable demands an absolute path.
            caches = expand_home(Path("~/.cache"))
    except InputError:
        return None
    return caches / name


def prepare_hf_caches() -> None:
    """Replace caches of the Hugging Face libraries that are not writable by a temporary directory, with a warning.

    Call it before these libraries are imported. They would fail, or write to a directory named ``~``.
    """
    home = cache_directory("huggingface", "HF_HOME")
    if home is None or not (home.is_dir() or _can_write(home)):
        _use_temporary("HF_HOME", home)
    elif not os.environ.get("HF_DATASETS_CACHE") and not _can_write(home / "datasets"):
        _use_temporary("HF_DATASETS_CACHE", home / "datasets")  # Downloads in a shared cache remain readable.


def is_hf_cache_failure(error: BaseException | None) -> bool:
    """Return whether an error of the Hugging Face libraries, or its cause, is that their caches are not writable."""
    caches = str(cache_directory("huggingface", "HF_HOME"))
    while error is not None:
        if isinstance(error, OSError) and error.errno in WRITE_ERRNOS:
            # A full disk is often reported without a path.
            return caches in str(error) or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        error = error.__cause__ or error.__context__
    return False


def _use_temporary(variable: str, directory: Path | None) -> None:
    """Set a variable to a new directory, which is deleted when the process ends."""
    temporary = tempfile.mkdtemp(prefix="transformer_jax-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    os.environ[variable] = temporary
    problem = f"{directory} is not writable" if directory else "the home directory is not known"
    logging.warning(
        f"{problem}. Data sets are kept in a temporary directory until this command ends. "
        f"To keep them, set {variable} to a writable directory."
    )


def _can_write(directory: Path) -> bool:
    """Create a directory if necessary, and return whether it is writable."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(4096))  # On a full disk, an empty file can often be created.
    except OSError:
        return False
    return True
