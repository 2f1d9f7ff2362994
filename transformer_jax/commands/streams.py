"""Lines of text in and out of a command: files, pipes and terminals."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO, TypeVar

from transformer_jax.data import sources
from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic

BLOCK_LINES = 2048
"""Lines read, sorted by length and translated at a time: bounds the memory, and shows results while a file is long."""

Line = TypeVar("Line")


def decode_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Lines end at "\\n" alone. Bytes that are no UTF-8 become U+FFFD, and the line is named: one line out for each
    in. Raises InputError for a line that ``read_lines`` has cut.
    """
    for number, raw in enumerate(lines, start=1):
        if len(raw) == sources.MAX_LINE_BYTES:
            raise InputError(f"{name}:{number} has over {sources.MAX_LINE_BYTES // 2**20} MiB. Split the line.")
        line = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            logging.warning(f"{name}:{number} is not UTF-8: what cannot be read becomes U+FFFD. Give it as UTF-8.")
            text = line.decode(errors="replace")
        yield text.removeprefix("\ufeff") if number == 1 else text


def line_blocks(lines: Iterable[Line], size: int) -> Iterator[list[Line]]:
    """Lines, or pairs of lines, to work on together."""
    rest = iter(lines)
    while block := list(itertools.islice(rest, size)):
        yield block


def check_destination(path: Path | None, option: str = "--output") -> None:
    """Raise InputError if ``destination`` could not write there; option: what named the path."""
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"{path.parent} is not a folder. Make it, or name another {option}.")
    if path is not None and path.is_dir():
        raise InputError(f"{path} is a folder. Name a file for {option}.")


@contextlib.contextmanager
def destination(path: Path | None, option: str = "--output") -> Iterator[TextIO]:
    """Standard output, or a file that takes its name only when everything is written."""
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # As what is read, whatever the locale says.
        yield sys.stdout
        return
    if path.exists() and not path.is_file():  # such as /dev/null, which must not be replaced
        with written(path, option), path.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        return
    with written(path, option), atomic.new_file(path, atomic.own_name(path)) as file:
        yield file


@contextlib.contextmanager
def written(path: Path | None, option: str) -> Iterator[None]:
    """Turn what goes wrong while ``path``, or standard output, is written into a RunError that names it."""
    names = (str(path), str(atomic.own_name(path))) if path else ()
    try:
        yield
    except BrokenPipeError:  # Who reads standard output has seen enough.
        raise
    except OSError as error:
        if error.filename not in (None, *names):
            raise  # Another file, such as a picture.
        raise RunError(
            f"{path or 'standard output'} cannot be written: {error.strerror or error}. "
            f"Free space or name another {option}."
        ) from error
