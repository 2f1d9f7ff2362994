"""Word alignment from cross-attention weights.

A rule selects the heads whose weights are averaged, and a method selects the row of weights for a target token y_t:

plain    row t, the query that predicts y_t and has not read it yet.
         Source: Garg et al. 2019, "Jointly Learning to Align and Translate with Transformer Models".
shifted  row t + 1, the query that reads y_t. Source: SHIFT-ATT of Chen et al. 2020, "Accurate Word Alignment Induction
         from Neural Machine Translation".

Attention weights are summed over the tokens of a source word and averaged over the tokens of a target word. Each target
word is linked to the source word with the largest weight. Tokens that belong to no word, such as [EOS], are ignored.

Axes: L layers, H heads, T target tokens, S source tokens, V source words, W target words.
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
"""Zero-based indices of a decoder layer and of a head."""


class PairAttention(NamedTuple):
    """The cross-attention of one sentence pair.

    cross: the weights of all heads.
    source_words: word index of each source token, [EOS] last; see ``attention.words``.
    target_words: word index of each target token, [EOS] last.
    """

    cross: Float[np.ndarray, "L H T S"]
    source_words: tuple[int, ...]
    target_words: tuple[int, ...]


class AlignmentRule(NamedTuple):
    """A rule that derives links from attention weights.

    method: the row of weights for a target token, as described in the module's docstring.
    heads: the heads whose weights are averaged.
    """

    method: Method
    heads: tuple[Head, ...]

    @classmethod
    def default(cls, layers: int, heads: int) -> AlignmentRule:
        """Return the default rule for a single model: method "plain" on all heads of the last layer.

        Source: `docs/results/alignment.md`.
        """
        return cls("plain", tuple((layers - 1, head) for head in range(heads)))


def word_weights(pair: PairAttention, rule: AlignmentRule) -> Float[np.ndarray, "V W"]:
    """Return the weight of each source word for each target word."""
    layers, heads = zip(*rule.heads, strict=True)
    mean = pair.cross[list(layers), list(heads)].mean(axis=0)
    token_weights = {"plain": mean[:-1], "shifted": mean[1:]}[rule.method]
    target_tokens, source_tokens = pair.target_words[:-1], pair.source_words
    targets, sources = np.asarray(word_axis(target_tokens), int), np.asarray(word_axis(source_tokens), int)
    weights = np.zeros((max(source_tokens, default=NO_WORD) + 1, max(target_tokens, default=NO_WORD) + 1))
    is_target, is_source = targets != NO_WORD, sources != NO_WORD
    merged = merge_words(token_weights, target_tokens, source_tokens)[np.ix_(is_target, is_source)]
    weights[np.ix_(sources[is_source], targets[is_target])] = merged.T
    return weights


def link_target_words(weights: Float[np.ndarray, "V W"]) -> Links:
    """Link each target word to the source word with the largest weight, if any weight is above 0."""
    if not len(weights):
        return frozenset()
    strongest = weights.argmax(axis=0).tolist()
    return frozenset((source, target) for target, source in enumerate(strongest) if weights[source, target] > 0)


def link_source_words(weights: Float[np.ndarray, "V W"]) -> Links:
    """Link each source word to the target word with the largest weight, if any weight is above 0."""
    return frozenset((source, target) for target, source in link_target_words(weights.T))


def strongest_source_tokens(attention: Attention) -> list[int]:
    """Return, for each target token, the index of the source token with the largest mean weight over all heads.

    This is only a rough alignment, because a model also attends to tokens that it is not translating.
    """
    return [int(source) for source in attention.cross.mean(axis=(0, 1)).argmax(axis=-1)]
