"""Token embeddings and positional encoding.

Axes: B batch, T positions, D model width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from transformer_jax.model.layers import Dropout

SinusoidLayout = Literal["interleaved", "halves"]
"""Order of sines and cosines in the vector of a position: alternating, or all sines before all cosines."""


class InputEmbeddings(nn.Module):
    """Token embeddings E[token] * sqrt(D), or E[token] with scale "none".

    The table is initialized with standard deviation 1 / sqrt(D), so that embeddings have unit variance at the start, as
    do the logits if the projection shares the table.
    Source: Vaswani et al. 2017, section 3.4.
    """

    vocab_size: int
    d_model: int
    dtype: jnp.dtype = jnp.float32
    scale: Literal["sqrt", "none"] = "sqrt"

    def setup(self) -> None:
        initializer = nn.initializers.normal(stddev=self.d_model**-0.5)
        self.table = self.param("table", initializer, (self.vocab_size, self.d_model))

    def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """Return the scaled embedding of each token."""
        vectors = jnp.take(self.table, tokens, axis=0).astype(self.dtype)
        return vectors * math.sqrt(self.d_model) if self.scale == "sqrt" else vectors


class PositionalEncoding(nn.Module):
    """The sum of token embeddings and positional encodings, with dropout.

    PE(position, 2i)     = sin(position / 10000^(2i / D))
    PE(position, 2i + 1) = cos(position / 10000^(2i / D))
    layout: see ``sinusoids``.
    Source: Vaswani et al. 2017, section 3.5; dropout of the sums: section 5.4.
    """

    dropout: float = 0.0
    layout: SinusoidLayout = "interleaved"

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], positions: Int[Array, "#B T"]) -> Float[Array, "B T D"]:
        """Add the sinusoids of ``positions``, which restart at 0 in each sentence of a packed row."""
        return Dropout(self.dropout)(x + sinusoids(positions, x.shape[-1], self.layout).astype(x.dtype))


def sinusoids(
    positions: Int[Array, "B T"], d_model: int, layout: SinusoidLayout = "interleaved"
) -> Float[Array, "B T D"]:
    """Return the sinusoidal position encodings of Vaswani et al. 2017, section 3.5.

    layout: "interleaved" puts sines in even dimensions and cosines in odd dimensions; "halves" puts all sines before
        all cosines.
    """
    frequencies = jnp.exp(-math.log(10_000.0) * jnp.arange(0, d_model, 2) / d_model)
    angles = positions[:, :, None] * frequencies[None, None, :]
    axis = -1 if layout == "interleaved" else -2
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis).reshape(*positions.shape, d_model)
