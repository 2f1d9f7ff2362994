"""Splitting of texts that are longer than the model's training sentences. Only white space between parts is lost."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

SPLIT_PATTERNS = (
    r"[.!?…]+[\"'”’»)\]]*\s+|[。！？]+[」』）”]*\s*|\n\s*",  # ends of sentences; not the full stop in 3.5 or a.com
    r"\s+",  # ends of words
    r"(?s:.)",  # characters
)
"""Patterns after which a text may be split, in order of preference."""


def split_text(text: str, count_tokens: Callable[[str], int], max_tokens: int) -> list[str]:
    """Split a text into parts of at most ``max_tokens`` tokens. A text that fits is returned unchanged.

    The text is split after sentences if possible, otherwise between words. A word that is too long is split between
    characters. A single character with more than ``max_tokens`` tokens is one part. Parts are filled from left to
    right.

    count_tokens: returns the number of tokens of a text.
    """
    if count_tokens(text) <= max_tokens:
        return [text]
    for pattern in SPLIT_PATTERNS:
        cuts = [0, *(match.end() for match in re.finditer(pattern, text)), len(text)]
        pieces = [text[start:stop] for start, stop in itertools.pairwise(cuts) if start < stop]
        if len(pieces) > 1:
            groups = _join_neighbours(pieces, count_tokens, max_tokens)
            parts = [part for group in groups for part in split_text(group, count_tokens, max_tokens)]
            return [part for part in parts if part]
    return [text]


def _join_neighbours(pieces: list[str], count_tokens: Callable[[str], int], max_tokens: int) -> list[str]:
    """Join neighbouring strings as long as they fit in one part, and strip surrounding white space."""
    groups = [pieces[0]]
    for piece in pieces[1:]:
        joined = groups[-1] + piece
        if count_tokens(joined.strip()) <= max_tokens:
            groups[-1] = joined
        else:
            groups.append(piece)
    return [group.strip() for group in groups]
