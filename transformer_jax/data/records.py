"""Unparsed records of a parallel corpus, and the validation of sentences.

A record is one line of a text file (of both files, if there is one file per language) or one row of a table.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from transformer_jax.errors import InputError

Split = Literal["train", "valid", "test"]
"""The role of the data in a run."""
SURROGATE = re.compile("[\ud800-\udfff]")


class Pair(NamedTuple):
    """A source sentence and its translation, as raw text."""

    source: str
    target: str


class Records(NamedTuple):
    """All records at a locator, unparsed.

    read: function that returns a new iterator over all records.
    parse: function from the zero-based index of a record and the record to a pair. Raises InputError if the
        record is invalid.
    fingerprint: identifies the content of a library's data set; empty for files and the phrasebook.
    files: the files that contain the records; empty for a library's data set and the phrasebook.
    """

    read: Callable[[], Iterable[Any]]
    parse: Callable[[int, Any], Pair]
    fingerprint: str = ""
    files: Sequence[Path] = ()


def language_value(record: Mapping[str, Any], language: str, location: str) -> Any:
    """Return the value of a language, from the field ``translation`` if the record has this field; None if it is null.

    Raises InputError if the record does not have the language.
    """
    nested = record.get("translation")
    if nested is None and "translation" in record and language not in record:
        return None
    values = nested if isinstance(nested, Mapping) else record
    require_language(values, language, location)
    return values[language]


def require_language(names: Iterable[str], language: str, location: str) -> None:
    """Raise InputError if the language is not in ``names``. The message lists the names."""
    if language not in names:
        raise InputError(
            f"{location} has no {language!r} (available: {', '.join(map(repr, names)) or 'nothing'}). "
            "Set --data.source and --data.target to available names."
        )


def validate_text(text: Any, location: str, blank: Literal["refuse", "allow"] = "refuse", remedy: str = "") -> str:
    """Return a sentence as a string, decoded if it is bytes.

    remedy: last sentence of the message, for data that users cannot edit.
    Raises InputError if it is not text, not UTF-8 or blank, or if it contains a NUL or an unpaired surrogate (which
    JSON can encode).
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        edit = remedy or "Convert it to UTF-8, or delete the row."
        raise InputError(f"{location} is not UTF-8 ({error.reason}). {edit}") from error
    if not isinstance(text, str):
        value = "null" if text is None else repr(text)[:40]
        edit = remedy or "Replace it with a string, or delete the pair."
        raise InputError(f"{location} is {value}, not text. {edit}")
    if blank == "refuse" and not text.strip():
        raise InputError(f"{location} is blank. {remedy or 'Add the sentence, or delete the pair.'}")
    if "\0" in text:
        command = "tr -d '\\000' < FILE > NEW"
        edit = remedy or f"Delete the pair, or remove the character from a text file with {command}."
        raise InputError(f"{location} contains a NUL character. {edit}")
    if SURROGATE.search(text):
        problem = "contains an unpaired surrogate, which is not a valid character"
        raise InputError(f"{location} {problem}. {remedy or 'Delete this sentence pair.'}")
    return text


def summarize_error(error: BaseException) -> str:
    """Return the message of an error as one line of at most 300 characters, without a full stop at the end."""
    return (textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__).rstrip(".")
