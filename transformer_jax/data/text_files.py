"""Readers of text files: one file per language, tab-separated values and JSON lines, plain or compressed.

Lines end at LF, or at CR in a file without LF. A CR before the LF and a byte order mark at the start of a line are
removed. Files in another encoding than UTF-8 are refused; the message names the encoding if it is recognized, and the
command that converts it.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from transformer_jax.data.compression import (
    CHUNK_BYTES,
    DAMAGE_ERRORS,
    decompressed,
    file_of_chunks,
    open_decompressed,
)
from transformer_jax.data.encodings import (
    SAMPLE_BYTES,
    UNKNOWN,
    Evidence,
    conversion_command,
    detect_wide_encoding,
    guess_encoding,
)
from transformer_jax.data.line_marks import BYTE_ORDER_MARK, InnerMarks, strip_marks
from transformer_jax.data.records import Pair, Records, language_value, summarize_error, validate_text
from transformer_jax.errors import InputError

MAX_LINE_BYTES = 2**24
"""Maximum number of bytes read per line. It bounds the memory for a file without line endings."""


def open_language_files(locator: str, source: str, target: str) -> Records:
    """Open one file per language; ``{lang}`` in the locator is replaced with the language code."""
    return open_aligned_files(*(Path(locator.replace("{lang}", language)) for language in (source, target)))


def open_aligned_files(source: Path, target: Path) -> Records:
    """Open two files aligned by line: line n of the target translates line n of the source."""
    paths, names = (source, target), (str(source), str(target))  # Formatting a path takes longer than reading a line.
    source_marks, target_marks = InnerMarks(source), InnerMarks(target)
    for path in paths:
        require_text_file(path)

    def read() -> Iterator[tuple[bytes, bytes]]:
        files = [read_lines(path) for path in paths]
        for index, (source_line, target_line) in enumerate(itertools.zip_longest(*files)):
            if source_line is None or target_line is None:
                counts = [
                    index if line is None else index + 1 + sum(1 for _ in rest)
                    for line, rest in zip((source_line, target_line), files, strict=True)
                ]
                raise InputError(
                    f"{source} and {target} have different numbers of lines ({counts[0]} and {counts[1]}). "
                    "Add or delete lines until line n of one file translates line n of the other."
                )
            yield source_line, target_line

    def parse(index: int, lines: tuple[bytes, bytes]) -> Pair:
        locations = [f"{name}:{index + 1}" for name in names]
        removal = f"delete line {index + 1} from both files"
        texts = [
            decode_line(line, location, removal, path)
            for line, location, path in zip(lines, locations, paths, strict=True)
        ]
        blank = [not text.strip() for text in texts]
        if any(blank):
            first, second = locations if blank[0] else reversed(locations)
            problem = f"{first} and {second} are blank" if all(blank) else f"{first} is blank but {second} is not"
            raise InputError(f"{problem}. Delete line {index + 1} from both files.")
        pair = Pair(*map(validate_text, texts, locations))
        source_marks.report(pair.source, locations[0])
        target_marks.report(pair.target, locations[1])
        return pair

    return Records(read, parse, files=paths)


def open_tsv(path: Path, source: str, target: str) -> Records:
    """Open a file of tab-separated pairs: source, one tab, target. The language codes have no effect."""
    require_text_file(path)
    marks, name = InnerMarks(path), str(path)

    def parse(index: int, line: bytes) -> Pair:
        location = f"{name}:{index + 1}"
        # The command paste leaves the byte order mark of its second file at the start of a column.
        text = decode_line(line, location, path=path).replace("\t" + BYTE_ORDER_MARK, "\t")
        columns = text.split("\t")
        if len(columns) != 2 and text.strip():
            marks.report(text, location)  # The marks may explain the number of columns.
            raise InputError(
                f"{location} has {len(columns) - 1} tabs, not 1. Separate source and target with one tab, and remove "
                "other columns with cut -f1,2."
            )
        pair = Pair(
            validate_text(columns[0], f"{location}, the source,"),
            validate_text(columns[-1], f"{location}, the target,"),
        )
        marks.report(text, location)
        return pair

    return Records(lambda: read_lines(path), parse, files=[path])


def open_jsonl(path: Path, source: str, target: str) -> Records:
    """Open a file with one JSON object per line."""
    require_text_file(path)

    def parse(index: int, line: bytes) -> Pair:
        location = f"{path}:{index + 1}"
        text = decode_line(line, location, path=path)
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{location} is not JSON ({summarize_error(error)}). Fix or delete the line.") from error
        if not isinstance(record, dict):
            raise InputError(f'{location} is not a JSON object. Write {{"{source}": "...", "{target}": "..."}}.')
        return Pair(
            *(
                validate_text(language_value(record, language, location), f"{location}, {language!r},")
                for language in (source, target)
            )
        )

    return Records(lambda: read_lines(path), parse, files=[path])


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a plain or compressed file with their line ends, cut after MAX_LINE_BYTES bytes.

    Raises InputError if the file is damaged or in another binary format.
    """
    return _until_damage(lambda: open_decompressed(path), str(path), "Create or download it again.")


def read_stream_lines(stream: Any) -> Iterator[bytes]:
    """Yield the lines of standard input as ``read_lines`` does, without closing it."""

    def content() -> AbstractContextManager[io.BufferedIOBase]:
        return contextlib.nullcontext(decompressed(stream, None))

    return _until_damage(content, "standard input", "Check the command before the pipe.")


def _until_damage(
    content: Callable[[], AbstractContextManager[io.BufferedIOBase]], name: str, remedy: str
) -> Iterator[bytes]:
    """Yield the lines of a file. Raises InputError if it is damaged.

    name, remedy: name of the file and last sentence for the message.
    """
    count = 0
    try:
        with content() as file:
            for line in split_lines(file):
                count += 1
                yield line
    except DAMAGE_ERRORS as error:
        raise InputError(f"{name} is damaged after line {count} ({summarize_error(error)}). {remedy}") from error


def split_lines(file: Any) -> Iterator[bytes]:
    """Yield the lines of a binary file with their line ends, cut after MAX_LINE_BYTES bytes.

    Lines end at LF. If the file, or its first MAX_LINE_BYTES bytes, contains no LF, they also end at CR, as in files of
    old Macintosh programs.
    """
    readline: Callable[[int], bytes] = file.readline
    line_ends: tuple[bytes, ...] = (b"\n",)
    line = readline(MAX_LINE_BYTES)
    if b"\r" in line and not line.endswith(b"\n"):
        rest = file_of_chunks(itertools.chain([line], iter(lambda: file.read(CHUNK_BYTES), b"")))
        text = io.TextIOWrapper(rest, "latin-1", newline="")  # One character per byte. It also splits at "\r".
        readline, line_ends = lambda size: text.readline(size).encode("latin-1"), (b"\n", b"\r")
        line = readline(MAX_LINE_BYTES)
    while line:
        yield line
        while len(line) == MAX_LINE_BYTES and not line.endswith(line_ends):
            line = readline(MAX_LINE_BYTES)
        line = readline(MAX_LINE_BYTES)


def decode_line(line: bytes, location: str, removal: str = "delete the line", path: Path | None = None) -> str:
    """Return the text of a line from ``read_lines`` without its line end and byte order mark.

    location: file and line, for messages.
    removal: how to remove the line, for messages.
    path: the file, for the command that converts it.
    Raises InputError if the line is too long or not UTF-8.
    """
    if len(line) == MAX_LINE_BYTES:
        raise InputError(f"{location} is longer than {MAX_LINE_BYTES // 2**20} MiB. To continue, {removal}.")
    try:
        return strip_marks(line.decode())
    except UnicodeDecodeError as error:
        problem = f"{location} is not UTF-8 ({error.reason} at byte {error.start + 1} of the line)."
        raise InputError(f"{problem} {_encoding_remedy(line, path or Path('FILE'), removal)}") from error


def _encoding_remedy(line: bytes, path: Path, removal: str) -> str:
    """Return what to do about a line that is not UTF-8. It depends on the other lines of the file."""
    encoding = None
    if path.is_file():
        stat = path.stat()
        encoding = _guess_file_encoding(path, stat.st_mtime_ns, stat.st_size)
    encoding = encoding or guess_encoding(Evidence(0, (line,)))
    command = conversion_command(encoding, path)
    return {
        "UTF-8": f"Other lines of the file are UTF-8. Correct the line, or {removal}.",
        "WINDOWS-1252": f"The file seems to be Windows-1252 or Latin-1. Convert it ({command}), or {removal}.",
        UNKNOWN: f"Convert the file from its encoding ({command}), or {removal}.",
    }[encoding]


@functools.lru_cache(maxsize=8)  # With on_error="skip", every invalid line of the file needs it.
def _guess_file_encoding(path: Path, modified: int, size: int) -> str | None:
    """Return the encoding that the start of a file shows, or None if it is ASCII.

    modified, size: time of the last change and size of the file, so that a changed file is read again.
    """
    utf8_lines, invalid_lines = 0, []
    for line in read_sample(path).split(b"\n")[:-1]:  # The last line may end within a character.
        try:
            utf8_lines += not line.decode().isascii()
        except UnicodeDecodeError:
            invalid_lines.append(line)
    is_ascii = not utf8_lines and not invalid_lines
    return None if is_ascii else guess_encoding(Evidence(utf8_lines, tuple(invalid_lines)))


def read_sample(path: Path) -> bytes:
    """Return the first SAMPLE_BYTES bytes of a plain or compressed file, or nothing if it is damaged."""
    try:
        with open_decompressed(path) as file:
            return file.read(SAMPLE_BYTES)
    except DAMAGE_ERRORS:  # ``read_lines`` reports it, with the line.
        return b""


def require_text_file(path: Path) -> None:
    """Raise InputError if the file does not exist or is UTF-16 or UTF-32."""
    require_file(path)
    encoding = detect_wide_encoding(read_sample(path))
    if encoding is not None:
        raise InputError(f"{path} is {encoding}, not UTF-8. Convert it: {conversion_command(encoding, path)}")


def require_file(path: Path) -> None:
    """Raise InputError if the file does not exist; the message suggests files with similar names."""
    if path.is_file():
        return
    if path.is_dir():
        raise InputError(f"{path} is a directory. Give the path of a file.")
    if not path.parent.is_dir():
        raise InputError(f"{path} does not exist, and neither does its directory. Check the path.")
    similar = difflib.get_close_matches(path.name, sorted(sibling.name for sibling in path.parent.iterdir()))
    hint = f"Did you mean {' or '.join(similar)}?" if similar else "Check the path."
    raise InputError(f"{path} does not exist. {hint}")
