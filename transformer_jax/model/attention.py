"""Scaled dot-product attention in several heads.

Axes: B batch, T queries, S keys, D model width, H heads, K head width (D / H); in step-by-step decoding W hypotheses
of a sentence, P places of its cache.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.model.layers import Linear


class KeysValues(NamedTuple):
    """What queries attend to, projected by W^K and W^V and split into heads."""

    keys: Float[Array, "B S H K"]
    values: Float[Array, "B S H K"]


class KVCache(NamedTuple):
    """Keys and values that many steps read: heads first, so that no step has to move them there."""

    keys: Float[Array, "B H P K"]
    values: Float[Array, "B H P K"]

    @classmethod
    def of(cls, memory: KeysValues) -> KVCache:
        """A cache of all that is in ``memory``."""
        return cls(*(x.swapaxes(1, 2) for x in memory))

    def write(self, new: KeysValues, place: Int[Array, ""]) -> KVCache:
        """Put more into it, from ``place`` on: the decoder sees what it has produced so far."""
        start = (0, 0, place, 0)
        return KVCache(
            *(jax.lax.dynamic_update_slice(old, one, start) for old, one in zip(self, KVCache.of(new), strict=True))
        )


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1 ... head_H) W^O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V).

    One class for all three uses: self-attention (queries and memory are the same), masked self-attention (the same
    with a causal mask) and cross-attention (the memory is the encoder's output). When the caller asks for
    ``intermediates``, the weights of every head are sown as ``attention [B, H, T, S]``; otherwise XLA may choose a
    fused kernel. The paper's projections have no biases; with biases "all" they do.
    Source: Vaswani et al. 2017, section 3.2.2.
    """

    d_model: int
    heads: int
    dtype: jnp.dtype = jnp.float32
    biases: Literal["feed_forward", "all"] = "feed_forward"

    def setup(self) -> None:
        self.w_query, self.w_key, self.w_value, self.w_output = (
            Linear(self.d_model, use_bias=self.biases == "all", dtype=self.dtype) for _ in range(4)
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

    def decode_step(
        self, queries: Float[Array, "B W D"], cache: KVCache, mask: Bool[Array, "#B 1 #W P"]
    ) -> Float[Array, "B W D"]:
        """The same for one position of every hypothesis, from a cache."""
        heads = attend_to_cache(self._split(self.w_query(queries)), cache, mask)
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


def attend_to_cache(
    query: Float[Array, "B W H K"], cache: KVCache, mask: Bool[Array, "#B 1 #W P"]
) -> Float[Array, "B W H K"]:
    """``attend``, one hypothesis after the other: XLA on a CPU is slow at many products of a few rows."""

    def each(vectors: Float[Array, "B W H X"], product: str, factor: Float[Array, "B H P K"], axis: int) -> Array:
        multiply = partial(jnp.einsum, product, preferred_element_type=jnp.float32)
        return jnp.stack([multiply(vectors[:, w], factor) for w in range(vectors.shape[1])], axis)

    scores = each(query, "BHK,BHPK->BHP", cache.keys, axis=2)
    weights = jax.nn.softmax(scores / math.sqrt(query.shape[-1]), where=mask, axis=-1).astype(query.dtype)
    return each(weights.swapaxes(1, 2), "BHP,BHPK->BHK", cache.values, axis=1).astype(query.dtype)
