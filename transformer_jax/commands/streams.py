"""Input and output lines of a command: files, pipes and terminals."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO, TypeVar

from transformer_jax.data import text_files
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

BLOCK_LINES = 2048
"""Number of lines that are read, sorted by length and translated together.

This limits memory use and lets the first results of a long file appear early.
"""

Item = TypeVar("Item")


def decode_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Yield each line of UTF-8 text as a string, without its line ending (LF or CR LF).

    Invalid bytes become U+FFFD, with a warning that names the line. A byte-order mark is removed.

    name: the file or stream, for messages.
    Raises InputError for a line that ``read_lines`` has truncated because it is too long.
    """
    for number, raw in enumerate(lines, start=1):
        if len(raw) == text_files.MAX_LINE_BYTES:
            raise InputError(
                f"{name}:{number} is longer than {text_files.MAX_LINE_BYTES // 2**20} MiB. Split the line."
            )
        line = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            logging.warning(f"{name}:{number} is not UTF-8: invalid bytes become U+FFFD. Convert the text with iconv.")
            text = line.decode(errors="replace")
        yield text.removeprefix("\ufeff") if number == 1 else text


def split_into_blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of ``size`` consecutive items, such as lines. The last list may be shorter."""
    remaining = iter(items)
    while block := list(itertools.islice(remaining, size)):
        yield block


def check_output_path(path: Path | None, option: str = "--output") -> None:
    """Raise InputError if no file can be written at ``path``.

    option: the option that sets the path, for the message.
    """
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"{path.parent} is not a directory. Create it or choose another {option}.")
    if path is not None and path.is_dir():
        raise InputError(f"{path} is a directory. Set {option} to a file.")


@contextlib.contextmanager
def open_output(path: Path | None, option: str = "--output") -> Iterator[TextIO]:
    """Open a file that is renamed to ``path`` when it is complete, or standard output if ``path`` is None.

    option: the option that sets the path, for the message.
    Raises RunError if writing fails.
    """
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # Like the input, and independent of the locale.
        yield sys.stdout
        return
    if path.exists() and not path.is_file():  # A device such as /dev/null must not be replaced.
        with output_errors(path, option), path.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        return
    with output_errors(path, option), atomic.new_file(path, atomic.partial_path(path)) as file:
        yield file


@contextlib.contextmanager
def output_errors(path: Path | None, option: str) -> Iterator[None]:
    """Turn an OSError from writing ``path``, or standard output if it is None, into a RunError.

    An OSError that names another file, such as a heat map, is raised unchanged.
    """
    names = (str(path), str(atomic.partial_path(path))) if path else ()
    try:
        yield
    except BrokenPipeError:  # The reader has closed the pipe. See ``run_command``.
        raise
    except OSError as error:
        if error.filename not in (None, *names):
            raise
        raise atomic.write_error(
            path or "standard output", error, f"Free disk space or choose another {option}."
        ) from error
