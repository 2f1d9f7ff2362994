"""Attention masks: True where a query may attend to a key.

Axes: B batch, T queries, S keys. The second axis has length 1 and is broadcast over the heads.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Int


@struct.dataclass
class SegmentMask:
    """The mask of rows of sentences in a short form, from which a fused kernel computes it block by block.

    queries, keys: one-based index of the sentence at each position; 0 for padding.
    causal: whether position t may only attend to positions 0 to t. Queries and keys must be the same positions.
    """

    queries: Int[Array, "B T"]
    keys: Int[Array, "B S"]
    causal: bool = struct.field(pytree_node=False, default=False)

    def to_boolean(self) -> Bool[Array, "B 1 T S"]:
        """Return the mask with one value per query and key."""
        mask = segment_mask(self.queries, self.keys)
        return causal_mask(self.queries.shape[1]) & mask if self.causal else mask


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
