"""From token ids to vectors that know their place in the sentence.

Axes: B batch, T positions, D model width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from transformer_jax.model.layers import Dropout

Layout = Literal["interleaved", "halves"]
"""Where the sines and cosines of a position stand in its vector."""


class InputEmbeddings(nn.Module):
    """Token id -> vector: E[token] * sqrt(D), or E[token] with scale "none".

    The table starts with a standard deviation of 1 / sqrt(D), so that vectors enter the network with unit variance,
    and so do the logits when the projection shares the table.
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
        """Look the vectors up and scale them."""
        vectors = jnp.take(self.table, tokens, axis=0).astype(self.dtype)
        return vectors * math.sqrt(self.d_model) if self.scale == "sqrt" else vectors


class PositionalEncoding(nn.Module):
    """Adds the sinusoids of a position to the vector there, then drops out.

    PE(position, 2i)     = sin(position / 10000^(2i / D))
    PE(position, 2i + 1) = cos(position / 10000^(2i / D))
    Source: Vaswani et al. 2017, section 3.5; dropout of the sums: section 5.4. layout: see ``sinusoids``.
    """

    dropout: float = 0.0
    layout: Layout = "interleaved"

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], positions: Int[Array, "#B T"]) -> Float[Array, "B T D"]:
        """Encode explicit positions, from 0 at the start of each sentence, so that packed rows work."""
        return Dropout(self.dropout)(x + sinusoids(positions, x.shape[-1], self.layout).astype(x.dtype))


def sinusoids(positions: Int[Array, "B T"], d_model: int, layout: Layout = "interleaved") -> Float[Array, "B T D"]:
    """The table of section 3.5: sine on even and cosine on odd dimensions, or in "halves": first all sines."""
    frequencies = jnp.exp(-math.log(10_000.0) * jnp.arange(0, d_model, 2) / d_model)
    angles = positions[:, :, None] * frequencies[None, None, :]
    axis = -1 if layout == "interleaved" else -2
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis).reshape(*positions.shape, d_model)
