"""Compressed files and other binary formats, recognized by their first bytes, whatever the file is called.

gzip, bzip2, xz, LZMA and Zstandard are decompressed while they are read. A file in another format of this page is
refused, with the command that makes it readable.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import itertools
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from transformer_jax.errors import InputError
from transformer_jax.terminal import quote

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SIGNATURE_BYTES = 512
"""Number of bytes that identify a format. The signature of tar ends at byte 262."""
CHUNK_BYTES = 2**16
"""Maximum number of bytes that are decompressed at once."""
DAMAGE_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)
"""Errors of the decompressors for a damaged file."""
COMPRESSION_SUFFIXES = re.compile(r"(?:\.(?:b?gz|z|bz2|xz|lzma|zstd?|lz4?|lzo|sz|br|zip|7z|rar|tar))+$", re.IGNORECASE)
"""Suffixes that compression appends to the name of a file."""


class Format(NamedTuple):
    """A binary format.

    name: the name for messages.
    signature: matches the first bytes of a file.
    command: shell command that extracts the text. ``FILE`` and ``NEW`` are the places of the paths.
    decompressor: class of the objects that decompress one stream, or of a file that is read decompressed. None if the
        format is not read.
    """

    name: str
    signature: re.Pattern[bytes]
    command: str
    decompressor: Callable[[], Any] | None = None


def _zstd_decompressor() -> Any:
    # Windows of up to 2 GiB, which zstd --long=31 writes. By default, 128 MiB is the limit.
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 31})


FORMATS = tuple(
    Format(name, re.compile(signature, re.DOTALL), command, *decompressor)
    for name, signature, command, *decompressor in (
        ("gzip data", rb"\x1f\x8b", "gzip -dc FILE > NEW", gzip.GzipFile),
        ("bzip2 data", rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", "bzip2 -dc FILE > NEW", bz2.BZ2Decompressor),
        ("xz data", rb"\xfd7zXZ\0", "xz -dc FILE > NEW", lzma.LZMADecompressor),
        ("LZMA data", rb"\x5d\0\0.{10}", "xz --format=lzma -dc FILE > NEW", lzma.LZMADecompressor),
        ("Zstandard data", rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", "zstd -dc FILE > NEW", _zstd_decompressor),
        ("LZ4 data", rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", "lz4 -dc FILE > NEW"),
        ("compress data", rb"\x1f[\x9d\x1e\xa0]", "gzip -dc FILE > NEW"),
        ("lzip data", rb"LZIP\x01", "lzip -dc FILE > NEW"),
        ("lzop data", rb"\x89LZO\0\r\n\x1a\n", "lzop -dc FILE > NEW"),
        ("Snappy data", rb"\xff\x06\0\0sNaPpY", "snzip -dc FILE > NEW"),
        (
            "an Office document",
            rb"PK\x03\x04.*(?:\[Content_Types\]|application/vnd\.oasis)",
            "soffice --convert-to txt FILE",
        ),
        ("a zip archive", rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", "unzip -p FILE > NEW"),
        ("a 7-Zip archive", rb"7z\xbc\xaf\x27\x1c", "7z e -so FILE > NEW"),
        ("a RAR archive", rb"Rar!\x1a\x07", "unrar p -inul FILE > NEW"),
        ("a tar archive", rb".{257}ustar", "tar -xOf FILE > NEW"),
        ("a Parquet file", rb"PAR1\x15", "mv FILE NEW.parquet"),
        ("a PDF document", rb"%PDF-\d", "pdftotext FILE NEW"),
        ("an Office document", rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "soffice --convert-to txt FILE"),
        ("an RTF document", rb"\{\\rtf", "soffice --convert-to txt FILE"),
    )
)
"""The known formats. The first with a matching signature counts."""
BROTLI = Format(
    "Brotli data", re.compile(rb"(?!\xff\xfe|\xfe\xff).*[\0-\x08\x0e-\x1f]", re.DOTALL), "brotli -dc FILE > NEW"
)
"""Brotli has no signature. It is known by its suffix, but ``.br`` is also the language code of Breton.

The pattern matches control characters, which text in other encodings than UTF-8 lacks, except for UTF-16.
"""


def detect_format(start: bytes, suffix: str = "") -> Format | None:
    """Return the format of a file with these first bytes, or None for text and unknown formats.

    suffix: the suffix of the file. It matters only for Brotli.
    """
    formats = (*FORMATS, BROTLI) if suffix.lower() == ".br" and not starts_as_utf8(start) else FORMATS
    return next((known for known in formats if known.signature.match(start)), None)


def starts_as_utf8(start: bytes) -> bool:
    """Return whether the first bytes of a file are UTF-8. They may end within a character."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def file_format(path: Path) -> Format | None:
    """Return the format of a file. None if it is text, unknown, or not a readable regular file."""
    if not path.is_file():  # Opening a pipe would take its content.
        return None
    try:
        with path.open("rb") as file:
            return detect_format(file.read(SIGNATURE_BYTES), path.suffix)
    except OSError:
        return None


@contextlib.contextmanager
def open_decompressed(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file for reading its content, decompressed if necessary.

    Raises InputError if the content is in a format that is not read. Opening and reading raise one of DAMAGE_ERRORS if
    the file is damaged.
    """
    with io.BufferedReader(io.FileIO(path), CHUNK_BYTES) as file:
        yield decompressed(file, path)


def decompressed(file: io.BufferedIOBase, path: Path | None) -> io.BufferedIOBase:
    """Return the content of an open file or pipe, as ``open_decompressed`` does.

    path: the path for messages, or None for standard input.
    """
    start, file = _read_start(file)
    outer = detect_format(start, path.suffix if path else "")
    if outer is None:
        return file
    name = path or "standard input"
    if outer.decompressor is None:
        raise InputError(f"{name} is {outer.name}, not text. Convert it ({extraction_command(outer, path)}).")
    content: Any  # Not every io.BufferedIOBase can peek.
    if outer.decompressor is gzip.GzipFile:
        content = io.BufferedReader(gzip.GzipFile(fileobj=file), CHUNK_BYTES)
    else:
        content = file_of_chunks(_decompress(file, outer.decompressor))
    inner = detect_format(content.peek(SIGNATURE_BYTES))
    if inner is not None:
        raise InputError(
            f"{name} is {inner.name} within {outer.name}. Remove the outer compression "
            f"({extraction_command(outer, path)}), and use its output."
        )
    return content


def extraction_command(known: Format, path: Path | str | None) -> str:
    """Return the shell command that extracts the text of a file, or of a pipe if ``path`` is None.

    For formats whose command does not read a pipe, an instruction to save the content precedes the command.
    """
    if path is None:
        command = known.command.removesuffix(" FILE > NEW")
        return command if command.endswith(" -dc") else f"save it to FILE first, then: {known.command}"
    return known.command.replace("FILE", quote(Path(path)))


def file_of_chunks(chunks: Iterable[bytes]) -> io.BufferedReader:
    """Return a file that is read from consecutive chunks."""
    return io.BufferedReader(_ChunkReader(iter(chunks)), CHUNK_BYTES)


class _ChunkReader(io.RawIOBase):
    """The stream of ``file_of_chunks``, without a buffer."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """Return True, as the interface demands of readable streams."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with the next bytes and return their number, 0 at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _read_start(file: io.BufferedIOBase) -> tuple[bytes, io.BufferedIOBase]:
    """Return the first bytes of a file or pipe, and a file that starts with them."""
    if file.seekable():
        position = file.tell()
        start = file.read(SIGNATURE_BYTES)
        file.seek(position)
        return start, file
    start = file.read(SIGNATURE_BYTES)
    return start, file_of_chunks(itertools.chain([start], _chunks(file)))


def _chunks(file: Any) -> Iterator[bytes]:
    """Yield the rest of a file as it arrives."""
    while chunk := file.read1(CHUNK_BYTES):
        yield chunk


def _decompress(file: Any, new_decompressor: Callable[[], Any]) -> Iterator[bytes]:
    """Yield the content of all compressed streams of a file.

    The files of the modules bz2, lzma and zstd ignore everything after a stream that is not the start of another
    stream, such as a damaged stream. Here it is an error, except for zero bytes, which pad streams.
    """
    decompressor = None
    for chunk in _chunks(file):
        while chunk:
            if decompressor is None:
                chunk = chunk.lstrip(b"\0")
                decompressor = new_decompressor() if chunk else None
                continue
            yield decompressor.decompress(chunk, CHUNK_BYTES)
            while not decompressor.needs_input and not decompressor.eof:
                yield decompressor.decompress(b"", CHUNK_BYTES)
            chunk = decompressor.unused_data
            decompressor = None if decompressor.eof else decompressor
    if decompressor is not None:
        raise EOFError("its end is missing")
