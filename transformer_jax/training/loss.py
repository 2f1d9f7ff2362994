"""The training loss: output projection and label-smoothed cross-entropy, computed together in chunks of tokens.

The logits of a complete batch would be by far the largest array of a training step (164 MB for 4,096 tokens and a
vocabulary of 10,000), and would be written and read several times. The logits of a chunk stay in the cache until its
gradients are computed.

Axes: B rows, T target positions, P forward passes (2 with R-Drop, otherwise 1), N tokens, M = N P, D model width,
V target vocabulary.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class LossSums(NamedTuple):
    """Sums over target tokens. Adding them up over batches and devices gives exact means per token.

    loss: the minimized loss in nats, with label smoothing and R-Drop's divergence.
    cross_entropy: cross-entropy in nats, without label smoothing and divergence.
    correct: number of tokens that were the most probable prediction.
    tokens: number of tokens, without padding.
    """

    loss: Float[Array, ""]
    cross_entropy: Float[Array, ""]
    correct: Float[Array, ""]
    tokens: Float[Array, ""]


class _Chunk(NamedTuple):
    """A chunk of target positions.

    features: output of the decoder.
    targets: tokens to predict.
    loss_weights: see ``smoothed_cross_entropy``.
    """

    features: Float[Array, "N P D"]
    targets: Int[Array, "N"]
    loss_weights: Float[Array, "N"]


def forward_passes(r_drop: float) -> int:
    """Return the number of forward passes per batch."""
    return 2 if r_drop else 1


CHUNK_SIZES = {"cpu": 256, "accelerator": 8192}
"""Tokens per chunk: few enough for the cache of a CPU, many enough to keep an accelerator busy."""


def default_chunk_size() -> int:
    """Return the chunk size for the current devices."""
    return CHUNK_SIZES["cpu" if jax.default_backend() == "cpu" else "accelerator"]


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def smoothed_cross_entropy(
    features: Float[Array, "B T P D"],
    table: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    loss_weights: Float[Array, "B T"],
    smoothing: float,
    chunk_size: int,
    r_drop: float = 0.0,
) -> LossSums:
    """Return the label-smoothed cross-entropy of softmax(features table^T), summed over tokens.

    The target distribution is smoothing / V for every token of the vocabulary, plus 1 - smoothing for the target.
    With two forward passes p and q, the loss is the mean of both plus r_drop / 4 (KL(p || q) + KL(q || p)).

    loss_weights: 1 for tokens, or the scale of the loss, and 0 for padding.
    chunk_size: tokens whose logits are computed at a time.
    Source: Szegedy et al. 2015, section 7; Vaswani et al. 2017, section 5.4; Liang et al. 2021, section 2.1, halved.
    """

    def add(total: LossSums, chunk: _Chunk) -> tuple[LossSums, None]:
        return jax.tree.map(jnp.add, total, _chunk_sums(chunk, table, smoothing, r_drop)[0]), None

    return jax.lax.scan(add, LossSums(*jnp.zeros(4)), _in_chunks(features, targets, loss_weights, chunk_size))[0]


def _forward(
    features: Float[Array, "B T P D"],
    table: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    loss_weights: Float[Array, "B T"],
    smoothing: float,
    chunk_size: int,
    r_drop: float,
) -> tuple[LossSums, Any]:
    """Return the sums and the gradients of the loss, which are cheapest to compute from the logits of a chunk."""

    def add(total: Any, chunk: _Chunk) -> Any:
        sums, table_gradient = total
        chunk_sums, logit_gradient = _chunk_sums(chunk, table, smoothing, r_drop)
        logit_gradient, rows = _merge_passes(logit_gradient.astype(features.dtype)), _merge_passes(chunk.features)
        feature_gradient = (logit_gradient @ table.astype(features.dtype)).reshape(chunk.features.shape)
        table_gradient += jnp.einsum("MV,MD->VD", logit_gradient, rows, preferred_element_type=table.dtype)
        return (jax.tree.map(jnp.add, sums, chunk_sums), table_gradient), feature_gradient

    init = LossSums(*jnp.zeros(4)), jnp.zeros_like(table)
    chunks = _in_chunks(features, targets, loss_weights, chunk_size)
    (sums, table_gradient), feature_gradients = jax.lax.scan(add, init, chunks)
    feature_gradients = feature_gradients.swapaxes(0, 1).reshape(-1, *features.shape[2:])
    return sums, (feature_gradients[: targets.size].reshape(features.shape), table_gradient)


def _backward(
    smoothing: float, chunk_size: int, r_drop: float, gradients: Any, cotangents: LossSums
) -> tuple[Any, ...]:
    """Scale the gradients of ``_forward``. Only the loss is differentiable; the other sums are metrics."""
    return *jax.tree.map(lambda gradient: (gradient * cotangents.loss).astype(gradient.dtype), gradients), None, None


smoothed_cross_entropy.defvjp(_forward, _backward)


def _merge_passes(x: Float[Array, "N P X"]) -> Float[Array, "M X"]:
    """Merge the first two axes, since products with one more axis take 10% longer on a CPU."""
    return x.reshape(-1, x.shape[-1])


def _chunk_sums(
    chunk: _Chunk, table: Float[Array, "V D"], smoothing: float, r_drop: float
) -> tuple[LossSums, Float[Array, "N P V"]]:
    """Return the sums of one chunk, and the gradient of its loss with respect to its logits.

    The gradient of the cross-entropy is softmax minus the smoothed target distribution.
    """
    features, targets, loss_weights = chunk
    rows, columns = _merge_passes(features), table.astype(features.dtype)
    logits = jnp.einsum("MD,VD->MV", rows, columns, preferred_element_type=jnp.float32)
    logits = logits.reshape(*features.shape[:2], -1)
    largest = logits.max(axis=-1, keepdims=True)
    exponentials = jnp.exp(logits - largest)
    normalizer = exponentials.sum(axis=-1, keepdims=True)
    log_z = (jnp.log(normalizer) + largest)[..., 0]
    target_logits = jnp.take_along_axis(logits, targets[:, None, None], axis=-1)[..., 0]
    cross_entropy = log_z - target_logits
    loss = (1 - smoothing) * cross_entropy + smoothing * (log_z - logits.mean(axis=-1))
    correct = target_logits >= largest[..., 0]
    weights = jnp.broadcast_to(loss_weights[:, None], loss.shape) / features.shape[1]
    sums = LossSums(*(jnp.vdot(x, weights) for x in (loss, cross_entropy, correct, jnp.ones_like(loss))))
    vocab_size = table.shape[0]
    is_target = jnp.arange(vocab_size)[None, None] == targets[:, None, None]
    smoothed = jnp.where(is_target, 1 - smoothing + smoothing / vocab_size, smoothing / vocab_size)
    probabilities = exponentials / normalizer
    gradient = (probabilities - smoothed) * weights[..., None]
    if features.shape[1] == 1:
        return sums, gradient
    divergences, divergence_gradient = _divergences(logits - log_z[..., None], probabilities)
    weights = r_drop / 4 * loss_weights
    sums = sums._replace(loss=sums.loss + jnp.vdot(divergences, weights))
    return sums, gradient + divergence_gradient * weights[:, None, None]


def _divergences(
    log_p: Float[Array, "N P V"], p: Float[Array, "N P V"]
) -> tuple[Float[Array, "N"], Float[Array, "N P V"]]:
    """Return KL(p || q) + KL(q || p) of the passes p and q of each token, and its gradient for the logits."""
    log_ratio = log_p[:, 0] - log_p[:, 1]  # Shared by both divergences, since memory traffic dominates here.
    p, q = p[:, 0], p[:, 1]
    kl_p_q, kl_q_p = ((x * log_ratio).sum(axis=-1, keepdims=True) for x in (p, -q))
    gradients = p * (log_ratio - kl_p_q + 1) - q, q * (1 - log_ratio - kl_q_p) - p
    return (kl_p_q + kl_q_p)[:, 0], jnp.stack(gradients, axis=1)


def _in_chunks(
    features: Float[Array, "B T P D"], targets: Int[Array, "B T"], loss_weights: Float[Array, "B T"], chunk_size: int
) -> _Chunk:
    """Split the positions into chunks along a new first axis, and pad the last chunk with positions of weight 0.

    Consecutive tokens go to different chunks, so that every device, which holds a block of rows, has an equal share of
    each chunk.
    """
    tokens = targets.size
    chunk_size = min(chunk_size, tokens)
    padding = -tokens % chunk_size

    def split(x: Array) -> Array:
        flat = x.reshape(tokens, *x.shape[2:])
        padded = jnp.pad(flat, ((0, padding), *[(0, 0)] * (flat.ndim - 1)))
        return padded.reshape(chunk_size, -1, *flat.shape[1:]).swapaxes(0, 1)

    return _Chunk(split(features), split(targets), split(loss_weights))
