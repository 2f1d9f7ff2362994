"""Recognition of text that is not UTF-8, and the commands that convert it.

UTF-16 and UTF-32 are recognized from their byte order mark or from their NUL bytes. Windows-1252, which contains
Latin-1, is recognized from the places of its non-ASCII letters. Other encodings are not recognized reliably.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from transformer_jax.data.compression import extraction_command, file_format, starts_as_utf8
from transformer_jax.terminal import quote

SAMPLE_BYTES = 2**16
"""Number of bytes at the start of a file that are examined. It bounds time and memory."""
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # Before UTF-16, whose mark it starts with.
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte order mark -> name of the encoding, for iconv and for Python."""
WIDE_ENCODINGS = ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE")
"""Encodings without a mark, most restrictive first."""
COMMON = re.compile("[\t\n\r -~\u3000-\u3002\uff0c]")
"""Characters of every text: ASCII, and the spaces and stops of Chinese and Japanese."""
CONTROL_BYTES = bytes({*range(0x20)} - {*b"\n\r\f\x1b"})
"""Bytes that are rare in UTF-8, but every second byte of most UTF-16: NUL, 4 for Cyrillic, 9 for Devanagari, ..."""

UNKNOWN = "ENCODING"
"""In commands, the place of the name of an encoding that is not recognized."""
LETTERS = "A-Za-zÀ-ÖØ-öø-ÿŒœŠšŽžŸƒ"
"""The letters of Windows-1252, for regular expressions."""
WESTERN_LETTERS = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüœŒ"
"""Letters of Western Europe. The other bytes above 127 are frequent letters in Central European and Turkish text."""
SYMBOLS = "€„…‹›‘’“”–—«»¡¿§©®£°½²³ªº\xa0"
WORD = re.compile(f"[{LETTERS}]+")
SYMBOL_OUTSIDE_WORDS = re.compile(f"(?<![{LETTERS}])[{SYMBOLS}]|[{SYMBOLS}](?![{LETTERS}])|[’–—\xa0·]")
NON_ASCII = re.compile(r"[^\x00-\x7f]")
MULTIBYTE = re.compile(rb"[\xc3-\xdf][\x80-\xbf]|\xe2\x80|[\xe1-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
"""A character of UTF-8, or the start of a quotation mark or dash, in a line that also has invalid bytes."""


class Evidence(NamedTuple):
    """Lines of a file that show its encoding.

    utf8_lines: number of lines that are valid UTF-8 and not ASCII.
    invalid_lines: some lines that are not valid UTF-8.
    """

    utf8_lines: int = 0
    invalid_lines: tuple[bytes, ...] = ()


def detect_wide_encoding(sample: bytes) -> str | None:
    """Return the encoding of a text in UTF-16 or UTF-32, or None for any other text.

    sample: the first bytes of the text. It may end within a character.
    """
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if sample.startswith(mark):
            return encoding
    if b"\0" not in sample:  # Spaces, digits and line feeds contain a NUL.
        return None
    controls = len(sample) - len(sample.translate(None, CONTROL_BYTES))
    if controls < 0.3 * len(sample) and starts_as_utf8(sample):
        return None
    scores = {encoding: _count_common(sample, encoding) for encoding in WIDE_ENCODINGS}
    best = max(scores, key=lambda encoding: scores[encoding])
    return best if scores[best] else None


def _count_common(sample: bytes, encoding: str) -> int:
    """Return the number of common characters in a sample, or 0 if it is not text in this encoding."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    common = len(COMMON.findall(text))
    line_feeds = sample.count(b"\n")
    # Most bytes with the value of a line feed are one. Without line feeds, most characters must be common.
    has_lines = 2 * text.count("\n") > line_feeds if line_feeds else 2 * common >= len(text)
    damaged = text.count("\0") + text.count("\ufffd")
    is_text = has_lines and 100 * damaged <= len(text) <= 100 * common and bool(text.strip())
    return common if is_text else 0


def looks_western(lines: Iterable[bytes]) -> bool:
    """Return whether lines that are not UTF-8 are probably Windows-1252 or Latin-1.

    At least 90% of the non-ASCII characters must be plausible: Western letters in words with ASCII letters and no
    capital inside, or symbols outside words. Text in most other encodings has no ASCII letters in a word, or many of
    its letters become other characters.
    """
    total = plausible = 0
    for line in lines:
        text = line.decode("windows-1252", errors="replace")
        total += len(NON_ASCII.findall(text)) + len(MULTIBYTE.findall(line))
        plausible += len(SYMBOL_OUTSIDE_WORDS.findall(text))
        for word in WORD.findall(text):
            others = NON_ASCII.findall(word)
            has_ascii = len(word) == 1 or 3 * len(others) <= 2 * len(word)  # "à" and "été", but no Russian word.
            if has_ascii and (word.islower() or word.isupper() or word.istitle()):
                plausible += sum(letter in WESTERN_LETTERS for letter in others)
    return total > 0 and plausible >= 0.9 * total


def guess_encoding(evidence: Evidence) -> str:
    """Return "UTF-8" for UTF-8 with damaged lines, "WINDOWS-1252" or UNKNOWN."""
    if evidence.utf8_lines:  # Hardly any line of another encoding is valid UTF-8 by chance.
        return "UTF-8"
    return "WINDOWS-1252" if looks_western(evidence.invalid_lines) else UNKNOWN


def text_command(command: str, path: str | Path) -> str:
    """Return the shell command that passes the text of a plain or compressed file through ``command``."""
    extraction = extraction_to_pipe(path)
    return f"{extraction} | {command} > NEW" if extraction else f"{command} {quote(Path(path))} > NEW"


def extraction_to_pipe(path: str | Path) -> str | None:
    """Return the shell command that writes the text of a compressed file to a pipe, or None for other files."""
    compression = file_format(Path(path))
    if compression is None or not compression.command.endswith(" > NEW"):
        return None
    return extraction_command(compression, path).removesuffix(" > NEW")


def conversion_command(encoding: str, path: str | Path | None) -> str:
    """Return the shell command that converts a file, or a pipe if ``path`` is None, to UTF-8.

    encoding: a name that iconv accepts, or UNKNOWN. From UTF-8, the command only removes invalid bytes.
    """
    iconv = f"iconv{' -c' if encoding == 'UTF-8' else ''} -f {encoding} -t UTF-8"
    if path is None:
        return iconv
    return text_command(iconv, path)
