"""The cross-attention of sentence pairs, many at a time: what word alignment reads.

Axes: B pairs, L decoder layers, H heads, S source tokens, T target tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from transformer_jax.alignment.reading import PairAttention
from transformer_jax.attention.words import source_words, target_words
from transformer_jax.data.tokenizers import Tokenizers
from transformer_jax.model.transformer import Transformer

LENGTH_MULTIPLE = 16
"""Both sides of a batch are padded to a multiple of this many tokens, the same for both: few programs are compiled."""
MAX_BATCH_TOKENS = 2048
"""Tokens of a side in a batch: bounds the memory of the weights, which are the square of the length."""


class TokenizedPair(NamedTuple):
    """A sentence and its translation, as raw text and as ids, x1 ... xn [EOS] and y1 ... ym [EOS]."""

    source: str
    target: str
    source_ids: Sequence[int]
    target_ids: Sequence[int]


def compute_pair_attention(
    model: Transformer, params: Any, tokenizers: Tokenizers, pairs: Sequence[TokenizedPair]
) -> Iterator[tuple[int, PairAttention]]:
    """The number of each pair, from 0, shortest first, and its attention while the decoder is fed the target."""
    for number, weights in compute_cross_attention(model, params, tokenizers.target.sos_id, pairs):
        pair = pairs[number]
        yield (
            number,
            PairAttention(
                weights,
                source_words(tokenizers.source, pair.source, pair.source_ids),
                target_words(tokenizers.target, pair.target, pair.target_ids),
            ),
        )


def compute_cross_attention(
    model: Transformer, params: Any, start: int, pairs: Sequence[TokenizedPair]
) -> Iterator[tuple[int, Float[np.ndarray, "L H T S"]]]:
    """The weights alone; start: the id of [SOS].

    Row t is the query that reads y_t-1 and predicts y_t, as in ``Attention``.
    """
    lengths = [max(len(pair.source_ids), len(pair.target_ids)) for pair in pairs]
    by_width: dict[int, list[int]] = {}
    for number in sorted(range(len(pairs)), key=lambda number: lengths[number]):
        by_width.setdefault(-(-lengths[number] // LENGTH_MULTIPLE) * LENGTH_MULTIPLE, []).append(number)
    for width, members in by_width.items():
        rows = max(1, MAX_BATCH_TOKENS // width)
        for first in range(0, len(members), rows):
            batch = members[first : first + rows]
            # One pair alone, as when somebody types, does not wait for a whole batch.
            shape = (1 if len(batch) == 1 else rows, width)
            sources, inputs, source_segments, target_segments = np.zeros((4, *shape), np.int32)
            for row, number in enumerate(batch):
                _, _, source, target = pairs[number]
                sources[row, : len(source)] = source
                inputs[row, : len(target)] = [start, *target[:-1]]
                source_segments[row, : len(source)] = target_segments[row, : len(target)] = 1
            weights = np.asarray(
                _cross_attention_batch(model, params, sources, inputs, source_segments, target_segments), np.float32
            )
            for row, number in enumerate(batch):
                _, _, source, target = pairs[number]
                # A copy: whoever keeps one pair's weights does not keep the batch's.
                yield number, weights[row, :, :, : len(target), : len(source)].copy()


@partial(jax.jit, static_argnums=0)
def _cross_attention_batch(
    model: Transformer,
    params: Any,
    source: Int[Array, "B S"],
    inputs: Int[Array, "B T"],
    source_segments: Int[Array, "B S"],
    target_segments: Int[Array, "B T"],
) -> Float[Array, "B L H T S"]:
    """One teacher-forced pass; other weights and the logits are not computed."""
    _, sown = model.apply(
        {"params": params},
        source,
        inputs,
        source_segments,
        target_segments,
        method="features",
        mutable=["intermediates"],
    )
    blocks = sown["intermediates"]["decoder"]
    layers = range(model.config.decoder_layers)
    return jnp.stack([blocks[f"blocks_{layer}"]["cross_attention"]["attention"][0] for layer in layers], axis=1)
