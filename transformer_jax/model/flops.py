"""Floating-point operations of the matrix products: what a model costs, whatever computes it.

Axes: S source positions, T target positions, D model width, F inner width of the feed-forward layer, V target
vocabulary.
"""

from __future__ import annotations

from typing import Any

from transformer_jax.config import ModelConfig


def forward_flops(config: ModelConfig, target_vocab_size: int, source: Any, target: Any) -> Any:
    """One pass over a row of S source and T target positions; numbers, or arrays with one length for each row.

    The product of an m x k and a k x n matrix takes 2mkn. Attention counts all pairs of positions, masked or not.
    """
    width, inner = config.d_model, config.d_ff
    feed_forward = 4 * width * inner  # for each position: D x F, F x D
    projections = 8 * width**2  # for each position: W^Q, W^K, W^V, W^O
    attention = 4 * width  # for each pair of positions: Q K^T, and the weights times V
    encoder = (projections + feed_forward) * source + attention * source * source
    decoder = (projections + feed_forward) * target + attention * target * target
    cross = (
        projections // 2 * (source + target) + attention * source * target
    )  # queries and outputs T, keys and values S
    return (
        config.encoder_layers * encoder
        + config.decoder_layers * (decoder + cross)
        + 2 * width * target_vocab_size * target
    )


def training_flops(config: ModelConfig, target_vocab_size: int, source: Any, target: Any) -> Any:
    """Forward and backward: the gradients of a product by its two factors are two more products of its size."""
    return 3 * forward_flops(config, target_vocab_size, source, target)
