"""Tokens as they are drawn: on one line, nothing invisible in them, not too long, in fonts that have their
characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from transformer_jax.attention.fonts import NO_GLYPH, find_fonts

LABEL_COLUMNS = 20
"""A longer token ends with an ellipsis; a Chinese or Japanese character takes two columns."""


class Labels(NamedTuple):
    """Tokens as drawn, and the font families that together have all their characters."""

    texts: list[str]
    families: tuple[str, ...]


def make_labels(tokens: Sequence[str]) -> Labels:
    """Legible labels; a character that no font has becomes a box."""
    texts = [legible(token) for token in tokens]
    families, missing = find_fonts(frozenset("".join(texts)))
    if missing:
        boxes = str.maketrans(dict.fromkeys(missing, NO_GLYPH))
        texts = [text.translate(boxes) for text in texts]
    return Labels(texts, families)


def legible(token: str) -> str:
    """The token on one line, with nothing invisible in it, shortened if it is long."""
    shown = "".join(_visible(character) for character in token)
    if not shown:
        return '""'
    widths = np.cumsum([_width(character) for character in shown])
    if widths[-1] <= LABEL_COLUMNS:
        return shown
    return shown[: int(np.searchsorted(widths, LABEL_COLUMNS - 1, side="right"))] + "…"


def _visible(character: str) -> str:
    """The character, or its escape where it would show nothing, break the line or turn the text around."""
    if character == " ":
        return "␣"
    # The variation selectors choose between drawings of one character; here there is only one.
    if "\ufe00" <= character <= "\ufe0f":
        return ""
    # The joiners shape Persian and Indic words; every other format character and space is invisible.
    if character in "\u200c\u200d" or unicodedata.category(character)[0] not in "CZ":
        return character
    return character.encode("unicode_escape").decode()


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
