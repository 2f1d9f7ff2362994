"""Attention masks: True where a query may attend to a key.

Axes: B batch, T queries, S keys. The second axis has length 1 and is broadcast over the heads.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def causal_mask(length: int) -> Bool[Array, "1 1 T T"]:
    """Return a mask that lets position t attend to positions 0 to t. A prediction then depends only on known outputs.

    Source: Vaswani et al. 2017, section 3.2.3.
    """
    return jnp.tril(jnp.ones((1, 1, length, length), dtype=bool))


def padding_mask(tokens: Int[Array, "B S"], pad_id: int) -> Bool[Array, "B 1 1 S"]:
    """Return a mask that excludes padding."""
    return (tokens != pad_id)[:, None, None, :]


def segment_mask(queries: Int[Array, "B T"], keys: Int[Array, "B S"]) -> Bool[Array, "B 1 T S"]:
    """Return a mask that allows attention only within each sentence of a packed row.

    queries, keys: one-based index of the sentence at each position; 0 for padding, which is always masked.
    """
    same_sentence = queries[:, :, None] == keys[:, None, :]
    return (same_sentence & (keys != 0)[:, None, :])[:, None]
