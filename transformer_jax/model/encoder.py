"""The encoder: N blocks of self-attention and feed-forward.

Axes: B batch, S source positions, D model width.
"""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from transformer_jax.config import ModelConfig
from transformer_jax.model.attention import MultiHeadAttention
from transformer_jax.model.layers import FeedForward, LayerNormalization, ResidualConnection
from transformer_jax.model.masks import SegmentMask


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward, each within a residual connection.

    Source: Vaswani et al. 2017, section 3.1 and figure 1, left.
    """

    config: ModelConfig

    def setup(self) -> None:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        self.self_attention = MultiHeadAttention(config.d_model, config.heads, dtype, config.biases, config.attention)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, dtype, config.activation)
        self.attention_residual = ResidualConnection(config.norm, config.dropout, config.norm_epsilon)
        self.feed_forward_residual = ResidualConnection(config.norm, config.dropout, config.norm_epsilon)

    def __call__(self, x: Float[Array, "B S D"], mask: Bool[Array, "#B 1 #S S"] | SegmentMask) -> Float[Array, "B S D"]:
        """Attend from every source position to the positions that the mask allows."""
        attention = self.self_attention
        x = self.attention_residual(x, lambda y: attention(y, attention.keys_values(y), mask))
        return self.feed_forward_residual(x, self.feed_forward)


class Encoder(nn.Module):
    """A stack of blocks. Pre-norm adds a final normalization, because pre-norm blocks do not normalize their output.

    remat: see ``Transformer``.
    """

    config: ModelConfig
    remat: Literal["none", "blocks"] = "none"

    def setup(self) -> None:
        config = self.config
        block = nn.remat(EncoderBlock) if self.remat == "blocks" else EncoderBlock
        self.blocks = [block(config) for _ in range(config.encoder_layers)]
        self.normalization = LayerNormalization(config.norm_epsilon) if config.norm == "pre" else None

    def __call__(self, x: Float[Array, "B S D"], mask: Bool[Array, "#B 1 #S S"] | SegmentMask) -> Float[Array, "B S D"]:
        """Encode the embedded source into the memory that the decoder attends to."""
        for block in self.blocks:
            x = block(x, mask)
        return x if self.normalization is None else self.normalization(x)
