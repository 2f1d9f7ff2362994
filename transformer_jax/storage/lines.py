"""Text files with one text per line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from transformer_jax.storage import atomic

LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""All characters that common programs treat as a line ending."""


def replace_line_breaks(text: str) -> str:
    """Return the text with a space for each line break, so that it is one line."""
    return LINE_BREAKS.sub(" ", text)


def write_lines(path: Path, texts: Iterable[str]) -> None:
    """Write each text as one line of a file, atomically."""
    atomic.write_text(path, "".join(f"{replace_line_breaks(text)}\n" for text in texts))
