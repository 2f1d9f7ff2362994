"""Layers that process every position independently.

Axes: B batch, T positions, D model width, F inner width of the feed-forward layer (any width in ``matmul``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32


class Dropout(nn.Module):
    """Dropout, which is active if the caller passes a key: ``rngs={"dropout": key}``.

    Without a key, as in evaluation, the input is returned unchanged. The dropout mask depends only on the key, not on
    the devices or the mesh.
    Source: Srivastava et al. 2014; placement: Vaswani et al. 2017, section 5.4.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Set values to zero with probability ``rate`` and divide the others by ``1 - rate``."""
        if self.rate == 0 or not self.has_rng("dropout"):
            return x
        threshold = min(round(self.rate * 2**32), 2**32 - 1)
        keep = _bits_like(self.make_rng("dropout"), jax.lax.stop_gradient(x)) >= jnp.uint32(threshold)
        return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype)


def random_uint32(key: Array, shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Return a random 32-bit integer per element: a hash of the element's index and of 64 bits drawn from the key.

    XLA fuses the hash into the operation that uses it, whereas the result of ``jax.random.bits`` is written to memory
    first.
    """
    index = jnp.zeros(shape, jnp.uint32)
    for axis, size in enumerate(shape):
        index = index * size + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return hash_uint32(index, *jax.random.bits(key, (2,), jnp.uint32))


def hash_uint32(
    index: UInt32[Array, "..."], first: UInt32[Array, ""], second: UInt32[Array, ""]
) -> UInt32[Array, "..."]:
    """Return a hash of each index and of two random numbers. Its high bits are the most random.

    The first multiplication moves neighbours far apart and is the cheapest: XLA turns it into additions. The second
    number is added after a shift, so that the hashes for two pairs of numbers are not the same sequence with an offset.
    Source: lowbias32 (Wellons 2018) from its first shift to its last multiplication; golden ratio: Knuth 1973, section
    6.4.
    """
    mixed = (index + first) * jnp.uint32(0x9E3779B1)
    mixed = (mixed ^ mixed >> 15) + second
    mixed = (mixed ^ mixed >> 16) * jnp.uint32(0x7FEB352D)
    return (mixed ^ mixed >> 15) * jnp.uint32(0x846CA68B)


@jax.custom_batching.custom_vmap
def _bits_like(key: Array, x: Array) -> UInt32[Array, "..."]:
    return random_uint32(key, x.shape)


@_bits_like.def_vmap
def _bits_like_under_vmap(blocks: int, batched: list[bool], key: Array, x: Array) -> tuple[UInt32[Array, "..."], bool]:
    """Give each element the same bits under vmap over blocks of rows as in the complete batch."""
    return random_uint32(key, x.shape), True


class LayerNormalization(nn.Module):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, over the D features of each position.

    The computation is in float32 for every dtype of x: the 8 significant bits of bfloat16 are too few for a variance.
    Source: Ba, Kiros and Hinton 2016, equation 4; Vaswani et al. 2017, section 3.1.
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Normalize the last axis."""
        gamma = jnp.broadcast_to(self.param("gamma", nn.initializers.ones, (x.shape[-1],)), x.shape)
        beta = jnp.broadcast_to(self.param("beta", nn.initializers.zeros, (x.shape[-1],)), x.shape)
        features = x.astype(jnp.float32)
        centered = features - features.mean(axis=-1, keepdims=True)
        variance = jnp.square(centered).mean(axis=-1, keepdims=True)
        return (gamma * centered * jax.lax.rsqrt(variance + self.epsilon) + beta).astype(x.dtype)


@jax.custom_vjp
def matmul(x: Float[Array, "B T D"], kernel: Float[Array, "D F"]) -> Float[Array, "B T F"]:
    """Return x W in the data type of x. Its explicit gradients serve two purposes.

    A training step on a CPU is 4 to 9% faster (docs/performance.md). And the gradient of W is a sum in the data type of
    W, float32: a sum over thousands of tokens would lose precision in bfloat16 and overflow in float16.
    """
    return jnp.tensordot(x, kernel.astype(x.dtype), 1)


def _matmul_forward(x: Float[Array, "B T D"], kernel: Float[Array, "D F"]) -> tuple[Array, tuple[Array, Array]]:
    return matmul(x, kernel), (x, kernel)


def _matmul_backward(factors: tuple[Array, Array], gradient: Float[Array, "B T F"]) -> tuple[Array, Array]:
    x, kernel = factors
    # Without the barrier, XLA fuses the transposition of the gradient into the operation that computes it, which then
    # writes one value at a time.
    x, gradient = jax.lax.optimization_barrier((x, gradient))
    kernel_gradient = jnp.einsum("BTD,BTF->DF", x, gradient, preferred_element_type=kernel.dtype)
    return jnp.einsum("BTF,DF->BTD", gradient, kernel.astype(x.dtype)), kernel_gradient


matmul.defvjp(_matmul_forward, _matmul_backward)


class Linear(nn.Module):
    """x W + b, or x W with ``use_bias=False``.

    The gradient of b is summed in float32, like that of W in ``matmul``.
    Source of the initialization: Glorot and Bengio 2010, equation 16.
    """

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T F"]:
        """Return the product in ``dtype``. The parameters are float32."""
        kernel = self.param("kernel", nn.initializers.xavier_uniform(), (x.shape[-1], self.features))
        product = matmul(x.astype(self.dtype), kernel)
        if not self.use_bias:
            return product
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return (product + bias[None, None]).astype(self.dtype)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "swish": nn.swish}


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W_1 + b_1) W_2 + b_2. With swish, y sigmoid(y) replaces max(0, y).

    Source: Vaswani et al. 2017, section 3.3, equation 2; Ramachandran et al. 2017.
    """

    d_model: int
    d_ff: int
    dtype: jnp.dtype = jnp.float32
    activation: Literal["relu", "swish"] = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Apply both layers, with the activation function between them."""
        hidden = ACTIVATIONS[self.activation](Linear(self.d_ff, dtype=self.dtype, name="widen")(x))
        return Linear(self.d_model, dtype=self.dtype, name="narrow")(hidden)


class ResidualConnection(nn.Module):
    """The sum of a sub-layer's input and output, with layer normalization.

    post: LayerNorm(x + Dropout(Sublayer(x))), as in the paper.
    pre: x + Dropout(Sublayer(LayerNorm(x))), as in most re-implementations. Deep stacks train more easily.
    Source: Vaswani et al. 2017, sections 3.1 and 5.4; Xiong et al. 2020, figure 1.
    """

    norm: Literal["post", "pre"]
    dropout: float = 0.0
    epsilon: float = LayerNormalization.epsilon

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], sublayer: Callable[[Float[Array, "B T D"]], Float[Array, "B T D"]]
    ) -> Float[Array, "B T D"]:
        """Apply the sub-layer with normalization, dropout and residual sum."""
        normalize = LayerNormalization(self.epsilon, name="normalization")
        dropout = Dropout(self.dropout)
        if self.norm == "post":
            return normalize(x + dropout(sublayer(x)))
        return x + dropout(sublayer(normalize(x)))
