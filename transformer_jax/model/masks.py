"""Which key positions a query may attend to: True = may.

Axes: B batch, T queries, S keys. The axis of length 1 after B is broadcast over the heads.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def causal_mask(length: int) -> Bool[Array, "1 1 T T"]:
    """Position t sees positions 0 to t, so that a prediction depends only on known outputs.

    Source: Vaswani et al. 2017, section 3.2.3.
    """
    return jnp.tril(jnp.ones((1, 1, length, length), dtype=bool))


def padding_mask(tokens: Int[Array, "B S"], pad_id: int) -> Bool[Array, "B 1 1 S"]:
    """Every position of the row but its padding."""
    return (tokens != pad_id)[:, None, None, :]


def segment_mask(queries: Int[Array, "B T"], keys: Int[Array, "B S"]) -> Bool[Array, "B 1 T S"]:
    """The same sentence of a row that holds several.

    queries, keys: each position's sentence number within its row, from 1; 0 is padding, which nothing sees.
    """
    same = queries[:, :, None] == keys[:, None, :]
    return (same & (keys != 0)[:, None, :])[:, None]
