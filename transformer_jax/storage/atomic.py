"""Atomic writes: after a kill or a power failure, a file or directory is either complete or absent.

Each file or directory is written under a temporary name, flushed to the disk and then renamed. Without the flush, a
power failure could keep the new name but lose the content.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from transformer_jax.errors import RunError


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8. An existing file is replaced only when the new file is complete."""
    with new_file(path, path.with_name(f".{path.name}.unfinished")) as file:
        file.write(text)


def partial_path(path: Path) -> Path:
    """Return a temporary name for ``path`` that no other process uses.

    If several processes write the same file, the last process to finish replaces it.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def new_file(path: Path, temporary: Path, content: Literal["text", "bytes"] = "text") -> Iterator[Any]:
    """Open the file ``temporary`` for writing; rename it to ``path`` at the end, or delete it after an error."""
    try:
        with (
            temporary.open("wb") if content == "bytes" else temporary.open("w", encoding="utf-8", newline="\n")
        ) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(name: Path | str, remedy: str) -> Iterator[None]:
    """Convert an OSError in the block to a RunError that states the name, the reason and the remedy.

    name: path of the file or directory, or a name such as "standard output".
    remedy: last sentence of the message.
    """
    try:
        yield
    except OSError as error:
        raise write_error(name, error, remedy) from error


def write_error(name: Path | str, error: OSError, remedy: str) -> RunError:
    """Return the error of ``writing``, for callers that must handle some OSErrors differently."""
    return RunError(f"cannot write {name}: {error.strerror or error}. {remedy}")


def set_aside(path: Path) -> Path:
    """Rename a damaged file or directory to the first unused name among NAME.damaged-1, NAME.damaged-2, ..., and return
    the new path.
    """
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    return path.rename(next(name for name in names if not name.exists()))


def sync(directory: Path) -> None:
    """Flush all files of a directory to the disk, so that the directory can be renamed."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
