"""What training minimizes: projection and smoothed cross-entropy in one, in chunks of tokens.

All logits of a batch at once would be the largest array of the step by far (164 MB for 4,096 tokens and 10,000
words), written and read several times. A chunk's logits stay in the cache, and its gradients are computed while they
are there.

Axes: B rows, T target positions, P passes (2 with R-Drop, else 1), N tokens, M = N P, D model width, V target
vocabulary.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class LossSums(NamedTuple):
    """Sums over target tokens, so that batches and devices add up to an exact mean over tokens.

    loss: what is minimized, with label smoothing and R-Drop's divergence, in nats; cross_entropy: without them;
    correct: tokens whose most likely prediction was right; tokens: how many were counted, padding excluded.
    """

    loss: Float[Array, ""]
    cross_entropy: Float[Array, ""]
    correct: Float[Array, ""]
    tokens: Float[Array, ""]


class _Tokens(NamedTuple):
    """A chunk of positions: features, the word to predict, and 1 where it counts or 0 on padding."""

    features: Float[Array, "N P D"]
    targets: Int[Array, "N"]
    loss_weights: Float[Array, "N"]


def forward_passes(r_drop: float) -> int:
    """How often R-Drop of this weight passes a batch."""
    return 2 if r_drop else 1


CHUNK_SIZES = {"cpu": 256, "accelerator": 8192}
"""Tokens whose logits a device holds at once: few enough for a CPU's cache, many enough to fill an accelerator."""


def default_chunk_size() -> int:
    """What suits the devices that are there."""
    return CHUNK_SIZES["cpu" if jax.default_backend() == "cpu" else "accelerator"]


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def smoothed_cross_entropy(
    features: Float[Array, "B T P D"],
    table: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    loss_weights: Float[Array, "B T"],
    smoothing: float,
    chunk: int,
    r_drop: float = 0.0,
) -> LossSums:
    """Cross-entropy of softmax(features table^T) against 1 - smoothing on the target and smoothing / V on every word;
    of two passes the mean, and r_drop / 4 times the sum of the divergences of each from the other.

    loss_weights: 1 where a position holds a token, 0 on padding; chunk: tokens at a time.
    Source: Szegedy et al. 2015, section 7; Vaswani et al. 2017, section 5.4; Liang et al. 2021, section 2.1, halved.
    """

    def add(total: LossSums, tokens: _Tokens) -> tuple[LossSums, None]:
        return jax.tree.map(jnp.add, total, _chunk_sums(tokens, table, smoothing, r_drop)[0]), None

    return jax.lax.scan(add, LossSums(*jnp.zeros(4)), _in_chunks(features, targets, loss_weights, chunk))[0]


def _forward(
    features: Float[Array, "B T P D"],
    table: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    loss_weights: Float[Array, "B T"],
    smoothing: float,
    chunk: int,
    r_drop: float,
) -> tuple[LossSums, Any]:
    """The sums, and the gradients of the loss, which cost least while a chunk's logits are at hand."""

    def add(total: Any, tokens: _Tokens) -> Any:
        sums, table_gradient = total
        chunk_sums, logit_gradient = _chunk_sums(tokens, table, smoothing, r_drop)
        logit_gradient, rows = _matrix(logit_gradient.astype(features.dtype)), _matrix(tokens.features)
        feature_gradient = (logit_gradient @ table.astype(features.dtype)).reshape(tokens.features.shape)
        table_gradient += jnp.einsum("MV,MD->VD", logit_gradient, rows, preferred_element_type=table.dtype)
        return (jax.tree.map(jnp.add, sums, chunk_sums), table_gradient), feature_gradient

    start = LossSums(*jnp.zeros(4)), jnp.zeros_like(table)
    (sums, table_gradient), chunks = jax.lax.scan(add, start, _in_chunks(features, targets, loss_weights, chunk))
    tokens = chunks.swapaxes(0, 1).reshape(-1, *features.shape[2:])
    return sums, (tokens[: targets.size].reshape(features.shape), table_gradient)


def _backward(smoothing: float, chunk: int, r_drop: float, gradients: Any, cotangents: LossSums) -> tuple[Any, ...]:
    """Only the loss is differentiated; the other sums are reports."""
    return *jax.tree.map(lambda gradient: (gradient * cotangents.loss).astype(gradient.dtype), gradients), None, None


smoothed_cross_entropy.defvjp(_forward, _backward)


def _matrix(x: Float[Array, "N P X"]) -> Float[Array, "M X"]:
    """All passes of all tokens below each other: products with an axis more take 10% longer on a CPU."""
    return x.reshape(-1, x.shape[-1])


def _chunk_sums(
    tokens: _Tokens, table: Float[Array, "V D"], smoothing: float, r_drop: float
) -> tuple[LossSums, Float[Array, "N P V"]]:
    """The sums of one chunk, and the gradient of its loss by its logits: softmax minus the smoothed target, and what
    the divergence adds.
    """
    features, targets, loss_weights = tokens
    rows, columns = _matrix(features), table.astype(features.dtype)
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
    words = table.shape[0]
    smoothed = jnp.where(
        jnp.arange(words)[None, None] == targets[:, None, None], 1 - smoothing + smoothing / words, smoothing / words
    )
    probabilities = exponentials / normalizer
    gradient = (probabilities - smoothed) * weights[..., None]
    if features.shape[1] == 1:
        return sums, gradient
    divergences, by_logits = _divergences(logits - log_z[..., None], probabilities)
    weights = r_drop / 4 * loss_weights
    return sums._replace(loss=sums.loss + jnp.vdot(divergences, weights)), gradient + by_logits * weights[:, None, None]


def _divergences(
    log_p: Float[Array, "N P V"], p: Float[Array, "N P V"]
) -> tuple[Float[Array, "N"], Float[Array, "N P V"]]:
    """KL(p || q) + KL(q || p) of the passes p and q of each token, and its gradient by their logits."""
    log_ratio = log_p[:, 0] - log_p[:, 1]  # Once for both: to read and write here takes longer than the arithmetic.
    p, q = p[:, 0], p[:, 1]
    p_from_q, q_from_p = ((x * log_ratio).sum(axis=-1, keepdims=True) for x in (p, -q))
    by_logits = p * (log_ratio - p_from_q + 1) - q, q * (1 - log_ratio - q_from_p) - p
    return (p_from_q + q_from_p)[:, 0], jnp.stack(by_logits, axis=1)


def _in_chunks(
    features: Float[Array, "B T P D"], targets: Int[Array, "B T"], loss_weights: Float[Array, "B T"], chunk: int
) -> _Tokens:
    """Chunks along a new first axis; the last is filled with positions that do not count.

    Tokens are dealt to the chunks in turn: every device, which holds a block of rows, has an equal part of each chunk.
    """
    tokens = targets.size
    chunk = min(chunk, tokens)
    missing = -tokens % chunk

    def split(x: Array) -> Array:
        flat = x.reshape(tokens, *x.shape[2:])
        padded = jnp.pad(flat, ((0, missing), *[(0, 0)] * (flat.ndim - 1)))
        return padded.reshape(chunk, -1, *flat.shape[1:]).swapaxes(0, 1)

    return _Tokens(split(features), split(targets), split(loss_weights))
