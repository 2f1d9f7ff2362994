"""Texts longer than the model was trained on: split into parts that it can take, losing nothing but blanks between
them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

ENDS = (
    r"[.!?…]+[\"'”’»)\]]*\s+|[。！？]+[」』）”]*\s*|\n\s*",  # of sentences; a full stop within 3.5 or a.com ends none
    r"\s+",  # of words
    r"(?s:.)",  # of characters
)
"""Where a text may be split, the best first."""


def split_text(text: str, count: Callable[[str], int], most: int) -> list[str]:
    """Parts of at most ``most`` tokens, as few as a left-to-right split gives; a text that fits is one part.

    count: tokens of a text. Splits after a sentence's end if it must split at all, else between words, else, in a word
    longer than ``most`` tokens, between characters; a single character of more tokens is a part all the same.
    """
    if count(text) <= most:
        return [text]
    for end in ENDS:
        cuts = [0, *(match.end() for match in re.finditer(end, text)), len(text)]
        pieces = [text[start:stop] for start, stop in itertools.pairwise(cuts) if start < stop]
        if len(pieces) > 1:
            parts = [part for group in _grouped(pieces, count, most) for part in split_text(group, count, most)]
            return [part for part in parts if part]
    return [text]


def _grouped(pieces: list[str], count: Callable[[str], int], most: int) -> list[str]:
    """Join neighbours while they fit, without the blanks around them."""
    groups = [pieces[0]]
    for piece in pieces[1:]:
        longer = groups[-1] + piece
        if count(longer.strip()) <= most:
            groups[-1] = longer
        else:
            groups.append(piece)
    return [group.strip() for group in groups]
