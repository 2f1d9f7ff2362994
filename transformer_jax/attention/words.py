"""From pieces of words to words: which word each token belongs to, and attention between words.

Words are those between white space, ``text.split()``, numbered from 0. Axes: Q query tokens, K key tokens, W query
words, V key words.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from transformer_jax.data.tokenizers import BYTES, Tokenizer

NO_WORD = -1
"""The word of a special token, and of a token of white space that no word follows directly."""


def source_words(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> tuple[int, ...]:
    """The word of each token of an encoded text; [UNK] too stands for a word.

    ids: those of the text, and special tokens after them. Raises ValueError for ids of another text.
    """
    encoded, spans = tokenizer.encode_with_spans(text)
    rest = ids[len(encoded) :]
    if list(ids[: len(encoded)]) != encoded or any(one not in tokenizer.special_ids for one in rest):
        raise ValueError(f"The ids are not those of the text {text!r}")
    return (*_words_at(text, spans), *(NO_WORD for _ in rest))


def target_words(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> tuple[int, ...]:
    """The word of each token that a model produced; [UNK], which decoding leaves out, has none.

    text: the decoded ids; a tokenizer might encode it otherwise. Or ids as of ``source_words``.
    Raises ValueError for ids of another text.
    """
    try:
        return source_words(tokenizer, text, ids)
    except ValueError:
        if tokenizer.decode([ids])[0].split() != text.split():
            raise
    plain = [one for one in ids if one not in tokenizer.special_ids]
    places = _byte_places(tokenizer, plain) if tokenizer.kind == "bpe" else _decoded_places(tokenizer, plain)
    words = iter(_words_at(*places))
    return tuple(NO_WORD if one in tokenizer.special_ids else next(words) for one in ids)


def merged(words: Iterable[int]) -> tuple[int, ...]:
    """The word of each row or column after ``merge_words``: each word once; tokens without a word stay alone."""
    found: list[int] = []
    for word in words:
        if word == NO_WORD or word not in found:
            found.append(word)
    return tuple(found)


def merge_words(
    weights: Float[np.ndarray, "*any Q K"], query_words: Sequence[int], key_words: Sequence[int]
) -> Float[np.ndarray, "*any W V"]:
    """Attention between words: summed over the tokens of a key's word, averaged over those of a query's.

    Rows and columns are those of ``merged``; rows that sum to 1 still do.
    """
    queries, keys = _membership(query_words), _membership(key_words)
    return (queries / queries.sum(axis=0)).T @ weights @ keys


def _membership(words: Sequence[int]) -> Float[np.ndarray, "tokens words"]:
    """1 where the token belongs to the word."""
    member = np.zeros((len(words), len(merged(words))), np.float32)
    columns: dict[int, int] = {}
    for token, word in enumerate(words):
        column = len(columns)
        # A token without a word has a key of its own.
        member[token, columns.setdefault(word if word != NO_WORD else -1 - token - 1, column)] = 1
    return member


# Where tokens stand in a text


def word_numbers(text: str) -> list[int]:
    """The word of each character; white space has none."""
    found: list[int] = []
    word, blank = -1, True
    for character in text:
        word += blank and not character.isspace()
        blank = character.isspace()
        found.append(NO_WORD if blank else word)
    return found


def _words_at(text: str, spans: Iterable[tuple[int, int]]) -> list[int]:
    """The word at each span of characters: that of the first character in it which is not blank.

    Blanks alone belong to the word that follows them directly, as "▁" in "▁", "x" does. An empty span is that of a
    character's first bytes, or of what shows only together with the next token: it belongs to the next character.
    """
    word_of, found = word_numbers(text), []
    for start, end in spans:
        stop = len(text) if start == end else end + 1
        found.append(next((word for word in word_of[start:stop] if word != NO_WORD), NO_WORD))
    return found


def _byte_places(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Byte-level pieces: the text, and the whole characters before and up to the end of each piece.

    Bytes that are no character are surrogates in this text rather than U+FFFD; its words are the same.
    """
    pieces = [bytes(BYTES[character] for character in piece) for piece in tokenizer.pieces(ids)]
    text = b"".join(pieces).decode("utf-8", "surrogateescape")
    # The number of whole characters before each byte, and before the end.
    before = [place for place, one in enumerate(text) for _ in one.encode("utf-8", "surrogateescape")] + [len(text)]
    ends = [0, *itertools.accumulate(map(len, pieces))]
    return text, [(before[start], before[end]) for start, end in itertools.pairwise(ends)]


def _decoded_places(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Other pieces: the text, and how much of it is there before and with each piece."""
    *begun, text = tokenizer.decode([ids[:count] for count in range(len(ids) + 1)])
    ends = [*(_common(text, one) for one in begun), len(text)]
    return text, list(itertools.pairwise(ends))


def _common(text: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    differing = (place for place, pair in enumerate(zip(text, other, strict=False)) if pair[0] != pair[1])
    return next(differing, min(len(text), len(other)))
