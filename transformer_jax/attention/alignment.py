"""Which source word a target word came from, read off the cross-attention.

plain    word y_t is read off row t, the query whose output predicts y_t. It has not seen y_t yet.
         Source: Garg et al. 2019, "Jointly Learning to Align and Translate with Transformer Models".
shifted  word y_t is read off row t + 1, the query that has just read y_t: SHIFT-ATT of Chen et al. 2020, "Accurate Word
         Alignment Induction from Neural Machine Translation".

Either way the weights of some heads are averaged; each piece of a target word is linked to the piece of the source with
the most weight, [EOS] and other tokens without a word left out; and two words are linked if pieces of theirs are, as
Chen et al. do it. Axes: L layers, H heads, T target tokens, S source tokens.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from transformer_jax.attention.dump import Attention
from transformer_jax.attention.error_rate import Links
from transformer_jax.attention.words import NO_WORD

Method = Literal["plain", "shifted"]
Head = tuple[int, int]
"""Layer and head, from 0."""


class AlignedTokens(NamedTuple):
    """One sentence pair: its weights, and the word of each of its tokens, [EOS] last; see ``words``."""

    cross: Float[np.ndarray, "L H T S"]
    source_words: tuple[int, ...]
    target_words: tuple[int, ...]


class Reading(NamedTuple):
    """How to read an alignment off the weights: in which row, and averaged over which heads."""

    method: Method
    heads: tuple[Head, ...]

    @classmethod
    def default(cls, layers: int, heads: int) -> Reading:
        """The one that needs no choice: shifted, and all heads of the middle layer, as Chen et al. read six layers."""
        return cls("shifted", tuple(((layers - 1) // 2, head) for head in range(heads)))


def read_links(pair: AlignedTokens, reading: Reading) -> Links:
    """The links (source word, target word) of one sentence pair: one or more for each word that the model writes."""
    layers, heads = zip(*reading.heads, strict=True)
    weights = pair.cross[list(layers), list(heads)].mean(axis=0)
    rows = {"plain": weights[:-1], "shifted": weights[1:]}[reading.method]
    source_words = np.asarray(pair.source_words)
    if (source_words == NO_WORD).all():
        return frozenset()
    strongest = np.where(source_words != NO_WORD, rows, -1).argmax(axis=-1)
    links = zip(source_words[strongest].tolist(), pair.target_words[:-1], strict=True)
    return frozenset(link for link in links if link[1] != NO_WORD)


def turned(links: Links) -> Links:
    """The same links from the other side."""
    return frozenset((target, source) for source, target in links)


def strongest_sources(attention: Attention) -> list[int]:
    """For each target token, the number (from 0) of the source token with the most weight, averaged over layers and
    heads.

    A rough guide: attention shows what was read, not what was translated.
    """
    return [int(source) for source in attention.cross.mean(axis=(0, 1)).argmax(axis=-1)]
