"""Word alignment with a trained model."""

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
from transformer_jax.alignment.sentence_pairs import SentencePair
from transformer_jax.decoding.translator import Translator

MAX_ALIGNED_TOKENS = 1024
"""Maximum number of tokens per sentence. The memory of the attention weights grows with its square."""


class AligningModel(NamedTuple):
    """A trained model and the rule that derives word links from its cross-attention.

    workdir: the run directory.
    translator: the model of the run.
    rule: the rule that derives links.
    is_reverse: whether the model translates from the targets of the pairs to their sources.
    """

    workdir: Path
    translator: Translator
    rule: AlignmentRule
    is_reverse: bool

    @property
    def name(self) -> str:
        """The run directory and the languages, used as a heading."""
        data = self.translator.config.data
        return f"{self.workdir}, {data.source} to {data.target}"

    def weights(self, pairs: Sequence[SentencePair]) -> list[Float[np.ndarray, "_ _"]]:
        """Return the word weights of each pair (axes: source word, target word)."""
        # Merged one pair at a time, because the weights of all heads need many times more memory.
        weights = {index: word_weights(attention, self.rule) for index, attention in self.attention(pairs)}
        return [weights[index].T if self.is_reverse else weights[index] for index in range(len(pairs))]

    def attention(self, pairs: Sequence[SentencePair]) -> Iterator[tuple[int, PairAttention]]:
        """Yield the index and the attention of each pair, in any order.

        A pair with more than ``MAX_ALIGNED_TOKENS`` tokens in a text gets a result without words, so it has no links.
        """
        model, params, tokenizers = self.translator.model, self.translator.params, self.translator.tokenizers
        texts = list(zip(*(pair[::-1] if self.is_reverse else pair for pair, *_ in pairs), strict=True))
        ids = (
            [[*row, tokenizer.eos_id] for row in tokenizer.encode(side)]
            for tokenizer, side in zip(tokenizers, texts, strict=True)
        )
        tokenized = list(map(TokenizedPair, *texts, *ids))
        max_length = self.translator.config.data.max_length
        for index, pair in enumerate(tokenized):
            length = max(len(pair.source_ids), len(pair.target_ids))
            if length > MAX_ALIGNED_TOKENS:
                logging.warning(
                    f"pair {pairs[index].line} has a text of {length} tokens, but the maximum is {MAX_ALIGNED_TOKENS}, "
                    "so the pair is not aligned. Split it into sentence pairs."
                )
                tokenized[index] = TokenizedPair("", "", pair.source_ids[-1:], pair.target_ids[-1:])
            elif length > max_length:
                logging.warning(
                    f"pair {pairs[index].line} has a text of {length} tokens, but {self.workdir} was trained on at "
                    f"most {max_length}, so the links may be wrong. Split the pair into sentence pairs."
                )
        yield from compute_pair_attention(model, params, tokenizers, tokenized)


def collect_attention(model: AligningModel, pairs: Sequence[SentencePair]) -> ModelAttention:
    """Return the attention of a model for a few pairs, all held in memory at once."""
    attention = dict(model.attention(pairs))
    return ModelAttention(model.name, [attention[index] for index in range(len(pairs))], model.is_reverse)
