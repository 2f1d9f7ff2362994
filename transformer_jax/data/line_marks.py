"""Characters that are not text: line ends of other systems, byte order marks of joined files, and NULs."""

from __future__ import annotations

import logging
from pathlib import Path

from transformer_jax.data.encodings import text_command

BYTE_ORDER_MARK = "\ufeff"
END_A_LINE = "If lines end there, for example where files were joined, convert the text"
INNER_MARKS = {
    "\r": ("a carriage return", END_A_LINE, r"perl -pe 's/\r\n?/\n/g'"),
    BYTE_ORDER_MARK: ("a byte order mark", END_A_LINE, r"perl -pe 's/(?<=.)\xEF\xBB\xBF/\n/g'"),
    "\0": ("a NUL character", "To remove it, convert the text", r"perl -pe 's/\0//g'"),
}
"""Mark -> its name, the purpose of the command, and the command."""


def strip_marks(line: str) -> str:
    """Return a line without its line end (LF, CR or both) and without byte order marks at its start."""
    return line.removesuffix("\n").rstrip("\r").lstrip(BYTE_ORDER_MARK)


class InnerMarks:
    """Warnings about marks within the lines of a file, one per kind of mark. The marks remain part of the text.

    path: the path of the file, or None for standard input.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._unreported = dict(INNER_MARKS)

    def report(self, text: str, location: str) -> None:
        """Log a warning if a line contains a mark that has not been reported.

        text: the line, from ``strip_marks``.
        location: file and line, for the message.
        """
        if "\r" not in text and "\ufeff" not in text and "\0" not in text:  # Of all lines, and faster than a loop.
            return
        for mark in [mark for mark in self._unreported if mark in text]:
            name, purpose, command = self._unreported.pop(mark)
            command = text_command(command, self._path) if self._path else command
            logging.warning(f"{location} contains {name} within the line, which is read as text. {purpose}: {command}")
