"""Parallel text for the tests of the readers, and functions that write it and read it back."""

import bz2
import gzip
import lzma
import re

import pytest

from transformer_jax.data.compression import zstd
from transformer_jax.data.sources import Pair, open_pairs
from transformer_jax.errors import InputError

# str.splitlines also splits at U+2028, U+0085, \f and \r; the readers must not.
ENGLISH = [
    "The house is red.",
    "A line\u2028that\x0bgoes\x85on\fand on.",
    "“Yes”, he\rsaid.",
    " Spaces stay. ",
    "日本 🙂",
]
GERMAN = ["Das Haus ist rot.", "Eine Zeile, die weitergeht.", "„Ja“, sagte er.", "Leerzeichen bleiben.", "Japan 🙂"]
PAIRS = [Pair(*pair) for pair in zip(ENGLISH, GERMAN, strict=True)]
COMPRESS = {
    "": bytes,
    ".gz": lambda content: gzip.compress(content, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lambda content: lzma.compress(content, preset=0),
    ".lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE, preset=0),
    # With a checksum, as the command zstd writes it.
    ".zst": lambda content: zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1}),
}


def write(path, lines, suffix="", end="\n"):
    path.with_name(path.name + suffix).write_bytes(COMPRESS[suffix]("".join(line + end for line in lines).encode()))


def write_pair(directory, english, german):
    write(directory / "train.en", english)
    write(directory / "train.de", german)
    return f"{directory}/train.{{lang}}"


def refusal(locator, source="en", target="de", split="train"):
    """Return the message of the InputError that reading the locator raises."""
    with pytest.raises(InputError) as raised:
        list(open_pairs(str(locator), source, target, split))
    message = str(raised.value)
    assert "\n" not in message
    assert re.search(r"[.?]$|pip install|iconv ", message), "the message ends with a remedy"
    return message


def rows(shape):
    flat = [{"en": english, "de": german, "id": n} for n, (english, german) in enumerate(PAIRS)]
    return flat if shape == "flat" else [{"id": row.pop("id"), "translation": row} for row in flat]
