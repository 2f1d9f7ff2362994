"""Token labels of heat maps, on one line, of limited length, with visible characters that the fonts cover."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from transformer_jax.attention.fonts import MISSING_GLYPH, find_fonts, warn_missing_glyphs
from transformer_jax.attention.weights import Attention

MAX_LABEL_COLUMNS = 20
"""Maximum label width in terminal columns (two per Chinese or Japanese character). Longer tokens get an ellipsis."""


class TokenLabels(NamedTuple):
    """The labels of tokens, and font families that together cover their characters."""

    texts: list[str]
    families: tuple[str, ...]


class AxisLabels(NamedTuple):
    """The labels of the rows and columns of a heat map."""

    rows: TokenLabels
    columns: TokenLabels


def label_axes(attention: Attention, queries: Sequence[str], keys: Sequence[str]) -> AxisLabels:
    """Return the labels of rows and columns, and warn about characters of the sentence pair that no font covers."""
    tokens = (*attention.source_tokens, *attention.target_tokens, *attention.target_inputs)
    warn_missing_glyphs("".join(map(label_text, tokens)))
    return AxisLabels(make_labels(queries), make_labels(keys))


def make_labels(tokens: Sequence[str]) -> TokenLabels:
    """Return one label per token, with ``MISSING_GLYPH`` for each character that no font covers."""
    texts = [label_text(token) for token in tokens]
    families, missing = find_fonts(frozenset("".join(texts)))
    if missing:
        boxes = str.maketrans(dict.fromkeys(missing, MISSING_GLYPH))
        texts = [text.translate(boxes) for text in texts]
    return TokenLabels(texts, families)


def label_text(token: str) -> str:
    """Return the token on one line, with invisible characters escaped, shortened to ``MAX_LABEL_COLUMNS``."""
    text = "".join(_visible(character) for character in token)
    if not text:
        return '""'
    widths = np.cumsum([_column_width(character) for character in text])
    if widths[-1] <= MAX_LABEL_COLUMNS:
        return text
    return text[: int(np.searchsorted(widths, MAX_LABEL_COLUMNS - 1, side="right"))] + "…"


def _visible(character: str) -> str:
    """Return the character, or its escape if it is invisible, breaks the line or changes the text direction."""
    if character == " ":
        return "␣"
    # Variation selectors choose between glyphs of one character; labels use the default glyph of the font.
    if "\ufe00" <= character <= "\ufe0f":
        return ""
    # Joiners shape Persian and Indic words; every other format character and space is invisible.
    if character in "\u200c\u200d" or unicodedata.category(character)[0] not in "CZ":
        return character
    return character.encode("unicode_escape").decode()


def _column_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
