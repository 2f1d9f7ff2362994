"""Batched computation of the cross-attention weights of sentence pairs.

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
from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.model.transformer import Transformer

LENGTH_MULTIPLE = 16
"""Sources and targets are padded to the same multiple of this length, to limit the number of compiled programs."""
MAX_BATCH_TOKENS = 2048
"""Maximum number of tokens per side of a batch, which limits the memory of the attention weights."""


class TokenizedPair(NamedTuple):
    """A sentence and its translation.

    source: the sentence as raw text.
    target: the translation as raw text.
    source_ids: ids of the source tokens, [EOS] last.
    target_ids: ids of the target tokens, [EOS] last.
    """

    source: str
    target: str
    source_ids: Sequence[int]
    target_ids: Sequence[int]


def compute_pair_attention(
    model: Transformer, params: Any, tokenizers: Tokenizers, pairs: Sequence[TokenizedPair]
) -> Iterator[tuple[int, PairAttention]]:
    """Run the model on given translations. Yield the index and the attention of each pair, shortest pair first."""
    for index, weights in compute_cross_attention(model, params, tokenizers.target.sos_id, pairs):
        pair = pairs[index]
        source = source_words(tokenizers.source, pair.source, pair.source_ids)
        target = target_words(tokenizers.target, pair.target, pair.target_ids)
        yield index, PairAttention(weights, source, target)


def compute_cross_attention(
    model: Transformer, params: Any, sos_id: int, pairs: Sequence[TokenizedPair]
) -> Iterator[tuple[int, Float[np.ndarray, "L H T S"]]]:
    """Yield the index and the weights of each pair, shortest pair first.

    Row t is the query that reads y_{t-1} and predicts y_t, as in ``Attention``.
    """
    lengths = [max(len(pair.source_ids), len(pair.target_ids)) for pair in pairs]
    buckets: dict[int, list[int]] = {}
    for index in sorted(range(len(pairs)), key=lambda index: lengths[index]):
        buckets.setdefault(-(-lengths[index] // LENGTH_MULTIPLE) * LENGTH_MULTIPLE, []).append(index)
    for length, indices in buckets.items():
        batch_size = max(1, MAX_BATCH_TOKENS // length)
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            # A single pair, as in interactive use, is not padded to a full batch.
            shape = (1 if len(batch) == 1 else batch_size, length)
            sources, inputs, source_segments, target_segments = np.zeros((4, *shape), np.int32)
            for row, index in enumerate(batch):
                _, _, source, target = pairs[index]
                sources[row, : len(source)] = source
                inputs[row, : len(target)] = [sos_id, *target[:-1]]
                source_segments[row, : len(source)] = target_segments[row, : len(target)] = 1
            weights = np.asarray(
                _cross_attention_batch(model, params, sources, inputs, source_segments, target_segments), np.float32
            )
            for row, index in enumerate(batch):
                _, _, source, target = pairs[index]
                # A copy, because a view would keep the weights of the complete batch in memory.
                yield index, weights[row, :, :, : len(target), : len(source)].copy()


@partial(jax.jit, static_argnums=0)
def _cross_attention_batch(
    model: Transformer,
    params: Any,
    source: Int[Array, "B S"],
    inputs: Int[Array, "B T"],
    source_segments: Int[Array, "B S"],
    target_segments: Int[Array, "B T"],
) -> Float[Array, "B L H T S"]:
    """Return the cross-attention weights of one teacher-forced pass, without computing logits."""
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
