"""Which source word a target word came from, read off the cross-attention.

plain    word y_t is read off row t, the query whose output predicts y_t. It has not seen y_t yet.
         Source: Garg et al. 2019, "Jointly Learning to Align and Translate with Transformer Models".
shifted  word y_t is read off row t + 1, the query that has just read y_t: SHIFT-ATT of Chen et al. 2020, "Accurate Word
         Alignment Induction from Neural Machine Translation".

Either way the weights of some heads are averaged, pieces are merged to words, and each word is linked to the one with
the most weight; [EOS] and other tokens without a word are left out. Axes: L layers, H heads, T target tokens, S source
tokens, V source words, W target words.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from transformer_jax.alignment.error_rate import Links
from transformer_jax.attention.weights import Attention
from transformer_jax.attention.words import NO_WORD, merge_words, word_axis

Method = Literal["plain", "shifted"]
Head = tuple[int, int]
"""Layer and head, from 0."""


class PairAttention(NamedTuple):
    """One sentence pair: its weights, and the word of each of its tokens, [EOS] last; see ``words``."""

    cross: Float[np.ndarray, "L H T S"]
    source_words: tuple[int, ...]
    target_words: tuple[int, ...]


class AlignmentRule(NamedTuple):
    """How to read an alignment off the weights: in which row, and averaged over which heads."""

    method: Method
    heads: tuple[Head, ...]

    @classmethod
    def default(cls, layers: int, heads: int) -> AlignmentRule:
        """The one that needs no choice: plain, and all heads of the last layer (`docs/results/alignment.md`)."""
        return cls("plain", tuple((layers - 1, head) for head in range(heads)))


def word_weights(pair: PairAttention, reading: AlignmentRule) -> Float[np.ndarray, "V W"]:
    """How much each word that the model writes (a column) is read off each word that it translates (a row)."""
    layers, heads = zip(*reading.heads, strict=True)
    weights = pair.cross[list(layers), list(heads)].mean(axis=0)
    rows = {"plain": weights[:-1], "shifted": weights[1:]}[reading.method]
    queries, keys = pair.target_words[:-1], pair.source_words
    columns, lines = np.asarray(word_axis(queries), int), np.asarray(word_axis(keys), int)
    found = np.zeros((max(keys, default=NO_WORD) + 1, max(queries, default=NO_WORD) + 1))
    is_column, is_line = columns != NO_WORD, lines != NO_WORD
    between = merge_words(rows, queries, keys)[np.ix_(is_column, is_line)]
    found[np.ix_(lines[is_line], columns[is_column])] = between.T
    return found


def link_target_words(weights: Float[np.ndarray, "V W"]) -> Links:
    """Each target word and the source word with the most weight, if any has some."""
    if not len(weights):
        return frozenset()
    strongest = weights.argmax(axis=0).tolist()
    return frozenset((source, target) for target, source in enumerate(strongest) if weights[source, target] > 0)


def link_source_words(weights: Float[np.ndarray, "V W"]) -> Links:
    """Each source word and the target word with the most weight, if any has some."""
    return frozenset((source, target) for target, source in link_target_words(weights.T))


def strongest_source_tokens(attention: Attention) -> list[int]:
    """For each target token, the number (from 0) of the source token with the most weight, averaged over layers and
    heads.

    A rough guide: attention shows what was read, not what was translated.
    """
    return [int(source) for source in attention.cross.mean(axis=(0, 1)).argmax(axis=-1)]
