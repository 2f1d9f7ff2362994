"""Files and folders that are whole or not there, whenever the process is killed or the power fails.

Each is written under another name, brought to the disk, and then renamed: the name alone must not survive a power cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from transformer_jax.errors import RunError


def write_text(path: Path, text: str) -> None:
    """Write a file; it takes the place of an earlier one when it is whole."""
    with new_file(path, path.with_name(f".{path.name}.unfinished")) as file:
        file.write(text)


def partial_path(path: Path) -> Path:
    """A name to write a file under: of two processes that write it the one that ends last leaves it, and whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def new_file(path: Path, unfinished: Path, content: Literal["text", "bytes"] = "text") -> Iterator[Any]:
    """A file to be written under the name ``unfinished``; as ``path`` once it is whole, gone if it never is."""
    try:
        with (
            unfinished.open("wb") if content == "bytes" else unfinished.open("w", encoding="utf-8", newline="\n")
        ) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def writing(name: Path | str, remedy: str) -> Iterator[None]:
    """Turn an OSError in the block into a RunError that gives ``name``, the reason and ``remedy``.

    name: the path of the file or directory, or the name of a stream.
    """
    try:
        yield
    except OSError as error:
        raise write_error(name, error, remedy) from error


def write_error(name: Path | str, error: OSError, remedy: str) -> RunError:
    """Return the RunError that says that writing ``name`` failed with ``error``."""
    return RunError(f"cannot write {name}: {error.strerror or error}. {remedy}")


def sync(folder: Path) -> None:
    """Bring all files of a folder to the disk, so that it can be given its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
