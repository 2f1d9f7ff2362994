"""What may come next: shared by every search.

Axes: B rows (sentences or hypotheses), V target vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class SpecialIds(NamedTuple):
    """Ids of the special tokens that a search must know."""

    pad: int
    unk: int
    sos: int
    eos: int


class Hypotheses(NamedTuple):
    """What a search found, best first.

    tokens: each translation with its [EOS], then padding; score: what the search ranked by, of a search without length
    penalty the sum of the log-probabilities of its tokens, [EOS] included.
    """

    tokens: Int[Array, "B W C"]
    score: Float[Array, "B W"]


def log_normalizer(logits: Float[Array, "B V"]) -> Float[Array, "B 1"]:
    """What to subtract from logits for log-probabilities."""
    return jax.nn.logsumexp(logits, axis=-1, keepdims=True)


def allowed_logits(
    logits: Float[Array, "B V"], at_limit: Bool[Array, "B"], special_ids: SpecialIds
) -> Float[Array, "B V"]:
    """Logits, minus infinity for what must not be produced.

    Forbidden are padding and [SOS] always, and everything but [EOS] in a row that has reached its limit, so that each
    hypothesis ends, with the probability that the model gives to ending there.
    """
    ids = jnp.arange(logits.shape[-1])[None]
    return jnp.where(_never(ids, special_ids) | (at_limit[:, None] & (ids != special_ids.eos)), -jnp.inf, logits)


def _never(ids: Int[Array, "*V"], special_ids: SpecialIds) -> Bool[Array, "*V"]:
    return (ids == special_ids.pad) | (ids == special_ids.sos)


def top_k_log_probs(
    logits: Float[Array, "B V"], at_limit: Bool[Array, "B"], special_ids: SpecialIds, count: int
) -> tuple[Float[Array, "B N"], Int[Array, "B N"]]:
    """The log-probabilities of the ``count`` likeliest words that are allowed, and these words, the likeliest first.

    What ``lax.top_k`` of ``allowed_logits`` gives, ties included, but on a CPU several times as fast: all logits are
    read only for their normalizer and for the maxima of small groups, and only the groups with the largest maxima,
    which hold the largest values, are searched.
    """
    rows, words = logits.shape
    size = _group_size(words)
    ids = jnp.arange(-(-words // size) * size).reshape(-1, size)
    grouped = jnp.pad(logits, ((0, 0), (0, ids.size - words)), constant_values=-jnp.inf).reshape(rows, *ids.shape)
    maxima = grouped.max(axis=-1)
    for group in {special_ids.pad // size, special_ids.sos // size}:
        allowed = jnp.where(_never(ids[None, group], special_ids), -jnp.inf, grouped[:, group])
        maxima = maxima.at[:, group].set(allowed.max(axis=-1))
    groups = jnp.sort(jax.lax.top_k(maxima, min(count, len(ids)))[1], axis=-1)
    candidates = jnp.take_along_axis(grouped, groups[:, :, None], axis=1)
    candidates = jnp.where(_never(ids[groups], special_ids), -jnp.inf, candidates).reshape(rows, -1)
    values, places = jax.lax.top_k(candidates, count)
    # What fills up the last group is no word; if it is found at all, its probability is 0.
    found = jnp.minimum(jnp.take_along_axis(ids[groups].reshape(rows, -1), places, axis=-1), words - 1)

    # A row at its limit has one word to choose from.
    ending = jnp.where(jnp.arange(count)[None] == 0, logits[:, special_ids.eos, None], -jnp.inf)
    values = jnp.where(at_limit[:, None], ending, values) - log_normalizer(logits)
    return values, jnp.where(at_limit[:, None], special_ids.eos, found)


def _group_size(words: int) -> int:
    """About the square root of a vocabulary over a beam; if possible one that divides it, so that nothing is padded."""
    return next((size for size in range(40, 80) if words % size == 0), 50)
