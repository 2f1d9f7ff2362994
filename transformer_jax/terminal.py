"""Text that is safe in a terminal: printed commands that can be pasted, and text without control characters.

Texts, file names and translations can contain anything. A shell would run `$(...)` in a pasted command, and a terminal
interprets escape sequences: they can hide text, change the title or, in some terminals, enter commands.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

BIDI_CONTROLS = "\u202a-\u202e\u2066-\u2069"
"""Characters that reverse or isolate the text after them, so that it looks like other text."""
CONTROL_CHARACTERS = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{BIDI_CONTROLS}\ud800-\udfff]")
"""Characters that a terminal interprets or cannot show, except for the tab and the line feed."""
UNTYPABLE = re.compile(rf"[\t\n]|{CONTROL_CHARACTERS.pattern}")
"""Characters that cannot be pasted into a command line."""


def quote(word: str | Path) -> str:
    """Return a word of a command line, quoted for the shell if needed.

    A path that starts with a hyphen gets "./" in front, because programs would read it as an option. Control characters
    are escaped with $'...', which bash, zsh and ksh understand.
    """
    text = f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)
    if not UNTYPABLE.search(text):
        return shlex.quote(text)
    # Octal numbers of fixed length: the next character of the text may be a digit.
    escaped = re.sub(rf"['\\!]|{UNTYPABLE.pattern}", lambda match: _octal(match[0]), text)
    return f"$'{escaped}'"


def quote_command(*words: str | Path) -> str:
    """Return the words as one line for the shell. See ``quote``."""
    return " ".join(map(quote, words))


def command_with_text(command: str, text: str, *options: str | Path) -> str:
    """Return the command line with a text as its argument.

    A text that starts with a hyphen follows a separator, because it would be read as an option.

    command: the start of the command line, as the shell reads it.
    """
    if text.startswith("-"):
        return f"{command} {quote_command(*options, '--', text)}"
    return f"{command} {quote_command(text, *options)}"


def _octal(character: str) -> str:
    try:
        encoded = os.fsencode(character)
    except UnicodeEncodeError:  # A surrogate that is not a byte of a file name.
        encoded = character.encode(errors="surrogatepass")
    return "".join(f"\\{byte:03o}" for byte in encoded)


def escape_control_characters(text: str) -> str:
    """Return the text with an escape such as \\u001b, as in JSON, for each control character.

    Tabs and line feeds are kept.
    """
    return CONTROL_CHARACTERS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def one_line(text: str, max_length: int = 500) -> str:
    """Return the start of a text from an untrusted source as one line, for a message."""
    escaped = escape_control_characters(text[:max_length]).replace("\n", "\\n").replace("\t", "\\t")
    return f"{escaped}..." if len(text) > max_length else escaped


def show(text: str, file: Any = ..., end: str = "\n") -> None:
    """Print a text. Control characters are escaped if it goes to a terminal. Files and pipes get it unchanged.

    file: a text stream, by default standard output. Nothing is printed to None, a stream that the shell has closed.
    """
    file = sys.stdout if file is ... else file
    if file is None:
        return
    is_terminal = getattr(file, "isatty", bool)()  # A notebook's stream may have no isatty.
    print(escape_control_characters(text) if is_terminal else text, file=file, end=end, flush=file is sys.stderr)


class EscapingFormatter(logging.Formatter):
    """A log format for terminals: one line per message, without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message with escapes."""
        return escape_control_characters(super().format(record)).replace("\n", "\\n")
