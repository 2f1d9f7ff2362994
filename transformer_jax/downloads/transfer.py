"""Transfer of one version of a remote file to disk: resumed after failures, verified, complete or absent."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from transformer_jax.downloads.display import DownloadDisplay, format_size
from transformer_jax.downloads.streams import TransferError, Version, open_stream
from transformer_jax.errors import RunError
from transformer_jax.storage import atomic

Result = TypeVar("Result")

VARIABLE = "TRANSFORMER_JAX_DOWNLOADS"
"""Environment variable with the directory of the cache."""
DISK_REMEDY = f"Free disk space, or set {VARIABLE} to another directory."
MAX_FAILURES = 6
"""Number of consecutive failures without a new byte after which a download fails."""
FIRST_PAUSE = 1.0
"""Seconds before the first repetition. Each further pause is twice as long."""
PARTIAL_SUFFIX = ".partial"
"""Suffix of a file that is being downloaded."""


def retry(name: str, attempt: Callable[[], Result], bytes_on_disk: Callable[[], int]) -> Result:
    """Call ``attempt`` until it raises no TransferError, and return its result.

    Raises RunError after ``MAX_FAILURES`` consecutive failures without a new byte.
    """
    furthest, failures = bytes_on_disk(), 0
    while True:
        try:
            return attempt()
        except TransferError as error:
            length = bytes_on_disk()
            # Without ranges, each attempt starts again. So only bytes after the furthest position are progress.
            furthest, failures = (length, 1) if length > furthest else (furthest, failures + 1)
            if failures == MAX_FAILURES:
                raise RunError(
                    f"the download of {name} failed ({error}). Check the network and the address, and run the same "
                    f"command again. {format_size(length)} are kept."
                ) from error
            pause = FIRST_PAUSE * 2 ** (failures - 1)
            logging.warning(f"{name}: {error}. Trying again in {pause:g} s.")
            time.sleep(pause)


def partial_path(path: Path) -> Path:
    """Return the path of the unfinished download of a file."""
    return path.with_name(f"{path.name}{PARTIAL_SUFFIX}")


def resume_position(path: Path, version: Version) -> int:
    """Return the number of bytes of the unfinished download of a version that can be kept. The others are deleted."""
    partial = partial_path(path)
    length = partial.stat().st_size if partial.exists() else 0
    if version.tag and version.size is not None and length <= version.size:
        return length
    partial.unlink(missing_ok=True)
    return 0


def fetch(url: str, version: Version, path: Path, display: DownloadDisplay) -> None:
    """Download one version of a file to a path in a directory that holds only this version.

    Raises TransferError if the download broke off, if the file has changed or if its checksum is wrong. What was
    received is kept for the next call, unless it is wrong.
    """
    partial, start = partial_path(path), resume_position(path, version)
    with atomic.writing(path, DISK_REMEDY):
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_space(path.parent, (version.size or 0) - start)
        if start != version.size or start == 0:
            stream = open_stream(url, start)
            with closing(stream.connection):
                if stream.version != version:
                    raise TransferError("it was changed while it was downloaded")
                with partial.open("r+b" if partial.exists() else "wb") as file:
                    file.truncate(stream.start)
                    file.seek(stream.start)
                    for chunk in stream.chunks:
                        file.write(chunk)
                        display.advance(len(chunk))
                    file.flush()
                    os.fsync(file.fileno())
        _verify(partial, version)
        os.replace(partial, path)


def _require_space(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if size > free:
        raise RunError(f"{directory} has {format_size(free)} free, but {format_size(size)} are needed. {DISK_REMEDY}")


def _verify(partial: Path, version: Version) -> None:
    """Raise TransferError if a download has another size or checksum than the version."""
    length = partial.stat().st_size
    if version.size is not None and length != version.size:
        if length > version.size:
            partial.unlink()
        raise TransferError(f"the connection ended after {format_size(length)} of {format_size(version.size)}")
    algorithm, _, digest = version.checksum.partition(":")
    if algorithm and file_digest(partial, algorithm) != digest:
        partial.unlink()
        raise TransferError(f"the {algorithm} checksum is wrong")


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
