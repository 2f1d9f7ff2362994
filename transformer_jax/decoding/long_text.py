"""Texts longer than the model was trained on: split into parts that it can take, losing nothing but blanks between them."""

from __future__ import annotations

import re
from collections.abc import Callable


def split_text(text: str, count: Callable[[str], int], most: int) -> list[str]:
    """Parts of at most ``most`` tokens, as few as a left-to-right split gives; a text that fits is one part.

    count: tokens of a text. Splits after a sentence's end if it must split at all, else between words, else, in a word
    longer than ``most`` tokens, between characters.
    """
    if count(text) <= most:
        return [text]
    for separator in (r"(?<=[.!?…。！？])\s*(?=\S)", r"\s+", ""):
        pieces = [piece for piece in re.split(separator, text) if piece.strip()] if separator else list(text)
        if len(pieces) > 1:
            joint = "" if not separator else " "
            return [part for group in _grouped(pieces, joint, count, most) for part in split_text(group, count, most)]
    return [text]


def _grouped(pieces: list[str], joint: str, count: Callable[[str], int], most: int) -> list[str]:
    """Join neighbours while they fit."""
    groups = [pieces[0]]
    for piece in pieces[1:]:
        longer = groups[-1] + joint + piece
        if count(longer) <= most:
            groups[-1] = longer
        else:
            groups.append(piece)
    return groups
