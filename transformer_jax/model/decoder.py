"""The decoder: N blocks of masked self-attention, cross-attention and feed-forward.

Axes: B batch, T target positions, S source positions, C columns of the cache (one per position of a hypothesis), W
hypotheses per sentence (beam size), P places in the cache of a sentence (C * W), D model width, H heads, K head width.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.config import ModelConfig
from transformer_jax.model.attention import KVCache, MultiHeadAttention
from transformer_jax.model.layers import FeedForward, LayerNormalization, ResidualConnection
from transformer_jax.model.masks import SegmentMask


class BlockCache(NamedTuple):
    """The keys and values that one decoder block keeps between two decoding steps.

    prefix: keys [B, H, K, P] and values [B, H, P, K] of the target. Hypothesis w writes column c to place c * W + w.
        Nothing is moved when beam search reorders hypotheses; a mask selects the places that belong to each hypothesis.
    source: keys [B, H, K, S] and values [B, H, S, K] of the encoder's output. They are computed once per sentence and
        shared by its hypotheses.
    """

    prefix: KVCache
    source: KVCache


class DecoderBlock(nn.Module):
    """Masked self-attention, cross-attention, then feed-forward, each within a residual connection.

    Source: Vaswani et al. 2017, section 3.1 and figure 1, right.
    """

    config: ModelConfig

    def setup(self) -> None:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        self.self_attention = MultiHeadAttention(config.d_model, config.heads, dtype, config.biases, config.attention)
        self.cross_attention = MultiHeadAttention(config.d_model, config.heads, dtype, config.biases, config.attention)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, dtype, config.activation)
        self.self_residual = ResidualConnection(config.norm, config.dropout, config.norm_epsilon)
        self.cross_residual = ResidualConnection(config.norm, config.dropout, config.norm_epsilon)
        self.feed_forward_residual = ResidualConnection(config.norm, config.dropout, config.norm_epsilon)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        memory: Float[Array, "B S D"],
        target_mask: Bool[Array, "#B 1 T T"] | SegmentMask,
        source_mask: Bool[Array, "#B 1 #T S"] | SegmentMask,
    ) -> Float[Array, "B T D"]:
        """Process all target positions in parallel, as in training and when attention is captured."""
        attention = self.self_attention
        x = self.self_residual(x, lambda y: attention(y, attention.keys_values(y), target_mask))
        source = self.cross_attention.keys_values(memory)
        x = self.cross_residual(x, lambda y: self.cross_attention(y, source, source_mask))
        return self.feed_forward_residual(x, self.feed_forward)

    def init_cache(self, memory: Float[Array, "B S D"], beams: int, length: int) -> BlockCache:
        """Return a cache with ``length`` columns for ``beams`` hypotheses, and with the projected source."""
        source = KVCache.from_memory(self.cross_attention.keys_values(memory))
        return BlockCache(KVCache.empty(source, length * beams), source)

    def decode_step(
        self,
        x: Float[Array, "B W D"],
        cache: BlockCache,
        column: Int[Array, ""],
        prefix_mask: Bool[Array, "#B 1 #W P"],
        source_mask: Bool[Array, "B 1 1 S"],
    ) -> tuple[Float[Array, "B W D"], BlockCache]:
        """Process one target position of every hypothesis, and return its features and the cache for the next step.

        The features equal those of ``__call__`` at this position.
        column: the column of the cache to which keys and values are written.
        """
        prefix = cache.prefix

        def attend_to_prefix(y: Float[Array, "B W D"]) -> Float[Array, "B W D"]:
            nonlocal prefix
            prefix = prefix.write(self.self_attention.keys_values(y), column * y.shape[1])
            return self.self_attention.decode_step(y, prefix, prefix_mask)

        x = self.self_residual(x, attend_to_prefix)
        # The hypotheses of a sentence are queries to the same source, so no keys or values are copied per hypothesis.
        x = self.cross_residual(x, lambda y: self.cross_attention.decode_step(y, cache.source, source_mask))
        return self.feed_forward_residual(x, self.feed_forward), BlockCache(prefix, cache.source)


class Decoder(nn.Module):
    """A stack of blocks. Pre-norm adds a final normalization, because pre-norm blocks do not normalize their output.

    remat: see ``Transformer``. It does not affect ``decode_step``.
    """

    config: ModelConfig
    remat: Literal["none", "blocks"] = "none"

    def setup(self) -> None:
        config = self.config
        block = nn.remat(DecoderBlock) if self.remat == "blocks" else DecoderBlock
        self.blocks = [block(config) for _ in range(config.decoder_layers)]
        self.normalization = LayerNormalization(config.norm_epsilon) if config.norm == "pre" else None

    def __call__(
        self,
        x: Float[Array, "B T D"],
        memory: Float[Array, "B S D"],
        target_mask: Bool[Array, "#B 1 T T"] | SegmentMask,
        source_mask: Bool[Array, "#B 1 #T S"] | SegmentMask,
    ) -> Float[Array, "B T D"]:
        """Return features that predict the next token at every position of the embedded target."""
        for block in self.blocks:
            x = block(x, memory, target_mask, source_mask)
        return x if self.normalization is None else self.normalization(x)

    def init_cache(self, memory: Float[Array, "B S D"], beams: int, length: int) -> tuple[BlockCache, ...]:
        """Return the cache of every block before the first decoding step."""
        return tuple(block.init_cache(memory, beams, length) for block in self.blocks)

    def decode_step(
        self,
        x: Float[Array, "B W D"],
        caches: tuple[BlockCache, ...],
        column: Int[Array, ""],
        prefix_mask: Bool[Array, "#B 1 #W P"],
        source_mask: Bool[Array, "B 1 1 S"],
    ) -> tuple[Float[Array, "B W D"], tuple[BlockCache, ...]]:
        """Process one target position of every hypothesis, and return the caches for the next step."""
        new_caches = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block.decode_step(x, cache, column, prefix_mask, source_mask)
            new_caches.append(cache)
        return (x if self.normalization is None else self.normalization(x)), tuple(new_caches)
