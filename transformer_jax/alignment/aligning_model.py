"""A trained model that aligns words: a run, and how its attention is read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from transformer_jax.alignment.cross_attention import TokenizedPair, compute_pair_attention
from transformer_jax.alignment.reading import AlignmentRule, PairAttention, word_weights
from transformer_jax.alignment.report import ModelAttention
from transformer_jax.data.sources import Pair
from transformer_jax.decoding.translator import Translator

MAX_ALIGNED_TOKENS = 1024
"""Tokens of the longest sentence that is aligned: the memory for its weights grows with the square."""


class AligningModel(NamedTuple):
    """A run, and how its attention is read; is_reverse: it translates from the pairs' targets to their sources."""

    workdir: Path
    translator: Translator
    rule: AlignmentRule
    is_reverse: bool

    @property
    def name(self) -> str:
        """For a heading."""
        data = self.translator.config.data
        return f"{self.workdir}, {data.source} to {data.target}"

    def weights(self, pairs: Sequence[Pair], first: int = 1) -> list[Float[np.ndarray, "_ _"]]:
        """The weights of each pair, [source word, target word]; first: the number by which warnings call the first."""
        # Those of all heads are many times larger: only a batch of them is in memory.
        found = {number: word_weights(tokens, self.rule) for number, tokens in self.attention(pairs, first)}
        return [found[number].T if self.is_reverse else found[number] for number in range(len(pairs))]

    def attention(self, pairs: Sequence[Pair], first: int = 1) -> Iterator[tuple[int, PairAttention]]:
        """The number of each pair, from 0, and what the model attends to in it, in any order."""
        model, params, tokenizers = self.translator.model, self.translator.params, self.translator.tokenizers
        texts = list(zip(*(pair[::-1] if self.is_reverse else pair for pair in pairs), strict=True))
        ids = ([[*one, t.eos_id] for one in t.encode(side)] for t, side in zip(tokenizers, texts, strict=True))
        encoded, most = list(map(TokenizedPair, *texts, *ids)), self.translator.config.data.max_length
        for number, pair in enumerate(encoded):
            length = max(len(pair.source_ids), len(pair.target_ids))
            if length > MAX_ALIGNED_TOKENS:
                logging.warning(
                    f"pair {first + number} has {length} tokens, over {MAX_ALIGNED_TOKENS}: it gets no links."
                )
                encoded[number] = TokenizedPair("", "", pair.source_ids[-1:], pair.target_ids[-1:])
            elif length > most:
                logging.warning(
                    f"pair {first + number} has {length} tokens, and {self.workdir} was trained on at most {most}: "
                    "its links may be poor."
                )
        yield from compute_pair_attention(model, params, tokenizers, encoded)


def collect_attention(model: AligningModel, pairs: Sequence[Pair]) -> ModelAttention:
    """What a model attends to in a few pairs, all of it in memory."""
    tokens = dict(model.attention(pairs))
    return ModelAttention(model.name, [tokens[number] for number in range(len(pairs))], model.is_reverse)
