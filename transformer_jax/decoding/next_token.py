"""What may come next: shared by every search.

Axes: B rows (sentences or hypotheses), V target vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Vocabulary(NamedTuple):
    """Ids of the special tokens that a search must know."""

    pad: int
    unknown: int
    start: int
    end: int


class Hypotheses(NamedTuple):
    """What a search found, best first.

    tokens: each translation with its [EOS], then padding; log_probability: the sum over its tokens, [EOS] included;
    score: what the search ranked by.
    """

    tokens: Int[Array, "B W C"]
    log_probability: Float[Array, "B W"]
    score: Float[Array, "B W"]


GROUP = 100
"""Words looked at together by ``largest``."""


def allowed_logits(
    logits: Float[Array, "B V"], at_limit: Bool[Array, "B"], vocabulary: Vocabulary
) -> tuple[Float[Array, "B V"], Float[Array, "B 1"]]:
    """Logits, minus infinity for what must not be produced, and what to subtract from them for log-probabilities.

    Forbidden are padding and [SOS] always, and everything but [EOS] in a row that has reached its limit, so that each
    hypothesis ends, with the probability that the model gives to ending there.
    """
    logits = logits.astype(jnp.float32)
    ids = jnp.arange(logits.shape[-1])
    forbidden = (ids == vocabulary.pad) | (ids == vocabulary.start)
    allowed = jnp.where(forbidden[None] | (at_limit[:, None] & (ids != vocabulary.end)[None]), -jnp.inf, logits)
    return allowed, jax.nn.logsumexp(logits, axis=-1, keepdims=True)


def most_likely(logits: Float[Array, "B V"]) -> Int[Array, "B"]:
    """The word with the largest logit, the first of equals: ``argmax``, which on a CPU takes several times as long."""
    words = logits.shape[-1]
    ids = jnp.where(logits == logits.max(axis=-1, keepdims=True), jnp.arange(words)[None], words - 1)
    return ids.min(axis=-1)


def largest(values: Float[Array, "B V"], count: int) -> tuple[Float[Array, "B N"], Int[Array, "B N"]]:
    """The ``count`` largest values of each row and their words: ``lax.top_k``, ties included, several times as fast.

    The largest values stand in the groups with the largest maxima, and only those are searched.
    """
    rows, words = values.shape
    groups = -(-words // GROUP)
    if groups <= count:
        found, chosen = jax.lax.top_k(values, count)
        return found, chosen
    grouped = jnp.pad(values, ((0, 0), (0, groups * GROUP - words)), constant_values=-jnp.inf)
    grouped = grouped.reshape(rows, groups, GROUP)
    chosen = jnp.sort(jax.lax.top_k(grouped.max(axis=-1), count)[1], axis=-1)
    candidates = jnp.take_along_axis(grouped, chosen[:, :, None], axis=1).reshape(rows, count * GROUP)
    found, place = jax.lax.top_k(candidates, count)
    return found, jnp.take_along_axis(chosen, place // GROUP, axis=1) * GROUP + place % GROUP
