"""Multi-head scaled dot-product attention.

Axes: B batch, T queries, S keys, D model width, H heads, K head width (D / H). In step-by-step decoding: W hypotheses
per sentence, P places of the key-value cache of a sentence.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.model.fused_attention import fused_attention
from transformer_jax.model.layers import Linear
from transformer_jax.model.masks import SegmentMask


class KeysValues(NamedTuple):
    """Keys and values: the memory projected by W^K and W^V and split into heads."""

    keys: Float[Array, "B S H K"]
    values: Float[Array, "B S H K"]


class KVCache(NamedTuple):
    """Keys and values cached between decoding steps. Their axes are ordered so that no step transposes them."""

    keys: Float[Array, "B H K P"]
    values: Float[Array, "B H P K"]

    @classmethod
    def from_memory(cls, memory: KeysValues) -> KVCache:
        """Return a cache that contains ``memory``."""
        return cls(memory.keys.transpose(0, 2, 3, 1), memory.values.swapaxes(1, 2))

    @classmethod
    def empty(cls, like: KVCache, places: int) -> KVCache:
        """Return a cache with ``places`` empty places, for the sentences and heads of another cache."""
        batch, heads, width, _ = like.keys.shape
        return cls(
            jnp.zeros((batch, heads, width, places), like.keys.dtype),
            jnp.zeros((batch, heads, places, width), like.values.dtype),
        )

    def write(self, new: KeysValues, place: Int[Array, ""]) -> KVCache:
        """Return the cache with ``new`` written to the places starting at ``place``."""
        keys, values = KVCache.from_memory(new)
        return KVCache(
            jax.lax.dynamic_update_slice_in_dim(self.keys, keys, place, axis=3),
            jax.lax.dynamic_update_slice_in_dim(self.values, values, place, axis=2),
        )


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1 ... head_H) W^O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V).

    The class serves self-attention (queries and memory are the same), masked self-attention (with a causal mask) and
    cross-attention (the memory is the encoder's output). If the caller passes ``mutable=["intermediates"]``, the
    weights of every head are sown as ``attention [B, H, T, S]``.

    biases: "all" adds biases to the four projections, which have none in the paper.
    kernel: implementation of ``attend``. The fused kernels cudnn and pallas are used only where a ``SegmentMask`` is
        given, no weights are requested and the parameters exist, since their initialization needs no result.
    Source: Vaswani et al. 2017, section 3.2.2.
    """

    d_model: int
    heads: int
    dtype: jnp.dtype = jnp.float32
    biases: Literal["feed_forward", "all"] = "feed_forward"
    kernel: Literal["xla", "cudnn", "pallas"] = "xla"

    def setup(self) -> None:
        self.w_query, self.w_key, self.w_value, self.w_output = (
            Linear(self.d_model, use_bias=self.biases == "all", dtype=self.dtype) for _ in range(4)
        )

    def keys_values(self, memory: Float[Array, "B S D"]) -> KeysValues:
        """Project the memory to keys and values. Decoding calls this once per sentence for the encoder's output."""
        return KeysValues(self._split_heads(self.w_key(memory)), self._split_heads(self.w_value(memory)))

    def __call__(
        self, queries: Float[Array, "B T D"], memory: KeysValues, mask: Bool[Array, "#B 1 #T S"] | SegmentMask
    ) -> Float[Array, "B T D"]:
        """Attend from each query to the memory positions that the mask allows, and project the result."""
        query = self._split_heads(self.w_query(queries))
        allowed = mask.to_boolean() if isinstance(mask, SegmentMask) else mask
        if self.is_mutable_collection("intermediates"):
            weights = attention_weights(query, memory.keys, allowed)
            self.sow("intermediates", "attention", weights)
            heads = jnp.einsum("BHTS,BSHK->BTHK", weights.astype(self.dtype), memory.values)
        elif isinstance(mask, SegmentMask) and self.kernel != "xla" and not self.is_initializing():
            heads = fused_attention(self.kernel, query, memory.keys, memory.values, mask)
        else:
            heads = attend(query, memory, allowed)
        return self.w_output(heads.reshape(*heads.shape[:2], self.d_model))

    def decode_step(
        self, queries: Float[Array, "B W D"], cache: KVCache, mask: Bool[Array, "#B 1 #W P"]
    ) -> Float[Array, "B W D"]:
        """Attend from one position of every hypothesis to the places of a cache that the mask allows."""
        heads = attend_to_cache(self._split_heads(self.w_query(queries)), cache, mask)
        return self.w_output(heads.reshape(*heads.shape[:2], self.d_model))

    def _split_heads(self, x: Float[Array, "B T D"]) -> Float[Array, "B T H K"]:
        """Split the features into heads. Every head sees all positions."""
        return x.reshape(*x.shape[:2], self.heads, self.d_model // self.heads)


def attention_weights(
    query: Float[Array, "B T H K"], keys: Float[Array, "B S H K"], mask: Bool[Array, "#B 1 #T S"]
) -> Float[Array, "B H T S"]:
    """Return softmax(Q K^T / sqrt(K)) over the allowed positions. A fully masked row is all zeros.

    The softmax is in float32, because bfloat16 keeps only 8 significant bits.
    Source: Vaswani et al. 2017, section 3.2.1, equation 1.
    """
    scores = jnp.einsum("BTHK,BSHK->BHTS", query, keys, preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores / math.sqrt(query.shape[-1]), where=mask, axis=-1)


def attend(
    query: Float[Array, "B T H K"], memory: KeysValues, mask: Bool[Array, "#B 1 #T S"]
) -> Float[Array, "B T H K"]:
    """Return the attention-weighted mean of the values. The kernel may avoid materializing the weights."""
    # The kernel's float16 products with float32 sums exist only on GPUs. CPUs emulate float16 in float32 anyway.
    emulates_float16 = query.dtype == jnp.float16 and jax.default_backend() != "gpu"
    dtype = jnp.float32 if emulates_float16 else query.dtype
    keys, values = memory.keys.astype(dtype), memory.values.astype(dtype)
    attended = jax.nn.dot_product_attention(query.astype(dtype), keys, values, mask=mask).astype(query.dtype)
    # For a fully masked row the kernel returns the mean of all values, but ``attention_weights`` gives zeros.
    return jnp.where(mask.any(-1).swapaxes(1, 2)[..., None], attended, 0)


def attend_to_cache(
    query: Float[Array, "B W H K"], cache: KVCache, mask: Bool[Array, "#B 1 #W P"]
) -> Float[Array, "B W H K"]:
    """Compute ``attend`` for one position of every hypothesis of a sentence."""
    # With these axes both products are plain batched matrix products.
    query = query.swapaxes(1, 2)
    scores = jnp.einsum("BHWK,BHKP->BHWP", query, cache.keys, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores / math.sqrt(query.shape[-1]), where=mask, axis=-1).astype(query.dtype)
    heads = jnp.einsum("BHWP,BHPK->BHWK", weights, cache.values, preferred_element_type=jnp.float32)
    return heads.swapaxes(1, 2).astype(weights.dtype)
