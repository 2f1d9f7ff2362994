"""Scaled dot-product attention in several heads.

Axes: B batch, T queries, S keys, D model width, H heads, K head width (D / H).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.model.layers import Linear


class KeysValues(NamedTuple):
    """What queries attend to, projected by W^K and W^V and split into heads."""

    keys: Float[Array, "B S H K"]
    values: Float[Array, "B S H K"]

    def write(self, new: KeysValues, place: Int[Array, ""]) -> KeysValues:
        """Put more into a cache, from ``place`` on: the step-by-step decoder sees what it has produced so far."""
        start = (0, place, 0, 0)
        return KeysValues(*(jax.lax.dynamic_update_slice(old, one, start) for old, one in zip(self, new, strict=True)))


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1 ... head_H) W^O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V).

    One class for all three uses: self-attention (queries and memory are the same), masked self-attention (the same
    with a causal mask) and cross-attention (the memory is the encoder's output). When the caller asks for
    ``intermediates``, the weights of every head are sown as ``attention [B, H, T, S]``; otherwise XLA may choose a
    fused kernel. Source: Vaswani et al. 2017, section 3.2.2.
    """

    d_model: int
    heads: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        self.w_query, self.w_key, self.w_value, self.w_output = (
            Linear(self.d_model, use_bias=False, dtype=self.dtype) for _ in range(4)
        )

    def keys_values(self, memory: Float[Array, "B S D"]) -> KeysValues:
        """Project what will be attended to; in decoding the encoder's output is projected once a sentence."""
        return KeysValues(self._split(self.w_key(memory)), self._split(self.w_value(memory)))

    def __call__(
        self, queries: Float[Array, "B T D"], memory: KeysValues, mask: Bool[Array, "#B 1 #T S"]
    ) -> Float[Array, "B T D"]:
        """Attend from each query to the memory positions that the mask allows."""
        query = self._split(self.w_query(queries))
        if self.is_mutable_collection("intermediates"):
            weights = attention_weights(query, memory.keys, mask)
            self.sow("intermediates", "attention", weights)
            heads = jnp.einsum("BHTS,BSHK->BTHK", weights.astype(self.dtype), memory.values)
        else:
            heads = attend(query, memory, mask)
        return self.w_output(heads.reshape(*heads.shape[:2], self.d_model))

    def _split(self, x: Float[Array, "B T D"]) -> Float[Array, "B T H K"]:
        """Split the embedding, not the sentence: every head sees all positions."""
        return x.reshape(*x.shape[:2], self.heads, self.d_model // self.heads)


def attention_weights(
    query: Float[Array, "B T H K"], keys: Float[Array, "B S H K"], mask: Bool[Array, "#B 1 #T S"]
) -> Float[Array, "B H T S"]:
    """softmax(Q K^T / sqrt(K)) over the allowed positions; a row with nothing allowed is all zeros.

    Softmax in float32: bfloat16 keeps 8 significant bits.
    Source: Vaswani et al. 2017, section 3.2.1, equation 1.
    """
    scores = jnp.einsum("BTHK,BSHK->BHTS", query, keys, preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores / math.sqrt(query.shape[-1]), where=mask, axis=-1)


def attend(
    query: Float[Array, "B T H K"], memory: KeysValues, mask: Bool[Array, "#B 1 #T S"]
) -> Float[Array, "B T H K"]:
    """The weighted mean of the values, by a kernel that need not keep the weights."""
    attended = jax.nn.dot_product_attention(query, memory.keys, memory.values, mask=mask)
    # The kernel gives a row with nothing allowed the mean of all values; the definition above gives zeros.
    return jnp.where(mask.any(-1).swapaxes(1, 2)[..., None], attended, 0)
