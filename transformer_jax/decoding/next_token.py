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


def next_log_probabilities(
    logits: Float[Array, "B V"], at_limit: Bool[Array, "B"], vocabulary: Vocabulary
) -> Float[Array, "B V"]:
    """Log-softmax over the whole vocabulary, then minus infinity for what must not be produced.

    That is padding and [SOS] always, and everything but [EOS] in a row that has reached its limit, so that each
    hypothesis ends, with the probability that the model gives to ending there.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    ids = jnp.arange(logits.shape[-1])
    forbidden = (ids == vocabulary.pad) | (ids == vocabulary.start)
    return jnp.where(forbidden[None] | (at_limit[:, None] & (ids != vocabulary.end)[None]), -jnp.inf, log_p)
