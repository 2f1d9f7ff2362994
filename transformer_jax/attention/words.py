"""Mapping from tokens to words, and attention weights between words.

Words are separated by white space, as in ``text.split()``, and numbered from 0. For display, the words of scripts
without spaces are divided further (``displayed_words``).

Axes: Q query tokens, K key tokens, W query words, V key words.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from transformer_jax.data.detokenization import BYTE_OF_CHARACTER
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.data.word_boundaries import unspaced_segments

NO_WORD = -1
"""Word number of special tokens, and of white space that is not directly followed by a word."""

Span = tuple[int, int]
"""The half-open range of characters of a token."""


def source_words(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> tuple[int, ...]:
    """Return the word number of each token of an encoded text; [UNK] also belongs to a word.

    ids: the ids of the text, optionally followed by special tokens.
    Raises ValueError if the ids are not the encoding of the text.
    """
    return _words_at_spans(word_numbers(text), _source_spans(tokenizer, text, ids))


def target_words(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> tuple[int, ...]:
    """Return the word number of each token that a model produced. [UNK] has no word, because decoding omits it.

    text: the decoded ids, even if the tokenizer would encode that text with other ids.
    Raises ValueError if the ids do not decode to the text.
    """
    decoded, spans = _target_spans(tokenizer, text, ids)
    return _words_at_spans(word_numbers(decoded), spans)


class Words(NamedTuple):
    """The words of a text, and the word number of each of its tokens, ``NO_WORD`` for none."""

    texts: tuple[str, ...]
    numbers: tuple[int, ...]


def displayed_source_words(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> Words:
    """Return the displayed words of an encoded text. Raises ValueError as ``source_words`` does."""
    return displayed_words(text, _source_spans(tokenizer, text, ids))


def displayed_target_words(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> Words:
    """Return the displayed words of the tokens that a model produced. Raises ValueError as ``target_words`` does."""
    return displayed_words(*_target_spans(tokenizer, text, ids))


def displayed_words(text: str, spans: Sequence[Span | None]) -> Words:
    """Return the words for the views "Words": those between white space, divided further in scripts without spaces.

    Chinese, Hiragana and Thai are divided into characters, Katakana into words. A token is never divided: the
    characters of one token belong to one word.
    """
    inside_tokens = {index for start, end in filter(None, spans) for index in range(start + 1, end)}
    starts = {start for start, _ in unspaced_segments(text)} - inside_tokens
    numbers = word_numbers(text, starts)
    texts = [""] * (max(numbers, default=NO_WORD) + 1)
    for character, number in zip(text, numbers, strict=True):
        if number != NO_WORD:
            texts[number] += "\ufffd" if "\ud800" <= character <= "\udfff" else character
    return Words(tuple(texts), _words_at_spans(numbers, spans))


def word_axis(token_words: Iterable[int]) -> tuple[int, ...]:
    """Return the word number of each row or column after ``merge_words``.

    Each word has one row or column. Each token that belongs to no word has its own row or column.
    """
    axis: list[int] = []
    for word in token_words:
        if word == NO_WORD or word not in axis:
            axis.append(word)
    return tuple(axis)


def merge_words(
    weights: Float[np.ndarray, "*any Q K"], query_words: Sequence[int], key_words: Sequence[int]
) -> Float[np.ndarray, "*any W V"]:
    """Sum the weights over the tokens of each key word, and average them over the tokens of each query word.

    ``word_axis`` returns the words of the rows and columns. Rows that sum to 1 still sum to 1.
    """
    queries, keys = _membership(query_words), _membership(key_words)
    return (queries / queries.sum(axis=0)).T @ weights @ keys


def _membership(token_words: Sequence[int]) -> Float[np.ndarray, "tokens words"]:
    """Return a matrix that is 1 where the token belongs to the word, else 0."""
    membership = np.zeros((len(token_words), len(word_axis(token_words))), np.float32)
    columns: dict[int, int] = {}
    for token, word in enumerate(token_words):
        next_column = len(columns)
        # A token without a word gets a unique negative number, and therefore its own column.
        membership[token, columns.setdefault(word if word != NO_WORD else -1 - token - 1, next_column)] = 1
    return membership


# Positions of tokens in a text


def word_numbers(text: str, starts: Container[int] = ()) -> list[int]:
    """Return the word number of each character, ``NO_WORD`` for white space.

    starts: further positions at which a word starts.
    """
    numbers: list[int] = []
    word, after_space = -1, True
    for index, character in enumerate(text):
        word += (after_space or index in starts) and not character.isspace()
        after_space = character.isspace()
        numbers.append(NO_WORD if after_space else word)
    return numbers


def _source_spans(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> list[Span | None]:
    """Return the span of each token of an encoded text; None for special tokens at its end."""
    encoded, spans = tokenizer.encode_with_spans(text)
    trailing = ids[len(encoded) :]
    if list(ids[: len(encoded)]) != encoded or any(token_id not in tokenizer.special_ids for token_id in trailing):
        raise ValueError(f"the ids do not encode the text {text!r}")
    return [*_without_spaces(tokenizer, encoded, spans), *(None for _ in trailing)]


def _without_spaces(tokenizer: Tokenizer, ids: Sequence[int], spans: Sequence[Span]) -> list[Span | None]:
    """Return None for the tokens of a word-level tokenizer that are spaces: they belong to no word."""
    if tokenizer.kind not in ("word", "wordpiece"):  # Here, a space can be the first piece of a word.
        return list(spans)
    return [None if piece.isspace() else span for piece, span in zip(tokenizer.pieces(ids), spans, strict=True)]


def _target_spans(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> tuple[str, list[Span | None]]:
    """Return the text and the span of each token that a model produced; None for special tokens."""
    try:
        return text, _source_spans(tokenizer, text, ids)
    except ValueError:
        if tokenizer.decode([ids])[0].split() != text.split():
            raise
    text_ids = [token_id for token_id in ids if token_id not in tokenizer.special_ids]
    decoded_spans = _byte_level_spans if tokenizer.kind == "bpe" else _decoded_spans
    decoded, spans = decoded_spans(tokenizer, text_ids)
    remaining = iter(_without_spaces(tokenizer, text_ids, spans))
    return decoded, [None if token_id in tokenizer.special_ids else next(remaining) for token_id in ids]


def _words_at_spans(character_words: Sequence[int], spans: Iterable[Span | None]) -> tuple[int, ...]:
    """Return the word number at each span of characters: the word of its first character that is not white space.

    character_words: the word number of each character.

    A span of white space belongs to the word that directly follows it: in the tokens "▁", "x", the "▁" belongs to "x".
    A span is empty if the token holds only the first bytes of a character, or decodes to nothing without the next
    token. An empty span belongs to the next character.
    """
    span_words = []
    for span in spans:
        start, end = span or (0, 0)
        stop = 0 if span is None else len(character_words) if start == end else end + 1
        span_words.append(next((word for word in character_words[start:stop] if word != NO_WORD), NO_WORD))
    return tuple(span_words)


def _byte_level_spans(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Decode byte-level tokens. Return the text and the span of complete characters of each token.

    Invalid bytes become surrogates in this text, not U+FFFD; the words are the same.
    """
    pieces = [bytes(BYTE_OF_CHARACTER[character] for character in piece) for piece in tokenizer.pieces(ids)]
    text = b"".join(pieces).decode("utf-8", "surrogateescape")
    # The index of the character that each byte belongs to, and of the end of the text.
    character_at = [
        index for index, character in enumerate(text) for _ in character.encode("utf-8", "surrogateescape")
    ] + [len(text)]
    byte_offsets = [0, *itertools.accumulate(map(len, pieces))]
    return text, [(character_at[start], character_at[end]) for start, end in itertools.pairwise(byte_offsets)]


def _decoded_spans(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Decode every prefix of the ids; return the text and the span that each token adds to it."""
    *prefixes, text = tokenizer.decode([ids[:count] for count in range(len(ids) + 1)])
    offsets = [*(_common_prefix_length(text, prefix) for prefix in prefixes), len(text)]
    return text, list(itertools.pairwise(offsets))


def _common_prefix_length(text: str, other: str) -> int:
    """Return the number of characters that two texts share at their start."""
    differences = (index for index, pair in enumerate(zip(text, other, strict=False)) if pair[0] != pair[1])
    return next(differences, min(len(text), len(other)))
