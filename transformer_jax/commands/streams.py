"""Input and output lines of a command: files, pipes and terminals."""

from __future__ import annotations

import codecs
import contextlib
import io
import itertools
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TextIO, TypeVar

from transformer_jax.data import text_files
from transformer_jax.data.compression import file_of_chunks
from transformer_jax.data.encodings import (
    SAMPLE_BYTES,
    UNKNOWN,
    Evidence,
    conversion_command,
    detect_wide_encoding,
    guess_encoding,
)
from transformer_jax.data.line_marks import InnerMarks, strip_marks
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

BLOCK_LINES = 2048
"""Number of lines that are read, sorted by length and translated together.

This limits memory use and lets the first results of a long file appear early.
"""
TERMINAL_LINE_BYTES = 4095
"""Maximum number of bytes of a typed line on Linux, without the line feed. The terminal discards the rest."""

Item = TypeVar("Item")
Origin = Literal["file", "pipe", "typed"]
"""Where lines come from: a file, another program, or the terminal as input or arguments."""


def decode_lines(lines: Iterable[bytes], name: str, origin: Origin = "file") -> Iterator[str]:
    """Yield each line of text as a string, without its line end.

    The text is UTF-8. UTF-16 and UTF-32 are also decoded, with a warning. Invalid bytes become U+FFFD, with one warning
    per BLOCK_LINES lines, or per typed line. Byte order marks at the start of a line are removed.

    name: the path of the file or the name of the stream, for messages.
    Raises InputError for a line that ``read_lines`` has truncated because it is too long.
    """
    encoding = None
    if origin != "typed":
        lines = iter(lines)
        start = list(_first_lines(lines))
        lines = itertools.chain(start, lines)
        encoding = detect_wide_encoding(b"".join(start)[:SAMPLE_BYTES])
    if encoding is not None:
        command = conversion_command(encoding, name if origin == "file" else None)
        logging.warning(
            f"{name} is {encoding}, not UTF-8, and is converted. To avoid this warning, convert it: {command}"
        )
        lines = _convert_to_utf8(lines, encoding)
    invalid = _InvalidLines(name, origin, encoding)
    marks = InnerMarks(Path(name) if origin == "file" else None)
    for number, raw in enumerate(lines, start=1):
        if len(raw) == text_files.MAX_LINE_BYTES:
            raise _line_too_long(name, number)
        try:
            text = raw.decode()
            invalid.utf8_lines += not text.isascii()
        except UnicodeDecodeError:
            invalid.add(number, raw)
            text = raw.decode(errors="replace")
        text = strip_marks(text)
        if origin == "typed" or number % BLOCK_LINES == 0:
            invalid.report()
        if origin != "typed":
            marks.report(text, f"{name}:{number}")
        yield text
    invalid.report()


def _first_lines(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines from which the encoding is detected: at most one block, and about SAMPLE_BYTES bytes."""
    size = 0
    for line in itertools.islice(lines, BLOCK_LINES):
        yield line
        size += len(line)
        if size >= SAMPLE_BYTES:
            return


def _convert_to_utf8(lines: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the lines of a text in UTF-16 or UTF-32 as UTF-8. Invalid bytes become 0xFF, which is invalid in UTF-8.

    lines: the text in any pieces. A byte 0x0A does not always end a line: it also occurs within other characters.
    """
    decoder = codecs.getincrementaldecoder(encoding)("replace")

    def decoded() -> Iterator[bytes]:
        for piece, is_last in itertools.chain(((line, False) for line in lines), [(b"", True)]):
            text = decoder.decode(piece, is_last).replace("\ufffd", "\udcff")
            yield text.encode(errors="surrogateescape")

    return text_files.split_lines(file_of_chunks(decoded()))


def _line_too_long(name: str, number: int) -> InputError:
    return InputError(f"{name}:{number} is longer than {text_files.MAX_LINE_BYTES // 2**20} MiB. Split the line.")


class _InvalidLines:
    """The lines of a stream with invalid bytes, for one warning per block of lines.

    utf8_lines: number of lines that are valid UTF-8 and not ASCII.
    """

    def __init__(self, name: str, origin: Origin, encoding: str | None) -> None:
        self.utf8_lines = 0
        self._name, self._origin, self._encoding = name, origin, encoding
        self._first = self._count = 0
        self._sample: list[bytes] = []

    def add(self, number: int, line: bytes) -> None:
        self._first = self._first or number
        self._count += 1
        if len(self._sample) < 20:
            self._sample.append(line[:1000])

    def report(self) -> None:
        """Log the lines since the last report, with the remedy."""
        if self._count == 0:
            return
        others = self._count - 1
        subject = f"{self._name}:{self._first} " + (
            f"and {others} other line{'s' if others > 1 else ''} are" if others else "is"
        )
        encoding = self._encoding or "UTF-8"
        logging.warning(f"{subject} not {encoding}: invalid bytes become U+FFFD. {self._remedy()}")
        self._first = self._count = 0

    def _remedy(self) -> str:
        if self._origin == "typed":
            return "Set the encoding of the terminal or the script to UTF-8."
        if self._encoding is not None:
            return "Correct the text."
        encoding = guess_encoding(Evidence(self.utf8_lines, tuple(self._sample)))
        command = conversion_command(encoding, self._name if self._origin == "file" else None)
        return {
            "UTF-8": f"Other lines are UTF-8. Correct the text, or remove the invalid bytes: {command}",
            "WINDOWS-1252": f"The text seems to be Windows-1252 or Latin-1. Convert it: {command}",
            UNKNOWN: f"Convert the text from its encoding: {command}",
        }[encoding]


def argument_bytes(argument: str) -> bytes:
    """Return the bytes of a command-line argument, which Python has decoded with the encoding of the locale."""
    try:
        return os.fsencode(argument)
    except UnicodeEncodeError:  # Not from a command line, but from a caller in Python.
        return argument.encode(errors="surrogatepass")


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
