"""Number of floating-point operations (FLOPs) in the matrix products of a model, independent of the implementation.

Sizes: S source positions, T target positions, D model width, F inner width of the feed-forward layer, V target
vocabulary.
"""

from __future__ import annotations

from typing import Any

from transformer_jax.config import ModelConfig


def forward_flops(config: ModelConfig, target_vocab_size: int, source: Any, target: Any) -> Any:
    """Return the FLOPs of a forward pass over one row of S source and T target positions.

    source, target: S and T as numbers, or arrays with one length per row.

    The product of an m x k and a k x n matrix takes 2mkn operations. Attention counts all pairs of positions, including
    masked ones.
    """
    width, inner = config.d_model, config.d_ff
    feed_forward = 4 * width * inner  # per position: D x F, F x D
    projections = 8 * width**2  # per position: W^Q, W^K, W^V, W^O
    attention = 4 * width  # per pair of positions: Q K^T, and the weights times V
    encoder = (projections + feed_forward) * source + attention * source * source
    decoder = (projections + feed_forward) * target + attention * target * target
    # Cross-attention projects queries and outputs at T positions, keys and values at S positions.
    cross = projections // 2 * (source + target) + attention * source * target
    return (
        config.encoder_layers * encoder
        + config.decoder_layers * (decoder + cross)
        + 2 * width * target_vocab_size * target
    )


def training_flops(config: ModelConfig, target_vocab_size: int, source: Any, target: Any) -> Any:
    """Return the FLOPs of a forward and a backward pass.

    The gradients of a product with respect to its two factors are two more products of the same size.
    """
    return 3 * forward_flops(config, target_vocab_size, source, target)
