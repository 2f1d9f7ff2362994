"""Scores of the next token, shared by all searches.

Axes: B rows (sentences or hypotheses), V target vocabulary, K most probable tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


class SpecialIds(NamedTuple):
    """Ids of the special tokens that a search needs."""

    pad: int
    unk: int
    sos: int
    eos: int


NextTokens = tuple[Int[Array, "B"], Float[Array, "B"]]
"""The chosen token of each row, and its log-probability."""


def log_normalizer(logits: Float[Array, "B V"]) -> Float[Array, "B 1"]:
    """Return the logarithm of the softmax denominator. Subtract it from the logits to get log-probabilities."""
    return jax.nn.logsumexp(logits, axis=-1, keepdims=True)


def allowed_logits(
    logits: Float[Array, "B V"], at_limit: Bool[Array, "B"], special_ids: SpecialIds
) -> Float[Array, "B V"]:
    """Return the logits, with minus infinity for forbidden tokens.

    [PAD] and [SOS] are always forbidden. A row at its length limit may only produce [EOS], so every hypothesis ends,
    and its score includes the model's probability of ending there.
    """
    ids = jnp.arange(logits.shape[-1])[None]
    forbidden = _is_forbidden(ids, special_ids) | (at_limit[:, None] & (ids != special_ids.eos))
    return jnp.where(forbidden, -jnp.inf, logits)


def _is_forbidden(ids: Int[Array, "*V"], special_ids: SpecialIds) -> Bool[Array, "*V"]:
    return (ids == special_ids.pad) | (ids == special_ids.sos)


def top_k_log_probs(
    logits: Float[Array, "B V"], at_limit: Bool[Array, "B"], special_ids: SpecialIds, k: int
) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """Return the log-probabilities and ids of the ``k`` most probable allowed tokens, most probable first.

    The result equals ``lax.top_k`` of the log-probabilities of ``allowed_logits``, ties included, but is several times
    faster on a CPU. Only the normalizer and the maxima of small groups need all logits. The groups with the ``k``
    largest maxima contain the ``k`` largest logits, so only these groups are sorted.
    """
    rows, vocab_size = logits.shape
    group_size = _group_size(vocab_size)
    ids = jnp.arange(-(-vocab_size // group_size) * group_size).reshape(-1, group_size)
    padding = (0, 0), (0, ids.size - vocab_size)
    grouped = jnp.pad(logits, padding, constant_values=-jnp.inf).reshape(rows, *ids.shape)
    maxima = grouped.max(axis=-1)
    for group in {special_ids.pad // group_size, special_ids.sos // group_size}:
        allowed = jnp.where(_is_forbidden(ids[None, group], special_ids), -jnp.inf, grouped[:, group])
        maxima = maxima.at[:, group].set(allowed.max(axis=-1))
    # Sorted by index, so that among equal logits the lower id comes first.
    groups = jnp.sort(jax.lax.top_k(maxima, min(k, len(ids)))[1], axis=-1)
    candidates = jnp.take_along_axis(grouped, groups[:, :, None], axis=1)
    candidates = jnp.where(_is_forbidden(ids[groups], special_ids), -jnp.inf, candidates).reshape(rows, -1)
    top_logits, indices = jax.lax.top_k(candidates, k)
    top_ids = jnp.take_along_axis(ids[groups].reshape(rows, -1), indices, axis=-1)
    # Ids beyond the vocabulary come from padding the last group. They are clipped, and their probability is 0.
    top_ids = jnp.minimum(top_ids, vocab_size - 1)

    # A row at its limit has only one allowed token, [EOS].
    eos_logits = jnp.where(jnp.arange(k)[None] == 0, logits[:, special_ids.eos, None], -jnp.inf)
    log_probs = jnp.where(at_limit[:, None], eos_logits, top_logits) - log_normalizer(logits)
    return log_probs, jnp.where(at_limit[:, None], special_ids.eos, top_ids)


def draw_tokens(
    logits: Float[Array, "B V"],
    at_limit: Bool[Array, "B"],
    special_ids: SpecialIds,
    keys: Key[Array, "B"],
    temperature: Float[Array, ""],
    top_k: int,
) -> NextTokens:
    """Draw one allowed token per row, and return it with its log-probability at temperature 1.

    top_k: number of most probable tokens to draw from; 0 for all tokens. Among equally probable tokens, those with
        lower ids count as more probable, as in ``lax.top_k``.
    Source: Gumbel 1954. The largest sum of a log-probability and Gumbel noise is a draw from the distribution.
    """
    vocab_size = logits.shape[-1]
    # The noise of a token depends on its id, not on its rank, so that draws with different ``top_k`` are alike.
    noise = jax.vmap(lambda key: jax.random.gumbel(key, (vocab_size,)))(keys)
    if 0 < top_k < vocab_size:
        log_probs, ids = top_k_log_probs(logits, at_limit, special_ids, top_k)
        noise = jnp.take_along_axis(noise, ids, axis=-1)
    else:
        log_probs = allowed_logits(logits, at_limit, special_ids) - log_normalizer(logits)
        ids = jnp.broadcast_to(jnp.arange(vocab_size), logits.shape)
    drawn = (log_probs / temperature + noise).argmax(axis=-1, keepdims=True)
    tokens, drawn_log_probs = (jnp.take_along_axis(x, drawn, axis=-1)[:, 0] for x in (ids, log_probs))
    return tokens, drawn_log_probs


def _group_size(vocab_size: int) -> int:
    """Return a group size from 40 to 79, where the search is fastest. It divides ``vocab_size`` if possible, to avoid
    padding.
    """
    return next((size for size in range(40, 80) if vocab_size % size == 0), 50)
